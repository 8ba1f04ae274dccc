/* test_ratelimit.c -- the token bucket of a credential and what its stats show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "api/app.h"
#include "api/ratelimit.h"
#include "base/clock.h"

static unsigned admit_many(struct app *app, const char *key, unsigned n, unsigned *ret_wait) {
    struct http_auth auth = { .rate_key = str_c(key) };
    unsigned ok = 0;
    for (unsigned i = 0; i < n; i++)
        ok += rate_admit(app, &auth, ret_wait);
    return ok;
}

static void test_burst_then_refill(void **state) {
    (void)state;
    struct app app = { .limiter = rate_limiter_new(20, 40) };
    unsigned wait = 0;
    unsigned ok = admit_many(&app, "bearer:tok-secret-123", 60, &wait);
    assert_in_range(ok, 40, 42); /* a slow machine refills a little meanwhile */
    assert_int_equal(wait, 1);
    assert_int_equal(admit_many(&app, "basic:pk", 10, &wait), 10); /* a bucket of its own */
    int64_t until = clock_mono_ns() + NS_PER_SEC / 2;
    while (clock_mono_ns() < until) {
        struct timespec ts = { 0, 10000000 };
        nanosleep(&ts, NULL);
    }
    ok = admit_many(&app, "bearer:tok-secret-123", 30, &wait);
    assert_in_range(ok, 10, 14);
    rate_limiter_free(app.limiter);
}

static void test_extremes(void **state) {
    (void)state;
    static const struct {
        uint64_t qps, burst;
        unsigned asked, least, most;
    } cases[] = { { 1, 1, 5, 1, 1 },
                  { 4294967295u, 4294967295u, 1000, 1000, 1000 },
                  { 1, 4294967295u, 1000, 1000, 1000 },
                  { 4294967295u, 1, 1000, 1, 1000 } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct app app = { .limiter = rate_limiter_new(cases[i].qps, cases[i].burst) };
        unsigned wait = 0;
        assert_in_range(admit_many(&app, "k", cases[i].asked, &wait), cases[i].least, cases[i].most);
        rate_limiter_free(app.limiter);
    }
}

static void test_more_credentials_than_buckets(void **state) {
    (void)state;
    struct app app = { .limiter = rate_limiter_new(1, 1) };
    for (unsigned i = 0; i < RATE_KEYS_MAX + 50; i++) {
        char key[40];
        unsigned wait = 0;
        snprintf(key, sizeof key, "bearer:%u", i);
        assert_int_equal(admit_many(&app, key, 1, &wait), 1);
    }
    rate_limiter_free(app.limiter);
}

static void test_stats_mask_credentials(void **state) {
    (void)state;
    struct app app = { .limiter = rate_limiter_new(1, 1) };
    unsigned wait = 0;
    admit_many(&app, "bearer:tok-secret-123", 3, &wait);
    admit_many(&app, "bearer:abc", 3, &wait); /* short ones must not show whole either */
    struct buf out;
    struct json_writer w;
    buf_init(&out, 10000);
    jw_init(&w, &out);
    rate_write_stats(app.limiter, &w);
    assert_true(jw_done(&w));
    assert_non_null(strstr(out.p, "\"token\":\"bearer:tok-***\""));
    assert_non_null(strstr(out.p, "\"token\":\"bearer:a***\""));
    assert_null(strstr(out.p, "tok-s"));
    assert_null(strstr(out.p, "abc"));
    assert_non_null(strstr(out.p, "\"total_allowed\":2,\"total_rejected\":4"));
    buf_done(&out);
    rate_limiter_free(app.limiter);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_burst_then_refill), cmocka_unit_test(test_extremes),
                                        cmocka_unit_test(test_more_credentials_than_buckets),
                                        cmocka_unit_test(test_stats_mask_credentials) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
