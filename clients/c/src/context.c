/* context.c -- the traceparent header (W3C Trace Context, section 3.2). */
#include "base/codec.h"
#include "xtrace.h"

enum { VERSION_AT = 0, TRACE_AT = 3, SPAN_AT = 36, FLAGS_AT = 53, LENGTH = 55 };

static bool lower_hex(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
            return false;
    return true;
}

static bool all_zero(const unsigned char *b, size_t n) {
    unsigned char any = 0;
    for (size_t i = 0; i < n; i++)
        any |= b[i];
    return any == 0;
}

int xtrace_context_parse(const char *text, xtrace_context *context) {
    xtrace_context c = { .valid = 1 };
    uint8_t version, flags;
    size_t n;

    if (!context)
        return XTRACE_EINVAL;
    memset(context, 0, sizeof *context);
    n = text ? strnlen(text, 4096) : 0;
    if (n < LENGTH || n == 4096 || text[2] != '-' || text[35] != '-' || text[52] != '-' ||
        !lower_hex(text + VERSION_AT, 2) || !lower_hex(text + TRACE_AT, 32) || !lower_hex(text + SPAN_AT, 16) ||
        !lower_hex(text + FLAGS_AT, 2))
        return XTRACE_EINVAL;
    (void)hex_decode((struct str){ text + VERSION_AT, 2 }, &version, 1);
    (void)hex_decode((struct str){ text + TRACE_AT, 32 }, c.trace_id, sizeof c.trace_id);
    (void)hex_decode((struct str){ text + SPAN_AT, 16 }, c.span_id, sizeof c.span_id);
    (void)hex_decode((struct str){ text + FLAGS_AT, 2 }, &flags, 1);
    /* Version 255 is forbidden; version 0 ends here, a later one may go on behind a dash. */
    if (version == 0xff || (version == 0 && n != LENGTH) || (n > LENGTH && text[LENGTH] != '-') ||
        all_zero(c.trace_id, sizeof c.trace_id) || all_zero(c.span_id, sizeof c.span_id))
        return XTRACE_EINVAL;
    c.sampled = flags & 1;
    *context = c;
    return XTRACE_OK;
}

void xtrace_context_format(const xtrace_context *c, char out[XTRACE_TRACEPARENT_SIZE]) {
    if (!out)
        return;
    out[0] = '\0';
    if (!c || !c->valid)
        return;
    memcpy(out, "00-", 3);
    hex_encode(c->trace_id, sizeof c->trace_id, out + TRACE_AT);
    out[35] = '-';
    hex_encode(c->span_id, sizeof c->span_id, out + SPAN_AT);
    out[52] = '-';
    out[53] = '0';
    out[54] = c->sampled ? '1' : '0';
    out[LENGTH] = '\0';
}
