/* dict.c -- see dict.h. `mu` guards the list and the question; a struct dict is complete before it is linked and never changes
 * or goes while the store is open, so that whoever found one needs no lock. */
#include "store/text/dict.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <zdict.h>
#include <zstd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/sha.h"

#define LEVEL 1
#define TRAIN_FIRST_TEXTS 3000
#define TRAIN_AGAIN_TEXTS (TRAIN_FIRST_TEXTS * 8) /* a store that has one already */
#define TRAIN_FACTOR 8
#define ASK_AGAIN (5 * NS_PER_SEC)       /* decoding threads shall not wait for a store that is away */
#define DICT_MAX_BYTES ((size_t)1 << 20) /* ours are a tenth of that */

struct dicts {
    pthread_mutex_t mu;
    struct dict *list;
    bool asked;       /* the newest one of the store was looked for */
    int64_t ask_from; /* monotonic: not before */
    _Atomic(struct dict *) current;
    _Atomic uint64_t texts, due_at;
};

struct dicts *dicts_new(void) {
    struct dicts *s = alloc_should_fail() ? NULL : calloc(1, sizeof *s);
    if (!s)
        return NULL;
    pthread_mutex_init(&s->mu, NULL);
    atomic_store_explicit(&s->due_at, TRAIN_FIRST_TEXTS, memory_order_relaxed);
    return s;
}

static void dict_free(struct dict *d) {
    if (!d)
        return;
    ZSTD_freeCDict(d->c);
    ZSTD_freeDDict(d->d);
    free(d);
}

void dicts_free(struct dicts *s) {
    if (!s)
        return;
    for (struct dict *d = s->list, *next; d; d = next) {
        next = d->next;
        dict_free(d);
    }
    pthread_mutex_destroy(&s->mu);
    free(s);
}

/* ---- the list ---- */

static struct dict *dict_new(int64_t number, struct str bytes, bool encode) {
    if (bytes.n > DICT_MAX_BYTES || ZDICT_getDictID(bytes.p, bytes.n) == 0 || alloc_should_fail())
        return NULL;
    struct dict *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    d->number = number;
    d->d = ZSTD_createDDict(bytes.p, bytes.n);
    d->c = encode ? ZSTD_createCDict(bytes.p, bytes.n, LEVEL) : NULL;
    if (d->d && (d->c || !encode))
        return d;
    dict_free(d);
    return NULL;
}

/* The one of that number that can do what is asked; mu is held. */
static struct dict *look(const struct dicts *s, int64_t number, bool encode) {
    struct dict *d = s->list;
    while (d && (d->number != number || (encode && !d->c)))
        d = d->next;
    return d;
}

/* Links it, unless another thread was first: then ours goes. */
static struct dict *publish(struct dicts *s, struct dict *d, bool encode) {
    pthread_mutex_lock(&s->mu);
    struct dict *first = look(s, d->number, encode);
    if (!first) {
        d->next = s->list;
        s->list = d;
    }
    pthread_mutex_unlock(&s->mu);
    if (!first)
        return d;
    dict_free(d);
    return first;
}

const struct dict *dicts_current(const struct dicts *s) {
    return s ? atomic_load_explicit(&s->current, memory_order_acquire) : NULL;
}

bool dicts_use(struct dicts *s, int64_t number, struct str bytes) {
    struct dict *d = dict_new(number, bytes, true);
    if (!d)
        return false;
    atomic_store_explicit(&s->current, publish(s, d, true), memory_order_release);
    return true;
}

/* ---- rows ---- */

enum xt_code dict_row_set(struct dict_row *r, int64_t number, struct str bytes, struct str sum, struct xt_err *err) {
    uint8_t have[SHA256_BYTES];
    r->number = number;
    r->sound = bytes.n > 0 && bytes.n <= DICT_MAX_BYTES && sha256(bytes, have) &&
               str_eq(sum, (struct str){ (const char *)have, sizeof have });
    buf_clear(&r->bytes);
    if (r->sound)
        buf_add_str(&r->bytes, bytes);
    return r->bytes.failed ? xt_fail(err, XT_ENOMEM, "out of memory") : XT_OK;
}

static enum xt_code fetch(const struct dict_source *from, int64_t number, struct dict_row *ret, struct xt_err *err) {
    *ret = (struct dict_row){ .number = 0 };
    buf_init(&ret->bytes, DICT_MAX_BYTES);
    return from->row ? from->row(from->arg, number, ret, err) : XT_OK;
}

enum xt_code dicts_find(struct dicts *s, const struct dict_source *from, int64_t number, const struct dict **ret,
                        struct xt_err *err) {
    struct dict *d = NULL;
    struct dict_row row = { .number = 0 };
    if (s) {
        pthread_mutex_lock(&s->mu);
        d = look(s, number, false);
        pthread_mutex_unlock(&s->mu);
    }
    *ret = d;
    if (d)
        return XT_OK;
    enum xt_code code = s && number > 0 ? fetch(from, number, &row, err) : XT_OK;
    if (code == XT_OK && row.number && row.sound) {
        d = dict_new(number, buf_str(&row.bytes), false);
        *ret = d ? publish(s, d, false) : NULL;
        if (!d)
            code = xt_fail(err, XT_ENOMEM, "out of memory");
    } else if (code == XT_OK) {
        code = xt_fail(err, XT_ESTORE, "a stored text is damaged: its dictionary %lld is %s", (long long)number,
                       row.number ? "damaged" : "missing");
    }
    buf_done(&row.bytes);
    return code;
}

/* One thread looks, the others go on without. */
static bool take_question(struct dicts *s) {
    pthread_mutex_lock(&s->mu);
    bool mine = !s->asked && clock_mono_ns() >= s->ask_from;
    s->asked = s->asked || mine;
    pthread_mutex_unlock(&s->mu);
    return mine;
}

void dicts_load_current(struct dicts *s, const struct dict_source *from) {
    struct xt_err err;
    struct dict_row row;
    if (!s || !take_question(s))
        return;
    bool told = fetch(from, 0, &row, &err) == XT_OK;
    if (told && row.number && row.sound && !dicts_current(s)) {
        told = dicts_use(s, row.number, buf_str(&row.bytes));
        atomic_store_explicit(&s->due_at, TRAIN_AGAIN_TEXTS, memory_order_relaxed);
    }
    buf_done(&row.bytes);
    if (told)
        return;
    pthread_mutex_lock(&s->mu);
    s->asked = false;
    s->ask_from = clock_mono_ns() + ASK_AGAIN;
    pthread_mutex_unlock(&s->mu);
}

/* ---- when ---- */

void dicts_count(struct dicts *s, uint64_t texts) { atomic_fetch_add_explicit(&s->texts, texts, memory_order_relaxed); }

bool dicts_take_due(struct dicts *s) {
    uint64_t due = atomic_load_explicit(&s->due_at, memory_order_relaxed);
    if (atomic_load_explicit(&s->texts, memory_order_relaxed) < due)
        return false;
    atomic_store_explicit(&s->due_at, due * TRAIN_FACTOR, memory_order_relaxed);
    return true;
}
