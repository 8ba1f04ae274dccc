/* listen.h -- addresses and the listening socket. No names are resolved: an address is IP:port or [v6]:port. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"

struct listen_addr {
    struct sockaddr_storage sa;
    socklen_t len;
};

/* XT_EINVAL: "BIND_ADDR must be IP:port". */
enum xt_code listen_parse(const char *text, struct listen_addr *ret, struct xt_err *err);
bool listen_is_loopback(const struct listen_addr *a);
unsigned listen_port(const struct listen_addr *a);
/* A non-blocking, close-on-exec socket that listens; *a becomes the address with the port in use. XT_EUNAVAILABLE. */
enum xt_code listen_open(struct listen_addr *a, const char *text, int *ret_fd, struct xt_err *err);
/* Raises the soft limit of open files to the hard one; returns what holds now. */
uint64_t listen_raise_files(void);
