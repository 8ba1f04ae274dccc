/* decoding.h -- what the decoder tests share: a request body in memory of exactly its size, owned by a batch. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ingest/decode.h"
#include "json/json_read.h"

/* One decoded request; `err` belongs to `code`. */
struct decoded {
    struct arena scratch;
    struct batch *b;
    struct str body;
    struct xt_err err;
    enum xt_code code;
};

/* A batch that owns a copy of the text, with the padding that decoders may read behind it. */
static inline void decoded_init(struct decoded *d, struct str text) {
    *d = (struct decoded){ .code = XT_OK };
    arena_init(&d->scratch, (size_t)1 << 30);
    d->b = batch_new((size_t)1 << 30);
    assert_non_null(d->b);
    d->b->body = malloc(text.n + JSON_PADDING);
    assert_non_null(d->b->body);
    if (text.n > 0) {
        memcpy(d->b->body, text.p, text.n);
    }
    memset(d->b->body + text.n, '}', JSON_PADDING);
    d->b->body_bytes = text.n;
    d->body = (struct str){ d->b->body, text.n };
}

/* Frees scratch and proves by it that the batch does not point there (AddressSanitizer would see it). */
static inline void decoded_end_of_call(struct decoded *d) { arena_done(&d->scratch); }

static inline void decoded_done(struct decoded *d) {
    arena_done(&d->scratch);
    batch_free(d->b);
}

#define assert_str(s, text) assert_str_at((s), (text), __FILE__, __LINE__)
/* NULL: absent. */
static inline void assert_str_at(struct str s, const char *text, const char *file, int line) {
    if (text ? str_eq_c(s, text) : !str_has(s)) {
        return;
    }
    print_error("%s:%d: \"%.*s\"%s is not \"%s\"\n", file, line, STR_FMT(s), str_has(s) ? "" : " (absent)",
                text ? text : "(absent)");
    _fail(file, line);
}
