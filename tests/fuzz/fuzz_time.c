/* fuzz_time.c -- any bytes as an RFC 3339 time. What was accepted prints in both styles and reads back as the same
 * instant (style Z to the microsecond), and floors to a day that is not after it. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

#define CHECK(cond) ((cond) ? (void)0 : check_failed(#cond, __LINE__))
static void check_failed(const char *cond, int line) {
    fprintf(stderr, "line %d: not so: %s\n", line, cond);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int64_t ns = 42, again = 0;
    char text[TIME_TEXT_MAX];
    enum time_parse rc = time_parse_rfc3339((struct str){ (const char *)data, size }, &ns);
    if (rc == TIME_SYNTAX)
        return 0;
    CHECK(ns >= TIME_MIN);
    if (rc == TIME_RANGE) { /* of another age: it has a place in the order, and its text says it again */
        CHECK(ns < TIME_NEAR_MIN || ns > TIME_NEAR_MAX);
        size_t far = time_format_offset(ns, text);
        CHECK(far < TIME_TEXT_MAX);
        CHECK(time_parse_rfc3339((struct str){ text, far }, &again) == TIME_RANGE && again == ns);
        CHECK(time_format_z(ns, text) < TIME_TEXT_MAX && time_format_date(ns, text) >= 10);
        return 0;
    }
    CHECK(ns >= TIME_NEAR_MIN && ns <= TIME_NEAR_MAX);
    size_t n = time_format_offset(ns, text);
    CHECK(time_parse_rfc3339((struct str){ text, n }, &again) == TIME_OK && again == ns);
    n = time_format_z(ns, text);
    CHECK(n < TIME_TEXT_MAX);
    enum time_parse z =
        time_parse_rfc3339((struct str){ text, n }, &again); /* the earliest microsecond may lie outside */
    CHECK(z == TIME_OK ? again <= ns && ns - again < 1000 : z == TIME_RANGE);
    CHECK(time_format_date(ns, text) >= 10);
    CHECK(time_floor(ns, NS_PER_DAY) <= ns);
    return 0;
}
