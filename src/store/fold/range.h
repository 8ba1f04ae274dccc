/* range.h -- how a range of time falls into whole intervals, of which the rollups know the sums, and the rest, of which only
 * rows know. Rollups and counts change in the transactions of the rows: what is read of both in one snapshot is exact. */
#pragma once
#include "store/fold/rollup_fold.h"

/* A part of a range: whole intervals of `span` whose starts are from `from` to `to`, or (span 0) rows from `from` to `to`. */
struct range_piece {
    int64_t span, from, to;
    int sign; /* -1: to be taken away again */
};
#define RANGE_SPANS 3
#define RANGE_PIECES 24
struct range_pieces {
    struct range_piece v[RANGE_PIECES];
    size_t n;
};
/* The spans (ns) that the rollups know, coarse to fine, each a multiple of the next: days not of a name (rollups by name are
 * by hour); ticks only of counts of all traces of a project. */
size_t range_spans(bool named, bool ticks, int64_t ret[RANGE_SPANS]);
/* [from, to]: whole intervals of the coarsest span that fits, on both sides of them finer ones, at the ends rows; of an
 * interval of the finest span that is cut, the rows of the shorter side. Nothing when from > to. `n`: at least 1. */
void range_split(const int64_t *spans, size_t n, int64_t from, int64_t to, struct range_pieces *ret);
