/* test_err.c -- every code has its status and words; messages are fit for clients. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/codec.h"
#include "base/err.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void test_codes(void **state) {
    (void)state;
    static const struct {
        enum xt_code code;
        unsigned status;
        const char *word, *text;
    } cases[] = {
        { XT_OK, 200, "OK", "OK" },
        { XT_EINVAL, 400, "BAD_REQUEST", "Bad Request" },
        { XT_EAUTH, 401, "UNAUTHORIZED", "Unauthorized" },
        { XT_EFORBIDDEN, 403, "FORBIDDEN", "Forbidden" },
        { XT_ENOTFOUND, 404, "NOT_FOUND", "Not Found" },
        { XT_EMETHOD, 405, "METHOD_NOT_ALLOWED", "Method Not Allowed" },
        { XT_ECONFLICT, 409, "CONFLICT", "Conflict" },
        { XT_ETOOBIG, 413, "PAYLOAD_TOO_LARGE", "Payload Too Large" },
        { XT_EMEDIA, 415, "UNSUPPORTED_MEDIA_TYPE", "Unsupported Media Type" },
        { XT_ESCHEMA, 422, "UNPROCESSABLE_ENTITY", "Unprocessable Entity" },
        { XT_ERATE, 429, "TOO_MANY_REQUESTS", "Too Many Requests" },
        { XT_EBUSY, 429, "TOO_MANY_REQUESTS", "Too Many Requests" },
        { XT_EUNAVAILABLE, 503, "SERVICE_UNAVAILABLE", "Service Unavailable" },
        { XT_ETIMEOUT, 504, "QUERY_TIMEOUT", "Query Timeout" },
        { XT_ESTORE, 500, "INTERNAL_ERROR", "Internal Error" },
        { XT_EREFUSED, 422, "UNPROCESSABLE_ENTITY", "Unprocessable Entity" },
        { XT_ENOMEM, 503, "SERVICE_UNAVAILABLE", "Service Unavailable" },
        { XT_CODE_MAX, 500, "INTERNAL_ERROR", "Internal Error" }, /* no such code */
        { (enum xt_code)9999, 500, "INTERNAL_ERROR", "Internal Error" },
    };
    assert_int_equal(COUNT(cases), XT_CODE_MAX + 2);
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(xt_code_status(cases[i].code), cases[i].status);
        assert_string_equal(xt_code_word(cases[i].code), cases[i].word);
        assert_string_equal(xt_code_default(cases[i].code), cases[i].text);
    }
}

static void test_fail(void **state) {
    (void)state;
    struct xt_err err = { 0 };
    assert_int_equal(xt_fail(&err, XT_EINVAL, "page: \"%s\" is no number", "x"), XT_EINVAL);
    assert_int_equal(err.code, XT_EINVAL);
    assert_string_equal(err.msg, "page: \"x\" is no number");
    assert_int_equal(xt_fail(NULL, XT_ESTORE, "nobody looks"), XT_ESTORE);
    xt_fail(&err, XT_ESCHEMA, "trace: %s", err.msg); /* its own text among the arguments */
    assert_string_equal(err.msg, "trace: page: \"x\" is no number");
}

static void test_clean(void **state) {
    (void)state;
    static const struct {
        const char *in, *want;
    } cases[] = {
        { "a\nb\tc\x7f", "a b c " },      { "caf\xc3", "caf\xef\xbf\xbd" }, /* cut by a precision */
        { "caf\xc3\xa9", "caf\xc3\xa9" }, { "\xff\xfe", "\xef\xbf\xbd\xef\xbf\xbd" }, { "", "" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct xt_err err;
        xt_fail(&err, XT_EINVAL, "%s", cases[i].in);
        assert_string_equal(err.msg, cases[i].want);
    }
}

static void test_length(void **state) {
    (void)state;
    char text[2000];
    struct xt_err err;
    for (size_t n = sizeof(err.msg) - 2; n <= sizeof(err.msg); n++) { /* max - 1, max, max + 1 */
        memset(text, 'x', n);
        text[n] = 0;
        xt_fail(&err, XT_EINVAL, "%s", text);
        assert_int_equal(strlen(err.msg), n < sizeof(err.msg) ? n : sizeof(err.msg) - 1);
    }
    for (size_t shift = 0; shift < 4; shift++) { /* characters of four bytes are not cut */
        memset(text, 'x', shift);
        for (size_t at = shift; at + 4 < sizeof(text); at += 4) {
            memcpy(text + at, "\xf0\x9f\x98\x80", 5);
        }
        xt_fail(&err, XT_EINVAL, "%s", text);
        assert_true(utf8_valid(str_c(err.msg)));
        assert_null(strstr(err.msg, "\xef\xbf\xbd"));
        assert_true(strlen(err.msg) >= sizeof(err.msg) - 4);
    }
    memset(text, 0xff, sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    xt_fail(&err, XT_EINVAL, "%s", text);
    assert_true(utf8_valid(str_c(err.msg)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_fail),
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
