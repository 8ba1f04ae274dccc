/* clock.h -- times are int64 nanoseconds since 1970-01-01T00:00:00Z (years 1677 to 2262). Source of the grammar:
 * contract 2.5 (RFC 3339 with zone; 'T', 't' or blank between; any fraction, cut to 9 digits; signed or 5-digit years). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define NS_PER_SEC INT64_C(1000000000)
#define NS_PER_DAY (INT64_C(86400) * NS_PER_SEC)
#define TIME_NONE INT64_MIN /* absent */
#define TIME_MIN (INT64_MIN + 1)
#define TIME_MAX INT64_MAX
#define TIME_TEXT_MAX 48 /* bytes that any of the formats below needs, NUL included */

enum time_parse { TIME_OK, TIME_SYNTAX, TIME_RANGE /* well-formed, but outside int64: *ret is TIME_MIN or TIME_MAX */ };

int64_t clock_now_ns(void);  /* wall clock, UTC */
int64_t clock_mono_ns(void); /* monotonic, for deadlines */
enum time_parse time_parse_rfc3339(struct str s, int64_t *ret_ns);
/* Contract 2.5 style (a): "2026-01-01T00:00:00.500Z", fraction of 0, 3 or 6 digits (cut to microseconds). */
size_t time_format_z(int64_t ns, char out[TIME_TEXT_MAX]);
/* Style (b): "+00:00" suffix, fraction of 0, 3, 6 or 9 digits. */
size_t time_format_offset(int64_t ns, char out[TIME_TEXT_MAX]);
/* "2026-01-15" of the UTC day that holds ns. */
size_t time_format_date(int64_t ns, char out[TIME_TEXT_MAX]);
/* Largest multiple of step <= ns, also before 1970; saturates at TIME_MIN. step > 0. */
int64_t time_floor(int64_t ns, int64_t step);
/* a + b, saturating in [TIME_MIN, TIME_MAX]. */
int64_t time_add(int64_t a, int64_t b);
