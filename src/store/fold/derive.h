/* derive.h -- what stands beside the rows of a trace, found anew from its observations: a self-test compares it, a repair
 * writes it. Memory is bounded by the trace. */
#pragma once
#include "store/fold/fold.h"

/* Adds an observation to the trace's derived values: aggregates in t->now, sums by model in t->models (`now` of each),
 * which `models` finds by name. Both begin empty (derive_begin). False: no memory in `a`. */
void derive_begin(struct trace_state *t, struct map *models, struct arena *a);
bool derive_add(struct arena *a, struct trace_state *t, struct map *models, const struct observation *o);
/* Is the row's timestamp what its source says? */
bool derive_timestamp_holds(const struct trace_rec *row, const struct trace_rec *real);
