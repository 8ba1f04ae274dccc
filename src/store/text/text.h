/* text.h -- texts by number, for whoever shows or merges them; and the preparation of new ones. */
#pragma once
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "model/event.h"

/* Texts as one read sees them. An engine answers one by one, or from what it fetched for the whole page beforehand. */
struct text_source {
    void *arg;
    /* Text `pid` (0: absent text) into the arena. A text that is missing is damage: XT_ESTORE. */
    enum xt_code (*get)(void *arg, struct arena *a, int64_t pid, struct str *ret, struct xt_err *err);
};

struct dicts;
/* pack.c. [decoding thread] Gives every text of the batch its stored form: `z` of the record's own, or a part of a pack.
 * XT_ENOMEM. */
enum xt_code texts_prepare(struct dicts *dicts, struct batch *b, struct xt_err *err);
