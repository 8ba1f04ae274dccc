/* err.c -- the table of codes, and the one function that fills a struct xt_err.
 * Invariant: msg is valid UTF-8 without control bytes whatever the arguments held, because it is shown to clients. */
#include "base/err.h"

#include <stdio.h>
#include <string.h>

#include "base/codec.h"

static const struct {
    unsigned status;
    const char *word, *text;
} codes[XT_CODE_MAX] = {
    [XT_OK] = { 200, "OK", "OK" },
    [XT_EINVAL] = { 400, "BAD_REQUEST", "Bad Request" },
    [XT_EAUTH] = { 401, "UNAUTHORIZED", "Unauthorized" },
    [XT_EFORBIDDEN] = { 403, "FORBIDDEN", "Forbidden" },
    [XT_ENOTFOUND] = { 404, "NOT_FOUND", "Not Found" },
    [XT_EMETHOD] = { 405, "METHOD_NOT_ALLOWED", "Method Not Allowed" },
    [XT_ECONFLICT] = { 409, "CONFLICT", "Conflict" },
    [XT_ETOOBIG] = { 413, "PAYLOAD_TOO_LARGE", "Payload Too Large" },
    [XT_EMEDIA] = { 415, "UNSUPPORTED_MEDIA_TYPE", "Unsupported Media Type" },
    [XT_ESCHEMA] = { 422, "UNPROCESSABLE_ENTITY", "Unprocessable Entity" },
    [XT_ERATE] = { 429, "TOO_MANY_REQUESTS", "Too Many Requests" },
    [XT_EBUSY] = { 429, "TOO_MANY_REQUESTS", "Too Many Requests" },
    [XT_EUNAVAILABLE] = { 503, "SERVICE_UNAVAILABLE", "Service Unavailable" },
    [XT_ETIMEOUT] = { 504, "QUERY_TIMEOUT", "Query Timeout" },
    [XT_ESTORE] = { 500, "INTERNAL_ERROR", "Internal Error" },
    [XT_EREFUSED] = { 422, "UNPROCESSABLE_ENTITY", "Unprocessable Entity" },
    [XT_ENOMEM] = { 503, "SERVICE_UNAVAILABLE", "Service Unavailable" },
};

/* Copies text into msg: U+FFFD for each malformed UTF-8 sequence, a blank for each control byte, cut between characters. */
static void set_msg(struct xt_err *err, const char *text, size_t n) {
    char clean[3 * 512];
    size_t len = utf8_repair((struct str){ text, n }, clean);
    len = utf8_cut((struct str){ clean, len }, sizeof(err->msg) - 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)clean[i];
        err->msg[i] = c < 0x20 || c == 0x7f ? ' ' : clean[i];
    }
    err->msg[len] = '\0';
}

enum xt_code(xt_fail)(struct xt_err *err, enum xt_code code, const char *fmt, ...) {
    if (!err) {
        return code;
    }
    char text[512]; /* apart from err->msg, which may be among the arguments; at most what set_msg has room for */
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    err->code = code;
    set_msg(err, text, n < 0 ? 0 : (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
    return code;
}

static enum xt_code known(enum xt_code code) { return (unsigned)code < XT_CODE_MAX ? code : XT_ESTORE; }

unsigned xt_code_status(enum xt_code code) { return codes[known(code)].status; }

const char *xt_code_word(enum xt_code code) { return codes[known(code)].word; }

const char *xt_code_default(enum xt_code code) { return codes[known(code)].text; }
