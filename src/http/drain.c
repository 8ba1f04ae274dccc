/* drain.c -- see drain.h. */
#include "http/drain.h"

#include <time.h>

#include "base/clock.h"

void drain_init(struct drain *d) {
    pthread_condattr_t mono;
    *d = (struct drain){ 0 };
    pthread_condattr_init(&mono);
    pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
    pthread_cond_init(&d->changed, &mono);
    pthread_condattr_destroy(&mono);
    pthread_mutex_init(&d->mu, NULL);
}

void drain_done(struct drain *d) {
    pthread_cond_destroy(&d->changed);
    pthread_mutex_destroy(&d->mu);
}

/* Event threads only: they are joined before *d goes. */
static void tell(struct drain *d) {
    if (atomic_load(&d->stopping)) {
        pthread_mutex_lock(&d->mu);
        pthread_cond_broadcast(&d->changed);
        pthread_mutex_unlock(&d->mu);
    }
}

bool drain_enter(struct drain *d) {
    atomic_fetch_add(&d->inside, 1);
    if (!atomic_load(&d->stopping)) {
        return true;
    }
    drain_leave(d);
    return false;
}

void drain_leave(struct drain *d) {
    atomic_fetch_sub(&d->inside, 1);
    tell(d);
}

void drain_opened(struct drain *d) { atomic_fetch_add_explicit(&d->open, 1, memory_order_relaxed); }

void drain_closed(struct drain *d) {
    atomic_fetch_sub_explicit(&d->open, 1, memory_order_release);
    tell(d);
}

void drain_suspended(struct drain *d) {
    pthread_mutex_lock(&d->mu);
    d->suspended++;
    pthread_mutex_unlock(&d->mu);
}

void drain_resumed(struct drain *d) {
    pthread_mutex_lock(&d->mu);
    d->suspended--;
    if (d->suspended == 0) {
        pthread_cond_broadcast(&d->changed);
    }
    pthread_mutex_unlock(&d->mu);
}

static bool none_inside(const struct drain *d) { return atomic_load(&d->inside) == 0; }
static bool none_open(const struct drain *d) { return atomic_load_explicit(&d->open, memory_order_acquire) == 0; }
static bool none_suspended(const struct drain *d) { return d->suspended == 0; }

static bool wait_until(struct drain *d, bool (*none)(const struct drain *d), int64_t deadline) {
    deadline = deadline > 0 ? deadline : 0;
    struct timespec ts = { .tv_sec = (time_t)(deadline / NS_PER_SEC), .tv_nsec = (long)(deadline % NS_PER_SEC) };
    pthread_mutex_lock(&d->mu);
    while (!none(d) && pthread_cond_timedwait(&d->changed, &d->mu, &ts) == 0) {}
    bool ok = none(d);
    pthread_mutex_unlock(&d->mu);
    return ok;
}

void drain_close_gate(struct drain *d) {
    atomic_store(&d->stopping, true);
    while (!wait_until(d, none_inside, time_add(clock_mono_ns(), NS_PER_SEC))) {}
}

bool drain_wait_open(struct drain *d, int64_t deadline) { return wait_until(d, none_open, deadline); }
bool drain_wait_suspended(struct drain *d, int64_t deadline) { return wait_until(d, none_suspended, deadline); }
