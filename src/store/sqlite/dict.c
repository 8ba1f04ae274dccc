/* dict.c -- see dict.h. `mu` guards the list and `asked`; a struct dict is complete before it is linked and never changes
 * or goes while the store is open, so that whoever found one needs no lock. */
#include "store/sqlite/dict.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <zdict.h>
#include <zstd.h>

#include "base/sha.h"
#include "store/sqlite/engine.h"

#define LEVEL 1
#define TRAIN_FIRST_TEXTS 3000
#define TRAIN_AGAIN_TEXTS (TRAIN_FIRST_TEXTS * 8) /* a store that has one already */
#define TRAIN_FACTOR 8
#define DICT_MAX_BYTES ((size_t)1 << 20) /* ours are a tenth of that */
#define LOAD_WAIT NS_PER_SEC

struct dicts {
    pthread_mutex_t mu;
    struct dict *list;
    bool asked; /* the newest one of the file was looked for */
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

/* The row's bytes in `ret`; sound: its checksum is theirs. */
static enum xt_code read_row(sqlite3_stmt *st, struct buf *ret, bool *ret_sound) {
    uint8_t sum[SHA256_BYTES];
    struct str bytes = col_blob(st, 1), want = col_blob(st, 2);
    *ret_sound = bytes.n > 0 && bytes.n <= DICT_MAX_BYTES && sha256(bytes, sum) &&
                 str_eq(want, (struct str){ (const char *)sum, sizeof sum });
    buf_clear(ret);
    buf_add_str(ret, bytes);
    return ret->failed ? XT_ENOMEM : XT_OK;
}

/* The dictionary of a number (0: the newest) as bytes. *ret_number 0: there is none. */
static enum xt_code fetch(struct conn *c, int64_t number, struct buf *ret, int64_t *ret_number, bool *ret_sound,
                          struct xt_err *err) {
    enum xt_code code = XT_OK;
    sqlite3_stmt *st = conn_stmt(c, number ? SQL_DICT_GET : SQL_DICT_NEWEST, err);
    if (!st)
        return c->failed;
    *ret_number = 0;
    if (number)
        sqlite3_bind_int64(st, 1, number);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        *ret_number = sqlite3_column_int64(st, 0);
        if (read_row(st, ret, ret_sound) != XT_OK)
            code = xt_fail(err, XT_ENOMEM, "out of memory");
    } else if (rc != SQLITE_DONE) {
        code = conn_fail(c, rc, "dictionary", err);
    }
    sqlite3_reset(st);
    return code;
}

enum xt_code dicts_find(struct dicts *s, struct conn *c, int64_t number, const struct dict **ret, struct xt_err *err) {
    struct dict *d = NULL;
    struct buf bytes;
    int64_t found = 0;
    bool sound = false;
    if (s) {
        pthread_mutex_lock(&s->mu);
        d = look(s, number, false);
        pthread_mutex_unlock(&s->mu);
    }
    *ret = d;
    if (d)
        return XT_OK;
    buf_init(&bytes, DICT_MAX_BYTES);
    enum xt_code code = s && c && number > 0 ? fetch(c, number, &bytes, &found, &sound, err) : XT_OK;
    if (code == XT_OK && found && sound) {
        d = dict_new(number, buf_str(&bytes), false);
        *ret = d ? publish(s, d, false) : NULL;
        if (!d)
            code = xt_fail(err, XT_ENOMEM, "out of memory");
    } else if (code == XT_OK) {
        code = xt_fail(err, XT_ESTORE, "a stored text is damaged: its dictionary %lld is %s", (long long)number,
                       found ? "damaged" : "missing");
    }
    buf_done(&bytes);
    return code;
}

/* One thread looks, the others go on without. */
static bool take_question(struct dicts *s) {
    pthread_mutex_lock(&s->mu);
    bool mine = !s->asked;
    s->asked = true;
    pthread_mutex_unlock(&s->mu);
    return mine;
}

void dicts_load_current(struct sqlite_store *e) {
    struct dicts *s = e->dicts;
    struct xt_err err;
    struct buf bytes;
    int64_t number = 0;
    bool sound = false;
    if (!s || !take_question(s))
        return;
    struct conn *c = reader_get(e, clock_mono_ns() + LOAD_WAIT, &err);
    buf_init(&bytes, DICT_MAX_BYTES);
    bool told = c && fetch(c, 0, &bytes, &number, &sound, &err) == XT_OK;
    if (c)
        reader_put(e, c);
    if (told && number && sound && !dicts_current(s)) {
        told = dicts_use(s, number, buf_str(&bytes));
        atomic_store_explicit(&s->due_at, TRAIN_AGAIN_TEXTS, memory_order_relaxed);
    }
    buf_done(&bytes);
    if (told)
        return;
    pthread_mutex_lock(&s->mu);
    s->asked = false; /* next time */
    pthread_mutex_unlock(&s->mu);
}

enum xt_code dict_add(struct sqlite_store *e, struct str bytes, struct xt_err *err) {
    uint8_t sum[SHA256_BYTES];
    struct conn *c = &e->writer;
    if (!sha256(bytes, sum))
        return xt_fail(err, XT_ENOMEM, "no checksum of a dictionary");
    enum xt_code code = conn_begin(c, true, err);
    sqlite3_stmt *st = code == XT_OK ? conn_stmt(c, SQL_DICT_ADD, err) : NULL;
    if (st) {
        sqlite3_bind_int64(st, 1, clock_now_ns());
        bind_blob(st, 2, bytes);
        bind_blob(st, 3, (struct str){ (const char *)sum, sizeof sum });
        code = conn_run(c, st, "dictionary", err);
    } else if (code == XT_OK) {
        code = c->failed;
    }
    int64_t number = sqlite3_last_insert_rowid(c->db);
    if (code == XT_OK)
        code = conn_commit(c, err);
    if (code != XT_OK) {
        conn_rollback(c);
        return code;
    }
    dicts_use(e->dicts, number, bytes); /* without memory: at the next start */
    return XT_OK;
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
