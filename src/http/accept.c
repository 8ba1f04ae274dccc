/* accept.c -- see accept.h. */
#include "http/accept.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/internal.h"

#define BATCH 64                 /* connections taken before the clock is looked at again */
#define LOST_NS (5 * NS_PER_SEC) /* after which a connection that never started counts as lost, for want of memory */
#define RETRY_NS 10000000        /* pause when there are no descriptors at all */

static int open_spare(void) { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

void accept_init(struct acceptor *a) {
    a->spare_fd = open_spare();
    a->last = 0;
    atomic_init(&a->pending, 0);
}

void accept_done(struct acceptor *a) {
    if (a->spare_fd >= 0) {
        close(a->spare_fd);
    }
}

void accept_started(struct acceptor *a) { atomic_fetch_sub_explicit(&a->pending, 1, memory_order_relaxed); }

static void refuse(struct acceptor *a, int fd) {
    count_add(&a->core->counters.refused_connections, 1);
    close(fd);
}

/* At the limit: those that were shut down and are only being closed take no room, within reason; else one that is idle
 * has to go. */
static bool has_room(struct acceptor *a, uint64_t taken, uint64_t limit) {
    return taken < limit + CONN_OVERSHOOT &&
           (taken < limit + sweep_leaving(a->core->sweep) || sweep_evict_idle(a->core->sweep));
}

static void take(struct acceptor *a, int fd, const struct sockaddr *sa, socklen_t len) {
    int64_t now = clock_mono_ns();
    if (now - a->last > LOST_NS) {
        atomic_store_explicit(&a->pending, 0, memory_order_relaxed);
    }
    a->last = now;
    int64_t pending = atomic_load_explicit(&a->pending, memory_order_relaxed);
    uint64_t taken = count_get(&a->core->counters.connections_now) + (uint64_t)(pending > 0 ? pending : 0);
    uint64_t limit = a->core->conf.max_connections;
    if (taken >= limit && !has_room(a, taken, limit)) {
        refuse(a, fd);
        return;
    }
    atomic_fetch_add_explicit(&a->pending, 1, memory_order_relaxed);
    if (!a->add(a->arg, fd, sa, len)) {
        atomic_fetch_sub_explicit(&a->pending, 1, memory_order_relaxed);
        count_add(&a->core->counters.refused_connections, 1);
    }
}

/* No descriptor is left: with the spare one a waiting connection is taken and closed, so that it does not wait for ever
 * and the loop does not spin; an idle one makes room. */
static void shed(struct acceptor *a, int listen_fd) {
    sweep_evict_idle(a->core->sweep);
    if (a->spare_fd >= 0) {
        close(a->spare_fd);
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            refuse(a, fd);
        }
    } else {
        nanosleep(&(struct timespec){ .tv_nsec = RETRY_NS }, NULL);
    }
    a->spare_fd = open_spare();
}

void accept_ready(struct acceptor *a, int listen_fd) {
    for (unsigned i = 0; i < BATCH; i++) {
        struct sockaddr_storage sa;
        socklen_t len = sizeof(sa);
        int fd = accept4(listen_fd, (struct sockaddr *)&sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            take(a, fd, (struct sockaddr *)&sa, len);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            shed(a, listen_fd);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}
