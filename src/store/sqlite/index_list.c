/* index_list.c -- walks over postings: a cursor for each run that has any in the range, one for each hot part, merged.
 *
 * A run's cursor is a range of positions and a copy of one part. A hot part is in order of arrival, so its cursor takes the
 * next few in order by a scan that keeps the best, first BATCH_FIRST, then more each time: what a page needs costs one
 * scan, and a walk to the end some. Memory: 4 KB a run, and in the end 16 bytes for each match in a hot part. */
#include <assert.h>
#include <stdlib.h>

#include "store/sqlite/index_read.h"

#define BATCH_FIRST (INDEX_HOT_TRACES >= 1024 ? 64u : 4u)
#define BATCH_GROWS 8u

struct run_cursor {
    struct ix_run *run;
    int64_t at, end; /* descending: from end - 1 down to at */
    struct ix_part part;
};
struct place {
    uint64_t ts;
    int64_t tseq;
};
struct hot_cursor {
    const struct ix_hot *hot;
    uint32_t limit;
    struct place *v;
    uint32_t n, at, room;
    struct place after; /* all up to this one were given out */
    bool begun, last;   /* last: v has all the rest */
};
struct source {
    struct ix_entry e;
    struct run_cursor *run; /* or */
    struct hot_cursor *hot;
};
struct ix_walk {
    struct conn *c;
    uint64_t h, from, to;
    bool descending, any;
    struct ix_entry before; /* the last one given out */
    struct hot_cursor hot[2];
    struct source *sources; /* the first n still have entries; closing frees all that were opened */
    size_t n, opened;
};

static enum xt_code out_of_memory(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }

/* Does a come before b in this walk? */
static bool comes_before(const struct ix_walk *w, uint64_t ats, int64_t atseq, uint64_t bts, int64_t btseq) {
    bool less = ats != bts ? ats < bts : atseq < btseq;
    bool same = ats == bts && atseq == btseq;
    return !same && less != w->descending;
}

static bool place_before(const struct ix_walk *w, const struct place *a, const struct place *b) {
    return comes_before(w, a->ts, a->tseq, b->ts, b->tseq);
}

/* ---- hot parts ---- */

/* v[0] is the last in order of those kept. */
static void sift_down(const struct ix_walk *w, struct place *v, uint32_t n, uint32_t i) {
    for (uint32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && place_before(w, &v[child], &v[child + 1]))
            child++;
        if (!place_before(w, &v[i], &v[child]))
            return;
        struct place t = v[i];
        v[i] = v[child];
        v[child] = t;
    }
}

static void sort_places(const struct ix_walk *w, struct place *v, uint32_t n) {
    for (uint32_t end = n; end > 1;) {
        struct place t = v[0];
        v[0] = v[--end];
        v[end] = t;
        sift_down(w, v, end, 0);
    }
}

/* The next entries of a hot part, in order. */
static enum xt_code hot_fill(const struct ix_walk *w, struct hot_cursor *cur, struct xt_err *err) {
    uint32_t want = cur->room ? cur->room * BATCH_GROWS : BATCH_FIRST, seen = 0;
    if (want > cur->limit)
        want = cur->limit;
    if (cur->n > 0)
        cur->after = cur->v[cur->n - 1];
    cur->begun = cur->n > 0;
    cur->n = cur->at = 0;
    if (want > cur->room) {
        struct place *bigger = alloc_should_fail() ? NULL : realloc(cur->v, want * sizeof *bigger);
        if (!bigger)
            return out_of_memory(err);
        cur->v = bigger;
        cur->room = want;
    }
    uint32_t i = hot_first(cur->hot, IX_POST, w->h, w->from, cur->limit);
    for (; (i = hot_next(cur->hot, IX_POST, w->h, i, cur->limit)) < cur->limit; i++) {
        struct ix_entry e = hot_entry(cur->hot, IX_POST, i);
        struct place p = { e.ts, e.tseq };
        if (cur->hot->sorted && p.ts > w->to)
            break;
        if (p.ts < w->from || p.ts > w->to || (cur->begun && !place_before(w, &cur->after, &p)))
            continue;
        seen++;
        if (cur->n < cur->room) {
            cur->v[cur->n++] = p;
            if (cur->n == cur->room)
                for (uint32_t k = cur->n; k-- > 0;)
                    sift_down(w, cur->v, cur->n, k);
        } else if (place_before(w, &p, &cur->v[0])) {
            cur->v[0] = p;
            sift_down(w, cur->v, cur->n, 0);
        }
    }
    for (uint32_t k = cur->n; k-- > 0;)
        sift_down(w, cur->v, cur->n, k);
    sort_places(w, cur->v, cur->n);
    cur->last = seen == cur->n;
    return XT_OK;
}

static enum xt_code hot_step(const struct ix_walk *w, struct source *s, bool *ret_end, struct xt_err *err) {
    struct hot_cursor *cur = s->hot;
    if (cur->at == cur->n) {
        enum xt_code code = cur->last || cur->limit == 0 ? XT_OK : hot_fill(w, cur, err);
        if (code != XT_OK)
            return code;
    }
    *ret_end = cur->at == cur->n;
    if (!*ret_end) {
        s->e = (struct ix_entry){ w->h, cur->v[cur->at].ts, cur->v[cur->at].tseq };
        cur->at++;
    }
    return XT_OK;
}

/* ---- runs ---- */

static enum xt_code run_step(const struct ix_walk *w, struct source *s, bool *ret_end, struct xt_err *err) {
    struct run_cursor *cur = s->run;
    *ret_end = cur->at >= cur->end;
    if (*ret_end)
        return XT_OK;
    int64_t at = w->descending ? --cur->end : cur->at++;
    return run_entry(w->c, cur->run, IX_POST, at, &cur->part, &s->e, err);
}

/* *ret stays NULL when the run has nothing in the range. */
static enum xt_code run_cursor_open(const struct ix_walk *w, struct ix_run *r, struct run_cursor **ret,
                                    struct xt_err *err) {
    struct ix_part part;
    int64_t at = 0, end = 0;
    if (r->n[IX_POST] == 0 || r->ts1 < w->from || r->ts0 > w->to)
        return XT_OK;
    part.number = -1;
    enum xt_code code = run_rank(w->c, r, IX_POST, w->h, w->from, false, &part, &at, err);
    if (code == XT_OK)
        code = run_rank(w->c, r, IX_POST, w->h, w->to, true, &part, &end, err);
    if (code != XT_OK || at >= end)
        return code;
    struct run_cursor *cur = alloc_should_fail() ? NULL : malloc(sizeof *cur);
    if (!cur)
        return out_of_memory(err);
    cur->run = r;
    cur->at = at;
    cur->end = end;
    cur->part = part;
    *ret = cur;
    return XT_OK;
}

/* ---- the walk ---- */

static enum xt_code step(const struct ix_walk *w, struct source *s, bool *ret_end, struct xt_err *err) {
    return s->run ? run_step(w, s, ret_end, err) : hot_step(w, s, ret_end, err);
}

/* Takes the source's first entry; without any it is left out. */
static enum xt_code add_source(struct ix_walk *w, struct run_cursor *run, struct hot_cursor *hot, struct xt_err *err) {
    assert(w->sources);
    struct source *s = &w->sources[w->n];
    bool end = false;
    *s = (struct source){ .run = run, .hot = hot };
    w->n++; /* so that closing frees it */
    enum xt_code code = step(w, s, &end, err);
    if (code == XT_OK && end) { /* never a run's: its cursor is opened on something */
        assert(!run);
        w->n--;
    }
    w->opened = w->n;
    return code;
}

enum xt_code ix_walk_open(struct conn *c, uint64_t h, uint64_t from, uint64_t to, bool descending, struct ix_walk **ret,
                          struct xt_err *err) {
    struct ix_view *v;
    *ret = NULL;
    enum xt_code code = view_pin(c, &v, err);
    if (code != XT_OK)
        return code;
    struct ix_walk *w = alloc_should_fail() ? NULL : calloc(1, sizeof *w);
    if (w)
        w->sources = calloc(v->set->nruns + 2, sizeof *w->sources);
    if (!w || !w->sources) {
        free(w);
        return out_of_memory(err);
    }
    w->c = c;
    w->h = h;
    w->from = from;
    w->to = to;
    w->descending = descending;
    for (size_t i = 0; i < v->set->nhot && code == XT_OK; i++) {
        w->hot[i] = (struct hot_cursor){ .hot = v->set->hot[i], .limit = v->limit[i].n[IX_POST] };
        code = add_source(w, NULL, &w->hot[i], err);
    }
    for (size_t i = 0; i < v->set->nruns && code == XT_OK; i++) {
        struct run_cursor *cur = NULL;
        code = run_cursor_open(w, v->set->runs[i], &cur, err);
        if (code == XT_OK && cur)
            code = add_source(w, cur, NULL, err);
    }
    if (code == XT_OK)
        *ret = w;
    else
        ix_walk_close(w);
    return code;
}

static enum xt_code take_first(struct ix_walk *w, struct ix_entry *ret, struct xt_err *err) {
    size_t best = 0;
    bool end = false;
    for (size_t i = 1; i < w->n; i++) {
        const struct ix_entry *a = &w->sources[i].e, *b = &w->sources[best].e;
        if (comes_before(w, a->ts, a->tseq, b->ts, b->tseq))
            best = i;
    }
    *ret = w->sources[best].e;
    enum xt_code code = step(w, &w->sources[best], &end, err);
    if (code == XT_OK && end) {
        struct source gone = w->sources[best]; /* behind the others; closing frees it */
        w->sources[best] = w->sources[--w->n];
        w->sources[w->n] = gone;
    }
    return code;
}

enum xt_code ix_walk_next(struct ix_walk *w, struct ix_entry *ret, bool *ret_end, struct xt_err *err) {
    for (*ret_end = w->n == 0; !*ret_end; *ret_end = w->n == 0) {
        enum xt_code code = take_first(w, ret, err);
        if (code != XT_OK)
            return code;
        if (w->any && ret->ts == w->before.ts && ret->tseq == w->before.tseq)
            continue;
        w->any = true;
        w->before = *ret;
        return XT_OK;
    }
    return XT_OK;
}

void ix_walk_close(struct ix_walk *w) {
    if (!w)
        return;
    for (size_t i = 0; i < w->opened; i++)
        free(w->sources[i].run);
    free(w->hot[0].v);
    free(w->hot[1].v);
    free(w->sources);
    free(w);
}
