/* index_run.c -- a sorted run in the file: parts of sorted entries, all full but the last, so that a position says where an
 * entry is; fences, the first entry of each part; a filter over its trace ids.
 *
 * Fences and filters are read when first needed and kept: 16 bytes for each part of 4 KB, and 2 bytes a trace up to
 * FILTERS_MAX in all. Beyond it a look-up reads the part instead. load_mu serialises loading; what is loaded is published
 * with release and never changes. */
#include <assert.h>
#include <stdlib.h>

#include "store/sqlite/index.h"

#define FILTERS_MAX ((size_t)32 << 20)
#define RUN_MAX (INT64_C(1) << 31)
#define PARTS_MAX (INT64_C(1) << 28)

enum xt_code ix_damaged(struct conn *c, const char *what, struct xt_err *err) {
    if (c)
        c->failed = XT_EUNAVAILABLE;
    return xt_fail(err, XT_EUNAVAILABLE, "the look-ups are damaged (%s): xtrace check --repair", what);
}

static enum xt_code out_of_memory(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }

struct ix_run *run_new(struct index *ix) {
    struct ix_run *r = alloc_should_fail() ? NULL : calloc(1, sizeof *r);
    if (r) {
        atomic_init(&r->refs, 1);
        r->ix = ix;
    }
    return r;
}

void run_unref(struct ix_run *r) {
    if (!r || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) > 1)
        return;
    for (int k = 0; k < IX_KINDS; k++)
        free(atomic_load_explicit(&r->fences[k], memory_order_relaxed));
    uint8_t *filter = atomic_load_explicit(&r->filter, memory_order_relaxed);
    if (filter)
        atomic_fetch_sub_explicit(&r->ix->filter_bytes, (size_t)r->lines * IX_LINE, memory_order_relaxed);
    free(filter);
    free(r);
}

static int64_t parts_of(const struct ix_run *r, enum ix_kind kind) {
    int64_t per = (int64_t)run_per_part(r, kind);
    return r->n[kind] / per + (r->n[kind] % per != 0);
}

/* Columns of SQL_IX_RUNS. */
enum xt_code run_read(struct index *ix, sqlite3_stmt *st, struct ix_run **ret, struct xt_err *err) {
    struct ix_run *r = run_new(ix);
    if (!r)
        return out_of_memory(err);
    int64_t level = sqlite3_column_int64(st, 1), part = sqlite3_column_int64(st, 2);
    r->number = sqlite3_column_int64(st, 0);
    r->lines = sqlite3_column_int64(st, 3);
    for (int k = 0; k < IX_KINDS; k++)
        r->n[k] = sqlite3_column_int64(st, 4 + k);
    r->tseq1 = sqlite3_column_int64(st, 8);
    r->ts0 = ix_time(sqlite3_column_int64(st, 9));
    r->ts1 = ix_time(sqlite3_column_int64(st, 10));
    bool ok = r->number > 0 && r->number < RUN_MAX && level >= 0 && level < 64 && part >= IX_PART_MIN &&
              part <= IX_PART_MAX && r->lines > 0 && r->lines < PARTS_MAX;
    r->level = (int)level;
    r->part_bytes = ok ? (size_t)part : IX_PART_MAX;
    for (enum ix_kind k = 0; k < IX_KINDS && ok; k++)
        ok = r->n[k] >= 0 && parts_of(r, k) < PARTS_MAX;
    if (!ok) {
        run_unref(r);
        return ix_damaged(NULL, "run", err);
    }
    *ret = r;
    return XT_OK;
}

/* ---- rows of ixblk ---- */

/* The row has exactly `n` bytes. */
static enum xt_code read_row(struct conn *c, int64_t key, uint8_t *room, size_t n, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_IX_GET, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, key);
    int rc = sqlite3_step(st);
    struct str z = rc == SQLITE_ROW ? col_blob(st, 0) : STR_NONE;
    bool ok = str_has(z) && z.n == n;
    if (ok)
        memcpy(room, z.p, n);
    sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return conn_fail(c, rc, "look-up", err);
    return ok ? XT_OK : ix_damaged(c, "part", err);
}

enum xt_code part_load(struct conn *c, const struct ix_run *r, enum ix_kind kind, int64_t number, struct ix_part *p,
                       struct xt_err *err) {
    int64_t per = (int64_t)run_per_part(r, kind), left = r->n[kind] - number * per;
    if (p->number == number)
        return XT_OK;
    p->number = -1;
    p->n = (size_t)(left < per ? left : per);
    enum xt_code code = read_row(c, row_key(r->number, kind, number), p->bytes, p->n * ix_entry_bytes(kind), err);
    if (code == XT_OK)
        p->number = number;
    return code;
}

static uint64_t big_endian(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

struct ix_entry part_entry(const struct ix_part *p, enum ix_kind kind, size_t i) {
    const uint8_t *b = p->bytes + i * ix_entry_bytes(kind);
    if (ix_timed(kind))
        return (struct ix_entry){ big_endian(b, 8), big_endian(b + 8, 8), (int64_t)big_endian(b + 16, 5) };
    return (struct ix_entry){ big_endian(b, 5), 0, (int64_t)big_endian(b + 5, 5) };
}

enum xt_code run_entry(struct conn *c, const struct ix_run *r, enum ix_kind kind, int64_t at, struct ix_part *p,
                       struct ix_entry *ret, struct xt_err *err) {
    int64_t per = (int64_t)run_per_part(r, kind);
    enum xt_code code = part_load(c, r, kind, at / per, p, err);
    if (code != XT_OK)
        return code;
    *ret = part_entry(p, kind, (size_t)(at % per));
    bool ok = ret->tseq > 0 && (ix_timed(kind) || ret->h >> r->ix->bits == 0); /* filters count on it */
    return ok ? XT_OK : ix_damaged(c, "entry", err);
}

/* ---- fences ---- */

/* Grows as rows are found, not as the run's numbers promise. */
static enum xt_code read_fences(struct conn *c, const struct ix_run *r, enum ix_kind kind, struct ix_fences **ret,
                                struct xt_err *err) {
    uint8_t row[IX_PART_MAX];
    size_t total = (size_t)parts_of(r, kind), per = r->part_bytes / sizeof(struct ix_fence), n = 0, room = 0;
    struct ix_fences *f = NULL;
    enum xt_code code = XT_OK;
    for (int64_t chunk = 0; n < total && code == XT_OK; chunk++) {
        size_t here = total - n < per ? total - n : per;
        code = read_row(c, row_key(r->number, IX_FENCES + kind, chunk), row, here * sizeof(struct ix_fence), err);
        if (code == XT_OK && n + here > room) {
            room = room ? room * 2 : here;
            struct ix_fences *bigger =
                alloc_should_fail() ? NULL : realloc(f, sizeof *f + room * sizeof(struct ix_fence));
            if (!bigger)
                code = out_of_memory(err);
            else
                f = bigger;
        }
        for (size_t i = 0; i < here && f && code == XT_OK; i++)
            f->v[n++] = (struct ix_fence){ big_endian(row + 16 * i, 8), big_endian(row + 16 * i + 8, 8) };
    }
    if (code != XT_OK) {
        free(f);
        return code;
    }
    if (f)
        f->n = n;
    *ret = f;
    return XT_OK;
}

static enum xt_code get_fences(struct conn *c, struct ix_run *r, enum ix_kind kind, struct ix_fences **ret,
                               struct xt_err *err) {
    *ret = atomic_load_explicit(&r->fences[kind], memory_order_acquire);
    if (*ret || r->n[kind] == 0)
        return XT_OK;
    pthread_mutex_lock(&r->ix->load_mu);
    enum xt_code code = XT_OK;
    *ret = atomic_load_explicit(&r->fences[kind], memory_order_acquire);
    if (!*ret) {
        code = read_fences(c, r, kind, ret, err);
        if (code == XT_OK)
            atomic_store_explicit(&r->fences[kind], *ret, memory_order_release);
    }
    pthread_mutex_unlock(&r->ix->load_mu);
    return code;
}

/* Is (eh, ets) before (h, ts), or with `after` not behind it? */
static bool is_less(uint64_t eh, uint64_t ets, uint64_t h, uint64_t ts, bool after) {
    if (eh != h)
        return eh < h;
    return after ? ets <= ts : ets < ts;
}

enum xt_code run_rank(struct conn *c, struct ix_run *r, enum ix_kind kind, uint64_t h, uint64_t ts, bool after,
                      struct ix_part *p, int64_t *ret, struct xt_err *err) {
    struct ix_fences *f = NULL;
    *ret = 0;
    enum xt_code code = get_fences(c, r, kind, &f, err);
    if (code != XT_OK || !f)
        return code;
    size_t lo = 0, hi = f->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (is_less(f->v[mid].h, f->v[mid].ts, h, ts, after))
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == 0)
        return XT_OK;
    code = part_load(c, r, kind, (int64_t)lo - 1, p, err);
    if (code != XT_OK)
        return code;
    size_t a = 0, b = p->n;
    while (a < b) {
        size_t mid = a + (b - a) / 2;
        struct ix_entry e = part_entry(p, kind, mid);
        if (is_less(e.h, e.ts, h, ts, after))
            a = mid + 1;
        else
            b = mid;
    }
    *ret = ((int64_t)lo - 1) * (int64_t)run_per_part(r, kind) + (int64_t)a;
    return XT_OK;
}

/* ---- filters: six bits of one 64-byte line ---- */

int64_t filter_line(uint64_t h, int bits, int64_t lines) {
    return (int64_t)((unsigned __int128)h * (uint64_t)lines >> bits);
}

static uint64_t filter_bits(uint64_t h) {
    h *= UINT64_C(0x9E3779B97F4A7C15);
    return h ^ h >> 29;
}

void filter_set(uint8_t *line, uint64_t h) {
    uint64_t m = filter_bits(h);
    for (int i = 0; i < 6; i++, m >>= 9)
        line[(m & 511) >> 3] |= (uint8_t)(1u << (m & 7));
}

bool filter_has(const uint8_t *line, uint64_t h) {
    uint64_t m = filter_bits(h);
    for (int i = 0; i < 6; i++, m >>= 9)
        if (!(line[(m & 511) >> 3] & 1u << (m & 7)))
            return false;
    return true;
}

static enum xt_code read_filter(struct conn *c, const struct ix_run *r, uint8_t **ret, struct xt_err *err) {
    size_t total = (size_t)r->lines * IX_LINE, per = r->part_bytes / IX_LINE * IX_LINE, n = 0, room = 0;
    uint8_t *p = NULL;
    assert(per > 0);
    for (int64_t chunk = 0; n < total; chunk++) {
        size_t here = total - n < per ? total - n : per;
        enum xt_code code = XT_OK;
        if (n + here > room) {
            room = room ? room * 2 : here;
            uint8_t *bigger = alloc_should_fail() ? NULL : realloc(p, room ? room : 1);
            if (!bigger)
                code = out_of_memory(err);
            else
                p = bigger;
        }
        if (code == XT_OK && p)
            code = read_row(c, row_key(r->number, IX_FILTER, chunk), p + n, here, err);
        if (code != XT_OK) {
            free(p);
            return code;
        }
        n += here;
    }
    *ret = p;
    return XT_OK;
}

enum xt_code run_may_have(struct conn *c, struct ix_run *r, uint64_t h, bool load, bool *ret, struct xt_err *err) {
    enum xt_code code = XT_OK;
    uint8_t *f = atomic_load_explicit(&r->filter, memory_order_acquire);
    size_t bytes = (size_t)r->lines * IX_LINE;
    if (!f && load && atomic_load_explicit(&r->ix->filter_bytes, memory_order_relaxed) + bytes <= FILTERS_MAX) {
        pthread_mutex_lock(&r->ix->load_mu);
        f = atomic_load_explicit(&r->filter, memory_order_acquire);
        if (!f) {
            code = read_filter(c, r, &f, err);
            if (code == XT_OK) {
                atomic_fetch_add_explicit(&r->ix->filter_bytes, bytes, memory_order_relaxed);
                atomic_store_explicit(&r->filter, f, memory_order_release);
            }
        }
        pthread_mutex_unlock(&r->ix->load_mu);
    }
    *ret = r->n[IX_TRACE] > 0 && (!f || filter_has(f + filter_line(h, r->ix->bits, r->lines) * (int64_t)IX_LINE, h));
    return code;
}
