/* err.h -- one way to report a failure: a code, which decides the HTTP status, and one line for the client. */
#pragma once
#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

enum xt_code {
    XT_OK = 0,
    XT_EINVAL,       /* 400 BAD_REQUEST */
    XT_EAUTH,        /* 401 UNAUTHORIZED */
    XT_EFORBIDDEN,   /* 403 FORBIDDEN */
    XT_ENOTFOUND,    /* 404 NOT_FOUND */
    XT_EMETHOD,      /* 405 METHOD_NOT_ALLOWED */
    XT_ECONFLICT,    /* 409 CONFLICT */
    XT_ETOOBIG,      /* 413 PAYLOAD_TOO_LARGE */
    XT_EMEDIA,       /* 415 UNSUPPORTED_MEDIA_TYPE */
    XT_ESCHEMA,      /* 422 UNPROCESSABLE_ENTITY: valid syntax, wrong shape or value */
    XT_ERATE,        /* 429 TOO_MANY_REQUESTS: rate limit */
    XT_EBUSY,        /* back-pressure: 429 on native routes, 503 on OTLP; always Retry-After */
    XT_EUNAVAILABLE, /* 503 SERVICE_UNAVAILABLE: store away, disk full; Retry-After; the caller may send again */
    XT_ETIMEOUT,     /* 504 QUERY_TIMEOUT */
    XT_ESTORE,       /* 500 INTERNAL_ERROR: the store refused for a reason that is ours */
    XT_EREFUSED,     /* the store refused this data for good (constraint, too big): 422; retried in smaller parts */
    XT_ENOMEM,       /* 503 */
    XT_CODE_MAX
};

struct xt_err {
    enum xt_code code;
    char msg[240]; /* shown to clients: names the field and the value, never SQL, a path or a key */
};

/* Fills *err (if not NULL) and returns `code`, so that a failure is one line at the place that knows most. */
enum xt_code xt_fail(struct xt_err *err, enum xt_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#ifdef __clang_analyzer__ /* it sees no other file: say what comes back */
#define xt_fail(err, code, ...)                   \
    ({                                            \
        const enum xt_code code_ = (code);        \
        (void)xt_fail((err), code_, __VA_ARGS__); \
        code_;                                    \
    })
#endif
unsigned xt_code_status(enum xt_code code);     /* HTTP status */
const char *xt_code_word(enum xt_code code);    /* "BAD_REQUEST" ... */
const char *xt_code_default(enum xt_code code); /* "Not Found", "Internal Error" ...: the original's texts */

#ifdef __cplusplus
}
#endif
