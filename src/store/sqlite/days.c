/* days.c -- see days.h. */
#include "store/sqlite/days.h"

#include "store/sqlite/scan.h"

#define DAY_BYTES ((size_t)1 << 30)
#define TRACE_BYTES ((size_t)1 << 30)

struct days {
    struct conn *c;
    struct group g; /* for trace_models_load: its arena is that of the present trace */
    struct arena trace, a;
    struct rollup_day day; /* start TIME_NONE: none yet */
    day_derived *visit;
    void *arg;
    int64_t n;
};

static enum xt_code day_add(struct days *d, int64_t tseq, struct xt_err *err) {
    struct trace_state t = { 0 };
    bool found;
    arena_reset(&d->trace);
    enum xt_code code = trace_fetch(d->c, SQL_TRACE_GET, tseq, &d->trace, &t.now, &found, err);
    if (code == XT_OK && found)
        code = trace_models_load(&d->g, &t, err);
    if (code != XT_OK || !found)
        return code;
    bool ok = rollup_trace(&d->day.fold, &t.now, 1);
    for (const struct tmodel *m = t.models; m && ok; m = m->next)
        ok = rollup_model(&d->day.fold, &t.now, m->model, &m->before, 1);
    return ok ? XT_OK : no_memory(err);
}

static enum xt_code day_next(struct days *d, int64_t project, int64_t start, struct xt_err *err) {
    enum xt_code code = d->n > 0 ? d->visit(d->arg, &d->day, err) : XT_OK;
    arena_reset(&d->a);
    d->day = (struct rollup_day){ .project = project, .start = start };
    rollup_init(&d->day.fold, &d->a);
    d->n++;
    return code;
}

/* Traces come by project and time, so that one day after the other is complete. */
static enum xt_code walk(struct days *d, sqlite3_stmt *st, struct xt_err *err) {
    enum xt_code code = XT_OK;
    int rc = SQLITE_DONE;
    while (code == XT_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        int64_t project = sqlite3_column_int64(st, 0), start = time_floor(sqlite3_column_int64(st, 1), NS_PER_DAY);
        if (d->n == 0 || project != d->day.project || start != d->day.start)
            code = day_next(d, project, start, err);
        if (code == XT_OK)
            code = day_add(d, sqlite3_column_int64(st, 2), err);
    }
    if (code == XT_OK && rc != SQLITE_DONE)
        code = conn_fail(d->c, rc, "traces by time", err);
    return code == XT_OK && d->n > 0 ? d->visit(d->arg, &d->day, err) : code;
}

enum xt_code derive_days(struct sqlite_store *e, struct conn *c, day_derived *visit, void *arg, int64_t *ret_days,
                         struct xt_err *err) {
    struct days d = { .c = c, .visit = visit, .arg = arg };
    sqlite3_stmt *st =
        conn_prepare(c, "SELECT project, ts, tseq FROM trace ORDER BY project, ts, tseq", "traces by time", err);
    if (!st)
        return c->failed;
    arena_init(&d.a, DAY_BYTES);
    arena_init(&d.trace, TRACE_BYTES);
    d.g = (struct group){ .e = e, .c = c, .a = &d.trace };
    enum xt_code code = walk(&d, st, err);
    sqlite3_finalize(st);
    arena_done(&d.trace);
    arena_done(&d.a);
    *ret_days = d.n;
    return code;
}
