/* json_merge.h -- deep merge of two JSON values given as text (metadata over OTLP and Langfuse). */
#pragma once
#include "base/arena.h"
#include "base/str.h"

/* Objects merge member by member, deeply, later keys win; anything else is replaced by `given`. Absent `given` keeps
 * `stored`. Both are valid JSON (checked on the way in). The result lives in the arena or is one of the arguments.
 * Returns STR_NONE only for two absent arguments or when memory is short (a->failed). Depth beyond 1000 is not merged
 * but replaced. */
struct str json_merge(struct arena *a, struct str stored, struct str given);
