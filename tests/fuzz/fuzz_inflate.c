/* fuzz_inflate.c -- any bytes as a compressed body. The first byte chooses the coding and the cap; what comes out never
 * passes the cap, and compressing it again gives it back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/inflate.h"

#define CHECK(cond) ((cond) ? (void)0 : check_failed(#cond, __LINE__))
static void check_failed(const char *cond, int line) {
    fprintf(stderr, "line %d: not so: %s\n", line, cond);
    abort();
}

static void round_trip(enum coding c, struct str body) {
    struct buf z, back;
    struct xt_err err;
    buf_init(&z, body.n * 2 + 4096);
    buf_init(&back, body.n);
    CHECK(deflate_body(c, body, &z, &err) == XT_OK);
    CHECK(inflate_body(c, buf_str(&z), &back, &err) == XT_OK);
    CHECK(back.n == body.n && (body.n == 0 || memcmp(back.p, body.p, body.n) == 0));
    buf_done(&z);
    buf_done(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const enum coding codings[] = { CODING_GZIP, CODING_DEFLATE, CODING_ZSTD, CODING_IDENTITY };
    struct buf out;
    struct xt_err err = { 0 };
    if (size == 0)
        return 0;
    enum coding c = codings[data[0] & 3];
    buf_init(&out, (size_t)1 << (data[0] >> 2 & 15));
    enum xt_code rc = inflate_body(c, (struct str){ (const char *)data + 1, size - 1 }, &out, &err);
    CHECK(out.n <= out.max);
    CHECK(rc == XT_OK || rc == XT_EINVAL || rc == XT_ETOOBIG || rc == XT_ENOMEM);
    CHECK(rc == XT_OK || err.msg[0]);
    if (rc == XT_OK && c != CODING_IDENTITY)
        round_trip(c, buf_str(&out));
    buf_done(&out);
    return 0;
}
