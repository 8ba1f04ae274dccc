/* index_build.c -- writes one run: parts, fences and filter, row by row in the transactions of its caller. A run has its
 * number from the start and is in ixrun as being built, so that what a crash leaves is found and deleted. */
#include <stdlib.h>

#include "store/sqlite/index.h"

#define TRACES_PER_LINE 32 /* 16 bits a trace */

static enum xt_code put_row(struct ix_build *b, unsigned kind, int64_t number, const uint8_t *p, size_t n,
                            struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(b->c, SQL_IX_ADD, err);
    if (!st)
        return b->c->failed;
    sqlite3_bind_int64(st, 1, row_key(b->run->number, kind, number));
    bind_blob(st, 2, (struct str){ (const char *)p, n });
    b->rows++;
    return conn_run(b->c, st, "look-up", err);
}

static enum xt_code next_number(struct conn *c, int64_t *ret, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_IX_NEXT_RUN, err);
    if (!st)
        return c->failed;
    int rc = sqlite3_step(st);
    *ret = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    while (rc == SQLITE_ROW)
        rc = sqlite3_step(st);
    sqlite3_reset(st);
    if (rc != SQLITE_DONE)
        return conn_fail(c, rc, "look-up", err);
    return *ret > 0 && *ret < INT32_MAX ? XT_OK : ix_damaged(c, "run number", err);
}

/* The row of ixrun, as SQL_IX_RUN_PUT takes it. */
static enum xt_code put_run(struct ix_build *b, int state, struct xt_err *err) {
    const struct ix_run *r = b->run;
    sqlite3_stmt *st = conn_stmt(b->c, SQL_IX_RUN_PUT, err);
    if (!st)
        return b->c->failed;
    sqlite3_bind_int64(st, 1, r->number);
    sqlite3_bind_int(st, 2, state);
    sqlite3_bind_int(st, 3, r->level);
    sqlite3_bind_int64(st, 4, (int64_t)r->part_bytes);
    sqlite3_bind_int64(st, 5, r->lines);
    for (int k = 0; k < IX_KINDS; k++)
        sqlite3_bind_int64(st, 6 + k, r->n[k]);
    sqlite3_bind_int64(st, 10, r->tseq1);
    sqlite3_bind_int64(st, 11, ix_time_back(r->ts0));
    sqlite3_bind_int64(st, 12, ix_time_back(r->ts1));
    return conn_run(b->c, st, "look-up", err);
}

enum xt_code build_begin(struct ix_build *b, struct index *ix, int level, int64_t traces, struct xt_err *err) {
    *b = (struct ix_build){ .c = &ix->e->writer, .bits = ix->bits, .run = run_new(ix) };
    if (!b->run)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    b->run->level = level;
    b->run->part_bytes = IX_PART_BYTES;
    b->run->lines = traces / TRACES_PER_LINE + 1;
    b->run->ts0 = UINT64_MAX;
    enum xt_code code = next_number(b->c, &b->run->number, err);
    return code == XT_OK ? put_run(b, RUN_BUILDING, err) : code;
}

/* ---- filter: lines in order, as the hashes come ---- */

static int64_t lines_per_chunk(const struct ix_run *r) { return (int64_t)(r->part_bytes / IX_LINE); }

static enum xt_code flush_filter(struct ix_build *b, struct xt_err *err) {
    int64_t per = lines_per_chunk(b->run), left = b->run->lines - b->chunk * per;
    size_t n = (size_t)(left < per ? left : per) * IX_LINE;
    enum xt_code code = put_row(b, IX_FILTER, b->chunk, b->filter, n, err);
    memset(b->filter, 0, sizeof b->filter);
    b->chunk++;
    return code;
}

static enum xt_code add_to_filter(struct ix_build *b, uint64_t h, struct xt_err *err) {
    int64_t line = filter_line(h, b->bits, b->run->lines), per = lines_per_chunk(b->run);
    while (line / per > b->chunk) {
        enum xt_code code = flush_filter(b, err);
        if (code != XT_OK)
            return code;
    }
    filter_set(b->filter + line % per * (int64_t)IX_LINE, h);
    return XT_OK;
}

/* ---- parts ---- */

static void put_big_endian(uint8_t *p, uint64_t v, size_t n) {
    for (size_t i = n; i-- > 0; v >>= 8)
        p[i] = (uint8_t)v;
}

static enum xt_code flush_fences(struct ix_build *b, enum ix_kind kind, struct xt_err *err) {
    struct ix_out *o = &b->out[kind];
    enum xt_code code = put_row(b, IX_FENCES + kind, o->chunks++, o->fences, o->fused, err);
    o->fused = 0;
    return code;
}

static enum xt_code flush_part(struct ix_build *b, enum ix_kind kind, struct xt_err *err) {
    struct ix_out *o = &b->out[kind];
    enum xt_code code = put_row(b, kind, o->parts++, o->part, o->used, err);
    o->used = 0;
    return code;
}

static enum xt_code add_fence(struct ix_build *b, enum ix_kind kind, const struct ix_entry *e, struct xt_err *err) {
    struct ix_out *o = &b->out[kind];
    size_t full = b->run->part_bytes / sizeof(struct ix_fence) * sizeof(struct ix_fence);
    enum xt_code code = o->fused == full ? flush_fences(b, kind, err) : XT_OK;
    put_big_endian(o->fences + o->fused, e->h, 8);
    put_big_endian(o->fences + o->fused + 8, e->ts, 8);
    o->fused += sizeof(struct ix_fence);
    return code;
}

enum xt_code build_put(struct ix_build *b, enum ix_kind kind, const struct ix_entry *e, struct xt_err *err) {
    struct ix_out *o = &b->out[kind];
    size_t bytes = ix_entry_bytes(kind);
    enum xt_code code = XT_OK;
    if (o->used == run_per_part(b->run, kind) * bytes)
        code = flush_part(b, kind, err);
    if (code == XT_OK && o->used == 0)
        code = add_fence(b, kind, e, err);
    if (code == XT_OK && kind == IX_TRACE)
        code = add_to_filter(b, e->h, err);
    uint8_t *p = o->part + o->used;
    if (ix_timed(kind)) {
        put_big_endian(p, e->h, 8);
        put_big_endian(p + 8, e->ts, 8);
        put_big_endian(p + 16, (uint64_t)e->tseq, 5);
        if (e->ts < b->run->ts0)
            b->run->ts0 = e->ts;
        if (e->ts > b->run->ts1)
            b->run->ts1 = e->ts;
    } else {
        put_big_endian(p, e->h, 5);
        put_big_endian(p + 5, (uint64_t)e->tseq, 5);
    }
    if (e->tseq > b->run->tseq1)
        b->run->tseq1 = e->tseq;
    o->used += bytes;
    o->n++;
    return code;
}

enum xt_code build_end(struct ix_build *b, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (enum ix_kind k = 0; k < IX_KINDS && code == XT_OK; k++) {
        b->run->n[k] = b->out[k].n;
        if (b->out[k].used > 0)
            code = flush_part(b, k, err);
        if (code == XT_OK && b->out[k].fused > 0)
            code = flush_fences(b, k, err);
    }
    while (code == XT_OK && b->chunk * lines_per_chunk(b->run) < b->run->lines)
        code = flush_filter(b, err);
    return code == XT_OK ? put_run(b, RUN_LIVE, err) : code;
}

void build_drop(struct ix_build *b) {
    run_unref(b->run);
    b->run = NULL;
}
