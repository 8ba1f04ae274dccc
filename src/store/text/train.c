/* train.c -- makes a dictionary (dict.h) of the newest stored texts.
 *
 * Bounded: SAMPLES_MAX texts of at most SAMPLE_BYTES each, POOL_BYTES together; that costs 0.1 to 0.3 s of one thread.
 * Every fourth text is kept aside: on these the candidate must prove itself. */
#include <stdlib.h>
#include <string.h>
#include <zdict.h>
#include <zstd.h>

#include "base/arena.h"
#include "store/text/codec.h"
#include "store/text/dict.h"

#define SAMPLES_MAX 6000
#define SAMPLE_BYTES ((size_t)4096) /* of one text: what texts share stands at their beginning */
#define POOL_BYTES ((size_t)1500000)
#define POOL_MIN_BYTES ((size_t)100000)
#define ROWS_MAX 6000
#define DICT_BYTES ((size_t)65536)
#define GAIN_OF 20 /* a twentieth must be saved */
#define LEVEL 1

/* Texts one behind the other. */
struct pool {
    char *p;
    size_t n, count, bytes[SAMPLES_MAX];
};
struct trainer {
    struct pool learn, test;
    size_t seen;
};

/* False: enough. */
static bool take_sample(void *arg, struct str text) {
    struct trainer *t = arg;
    struct pool *pool = t->seen++ % 4 == 3 ? &t->test : &t->learn;
    size_t n = text.n < SAMPLE_BYTES ? text.n : SAMPLE_BYTES;
    if (n < PAYLOAD_MIN_BYTES)
        return true;
    if (pool->count == SAMPLES_MAX || pool->n + n > POOL_BYTES)
        return false;
    memcpy(pool->p + pool->n, text.p, n);
    pool->n += n;
    pool->bytes[pool->count++] = n;
    return true;
}

/* Bytes of the pool's texts, each compressed by itself; 0: it can't be said. */
static size_t cost(const struct pool *pool, const struct ZSTD_CDict_s *with) {
    char room[ZSTD_COMPRESSBOUND(4096)];
    ZSTD_CCtx *k = ZSTD_createCCtx();
    size_t at = 0, sum = 0;
    for (size_t i = 0; k && i < pool->count; at += pool->bytes[i++]) {
        size_t n = with ? ZSTD_compress_usingCDict(k, room, sizeof room, pool->p + at, pool->bytes[i], with)
                        : ZSTD_compressCCtx(k, room, sizeof room, pool->p + at, pool->bytes[i], LEVEL);
        if (ZSTD_isError(n))
            n = pool->bytes[i];
        sum += n < pool->bytes[i] ? n : pool->bytes[i];
    }
    ZSTD_freeCCtx(k);
    return sum;
}

static bool is_worth_it(const struct dicts *s, const struct pool *test, struct str bytes) {
    const struct dict *now = dicts_current(s);
    ZSTD_CDict *candidate = ZSTD_createCDict(bytes.p, bytes.n, LEVEL);
    size_t with = candidate ? cost(test, candidate) : 0, without = cost(test, now ? now->c : NULL);
    ZSTD_freeCDict(candidate);
    return with > 0 && with < without - without / GAIN_OF;
}

static void train(const struct dicts *s, struct trainer *t, struct buf *ret) {
    if (t->learn.n < POOL_MIN_BYTES || !buf_reserve(ret, DICT_BYTES))
        return;
    size_t n = ZDICT_trainFromBuffer(ret->p, DICT_BYTES, t->learn.p, t->learn.bytes, (unsigned)t->learn.count);
    if (!ZDICT_isError(n) && is_worth_it(s, &t->test, (struct str){ ret->p, n }))
        ret->n = n;
}

enum xt_code dicts_train(struct dicts *s, const struct text_newest *from, struct buf *ret, struct xt_err *err) {
    if (!dicts_take_due(s))
        return XT_OK;
    struct trainer *t = alloc_should_fail() ? NULL : calloc(1, sizeof *t);
    enum xt_code code = XT_ENOMEM;
    if (t) {
        t->learn.p = malloc(POOL_BYTES);
        t->test.p = malloc(POOL_BYTES);
    }
    if (t && t->learn.p && t->test.p)
        code = from->each(from->arg, ROWS_MAX, take_sample, t, err);
    else
        xt_fail(err, XT_ENOMEM, "out of memory");
    if (code == XT_OK)
        train(s, t, ret);
    if (t) {
        free(t->learn.p);
        free(t->test.p);
    }
    free(t);
    return code;
}
