/* rollup.h -- rows of the rollups and sums by model: what was folded (store/fold/rollup_fold.h) is added to them, or
 * compared with them. Used by the writer's thread, by checks and repairs. */
#pragma once
#include "store/fold/rollup_fold.h"
#include "store/sqlite/engine.h"

/* Columns MODEL_SUMS beginning at `col`; parameters beginning at `i`. */
void model_sums_read(sqlite3_stmt *st, int col, struct model_sums *ret);
void model_sums_bind(sqlite3_stmt *st, int i, const struct model_sums *m);

/* For the self-test: are the rows exactly what was folded? Counts are added to *v. A fold is compared or flushed once. */
struct rollup_verdict {
    int64_t trace_rows, model_rows, count_rows; /* that there should be */
    int64_t missing, wrong;
};
enum xt_code rollup_compare(struct rollup_fold *f, struct conn *c, struct rollup_verdict *v, struct xt_err *err);
/* Adds everything to the rows. */
enum xt_code rollup_flush(struct rollup_fold *f, struct conn *c, struct xt_err *err);
