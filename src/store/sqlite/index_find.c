/* index_find.c -- ids and counts: every entry of a hash, in the hot parts and in every run of the view. */
#include "store/sqlite/index_read.h"

static enum xt_code find_in_hot(struct conn *c, const struct ix_view *v, enum ix_kind kind, uint64_t h,
                                ix_visitor *visit, void *arg, bool *go_on, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (size_t i = v->set->nhot; i-- > 0 && *go_on;) {
        const struct ix_hot *hot = v->set->hot[i];
        uint32_t limit = v->limit[i].n[kind];
        for (uint32_t at = 0; *go_on && code == XT_OK && (at = hot_next(hot, kind, h, at, limit)) < limit; at++)
            code = visit(arg, c, hot_entry(hot, kind, at).tseq, go_on, err);
    }
    return code;
}

/* The writer's own: what is published, by the map. */
static enum xt_code find_in_map(struct conn *c, const struct ix_view *v, uint64_t h, ix_visitor *visit, void *arg,
                                bool *go_on, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (size_t i = v->set->nhot; i-- > 0 && *go_on;) {
        struct ix_entry e;
        size_t at = 0;
        while (*go_on && code == XT_OK && hot_map_next(v->set->hot[i], h, &at, &e))
            code = visit(arg, c, e.tseq, go_on, err);
    }
    return code;
}

static enum xt_code find_in_run(struct conn *c, struct ix_run *r, enum ix_kind kind, uint64_t h, ix_visitor *visit,
                                void *arg, bool *go_on, struct xt_err *err) {
    struct ix_part part;
    struct ix_entry e;
    int64_t at = 0;
    part.number = -1;
    enum xt_code code = run_rank(c, r, kind, h, 0, false, &part, &at, err);
    for (; code == XT_OK && *go_on && at < r->n[kind]; at++) {
        code = run_entry(c, r, kind, at, &part, &e, err);
        if (code != XT_OK || e.h != h)
            break;
        code = visit(arg, c, e.tseq, go_on, err);
    }
    return code;
}

enum xt_code ix_find(struct conn *c, enum ix_kind kind, uint64_t h, ix_visitor *visit, void *arg, struct xt_err *err) {
    struct ix_view *v;
    bool go_on = true;
    enum xt_code code = view_pin(c, &v, err);
    if (code != XT_OK)
        return code;
    bool writes = v->borrowed;
    if (writes && kind == IX_TRACE)
        code = find_in_map(c, v, h, visit, arg, &go_on, err);
    else
        code = find_in_hot(c, v, kind, h, visit, arg, &go_on, err);
    for (size_t i = v->set->nruns; i-- > 0 && go_on && code == XT_OK;) {
        bool may = true;
        if (kind == IX_TRACE)
            code = run_may_have(c, v->set->runs[i], h, writes, &may, err);
        if (code == XT_OK && may)
            code = find_in_run(c, v->set->runs[i], kind, h, visit, arg, &go_on, err);
    }
    return code;
}

/* ---- counts ---- */

static int64_t count_in_hot(const struct ix_view *v, enum ix_kind kind, uint64_t h, uint64_t from, uint64_t to) {
    int64_t n = 0;
    for (size_t i = 0; i < v->set->nhot; i++) {
        uint32_t limit = v->limit[i].n[kind];
        for (uint32_t at = 0; (at = hot_next(v->set->hot[i], kind, h, at, limit)) < limit; at++) {
            uint64_t ts = hot_entry(v->set->hot[i], kind, at).ts;
            n += ts >= from && ts <= to;
        }
    }
    return n;
}

enum xt_code ix_count(struct conn *c, enum ix_kind kind, uint64_t h, uint64_t from, uint64_t to, int64_t *ret,
                      struct xt_err *err) {
    struct ix_view *v;
    struct ix_part part;
    enum xt_code code = view_pin(c, &v, err);
    if (code != XT_OK)
        return code;
    *ret = count_in_hot(v, kind, h, from, to);
    for (size_t i = 0; i < v->set->nruns && code == XT_OK; i++) {
        struct ix_run *r = v->set->runs[i];
        int64_t first = 0, last = 0;
        if (r->n[kind] == 0 || r->ts1 < from || r->ts0 > to)
            continue;
        part.number = -1;
        code = run_rank(c, r, kind, h, from, false, &part, &first, err);
        if (code == XT_OK)
            code = run_rank(c, r, kind, h, to, true, &part, &last, err);
        *ret += last > first ? last - first : 0;
    }
    return code;
}

/* ---- one entry ---- */

/* The first place in [lo, hi), entries of one hash and time, whose number is `tseq` or more. */
static enum xt_code run_place(struct conn *c, struct ix_run *r, enum ix_kind kind, int64_t tseq, int64_t lo, int64_t hi,
                              struct ix_part *part, int64_t *ret, struct xt_err *err) {
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        struct ix_entry e;
        enum xt_code code = run_entry(c, r, kind, mid, part, &e, err);
        if (code != XT_OK)
            return code;
        if (e.tseq < tseq)
            lo = mid + 1;
        else
            hi = mid;
    }
    *ret = lo;
    return XT_OK;
}

static enum xt_code count_in_run(struct conn *c, struct ix_run *r, enum ix_kind kind, const struct ix_entry *e,
                                 int64_t *ret, struct xt_err *err) {
    struct ix_part part;
    int64_t first = 0, last = 0, after = 0;
    part.number = -1;
    enum xt_code code = run_rank(c, r, kind, e->h, e->ts, false, &part, &first, err);
    if (code == XT_OK)
        code = run_rank(c, r, kind, e->h, e->ts, true, &part, &last, err);
    if (code == XT_OK)
        code = run_place(c, r, kind, e->tseq, first, last, &part, &first, err);
    if (code == XT_OK)
        code = run_place(c, r, kind, e->tseq + 1, first, last, &part, &after, err);
    *ret += code == XT_OK ? after - first : 0;
    return code;
}

static int64_t count_one_in_hot(const struct ix_hot *hot, enum ix_kind kind, const struct ix_entry *e, uint32_t limit) {
    int64_t n = 0;
    uint32_t lo = 0, hi = hot->sorted ? limit : 0;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct ix_entry x = hot_entry(hot, kind, mid);
        if (ix_cmp(&x, e) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (uint32_t at = lo; (at = hot_next(hot, kind, e->h, at, limit)) < limit; at++) {
        const struct ix_entry x = hot_entry(hot, kind, at);
        if (ix_cmp(&x, e) == 0)
            n++;
        else if (hot->sorted)
            break;
    }
    return n;
}

enum xt_code ix_count_entry(struct conn *c, enum ix_kind kind, const struct ix_entry *e, int64_t *ret,
                            struct xt_err *err) {
    struct ix_view *v;
    enum xt_code code = view_pin(c, &v, err);
    *ret = 0;
    if (code != XT_OK)
        return code;
    for (size_t i = 0; i < v->set->nhot; i++)
        *ret += count_one_in_hot(v->set->hot[i], kind, e, v->limit[i].n[kind]);
    for (size_t i = 0; i < v->set->nruns && code == XT_OK; i++)
        if (v->set->runs[i]->n[kind] > 0)
            code = count_in_run(c, v->set->runs[i], kind, e, ret, err);
    return code;
}
