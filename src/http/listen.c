/* listen.c -- see listen.h. */
#include "http/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/str.h"

#define BACKLOG 1024

static enum xt_code fail_form(struct xt_err *err) { return xt_fail(err, XT_EINVAL, "BIND_ADDR must be IP:port"); }

/* Copies s with a NUL. False: too long. */
static bool copy_host(struct str s, char out[INET6_ADDRSTRLEN]) {
    if (s.n >= INET6_ADDRSTRLEN) {
        return false;
    }
    memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return true;
}

enum xt_code listen_parse(const char *text, struct listen_addr *ret, struct xt_err *err) {
    struct str s = str_c(text ? text : "");
    size_t colon = s.n;
    while (colon > 0 && s.p[colon - 1] != ':') {
        colon--;
    }
    uint64_t port;
    if (colon < 2 || !str_to_u64(str_sub(s, colon, s.n), &port) || port > UINT16_MAX) {
        return fail_form(err);
    }
    struct str host = str_sub(s, 0, colon - 1);
    char name[INET6_ADDRSTRLEN];
    struct listen_addr a = { 0 };
    if (host.p[0] == '[' && host.n > 2 && host.p[host.n - 1] == ']') {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a.sa;
        *in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
        a.len = sizeof(*in6);
        if (!copy_host(str_sub(host, 1, host.n - 2), name) || inet_pton(AF_INET6, name, &in6->sin6_addr) != 1) {
            return fail_form(err);
        }
    } else {
        struct sockaddr_in *in = (struct sockaddr_in *)&a.sa;
        *in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
        a.len = sizeof(*in);
        if (!copy_host(host, name) || inet_pton(AF_INET, name, &in->sin_addr) != 1) {
            return fail_form(err);
        }
    }
    *ret = a;
    return XT_OK;
}

bool listen_is_loopback(const struct listen_addr *a) {
    if (a->sa.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&a->sa;
        return (ntohl(in->sin_addr.s_addr) >> 24) == 127;
    }
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a->sa;
    return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) ||
           (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) && in6->sin6_addr.s6_addr[12] == 127);
}

unsigned listen_port(const struct listen_addr *a) {
    return a->sa.ss_family == AF_INET ? ntohs(((const struct sockaddr_in *)&a->sa)->sin_port)
                                      : ntohs(((const struct sockaddr_in6 *)&a->sa)->sin6_port);
}

static enum xt_code fail_listen(int fd, const char *text, struct xt_err *err) {
    char reason[128];
    int error = errno;
    if (fd >= 0) {
        close(fd);
    }
    return xt_fail(err, XT_EUNAVAILABLE, "cannot listen on %s: %s", text, strerror_r(error, reason, sizeof(reason)));
}

enum xt_code listen_open(struct listen_addr *a, const char *text, int *ret_fd, struct xt_err *err) {
    int on = 1, fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(fd, (const struct sockaddr *)&a->sa, a->len) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&a->sa, &a->len) != 0) {
        return fail_listen(fd, text, err);
    }
    *ret_fd = fd;
    return XT_OK;
}

uint64_t listen_raise_files(void) {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0) {
        return 1024;
    }
    if (r.rlim_cur < r.rlim_max) {
        struct rlimit all = { .rlim_cur = r.rlim_max, .rlim_max = r.rlim_max };
        if (setrlimit(RLIMIT_NOFILE, &all) == 0) {
            r = all;
        }
    }
    return r.rlim_cur;
}
