/* pack_build.c -- points and label sets of one metric -> parts. The layout is in pack_format.h, the label columns in
 * pack_cols.c.
 *
 *  1. Scratch memory is bounded by one part (SAMPLE_PACK_POINTS points), but for the order of arrival, which takes 14 bytes
 *     a point of the metric (and 6 MB) while it is worked out, and only if the points of a metric are not in that order.
 *  2. A part is handed to the writer as soon as it is full; nothing of it is kept but the hashes for the filter. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/map.h"
#include "store/sample/column.h"
#include "store/sample/pack_cols.h"
#include "store/sample/pack_format.h"

#define PTS_MAX ((size_t)64 << 20)
#define RANK_SLOTS (1u << 20)  /* of the table of times: 6 MB */
#define RANK_POINTS (1u << 19) /* points that one filling of it is meant for */

struct pack_builder {
    struct cols cols;
    struct buf pts;
    int64_t times[SAMPLE_PACK_POINTS], ints[SAMPLE_PACK_POINTS], column[SAMPLE_PACK_POINTS];
    double values[SAMPLE_PACK_POINTS];
    struct pack_set sets[SAMPLE_PACK_POINTS]; /* of the present part: npoints are those in this part */
};

struct build {
    struct pack_builder *b;
    const struct pack_source *src;
    const struct pack_set *sets;
    size_t nsets, npoints;
    const uint32_t *order;
    uint16_t *ranks; /* malloc'd, by place; NULL: all 0 */
    /* Without the replaced points: malloc'd, or NULL where nothing was replaced. */
    struct pack_set *kept_sets;
    uint32_t *kept_order;
    pack_writer *write;
    void *arg;
};

struct pack_builder *pack_builder_new(void) {
    struct pack_builder *b = alloc_should_fail() ? NULL : malloc(sizeof *b);
    if (!b)
        return NULL;
    cols_init(&b->cols);
    buf_init(&b->pts, PTS_MAX);
    return b;
}

void pack_builder_free(struct pack_builder *b) {
    if (!b)
        return;
    cols_done(&b->cols);
    buf_done(&b->pts);
    free(b);
}

static enum xt_code no_memory(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }

static void *get(size_t n, size_t size) { return alloc_should_fail() ? NULL : malloc(n ? n * size : 1); }

/* ---- replaced points ---- */

/* Copies the numbers of one set's points that stay; its times are ascending, equal ones in order of arrival. */
static uint32_t keep_last(struct build *w, const uint32_t *order, uint32_t n, uint32_t *ret) {
    int64_t *times = w->b->times;
    uint32_t kept = 0;
    for (uint32_t from = 0; from < n;) {
        uint32_t count = n - from < SAMPLE_PACK_POINTS ? n - from : SAMPLE_PACK_POINTS;
        w->src->points(w->src->arg, order + from, count, times, w->b->values);
        bool more = from + count < n;
        /* The last of them is decided with the next ones, unless it is alone. */
        uint32_t sure = more && count > 1 ? count - 1 : count;
        for (uint32_t i = 0; i < sure; i++)
            if (i + 1 >= count || times[i] != times[i + 1])
                ret[kept++] = order[from + i];
        from += sure;
    }
    return kept;
}

static enum xt_code drop_replaced(struct build *w, struct xt_err *err) {
    size_t at = 0, kept = 0;
    bool any = false;
    for (size_t i = 0; i < w->nsets; i++)
        any = any || (w->sets[i].replaces && w->sets[i].npoints > 1);
    if (!any)
        return XT_OK;
    w->kept_sets = get(w->nsets, sizeof *w->kept_sets);
    w->kept_order = get(w->npoints, sizeof *w->kept_order);
    if (!w->kept_sets || !w->kept_order)
        return no_memory(err);
    for (size_t i = 0; i < w->nsets; i++) {
        const struct pack_set *s = &w->sets[i];
        uint32_t n = s->npoints;
        w->kept_sets[i] = *s;
        if (s->replaces)
            n = keep_last(w, w->order + at, n, w->kept_order + kept);
        else if (n)
            memcpy(w->kept_order + kept, w->order + at, n * sizeof *w->order);
        w->kept_sets[i].npoints = n;
        at += s->npoints;
        kept += n;
    }
    w->sets = w->kept_sets;
    w->order = w->kept_order;
    w->npoints = kept;
    return XT_OK;
}

/* ---- order of arrival ---- */

struct ranking {
    int64_t *times;    /* by place */
    uint32_t *arrived; /* place + 1 by order of arrival; 0: a point of another metric */
    uint32_t low, span;
    uint64_t seed;   /* of this process: times cannot be chosen to collide */
    uint32_t *slots; /* place + 1 of the last point of a time; open addressing */
    uint16_t *runs;  /* beside them: how often the order of places was broken there */
};

static bool in_order(const struct build *w) {
    for (size_t i = 1; i < w->npoints; i++)
        if (w->order[i] < w->order[i - 1])
            return false;
    return true;
}

static inline uint64_t time_hash(uint64_t seed, int64_t t) {
    uint64_t h = (seed ^ (uint64_t)t) * UINT64_C(0x9e3779b97f4a7c15);
    h ^= h >> 32;
    return h * UINT64_C(0xd6e8feb86659fd93);
}

/* One filling of the table: times whose hash falls into `share` of `shares`. */
static void rank_share(struct build *w, const struct ranking *r, uint64_t share, uint64_t shares, bool *any) {
    memset(r->slots, 0, RANK_SLOTS * sizeof *r->slots);
    memset(r->runs, 0, RANK_SLOTS * sizeof *r->runs);
    size_t used = 0;
    for (uint32_t i = 0; i < r->span; i++) {
        if (r->arrived[i] == 0)
            continue;
        uint32_t place = r->arrived[i] - 1;
        int64_t t = r->times[place];
        uint64_t h = time_hash(r->seed, t);
        if (shares > 1 && (h >> 40) * shares >> 24 != share)
            continue;
        size_t at = h & (RANK_SLOTS - 1);
        while (r->slots[at] && r->times[r->slots[at] - 1] != t)
            at = (at + 1) & (RANK_SLOTS - 1);
        used += r->slots[at] == 0;
        if (used >= RANK_SLOTS / 16 * 15)
            return; /* hardly thinkable: the rest keeps rank 0 */
        if (r->slots[at] > place + 1 && r->runs[at] < PACK_RANK_MAX) {
            r->runs[at]++;
            *any = true;
        }
        r->slots[at] = place + 1;
        w->ranks[place] = r->runs[at];
    }
}

static void ranking_done(struct ranking *r) {
    free(r->times);
    free(r->arrived);
    free(r->slots);
    free(r->runs);
}

/* Ranks where the points' places do not tell in which order those of the same time came. The table is filled for a share
 * of the times at once; a share may get more than its due, never more than there are slots. */
static enum xt_code rank_points(struct build *w, struct xt_err *err) {
    if (in_order(w))
        return XT_OK;
    struct ranking r = { .low = UINT32_MAX, .seed = map_hash(STR_LIT("times")) };
    uint32_t high = 0;
    for (size_t i = 0; i < w->npoints; i++) {
        r.low = w->order[i] < r.low ? w->order[i] : r.low;
        high = w->order[i] > high ? w->order[i] : high;
    }
    r.span = high - r.low + 1;
    r.times = get(w->npoints, sizeof *r.times);
    r.arrived = alloc_should_fail() ? NULL : calloc(r.span, sizeof *r.arrived);
    r.slots = get(RANK_SLOTS, sizeof *r.slots);
    r.runs = get(RANK_SLOTS, sizeof *r.runs);
    w->ranks = alloc_should_fail() ? NULL : calloc(w->npoints ? w->npoints : 1, sizeof *w->ranks);
    if (!r.times || !r.arrived || !r.slots || !r.runs || !w->ranks) {
        ranking_done(&r);
        return no_memory(err);
    }
    for (size_t i = 0; i < w->npoints; i++)
        r.arrived[w->order[i] - r.low] = (uint32_t)i + 1;
    for (size_t i = 0; i < w->npoints; i += SAMPLE_PACK_POINTS) {
        size_t n = w->npoints - i < SAMPLE_PACK_POINTS ? w->npoints - i : SAMPLE_PACK_POINTS;
        w->src->points(w->src->arg, w->order + i, n, r.times + i, w->b->values);
    }
    uint64_t shares = (w->npoints + RANK_POINTS - 1) / RANK_POINTS;
    bool any = false;
    for (uint64_t share = 0; share < shares; share++)
        rank_share(w, &r, share, shares, &any);
    ranking_done(&r);
    if (!any) {
        free(w->ranks);
        w->ranks = NULL;
    }
    return XT_OK;
}

/* ---- points of one part ---- */

static inline bool divides(const int64_t *times, size_t n, int64_t unit) {
    for (size_t i = 0; i < n; i++)
        if (times[i] % unit != 0)
            return false;
    return true;
}
static inline void scale_down(int64_t *times, size_t n, int64_t unit) {
    for (size_t i = 0; i < n; i++)
        times[i] /= unit;
}

/* Makes the times counts of the coarsest unit that fits all of them; the constants let the compiler multiply. */
static unsigned times_to_units(int64_t *times, size_t n) {
    if (divides(times, n, 1000000000)) {
        scale_down(times, n, 1000000000);
        return 0;
    }
    if (divides(times, n, 1000000)) {
        scale_down(times, n, 1000000);
        return 1;
    }
    if (divides(times, n, 1000)) {
        scale_down(times, n, 1000);
        return 2;
    }
    return 3;
}

/* First values of the sets, then the distances of the others; firsts may be distances among themselves. */
static void put_by_sets(struct pack_builder *b, const int64_t *v, size_t nsets, size_t n, bool chained) {
    size_t place = 0, others = nsets;
    uint64_t before = 0;
    for (size_t s = 0; s < nsets; s++) {
        b->column[s] = (int64_t)((uint64_t)v[place] - (chained ? before : 0));
        before = (uint64_t)v[place];
        for (size_t end = place++ + b->sets[s].npoints; place < end; place++)
            b->column[others++] = (int64_t)((uint64_t)v[place] - (uint64_t)v[place - 1]);
    }
    column_put_ints(&b->pts, b->column, nsets);
    column_put_ints(&b->pts, b->column + nsets, n - nsets);
}

static void put_values(struct pack_builder *b, unsigned scale, size_t nsets, size_t n) {
    if (scale < COLUMN_SCALES) {
        put_by_sets(b, b->ints, nsets, n, false);
        return;
    }
    if (!buf_reserve(&b->pts, n * 8))
        return;
    for (size_t i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, &b->values[i], sizeof bits);
        for (int k = 0; k < 8; k++)
            b->pts.p[b->pts.n++] = (char)(bits >> (8 * k));
    }
    b->pts.p[b->pts.n] = '\0';
}

static void put_ranks(struct pack_builder *b, const uint16_t *ranks, size_t n) {
    size_t late = 0, before = 0;
    for (size_t i = 0; ranks && i < n; i++) {
        if (ranks[i] == 0)
            continue;
        b->column[late] = (int64_t)(i - before);
        b->ints[late++] = ranks[i];
        before = i;
    }
    column_put_varint(&b->pts, late);
    column_put_ints(&b->pts, b->column, late);
    column_put_ints(&b->pts, b->ints, late);
}

/* b->sets holds the sets of the part, its points are those at `place` of the metric. */
static enum xt_code part_write(struct build *w, size_t nsets, size_t place, size_t n, struct xt_err *err) {
    struct pack_builder *b = w->b;
    struct pack_part part = { .points = (uint32_t)n, .t0 = INT64_MAX, .t1 = INT64_MIN };
    w->src->points(w->src->arg, w->order + place, n, b->times, b->values);
    for (size_t i = 0; i < n; i++) {
        part.t0 = b->times[i] < part.t0 ? b->times[i] : part.t0;
        part.t1 = b->times[i] > part.t1 ? b->times[i] : part.t1;
    }
    buf_clear(&b->pts);
    buf_add_char(&b->pts, PACK_VERSION);
    buf_add_char(&b->pts, (char)times_to_units(b->times, n));
    unsigned scale = column_scale(b->values, n, b->ints);
    buf_add_char(&b->pts, (char)scale);
    column_put_varint(&b->pts, n);
    put_by_sets(b, b->times, nsets, n, true);
    put_values(b, scale, nsets, n);
    put_ranks(b, w->ranks ? w->ranks + place : NULL, n);
    if (b->pts.failed || !cols_build(&b->cols, w->src, b->sets, nsets, n))
        return no_memory(err);
    part.pts = buf_str(&b->pts);
    part.lab = buf_str(&b->cols.lab);
    part.raw = buf_str(&b->cols.raw);
    return w->write(w->arg, &part, err);
}

static enum xt_code parts_write(struct build *w, struct xt_err *err) {
    struct pack_builder *b = w->b;
    size_t nsets = 0, n = 0, place = 0;
    enum xt_code code = XT_OK;
    for (size_t i = 0; i < w->nsets && code == XT_OK; i++) {
        for (uint32_t left = w->sets[i].npoints; left > 0 && code == XT_OK;) {
            uint32_t take = left < SAMPLE_PACK_POINTS - n ? left : (uint32_t)(SAMPLE_PACK_POINTS - n);
            b->sets[nsets] = w->sets[i];
            b->sets[nsets++].npoints = take;
            left -= take;
            n += take;
            if (n == SAMPLE_PACK_POINTS) {
                code = part_write(w, nsets, place, n, err);
                place += n;
                nsets = n = 0;
            }
        }
    }
    return code == XT_OK && n > 0 ? part_write(w, nsets, place, n, err) : code;
}

enum xt_code pack_build(struct pack_builder *b, const struct pack_source *src, int64_t metric,
                        const struct pack_set *sets, size_t nsets, const uint32_t *order, pack_writer *write, void *arg,
                        struct xt_err *err) {
    struct build w = { .b = b, .src = src, .sets = sets, .nsets = nsets, .order = order, .write = write, .arg = arg };
    for (size_t i = 0; i < nsets; i++)
        w.npoints += sets[i].npoints;
    b->cols.metric = metric;
    enum xt_code code = drop_replaced(&w, err);
    if (code == XT_OK)
        code = rank_points(&w, err);
    if (code == XT_OK)
        code = parts_write(&w, err);
    free(w.ranks);
    free(w.kept_sets);
    free(w.kept_order);
    return code;
}

enum xt_code pack_filter(struct pack_builder *b, struct filter *ret, struct xt_err *err) {
    bool ok = filter_make(b->cols.hashes, b->cols.nhashes, ret);
    pack_reset(b);
    return ok ? XT_OK : no_memory(err);
}

void pack_reset(struct pack_builder *b) { b->cols.nhashes = 0; }
