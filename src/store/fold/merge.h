/* merge.h -- how what is given meets what is known: pure rules over records in memory.
 *
 *  1. Absent keeps, given replaces. Usage and cost maps are replaced whole.
 *  2. MERGE_DEEP only: metadata merges by key, tags are united in order of first appearance, `public` stays true.
 *  3. Identity and spelling are the first writer's; a parent is spelled as its child is.
 *  4. Applying records one by one or folding them first gives the same: fold.h relies on it.
 * Results point into both records and the arena. False: no memory. */
#pragma once
#include "store/fold/record.h"

/* `into->metadata` must hold the known text when `given` merges deeply into it (merge_needs_metadata). */
bool merge_observation(struct arena *a, struct observation *into, const struct observation *given);

/* A trace's payload texts: what is not absent is new. */
struct trace_texts {
    struct str text[PAYLOADS];
    struct stored z[PAYLOADS];
};
bool merge_trace(struct arena *a, struct trace_rec *into, struct trace_texts *texts, const struct trace *given);

/* Must the stored metadata be read before merging? */
static inline bool merge_needs_metadata(enum merge_mode mode, struct str given) {
    return mode == MERGE_DEEP && str_has(given);
}
