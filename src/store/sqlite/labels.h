/* labels.h -- reads back the label sets that labels_json (model/event.h) wrote into the series table. */
#pragma once
#include "model/event.h"

/* Labels of a compact JSON object of strings. Names and values point into `text` where it has no escapes, else into the
 * arena, as the array does. False: not such a text (a damaged file), or no memory (a->failed). */
bool labels_parse(struct arena *a, struct str text, struct label **ret, size_t *ret_n)
    __attribute__((warn_unused_result));
