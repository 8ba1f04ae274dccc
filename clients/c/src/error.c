/* error.c -- texts of errors and log lines. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/codec.h"

const char *xtrace_strerror(int code) {
    static const char *const text[] = {
        [XTRACE_OK] = "success",
        [XTRACE_EINVAL] = "invalid argument",
        [XTRACE_ENOMEM] = "out of memory",
        [XTRACE_ENETWORK] = "network failure",
        [XTRACE_ETIMEOUT] = "timed out",
        [XTRACE_EHTTP] = "the server answered with an error",
        [XTRACE_EANSWER] = "the answer is not one of xtrace",
        [XTRACE_EPARTIAL] = "the server refused some of the records",
        [XTRACE_EFULL] = "the queue is full",
        [XTRACE_ESTOPPED] = "the sender was stopped",
    };
    return code >= 0 && (size_t)code < sizeof text / sizeof *text ? text[code] : "unknown error";
}

#define TEXT_OF(x) #x
#define VERSION_TEXT(a, b, c) TEXT_OF(a) "." TEXT_OF(b) "." TEXT_OF(c)
const char *xtrace_version(void) {
    return VERSION_TEXT(XTRACE_VERSION_MAJOR, XTRACE_VERSION_MINOR, XTRACE_VERSION_PATCH);
}

void init_sized(void *out, size_t size, const void *defaults, size_t ours) {
    if (!out || size < sizeof size)
        return;
    memset(out, 0, size);
    memcpy(out, defaults, size < ours ? size : ours);
    memcpy(out, &size, sizeof size);
}

void error_clear(xtrace_error *e) {
    if (!e)
        return;
    memset(e, 0, sizeof *e);
    e->retry_after_s = -1;
}

/* Cut to the room there is, never within a character. */
static void print(char *out, size_t room, const char *fmt, va_list ap) {
    int n = vsnprintf(out, room, fmt, ap);
    if (n >= (int)room)
        out[utf8_cut((struct str){ out, room - 1 }, room - 1)] = '\0';
}

int error_set(xtrace_error *e, int code, const char *fmt, ...) {
    va_list ap;

    if (!e)
        return code;
    e->code = code;
    va_start(ap, fmt);
    print(e->message, sizeof e->message, fmt, ap);
    va_end(ap);
    return code;
}

int error_argument(xtrace_error *e, const char *argument, const char *fmt, ...) {
    va_list ap;

    if (!e)
        return XTRACE_EINVAL;
    e->code = XTRACE_EINVAL;
    (void)snprintf(e->argument, sizeof e->argument, "%s", argument);
    int n = snprintf(e->message, sizeof e->message, "%s: ", e->argument);
    va_start(ap, fmt);
    print(e->message + n, sizeof e->message - (size_t)n, fmt, ap);
    va_end(ap);
    return XTRACE_EINVAL;
}

void log_to(const struct logger *l, int level, const char *fmt, ...) {
    char line[512];
    va_list ap;

    if (!l->fn || level > l->level)
        return;
    va_start(ap, fmt);
    print(line, sizeof line, fmt, ap);
    va_end(ap);
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < 0x20)
            *p = ' ';
    l->fn(l->arg, level, line);
}
