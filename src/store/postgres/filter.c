/* filter.c -- see filter.h. */
#include "store/postgres/filter.h"

#include "base/codec.h"
#include "store/fold/keys.h"

/* ---- what is asked ---- */

bool pg_filter_is_key(const struct trace_filter *f) { return f->ntags == 1 && f->tags[0].n <= PG_SHORT_KEEP; }

static bool text_can_match(struct str s) { return !str_has(s) || utf8_valid(s); }

bool pg_filter_can_match(const struct trace_filter *f) {
    if (f->from > f->to || !text_can_match(f->label) || !text_can_match(f->user) || !text_can_match(f->name) ||
        !text_can_match(f->session) || !text_can_match(f->version) || !text_can_match(f->release))
        return false;
    for (size_t i = 0; i < f->ntags; i++)
        if (!text_can_match(f->tags[i]))
            return false;
    for (int i = 0; i < RECORD_KEYS; i++)
        if (!text_can_match(f->keys.v[i]))
            return false;
    bool any = f->nenvironments == 0;
    for (size_t i = 0; i < f->nenvironments; i++)
        any = any || text_can_match(f->environments[i]);
    return any;
}

/* ---- conditions ---- */

static void equals(struct pg_sql *q, const char *column, struct str s) {
    if (!str_has(s))
        return;
    pg_sql_c(q, " AND ");
    pg_sql_c(q, column);
    pg_sql_c(q, " = ");
    pg_sql_text(q, s);
}

/* On a column that an index holds the beginning of; `serves`: by that index. */
static void equals_indexed(struct pg_sql *q, const char *column, struct str s, bool serves) {
    if (!str_has(s))
        return;
    if (!serves) {
        equals(q, column, s);
        return;
    }
    buf_printf(&q->text, " AND left(%s, 128) = left($%d, 128) AND %s = ", column, q->args.n + 1, column);
    pg_sql_text(q, s);
}

/* One of them; those that are not UTF-8 equal nothing. */
static void environments(struct pg_sql *q, const char *column, const struct trace_filter *f) {
    size_t n = 0;
    if (f->nenvironments == 0)
        return;
    for (size_t i = 0; i < f->nenvironments; i++)
        n += text_can_match(f->environments[i]);
    buf_printf(&q->text, " AND %s = ANY($%d)", column, q->args.n + 1);
    pg_arg_array(&q->args, PG_TEXT, n);
    for (size_t i = 0; i < f->nenvironments; i++)
        if (text_can_match(f->environments[i]))
            pg_item_text(&q->args, f->environments[i]);
}

static void range(struct pg_sql *q, const char *column, int64_t from, int64_t to) {
    if (from > TIME_MIN) {
        pg_sql_c(q, " AND ");
        pg_sql_c(q, column);
        pg_sql_c(q, " >= ");
        pg_sql_i64(q, from);
    }
    if (to < TIME_MAX) {
        pg_sql_c(q, " AND ");
        pg_sql_c(q, column);
        pg_sql_c(q, " <= ");
        pg_sql_i64(q, to);
    }
}

/* A key of the first tag, of the trace's own time. */
static void key_of_tag(struct pg_sql *q, const struct trace_filter *f) {
    char room[PG_SHORT_MAX];
    pg_sql_c(q, "k.kind = 1::smallint AND k.project = ");
    pg_sql_i64(q, f->project);
    pg_sql_c(q, " AND k.v = ");
    pg_sql_text(q, pg_short(f->tags[0], room));
    range(q, "k.ts", f->from, f->to);
}

/* Turns, runs and steps: few traces have the same. */
static void record_keys(struct pg_sql *q, const struct trace_filter *f) {
    char room[PG_SHORT_MAX];
    for (int i = 0; i < RECORD_KEYS; i++) {
        if (!str_has(f->keys.v[i]))
            continue;
        buf_printf(
            &q->text,
            " AND t.tseq IN (SELECT r.tseq FROM xtrace.record_key r WHERE r.kind = %d::smallint AND r.project = ",
            i + 1);
        pg_sql_i64(q, f->project);
        pg_sql_c(q, " AND r.v = ");
        pg_sql_text(q, pg_short(f->keys.v[i], room));
        pg_sql_c(q, ")");
    }
}

void pg_filter_sql(struct pg_sql *q, const struct trace_filter *f, const char **ret_time) {
    const bool by_tag = f->ntags > 0 && !str_has(f->session) && !str_has(f->user);
    *ret_time = by_tag ? "k" : "t";
    if (by_tag) {
        pg_sql_c(q, "xtrace.trace_key k JOIN xtrace.trace t ON t.tseq = k.tseq WHERE ");
        key_of_tag(q, f);
    } else {
        pg_sql_c(q, "xtrace.trace t WHERE t.project = ");
        pg_sql_i64(q, f->project);
        range(q, "t.ts", f->from, f->to);
    }
    equals_indexed(q, "t.session", f->session, true);
    equals_indexed(q, "t.user_id", f->user, !str_has(f->session));
    equals_indexed(q, "t.name", f->name, !by_tag && !str_has(f->session) && !str_has(f->user));
    equals(q, "t.label", f->label);
    equals(q, "t.version", f->version);
    equals(q, "t.release", f->release);
    environments(q, "t.env", f);
    record_keys(q, f);
    /* The planner takes tags for rarer than they are together with a key of them, and would sort instead of reading on in
     * order: the comparison is hidden from it. */
    if (f->ntags > 0 && !(by_tag && pg_filter_is_key(f))) {
        pg_sql_c(q, " AND coalesce(t.tags @> ");
        pg_sql_texts(q, f->tags, f->ntags);
        pg_sql_c(q, ", false)");
    }
}

void pg_filter_rollup_sql(struct pg_sql *q, const struct trace_filter *f, int64_t span) {
    const int level = str_has(f->name) ? ROLLUP_NAMED_HOUR : span == NS_PER_DAY ? ROLLUP_ALL_DAY : ROLLUP_ALL_HOUR;
    buf_printf(&q->text, "r.level = %d::smallint AND r.project = ", level);
    pg_sql_i64(q, f->project);
    if (str_has(f->name)) {
        buf_printf(&q->text, " AND left(r.name, 128) = left('=' || $%d, 128) AND r.name = '=' || ", q->args.n + 1);
        pg_sql_text(q, f->name);
    }
    equals(q, "r.label", f->label);
    environments(q, "r.env", f);
}

void pg_filter_starts_sql(struct pg_sql *q, const struct range_piece *p) { range(q, "r.start", p->from, p->to); }
