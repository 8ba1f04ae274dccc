/* range.c -- see range.h. */
#include "store/fold/range.h"

#include <assert.h>

size_t range_spans(bool named, bool ticks, int64_t ret[RANGE_SPANS]) {
    size_t n = 0;
    if (!named)
        ret[n++] = NS_PER_DAY;
    ret[n++] = ROLLUP_HOUR;
    if (ticks)
        ret[n++] = ROLLUP_TICK;
    return n;
}

/* There is room: each level gives one piece, each end of the range six at most. */
static void add_piece(struct range_pieces *p, int64_t span, int64_t from, int64_t to, int sign) {
    assert(p->n < RANGE_PIECES);
    p->v[p->n++] = (struct range_piece){ span, from, to, sign };
}

/* A part of one interval of the finest span. */
static void add_part(struct range_pieces *p, int64_t span, int64_t from, int64_t to) {
    const int64_t start = time_floor(from, span), end = rollup_end(start, span);
    if (to - from <= span / 2) {
        add_piece(p, 0, from, to, 1);
        return;
    }
    add_piece(p, span, start, start, 1);
    if (start < from)
        add_piece(p, 0, start, from - 1, -1);
    if (to < end)
        add_piece(p, 0, to + 1, end, -1);
}

/* Depth is bounded by the number of spans. */
static void split(struct range_pieces *p, const int64_t *spans, size_t n, int64_t from, int64_t to) {
    const int64_t finest = spans[n - 1];
    size_t level = 0;
    int64_t first = 0, last = 0;
    while (level < n && !rollup_whole(from, to, spans[level], &first, &last))
        level++;
    if (level == n) { /* less than two intervals of the finest span */
        const int64_t middle = rollup_end(time_floor(from, finest), finest);
        add_part(p, finest, from, to < middle ? to : middle);
        if (middle < to)
            add_part(p, finest, middle + 1, to);
        return;
    }
    const int64_t end = rollup_end(last, spans[level]);
    add_piece(p, spans[level], first, last, 1);
    if (from < first)
        split(p, spans, n, from, first - 1);
    if (end < to)
        split(p, spans, n, end + 1, to);
}

void range_split(const int64_t *spans, size_t n, int64_t from, int64_t to, struct range_pieces *ret) {
    ret->n = 0;
    if (from <= to)
        split(ret, spans, n, from, to);
}
