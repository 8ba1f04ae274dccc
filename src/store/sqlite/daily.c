/* daily.c -- the daily view: days of the traces' timestamps, newest first, with usage by model.
 *
 *  1. Without conditions beyond label and name: whole days and hours from the rollups (of one name: hours), less the
 *     traces that the range cuts off in its first and its last hour. Sums are exact, so taking away leaves what adding up
 *     would give.
 *  2. With others (user, tags, version, release): the matching traces, newest first, each with its trace_model rows.
 *  3. Models are added up for the days of the page alone. */
#include "store/sqlite/rollup.h"
#include "store/sqlite/scan.h"
#include "store/view/day.h"

#define DAILY_BYTES ((size_t)256 << 20)

struct day_sums {
    int64_t day;
    int64_t traces, observations;
    money cost;
};

struct daily {
    struct sqlite_store *e;
    struct conn *c;
    const struct daily_query *q;
    struct trace_filter filter;
    struct str name; /* of the traces, in the stored form; absent: all */
    day_visitor *visit;
    void *arg;
    bool more; /* the visitor wants more */
    struct arena a, day_arena;
    struct day_sums *days; /* ascending */
    size_t n, room;
    struct day_models usage; /* of the day being built; lives in day_arena */
};

static int64_t day_of(int64_t ts) { return time_floor(ts, NS_PER_DAY); }

/* Last instant of the day; the first and the last day of all are cut. */
static int64_t day_end(int64_t day) {
    int64_t next = day_of(time_add(day, NS_PER_DAY));
    return next > day ? next - 1 : TIME_MAX;
}

/* ---- one day ---- */

static void day_begin(struct daily *d) {
    arena_reset(&d->day_arena);
    day_models_init(&d->usage, &d->day_arena);
}

/* Usage of one trace. */
static enum xt_code add_trace_usage(struct daily *d, int64_t tseq, int sign, struct xt_err *err) {
    int rc;
    sqlite3_stmt *st = conn_stmt(d->c, SQL_TMODEL_OF, err);
    if (!st)
        return d->c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct model_sums sums = { .n = sqlite3_column_int64(st, 1) };
        model_sums_read(st, 2, &sums);
        if (!day_models_add(&d->usage, col_str(st, 0), 1, &sums, sign)) {
            sqlite3_reset(st);
            return no_memory(err);
        }
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? XT_OK : conn_fail(d->c, rc, "daily", err);
}

static enum xt_code day_show(struct daily *d, const struct day_sums *sums, struct xt_err *err) {
    struct day_row row = {
        .day = sums->day, .traces = sums->traces, .observations = sums->observations, .cost = sums->cost
    };
    if (!day_models_show(&d->usage, &row))
        return no_memory(err);
    d->more = d->visit(d->arg, &row);
    return XT_OK;
}

/* ---- from the rollups ---- */

/* The last day of the list, or a new one: hours come ascending. NULL: no memory. */
static struct day_sums *last_day(struct daily *d, int64_t day) {
    if (d->n > 0 && d->days[d->n - 1].day == day)
        return &d->days[d->n - 1];
    if (d->n == d->room) {
        size_t room = d->room ? d->room * 2 : 64;
        struct day_sums *bigger = arena_new(&d->a, struct day_sums, room);
        if (!bigger)
            return NULL;
        if (d->n > 0)
            memcpy(bigger, d->days, d->n * sizeof *d->days);
        d->days = bigger;
        d->room = room;
    }
    d->days[d->n] = (struct day_sums){ .day = day };
    return &d->days[d->n++];
}

/* The statement over hours or days between two starts: of one name, or of all together. */
static sqlite3_stmt *range(struct daily *d, enum sql_id all, enum sql_id named, int64_t span, int64_t first,
                           int64_t last, struct xt_err *err) {
    bool name = str_has(d->q->trace_name);
    sqlite3_stmt *st = conn_stmt(d->c, name ? named : all, err);
    if (!st)
        return NULL;
    sqlite3_bind_int64(st, 1, d->q->project);
    sqlite3_bind_int64(st, 3, first);
    sqlite3_bind_int64(st, 4, last);
    if (name)
        bind_str(st, 5, d->name);
    else
        sqlite3_bind_int64(st, 2, span == NS_PER_DAY ? ROLLUP_ALL_DAY : ROLLUP_ALL_HOUR);
    return st;
}

static bool wanted(const struct daily *d, struct str label) {
    return !str_has(d->q->label) || str_eq(d->q->label, label);
}

static enum xt_code read_days(struct daily *d, int64_t span, int64_t first, int64_t last, struct xt_err *err) {
    int rc;
    sqlite3_stmt *st = range(d, SQL_ROLLUP_TRACE_RANGE, SQL_ROLLUP_TRACE_NAMED, span, first, last, err);
    if (!st)
        return d->c->failed;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (!wanted(d, col_str(st, 1)))
            continue;
        struct day_sums *day = last_day(d, day_of(sqlite3_column_int64(st, 0)));
        if (!day) {
            sqlite3_reset(st);
            return no_memory(err);
        }
        day->traces += sqlite3_column_int64(st, 3);
        day->observations += sqlite3_column_int64(st, 4);
        day->cost += sum_join(sqlite3_column_int64(st, 5), sqlite3_column_int64(st, 6));
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? XT_OK : conn_fail(d->c, rc, "daily", err);
}

static enum xt_code read_models(struct daily *d, int64_t span, int64_t first, int64_t last, struct xt_err *err) {
    int rc;
    sqlite3_stmt *st = range(d, SQL_ROLLUP_MODEL_RANGE, SQL_ROLLUP_MODEL_NAMED, span, first, last, err);
    if (!st)
        return d->c->failed;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (!wanted(d, col_str(st, 0)))
            continue;
        struct model_sums sums = { .n = sqlite3_column_int64(st, 2) };
        model_sums_read(st, 4, &sums);
        if (!day_models_add(&d->usage, col_str(st, 1), sqlite3_column_int64(st, 3), &sums, 1)) {
            sqlite3_reset(st);
            return no_memory(err);
        }
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? XT_OK : conn_fail(d->c, rc, "daily", err);
}

static struct day_sums *find_day(struct daily *d, int64_t day) {
    size_t low = 0, high = d->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (d->days[mid].day < day)
            low = mid + 1;
        else
            high = mid;
    }
    return low < d->n && d->days[low].day == day ? &d->days[low] : NULL;
}

/* Takes traces between two instants out again: of the days' sums, or of the present day's usage. */
static enum xt_code take_out(struct daily *d, int64_t from, int64_t to, bool usage, struct xt_err *err) {
    struct trace_filter f = d->filter;
    struct trace_scan s;
    struct trace_rec r;
    bool found = true;
    if (from > to)
        return XT_OK;
    f.from = from;
    f.to = to;
    enum xt_code code = scan_open(&s, d->e, d->c, &f, false, err);
    while (code == XT_OK) {
        code = scan_next(&s, &r, &found, err);
        if (code != XT_OK || !found)
            break;
        struct day_sums *day = usage ? NULL : find_day(d, day_of(r.ts));
        if (usage)
            code = add_trace_usage(d, r.tseq, -1, err);
        if (day) {
            day->traces--;
            day->observations -= r.nobs;
            day->cost -= trace_rec_cost(&r);
        }
    }
    scan_close(&s);
    return code;
}

static int64_t later(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t earlier(int64_t a, int64_t b) { return a < b ? a : b; }

/* What the range cuts off of its first and last hour, within [low, high]. */
static enum xt_code take_edges(struct daily *d, int64_t low, int64_t high, bool usage, struct xt_err *err) {
    int64_t first = time_floor(d->q->from, ROLLUP_HOUR),
            end = time_add(time_floor(d->q->to, ROLLUP_HOUR), ROLLUP_HOUR - 1);
    enum xt_code code = XT_OK;
    if (d->q->from > first)
        code = take_out(d, later(first, low), earlier(d->q->from - 1, high), usage, err);
    if (code == XT_OK && d->q->to < end)
        code = take_out(d, later(d->q->to + 1, low), earlier(end, high), usage, err);
    return code;
}

/* Days of the range: whole ones as such, what stands before and after them by hours. */
static enum xt_code read_all_days(struct daily *d, struct xt_err *err) {
    const int64_t first = time_floor(d->q->from, ROLLUP_HOUR), last = time_floor(d->q->to, ROLLUP_HOUR);
    int64_t from, to;
    enum xt_code code = XT_OK;
    if (str_has(d->q->trace_name) || !rollup_whole(d->q->from, d->q->to, NS_PER_DAY, &from, &to))
        return read_days(d, ROLLUP_HOUR, first, last, err);
    if (first < from)
        code = read_days(d, ROLLUP_HOUR, first, from - 1, err);
    if (code == XT_OK)
        code = read_days(d, NS_PER_DAY, from, to, err);
    if (code == XT_OK && day_end(to) < d->q->to)
        code = read_days(d, ROLLUP_HOUR, day_end(to) + 1, last, err);
    return code;
}

static enum xt_code day_models(struct daily *d, int64_t day, struct xt_err *err) {
    const int64_t first = time_floor(d->q->from, ROLLUP_HOUR), last = time_floor(d->q->to, ROLLUP_HOUR);
    if (day >= d->q->from && day_end(day) <= d->q->to && !str_has(d->q->trace_name))
        return read_models(d, NS_PER_DAY, day, day, err);
    return read_models(d, ROLLUP_HOUR, later(day, first), earlier(day_end(day), last), err);
}

static enum xt_code from_rollups(struct daily *d, int64_t *ret_total, struct xt_err *err) {
    if (str_has(d->q->trace_name)) {
        d->name = rollup_text(&d->a, d->q->trace_name);
        if (!str_has(d->name))
            return no_memory(err);
    }
    enum xt_code code = read_all_days(d, err);
    if (code == XT_OK)
        code = take_edges(d, TIME_MIN, TIME_MAX, false, err);
    size_t n = 0;
    for (size_t i = 0; i < d->n; i++)
        if (d->days[i].traces != 0)
            d->days[n++] = d->days[i];
    *ret_total = (int64_t)n;
    for (int64_t i = 0; code == XT_OK && d->more && i < d->q->limit && d->q->offset < (int64_t)n - i; i++) {
        const struct day_sums *day = &d->days[(int64_t)n - 1 - d->q->offset - i];
        day_begin(d);
        code = day_models(d, day->day, err);
        if (code == XT_OK)
            code = take_edges(d, day->day, day_end(day->day), true, err);
        if (code == XT_OK)
            code = day_show(d, day, err);
    }
    return code;
}

/* ---- from the traces ---- */

static enum xt_code from_traces(struct daily *d, int64_t *ret_total, struct xt_err *err) {
    struct trace_scan s;
    struct trace_rec r;
    struct day_sums day = { 0 };
    int64_t days = 0; /* begun so far; the present one has index days - 1 */
    bool found = true, shown = false;
    enum xt_code code = scan_open(&s, d->e, d->c, &d->filter, true, err);
    while (code == XT_OK && found) {
        code = scan_next(&s, &r, &found, err);
        if (code != XT_OK)
            break;
        if (days == 0 || !found || day_of(r.ts) != day.day) {
            if (shown && d->more)
                code = day_show(d, &day, err);
            if (!found || code != XT_OK)
                break;
            day = (struct day_sums){ .day = day_of(r.ts) };
            shown = days >= d->q->offset && days - d->q->offset < d->q->limit;
            days++;
            day_begin(d);
        }
        day.traces++;
        day.observations += r.nobs;
        day.cost += trace_rec_cost(&r);
        if (shown && r.nobs > 0)
            code = add_trace_usage(d, r.tseq, 1, err);
    }
    scan_close(&s);
    *ret_total = days;
    return code;
}

static enum xt_code read_daily(struct daily *d, int64_t *ret_total, struct xt_err *err) {
    const struct daily_query *q = d->q;
    trace_filter_of_daily(q, &d->filter);
    *ret_total = 0;
    if (q->from > q->to)
        return XT_OK;
    return trace_filter_by_rollups(&d->filter) ? from_rollups(d, ret_total, err) : from_traces(d, ret_total, err);
}

enum xt_code sqlite_daily(struct store *s, const struct daily_query *q, day_visitor *visit, void *arg,
                          int64_t *ret_total, struct xt_err *err) {
    struct daily d = { .e = engine_of(s), .q = q, .visit = visit, .arg = arg, .more = true };
    int64_t total = 0;
    d.c = reader_get(d.e, q->deadline, err);
    if (!d.c)
        return err->code;
    arena_init(&d.a, DAILY_BYTES);
    arena_init(&d.day_arena, DAILY_BYTES);
    enum xt_code code = conn_begin(d.c, false, err);
    if (code == XT_OK)
        code = read_daily(&d, &total, err);
    reader_put(d.e, d.c);
    arena_done(&d.a);
    arena_done(&d.day_arena);
    if (code == XT_OK)
        *ret_total = total;
    return code;
}
