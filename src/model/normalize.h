/* normalize.h -- every protocol passes through here once, after decoding and before the queue: checks that hold for all
 * of them, token counts out of `usage`, costs, environment. */
#pragma once
#include "base/err.h"
#include "model/event.h"

/* Fills what can be derived from the record itself; XT_ESCHEMA with the field's name when a value cannot be stored.
 * native: tokens from usage (input/output/total, promptTokens.., prompt_tokens..), usage_buckets, cost_total from its
 * parts when only those were given. Everything is idempotent. */
enum xt_code normalize_batch(struct batch *b, struct xt_err *err) __attribute__((warn_unused_result));
