/* index_set.c -- which runs and hot parts a snapshot has; see index.h, 4 and 5.
 *
 * A reader asks its snapshot for the version of the run list, how far the log is sealed and its last row. When memory has
 * exactly that, it is shared; else runs are read from ixrun and the log is replayed from the snapshot, which happens to
 * those who begin before a seal or merge and look up after it, and to other processes. */
#include <stdlib.h>

#include "store/sqlite/index.h"

static enum xt_code out_of_memory(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }

/* ---- sets ---- */

struct ix_set *set_new(size_t nruns) {
    struct ix_set *s = alloc_should_fail() ? NULL : calloc(1, sizeof *s);
    if (!s)
        return NULL;
    atomic_init(&s->refs, 1);
    s->runs = calloc(nruns + 1, sizeof(struct ix_run *));
    if (s->runs)
        return s;
    free(s);
    return NULL;
}

void set_unref(struct ix_set *s) {
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1)
        return;
    for (size_t i = 0; i < s->nhot; i++)
        hot_unref(s->hot[i]);
    for (size_t i = 0; i < s->nruns; i++)
        run_unref(s->runs[i]);
    free(s->runs);
    free(s);
}

static struct ix_set *set_get(struct index *ix) {
    pthread_mutex_lock(&ix->mu);
    struct ix_set *s = ix->set;
    if (s)
        atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&ix->mu);
    return s;
}

void index_set_put(struct index *ix, struct ix_set *s) {
    pthread_mutex_lock(&ix->mu);
    struct ix_set *old = ix->set;
    ix->set = s;
    pthread_mutex_unlock(&ix->mu);
    set_unref(old);
}

/* ---- what the file says ---- */

struct file_state {
    int64_t version, sealed, last; /* last: row of the log */
    bool has_gone;
    int64_t gone;
};

static enum xt_code read_state(struct conn *c, struct file_state *ret, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_IX_STATE, err);
    if (!st)
        return c->failed;
    if (c->index->bits_damaged)
        return ix_damaged(c, "hash bits", err);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        ret->version = sqlite3_column_int64(st, 0);
        ret->sealed = sqlite3_column_int64(st, 1);
        ret->last = sqlite3_column_int64(st, 2);
        ret->has_gone = sqlite3_column_type(st, 3) != SQLITE_NULL;
        ret->gone = sqlite3_column_int64(st, 3);
    }
    sqlite3_reset(st);
    if (rc != SQLITE_ROW)
        return conn_fail(c, rc, "look-up", err);
    if (ret->version < 1 || ret->sealed < 0)
        return ix_damaged(c, "state", err);
    if (ret->last < ret->sealed)
        ret->last = ret->sealed;
    return XT_OK;
}

static struct ix_run *known_run(const struct ix_set *s, int64_t number) {
    for (size_t i = 0; s && i < s->nruns; i++)
        if (s->runs[i]->number == number)
            return s->runs[i];
    return NULL;
}

/* The live runs; what memory knows is shared. */
static enum xt_code read_runs(struct conn *c, struct index *ix, const struct ix_set *known, struct ix_set **ret,
                              struct xt_err *err) {
    enum xt_code code = XT_OK;
    int rc = SQLITE_DONE;
    struct ix_set *s = set_new(0);
    sqlite3_stmt *st = s ? conn_stmt(c, SQL_IX_RUNS, err) : NULL;
    size_t room = 0;
    if (!st) {
        set_unref(s);
        return s ? c->failed : out_of_memory(err);
    }
    while (code == XT_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (s->nruns == room) {
            room = room ? room * 2 : 32;
            struct ix_run **bigger = alloc_should_fail() ? NULL : realloc(s->runs, room * sizeof(struct ix_run *));
            if (!bigger) {
                code = out_of_memory(err);
                break;
            }
            s->runs = bigger;
        }
        struct ix_run *r = known_run(known, sqlite3_column_int64(st, 0));
        if (r)
            run_ref(r);
        else
            code = run_read(ix, st, &r, err);
        if (code == XT_OK)
            s->runs[s->nruns++] = r;
    }
    sqlite3_reset(st);
    if (code == XT_OK && rc != SQLITE_DONE)
        code = conn_fail(c, rc, "look-up", err);
    if (code == XT_OK)
        *ret = s;
    else
        set_unref(s);
    return code;
}

/* Does memory hold just the log rows that the snapshot has not in runs, all of them? */
static bool has_log(const struct ix_set *s, const struct file_state *f) {
    return s && s->nhot > 0 && s->hot[0]->first_seq == f->sealed &&
           atomic_load_explicit(&s->hot[s->nhot - 1]->last_seq, memory_order_acquire) >= f->last;
}

static enum xt_code read_set(struct conn *c, struct index *ix, const struct ix_set *known, const struct file_state *f,
                             struct ix_set **ret, struct xt_err *err) {
    struct ix_set *s = NULL;
    enum xt_code code = read_runs(c, ix, known, &s, err);
    if (code != XT_OK || !s)
        return code;
    s->version = f->version;
    s->sealed = f->sealed;
    if (has_log(known, f)) {
        for (size_t i = 0; i < known->nhot; i++)
            s->hot[s->nhot++] = hot_ref(known->hot[i]);
    } else {
        s->hot[0] = hot_new(f->sealed);
        s->nhot = s->hot[0] != NULL;
        code = s->hot[0] ? log_replay(c, s->hot[0], ix->bits, err) : out_of_memory(err);
    }
    if (code == XT_OK)
        *ret = s;
    else
        set_unref(s);
    return code;
}

enum xt_code index_load(struct index *ix, struct xt_err *err) {
    struct file_state f = { 0 };
    struct ix_set *s = NULL;
    struct conn *c = &ix->e->writer;
    enum xt_code code = read_state(c, &f, err);
    if (code != XT_OK)
        return code;
    const struct ix_set *now = ix->set;
    if (now && now->version == f.version && has_log(now, &f) &&
        atomic_load_explicit(&now->hot[now->nhot - 1]->last_seq, memory_order_relaxed) == f.last) {
        ix->in_sync = true;
        return XT_OK;
    }
    job_drop(ix->seal);
    job_drop(ix->merge);
    code = read_set(c, ix, now, &f, &s, err);
    if (code != XT_OK)
        return code;
    index_set_put(ix, s);
    ix->in_sync = ix->garbage = ix->orphans = ix->floor_moved = true;
    return XT_OK;
}

/* ---- views ---- */

void index_unpin(struct conn *c) {
    if (c->view.set && !c->view.borrowed)
        set_unref(c->view.set);
    c->view = (struct ix_view){ 0 };
}

static enum xt_code pin_writer(struct index *ix, struct ix_view *v, struct xt_err *err) {
    enum xt_code code = ix->in_sync ? XT_OK : index_load(ix, err);
    if (code != XT_OK)
        return code;
    *v = (struct ix_view){ .set = ix->set, .borrowed = true };
    for (size_t i = 0; i < ix->set->nhot; i++)
        v->limit[i] = ix->set->hot[i]->published;
    return XT_OK;
}

enum xt_code view_pin_file(struct conn *c, struct ix_view **ret, struct xt_err *err) {
    struct index *ix = c->index;
    struct ix_view *v = &c->view;
    struct file_state f = { 0 };
    *ret = v;
    index_unpin(c);
    enum xt_code code = read_state(c, &f, err);
    if (code != XT_OK)
        return code;
    struct ix_set *s = set_get(ix);
    if (!s || s->version != f.version || !has_log(s, &f)) {
        struct ix_set *own = NULL;
        code = read_set(c, ix, s, &f, &own, err);
        set_unref(s);
        s = own;
    }
    if (code != XT_OK || !s)
        return code;
    v->set = s;
    v->has_gone = f.has_gone;
    v->gone = f.gone;
    for (size_t i = 0; i < s->nhot; i++) {
        int64_t last = atomic_load_explicit(&s->hot[i]->last_seq, memory_order_acquire);
        v->limit[i] = hot_counts_at(s->hot[i], f.last < last ? f.last : last);
    }
    return XT_OK;
}

enum xt_code view_pin(struct conn *c, struct ix_view **ret, struct xt_err *err) {
    *ret = &c->view;
    if (c->view.set && !c->view.borrowed)
        return XT_OK;
    return c == &c->index->e->writer ? pin_writer(c->index, &c->view, err) : view_pin_file(c, ret, err);
}
