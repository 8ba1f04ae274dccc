/* view.h -- rows as the API sees them: ids printed, payloads fetched, what was never sent derived (D14). */
#pragma once
#include "store/sqlite/row.h"

/* What one read keeps: a decoder, and memory of the row being shown. */
struct view {
    struct conn *c;
    struct codec codec;
    struct arena arena; /* of the present row */
};
void view_init(struct view *v, struct conn *c);
void view_done(struct view *v);

/* Texts point into the record and the view's arena. `io`: payloads too, from the root observation where the trace has
 * none. */
enum xt_code view_trace(struct view *v, const struct trace_rec *r, bool io, struct trace_row *ret, struct xt_err *err);
/* Ids of the trace's observations, printed. */
enum xt_code view_observation_ids(struct view *v, int64_t tseq, struct trace_row *row, struct xt_err *err);
enum xt_code view_observation(struct view *v, const struct obs_rec *r, struct str trace_id, struct observation_row *ret,
                              struct xt_err *err);
/* Order of a trace's observations: start, without one last; then created, then id. */
struct obs_place {
    int64_t start, created;
    struct str oid;
};
int obs_place_cmp(const struct obs_place *a, const struct obs_place *b);
