/* scan.c -- see scan.h. */
#include "store/sqlite/scan.h"

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

bool filter_is_plain(const struct trace_filter *f) {
    return !str_has(f->label) && !str_has(f->user) && !str_has(f->name) && !str_has(f->session) &&
           !str_has(f->version) && !str_has(f->release) && f->ntags == 0 && f->nenvironments == 0;
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

enum xt_code scan_open(struct trace_scan *s, struct sqlite_store *e, struct conn *c, const struct trace_filter *f,
                       bool descending, struct xt_err *err) {
    int64_t h;
    *s = (struct trace_scan){ .c = c, .f = f };
    arena_init(&s->scratch, SCRATCH_BYTES);
    if (best_hash(e, f, &h))
        return look_walk_open(&s->hits, c, h, f->from, f->to, descending, err);
    s->walk = conn_stmt(c, descending ? SQL_TRACE_WALK_DESC : SQL_TRACE_WALK_ASC, err);
    if (!s->walk)
        return c->failed;
    sqlite3_bind_int64(s->walk, 1, f->project);
    sqlite3_bind_int64(s->walk, 2, f->from);
    sqlite3_bind_int64(s->walk, 3, f->to);
    sqlite3_bind_int64(s->walk, 4, 0);
    return XT_OK;
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
        if (*ret_found && ret->ts == ts && matches(s->f, ret, &s->scratch))
            return XT_OK;
        if (s->scratch.failed)
            return no_memory(err);
    }
}

void scan_close(struct trace_scan *s) {
    look_walk_close(&s->hits);
    if (s->walk)
        sqlite3_reset(s->walk);
    arena_done(&s->scratch);
}

/* ---- counting ---- */

static enum xt_code sum_query(struct conn *c, enum sql_id id, int64_t a, int64_t b, int64_t d, int64_t *ret,
                              struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, id, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, a);
    sqlite3_bind_int64(st, 2, b);
    sqlite3_bind_int64(st, 3, d);
    int rc = sqlite3_step(st);
    int64_t v = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_reset(st);
    if (rc != SQLITE_ROW)
        return conn_fail(c, rc, "count", err);
    *ret = v;
    return XT_OK;
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

static enum xt_code count_part(struct sqlite_store *e, struct conn *c, const struct trace_filter *f, int64_t from,
                               int64_t to, int64_t *ret, struct xt_err *err) {
    if (filter_is_plain(f))
        return sum_query(c, SQL_TRACE_COUNT, f->project, from, to, ret, err);
    return count_rows(e, c, f, from, to, ret, err);
}

/* Rows of rollup_trace between two hours that match label, environment and name. */
static enum xt_code count_rollups(struct conn *c, const struct trace_filter *f, int64_t first, int64_t last,
                                  int64_t *ret, struct xt_err *err) {
    int rc;
    sqlite3_stmt *st = conn_stmt(c, SQL_ROLLUP_TRACE_RANGE, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, f->project);
    sqlite3_bind_int64(st, 2, first);
    sqlite3_bind_int64(st, 3, last);
    *ret = 0;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (same(f->label, col_str(st, 1)) && any_of(f->environments, f->nenvironments, col_str(st, 2)) &&
            same(f->name, rollup_text_of(col_str(st, 3))))
            *ret += sqlite3_column_int64(st, 4);
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "count", err);
}

/* Whole hours by rollups, less what lies outside in the first and the last hour. */
static enum xt_code count_hours(struct sqlite_store *e, struct conn *c, const struct trace_filter *f, int64_t *ret,
                                struct xt_err *err) {
    int64_t first = time_floor(f->from, ROLLUP_HOUR), last = time_floor(f->to, ROLLUP_HOUR), more = 0;
    int64_t end = time_add(last, ROLLUP_HOUR - 1);
    enum xt_code code = filter_is_plain(f) ? sum_query(c, SQL_ROLLUP_HOUR_SUM, f->project, first, last, ret, err)
                                           : count_rollups(c, f, first, last, ret, err);
    if (code == XT_OK && f->from > first) {
        code = count_part(e, c, f, first, f->from - 1, &more, err);
        *ret -= more;
    }
    if (code == XT_OK && f->to < end) {
        code = count_part(e, c, f, f->to + 1, end, &more, err);
        *ret -= more;
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
    code = sum_query(c, SQL_LOOK_FIRST, f->project, 0, 0, &first, err);
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
    bool rows_only = str_has(f->version) || str_has(f->release);
    bool narrowed = str_has(f->label) || f->nenvironments > 0;
    int64_t h;
    *ret = 0;
    *ret_known = true;
    if (f->from > f->to)
        return XT_OK;
    if (keys == 1 && !rows_only && !narrowed && best_hash(e, f, &h))
        return count_entries(e, c, f, h, ret, err);
    if (!rows_only && keys == (size_t)str_has(f->name))
        return count_hours(e, c, f, ret, err);
    *ret_known = false;
    return XT_OK;
}
