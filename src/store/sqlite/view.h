/* view.h -- what a read of the SQLite engine shows (store/view/view.h): texts one by one from `payload`, roots and ids from
 * `obs`. */
#pragma once
#include "store/sqlite/row.h"
#include "store/view/view.h"

/* What one read keeps: a decoder, and memory of the row being shown. It must not move: the view refers to it. */
struct sql_view {
    struct view view;
    struct conn *c;
    struct codec codec;
};
void sql_view_init(struct sql_view *v, struct conn *c);
void sql_view_done(struct sql_view *v);

/* As view_trace. `io`: payloads too, from the root observation where the trace has none. */
enum xt_code sql_view_trace(struct sql_view *v, const struct trace_rec *r, bool io, struct trace_row *ret,
                            struct xt_err *err);
/* Ids of the trace's observations, printed. */
enum xt_code sql_view_observation_ids(struct sql_view *v, int64_t tseq, struct trace_row *row, struct xt_err *err);
