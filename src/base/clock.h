/* clock.h -- times are int64 nanoseconds since 1970-01-01T00:00:00Z, from TIME_NEAR_MIN to TIME_NEAR_MAX (years 1688 to 2252).
 * Times beyond, which another database may hold, are what is left of int64: a microsecond each for the next 8,500 years or so,
 * then a millisecond each. They keep their order and their text, but only time_from_us makes them, and who reckons with
 * times must ask time_true_ns first. Source of the grammar:
 * what the native routes take (RFC 3339 with zone; 'T', 't' or blank between; any fraction, cut to 9 digits; signed or
 * 5-digit years). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_SEC INT64_C(1000000000)
#define NS_PER_DAY (INT64_C(86400) * NS_PER_SEC)
#define TIME_NONE INT64_MIN /* absent */
#define TIME_MIN (INT64_MIN + 1)
#define TIME_MAX INT64_MAX
#define TIME_FAR INT64_C(300000000000000000) /* at either end */
#define TIME_NEAR_MIN (TIME_MIN + TIME_FAR)
#define TIME_NEAR_MAX (TIME_MAX - TIME_FAR)
#define TIME_TEXT_MAX 48 /* bytes that any of the formats below needs, NUL included */

/* TIME_RANGE: well-formed, but not near; *ret is where it stands in the order of times. */
enum time_parse { TIME_OK, TIME_SYNTAX, TIME_RANGE };

int64_t clock_now_ns(void);  /* wall clock, UTC */
int64_t clock_mono_ns(void); /* monotonic, for deadlines */
/* From microseconds since 1970, of any age; ends at TIME_MIN and TIME_MAX. */
int64_t time_from_us(__int128 us);
/* Nanoseconds since 1970 that a time stands for, far ones too. */
__int128 time_true_ns(int64_t t);
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
