/* scan.c -- see scan.h. */
#include "store/sqlite/scan.h"

#include "store/fold/keys.h"
#include "store/fold/range.h"
#include "store/sqlite/rollup.h"

#define COUNT_EXACT 10000                 /* totals below are exact, also when entries have outlived their traces */
#define SCRATCH_BYTES ((size_t)256 << 20) /* tags of one trace */

/* ---- matching ---- */

static bool same(struct str want, struct str have) { return !str_has(want) || str_eq(want, have); }

static bool any_of(const struct str *list, size_t n, struct str have) {
    for (size_t i = 0; i < n; i++)
        if (str_eq(list[i], have))
            return true;
    return n == 0;
}

/* All of f->tags among the row's? False with scratch->failed: no memory. */
static bool has_tags(const struct trace_filter *f, struct str json, struct arena *scratch) {
    struct str *tags;
    size_t n;
    if (f->ntags == 0)
        return true;
    arena_reset(scratch);
    if (!str_has(json) || !tags_decode(scratch, json, &tags, &n) || n == 0)
        return false;
    for (size_t i = 0; i < f->ntags; i++)
        if (!any_of(tags, n, f->tags[i]))
            return false;
    return true;
}

static bool matches(const struct trace_filter *f, const struct trace_rec *r, struct arena *scratch) {
    return r->project == f->project && r->ts >= f->from && r->ts <= f->to && same(f->label, r->label) &&
           same(f->user, r->user) && same(f->name, r->name) && same(f->session, r->session) &&
           same(f->version, r->version) && same(f->release, r->release) &&
           any_of(f->environments, f->nenvironments, r->env) && has_tags(f, r->tags, scratch);
}

/* ---- rows ---- */

enum xt_code trace_fetch(struct conn *c, enum sql_id id, int64_t tseq, struct arena *copy, struct trace_rec *ret,
                         bool *ret_found, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, id, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    int rc = sqlite3_step(st);
    *ret_found = rc == SQLITE_ROW;
    bool ok = rc != SQLITE_ROW || trace_rec_read(st, copy, ret);
    if (copy || rc != SQLITE_ROW)
        sqlite3_reset(st); /* else it keeps the row, and the snapshot, until its next use */
    if (!ok)
        return no_memory(err);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "trace", err);
}

/* The look-up that serves, the one with fewest traces as a rule first. */
static bool best_hash(const struct sqlite_store *e, const struct trace_filter *f, int64_t *ret) {
    if (str_has(f->session))
        *ret = lookup_hash(e, LOOK_SESSION, f->project, f->session);
    else if (str_has(f->user))
        *ret = lookup_hash(e, LOOK_USER, f->project, f->user);
    else if (f->ntags > 0)
        *ret = lookup_hash(e, LOOK_TAG, f->project, f->tags[0]);
    else if (str_has(f->name))
        *ret = lookup_hash(e, LOOK_NAME, f->project, f->name);
    else
        return false;
    return true;
}

/* Has the trace each of the keys, itself or by an observation? */
static enum xt_code has_keys(struct conn *c, const struct trace_filter *f, int64_t tseq, bool *ret,
                             struct xt_err *err) {
    int rc = SQLITE_ROW;
    for (int i = 0; i < RECORD_KEYS && rc == SQLITE_ROW; i++) {
        if (!str_has(f->keys.v[i]))
            continue;
        sqlite3_stmt *st = conn_stmt(c, SQL_RKEY_HAS, err);
        if (!st)
            return c->failed;
        sqlite3_bind_int64(st, 1, f->project);
        sqlite3_bind_int(st, 2, i + 1);
        bind_blob(st, 3, f->keys.v[i]);
        sqlite3_bind_int64(st, 4, tseq);
        rc = sqlite3_step(st);
        sqlite3_reset(st);
    }
    *ret = rc == SQLITE_ROW;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "trace", err);
}

/* The walk over the traces of the first key, else over all. */
static enum xt_code walk_open(struct trace_scan *s, bool descending, struct xt_err *err) {
    int key = 0;
    while (key < RECORD_KEYS && !str_has(s->f->keys.v[key]))
        key++;
    if (key < RECORD_KEYS)
        s->walk = conn_stmt(s->c, descending ? SQL_RKEY_WALK_DESC : SQL_RKEY_WALK_ASC, err);
    else
        s->walk = conn_stmt(s->c, descending ? SQL_TRACE_WALK_DESC : SQL_TRACE_WALK_ASC, err);
    if (!s->walk)
        return s->c->failed;
    sqlite3_bind_int64(s->walk, 1, s->f->project);
    sqlite3_bind_int64(s->walk, 2, s->f->from);
    sqlite3_bind_int64(s->walk, 3, s->f->to);
    sqlite3_bind_int64(s->walk, 4, 0);
    if (key < RECORD_KEYS) {
        sqlite3_bind_int(s->walk, 5, key + 1);
        bind_blob(s->walk, 6, s->f->keys.v[key]);
    }
    return XT_OK;
}

enum xt_code scan_open(struct trace_scan *s, struct sqlite_store *e, struct conn *c, const struct trace_filter *f,
                       bool descending, struct xt_err *err) {
    int64_t h;
    *s = (struct trace_scan){ .c = c, .f = f };
    arena_init(&s->scratch, SCRATCH_BYTES);
    if (!record_keys_any(&f->keys) && best_hash(e, f, &h))
        return look_walk_open(&s->hits, c, h, f->from, f->to, descending, err);
    return walk_open(s, descending, err);
}

/* Number and time of the next candidate; number 0: the end. */
static enum xt_code next_hit(struct trace_scan *s, int64_t *ret_ts, int64_t *ret_tseq, struct xt_err *err) {
    *ret_tseq = 0;
    if (!s->walk)
        return look_walk_next(&s->hits, ret_ts, ret_tseq, err);
    int rc = sqlite3_step(s->walk);
    if (rc == SQLITE_ROW) {
        *ret_ts = sqlite3_column_int64(s->walk, 0);
        *ret_tseq = sqlite3_column_int64(s->walk, 1);
        return XT_OK;
    }
    return rc == SQLITE_DONE ? XT_OK : conn_fail(s->c, rc, "trace", err);
}

enum xt_code scan_next(struct trace_scan *s, struct trace_rec *ret, bool *ret_found, struct xt_err *err) {
    int64_t ts, tseq;
    for (;;) {
        *ret_found = false;
        enum xt_code code = next_hit(s, &ts, &tseq, err);
        if (code != XT_OK || tseq == 0)
            return code;
        code = trace_fetch(s->c, SQL_TRACE_GET, tseq, NULL, ret, ret_found, err);
        if (code != XT_OK)
            return code;
        bool match = *ret_found && ret->ts == ts && matches(s->f, ret, &s->scratch);
        if (s->scratch.failed)
            return no_memory(err);
        if (match)
            code = has_keys(s->c, s->f, tseq, &match, err);
        if (code != XT_OK || match)
            return code;
    }
}

void scan_close(struct trace_scan *s) {
    look_walk_close(&s->hits);
    if (s->walk)
        sqlite3_reset(s->walk);
    arena_done(&s->scratch);
}

/* ---- counting ---- */

static enum xt_code one_number(struct conn *c, sqlite3_stmt *st, int64_t *ret, struct xt_err *err) {
    int rc = sqlite3_step(st);
    *ret = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_reset(st);
    return rc == SQLITE_ROW ? XT_OK : conn_fail(c, rc, "count", err);
}

/* Index entries of a part of the range. */
static enum xt_code count_times(struct conn *c, const struct trace_filter *f, int64_t from, int64_t to, int64_t *ret,
                                struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_TRACE_COUNT, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, f->project);
    sqlite3_bind_int64(st, 2, from);
    sqlite3_bind_int64(st, 3, to);
    return one_number(c, st, ret, err);
}

/* Matches of a part of the range, by rows. */
static enum xt_code count_rows(struct sqlite_store *e, struct conn *c, const struct trace_filter *f, int64_t from,
                               int64_t to, int64_t *ret, struct xt_err *err) {
    struct trace_filter part = *f;
    struct trace_scan s;
    struct trace_rec r;
    bool found = true;
    part.from = from;
    part.to = to;
    *ret = 0;
    enum xt_code code = scan_open(&s, e, c, &part, false, err);
    while (code == XT_OK && found) {
        code = scan_next(&s, &r, &found, err);
        *ret += found;
    }
    scan_close(&s);
    return code;
}

/* Traces between two hours or days, without a name or of one, that match label and environment. */
static enum xt_code count_rollups(struct conn *c, const struct trace_filter *f, int64_t span, int64_t first,
                                  int64_t last, int64_t *ret, struct xt_err *err) {
    int rc = SQLITE_DONE;
    bool named = str_has(f->name);
    sqlite3_stmt *st = conn_stmt(c, named ? SQL_ROLLUP_TRACE_NAMED : SQL_ROLLUP_TRACE_RANGE, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, f->project);
    sqlite3_bind_int64(st, 3, first);
    sqlite3_bind_int64(st, 4, last);
    struct arena a;
    arena_init(&a, SCRATCH_BYTES);
    if (named)
        bind_str(st, 5, rollup_text(&a, f->name));
    else
        sqlite3_bind_int64(st, 2, span == NS_PER_DAY ? ROLLUP_ALL_DAY : ROLLUP_ALL_HOUR);
    *ret = 0;
    while (!a.failed && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (same(f->label, col_str(st, 1)) && any_of(f->environments, f->nenvironments, col_str(st, 2)))
            *ret += sqlite3_column_int64(st, 3);
    }
    sqlite3_reset(st);
    bool failed = a.failed;
    arena_done(&a);
    if (failed)
        return no_memory(err);
    return rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "count", err);
}

/* Traces in whole intervals of `span` that start from `first` to `last`. */
static enum xt_code count_whole(struct conn *c, const struct trace_filter *f, int64_t span, int64_t first, int64_t last,
                                int64_t *ret, struct xt_err *err) {
    if (!trace_filter_is_plain(f))
        return count_rollups(c, f, span, first, last, ret, err);
    sqlite3_stmt *st = conn_stmt(c, SQL_ROLLUP_COUNT_SUM, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, f->project);
    sqlite3_bind_int64(st, 2, span / NS_PER_SEC);
    sqlite3_bind_int64(st, 3, first);
    sqlite3_bind_int64(st, 4, last);
    return one_number(c, st, ret, err);
}

static enum xt_code count_range(struct sqlite_store *e, struct conn *c, const struct trace_filter *f, int64_t *ret,
                                struct xt_err *err) {
    const bool plain = trace_filter_is_plain(f);
    int64_t spans[RANGE_SPANS];
    struct range_pieces pieces;
    enum xt_code code = XT_OK;
    range_split(spans, range_spans(str_has(f->name), plain, spans), f->from, f->to, &pieces);
    *ret = 0;
    for (size_t i = 0; i < pieces.n && code == XT_OK; i++) {
        const struct range_piece *p = &pieces.v[i];
        int64_t n = 0;
        code = p->span ? count_whole(c, f, p->span, p->from, p->to, &n, err)
               : plain ? count_times(c, f, p->from, p->to, &n, err)
                       : count_rows(e, c, f, p->from, p->to, &n, err);
        if (code == XT_OK)
            *ret += p->sign * n;
    }
    return code;
}

/* Entries of one value; where those of removed traces may be among them, by rows as long as that is cheap. */
static enum xt_code count_span(struct sqlite_store *e, struct conn *c, const struct trace_filter *f, int64_t h,
                               int64_t from, int64_t to, int64_t *ret, struct xt_err *err) {
    int64_t n = 0;
    bool exact = false;
    if (from > to)
        return XT_OK;
    enum xt_code code = lookup_count(c, h, from, to, &n, &exact, err);
    if (code == XT_OK && !exact && n <= COUNT_EXACT)
        code = count_rows(e, c, f, from, to, &n, err);
    *ret += n;
    return code;
}

/* Removed traces are no later than lookup_gone; no living one is earlier than the project's first. */
static enum xt_code count_entries(struct sqlite_store *e, struct conn *c, const struct trace_filter *f, int64_t h,
                                  int64_t *ret, struct xt_err *err) {
    int64_t gone = TIME_NONE, first = TIME_MIN;
    enum xt_code code = lookup_gone(c, &gone, err);
    if (code != XT_OK || gone == TIME_NONE || gone < f->from)
        return code == XT_OK ? count_span(e, c, f, h, f->from, f->to, ret, err) : code;
    sqlite3_stmt *st = conn_stmt(c, SQL_LOOK_FIRST, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, f->project);
    code = one_number(c, st, &first, err);
    if (first < f->from)
        first = f->from;
    if (code == XT_OK)
        code = count_span(e, c, f, h, first, f->to < gone ? f->to : gone, ret, err);
    if (code == XT_OK && gone < f->to)
        code = count_span(e, c, f, h, gone + 1, f->to, ret, err);
    return code;
}

enum xt_code filter_count(struct sqlite_store *e, struct conn *c, const struct trace_filter *f, bool *ret_known,
                          int64_t *ret, struct xt_err *err) {
    size_t keys = (size_t)str_has(f->user) + str_has(f->session) + str_has(f->name) + f->ntags;
    bool rows_only = str_has(f->version) || str_has(f->release) || record_keys_any(&f->keys);
    bool narrowed = str_has(f->label) || f->nenvironments > 0;
    int64_t h;
    *ret = 0;
    *ret_known = true;
    if (f->from > f->to)
        return XT_OK;
    if (keys == 1 && !rows_only && !narrowed && best_hash(e, f, &h))
        return count_entries(e, c, f, h, ret, err);
    if (!rows_only && keys == (size_t)str_has(f->name))
        return count_range(e, c, f, ret, err);
    *ret_known = false;
    return XT_OK;
}
