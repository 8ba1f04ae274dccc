/* money.h -- exact decimal amounts of USD: no binary floating point from the wire to the answer.
 *
 * A money value counts 1e-18 USD in a signed 128-bit integer. Stored as two integers that SQL can sum: nano (1e-9 USD,
 * floor) and atto (0 .. 999,999,999, in 1e-18 USD). Amounts whose nano part leaves int64 saturate; amounts with more
 * than 18 decimals are cut here, and the caller keeps the text beside (money_parse says when). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef __int128 money; /* 1e-18 USD */
#define MONEY_TEXT_MAX 64

/* JSON number text -> amount. False: not a number. *ret_exact is false when digits were cut or the value saturated. */
bool money_parse(struct str s, money *ret, bool *ret_exact);
/* Plain decimal without exponent, at least one digit after the point: "0.25", "12.0", "-0.000000001". */
size_t money_format(money m, char out[MONEY_TEXT_MAX]);
void money_split(money m, int64_t *ret_nano, int64_t *ret_atto); /* saturates nano */
money money_join(int64_t nano, int64_t atto);
money money_add(money a, money b); /* saturates */

#ifdef __cplusplus
}
#endif
