/* detail.c -- one trace with all its observations in order, streamed: only their places are held; and
 * observations by their id alone. */
#include <stdlib.h>

#include "store/sqlite/lookup.h"
#include "store/sqlite/scan.h"
#include "store/sqlite/view.h"

#define PLACES_BYTES ((size_t)512 << 20) /* some 5 million observations */

struct places {
    struct obs_place *v;
    size_t n, room;
};

static int compare_places(const void *a, const void *b) { return obs_place_cmp(a, b); }

static bool add_place(struct arena *a, struct places *p, const struct obs_place *place) {
    if (p->n == p->room) {
        size_t room = p->room ? p->room * 2 : 64;
        struct obs_place *bigger = arena_new(a, struct obs_place, room);
        if (!bigger)
            return false;
        if (p->n > 0)
            memcpy(bigger, p->v, p->n * sizeof *p->v);
        p->v = bigger;
        p->room = room;
    }
    p->v[p->n] = *place;
    p->v[p->n].oid = arena_str(a, place->oid);
    return str_has(p->v[p->n++].oid);
}

static enum xt_code find_places(struct conn *c, int64_t tseq, struct arena *a, struct places *p, struct xt_err *err) {
    int rc;
    sqlite3_stmt *st = conn_stmt(c, SQL_OBS_ORDER, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct obs_place place = { col_time(st, 1), sqlite3_column_int64(st, 2), col_blob(st, 0) };
        if (!add_place(a, p, &place)) {
            sqlite3_reset(st);
            return xt_fail(err, XT_ENOMEM, "the trace has too many observations to be shown at once");
        }
    }
    sqlite3_reset(st);
    if (rc != SQLITE_DONE)
        return conn_fail(c, rc, "observation", err);
    if (p->n > 0)
        qsort(p->v, p->n, sizeof *p->v, compare_places);
    return XT_OK;
}

struct reading {
    struct conn *c;
    struct sql_view view;
    const struct trace_rec *trace;
    struct str trace_id; /* printed */
    observation_visitor *visit;
    void *arg;
};

/* Shows one observation; *ret_more false: the visitor has seen enough. */
static enum xt_code show_one(struct reading *r, struct str oid, bool *ret_more, struct xt_err *err) {
    struct obs_rec rec;
    struct observation_row row;
    sqlite3_stmt *st = conn_stmt(r->c, SQL_OBS_GET, err);
    if (!st)
        return r->c->failed;
    arena_reset(&r->view.view.arena);
    sqlite3_bind_int64(st, 1, r->trace->tseq);
    bind_blob(st, 2, oid);
    int rc = sqlite3_step(st);
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE ? XT_OK : conn_fail(r->c, rc, "observation", err);
    enum xt_code code = obs_rec_read(r->c, &r->view.codec, st, &r->view.view.arena, false, &rec, err);
    if (code == XT_OK)
        code = view_observation(&r->view.view, &rec, r->trace_id, &row, err);
    if (code == XT_OK)
        *ret_more = r->visit(r->arg, &row);
    sqlite3_reset(st);
    return code;
}

static enum xt_code show_observations(struct reading *r, struct arena *a, struct xt_err *err) {
    struct places places = { 0 };
    bool more = true;
    enum xt_code code = find_places(r->c, r->trace->tseq, a, &places, err);
    for (size_t i = 0; i < places.n && code == XT_OK && more; i++)
        code = show_one(r, places.v[i].oid, &more, err);
    return code;
}

static enum xt_code show_trace(struct conn *c, int64_t tseq, trace_visitor *visit, observation_visitor *observation,
                               void *arg, struct arena *a, struct xt_err *err) {
    struct trace_rec rec;
    struct trace_row row;
    bool found, more = false;
    struct reading r = { .c = c, .trace = &rec, .visit = observation, .arg = arg };
    enum xt_code code = trace_fetch(c, SQL_TRACE_GET, tseq, a, &rec, &found, err);
    if (code != XT_OK || !found)
        return code != XT_OK ? code : xt_fail(err, XT_ENOTFOUND, "Not Found");
    sql_view_init(&r.view, c);
    code = sql_view_trace(&r.view, &rec, true, &row, err);
    if (code == XT_OK) {
        r.trace_id = arena_str(a, row.id);
        if (!str_has(r.trace_id))
            code = no_memory(err);
        else
            more = visit(arg, &row);
    }
    if (code == XT_OK && more)
        code = show_observations(&r, a, err);
    sql_view_done(&r.view);
    return code;
}

enum xt_code sqlite_trace_get(struct store *s, const struct trace_ref *ref, trace_visitor *trace,
                              observation_visitor *observation, void *arg, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    struct arena a;
    int64_t tseq = 0;
    struct conn *c = reader_get(e, ref->deadline, err);
    if (!c)
        return err->code;
    arena_init(&a, PLACES_BYTES);
    enum xt_code code = conn_begin(c, false, err);
    if (code == XT_OK)
        code = lookup_trace(c, ref->project, ref->key, &tseq, err);
    if (code == XT_OK && tseq == 0)
        code = xt_fail(err, XT_ENOTFOUND, "Not Found");
    else if (code == XT_OK)
        code = show_trace(c, tseq, trace, observation, arg, &a, err);
    reader_put(e, c);
    arena_done(&a);
    return code;
}

/* ---- an observation by its id alone ---- */

#define HITS_BYTES ((size_t)64 << 20)

struct hits { /* numbers of traces that have it */
    struct arena *a;
    int64_t *v;
    size_t n, room;
    bool failed; /* no memory */
};

static bool add_hit(void *arg, int64_t tseq) {
    struct hits *h = arg;
    if (h->n == h->room) {
        size_t room = h->room ? h->room * 2 : 8;
        int64_t *bigger = arena_new(h->a, int64_t, room);
        h->failed = !bigger;
        if (!bigger)
            return false;
        if (h->n > 0)
            memcpy(bigger, h->v, h->n * sizeof *h->v);
        h->v = bigger;
        h->room = room;
    }
    h->v[h->n++] = tseq;
    return true;
}

static int newest_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* The observation of one trace. */
static enum xt_code show_hit(struct reading *r, int64_t tseq, struct str oid, struct arena *a, bool *ret_more,
                             struct xt_err *err) {
    struct trace_rec rec;
    bool found;
    enum xt_code code = trace_fetch(r->c, SQL_TRACE_GET, tseq, a, &rec, &found, err);
    if (code != XT_OK || !found)
        return code;
    r->trace = &rec;
    r->trace_id = id_print(a, rec.id.key, rec.id.spell, rec.id.text);
    if (str_has(r->trace_id))
        code = show_one(r, oid, ret_more, err);
    else
        code = a->failed ? no_memory(err) : row_damaged(err);
    r->trace = NULL;
    return code;
}

static enum xt_code show_hits(struct conn *c, const struct observation_ref *ref, struct hits *h,
                              observation_visitor *visit, void *arg, struct xt_err *err) {
    struct reading r = { .c = c, .visit = visit, .arg = arg };
    struct arena a;
    bool more = true;
    enum xt_code code = XT_OK;
    qsort(h->v, h->n, sizeof *h->v, newest_first);
    sql_view_init(&r.view, c);
    arena_init(&a, PLACES_BYTES);
    for (size_t i = 0; i < h->n && code == XT_OK && more; i++) {
        if (i > 0 && h->v[i] == h->v[i - 1])
            continue;
        arena_reset(&a);
        code = show_hit(&r, h->v[i], ref->key, &a, &more, err);
    }
    arena_done(&a);
    sql_view_done(&r.view);
    return code;
}

enum xt_code sqlite_observation_get(struct store *s, const struct observation_ref *ref, observation_visitor *visit,
                                    void *arg, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    struct arena a;
    struct hits h = { .a = &a };
    struct conn *c = reader_get(e, ref->deadline, err);
    if (!c)
        return err->code;
    arena_init(&a, HITS_BYTES);
    enum xt_code code = conn_begin(c, false, err);
    if (code == XT_OK)
        code = lookup_observation(c, ref->project, ref->key, add_hit, &h, err);
    if (code == XT_OK && h.failed)
        code = xt_fail(err, XT_ENOMEM, "too many traces have an observation of that id");
    else if (code == XT_OK && h.n == 0)
        code = xt_fail(err, XT_ENOTFOUND, "Not Found");
    else if (code == XT_OK)
        code = show_hits(c, ref, &h, visit, arg, err);
    reader_put(e, c);
    arena_done(&a);
    return code;
}
