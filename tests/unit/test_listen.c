/* test_listen.c -- which addresses are taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "http/listen.h"

static const struct {
    const char *text;
    int port; /* -1: refused */
    bool loopback;
} addresses[] = {
    { "127.0.0.1:8742", 8742, true },
    { "127.0.0.1:0", 0, true },
    { " 127.0.0.1:0", -1, false },
    { "127.0.0.1:0 ", -1, false },
    { "127.9.9.9:65535", 65535, true },
    { "0.0.0.0:80", 80, false },
    { "10.0.0.1:80", 80, false },
    { "[::1]:80", 80, true },
    { "[::]:8742", 8742, false },
    { "[::ffff:127.0.0.1]:1", 1, true },
    { "[fe80::1]:1", 1, false },
    { "127.0.0.1:65536", -1, false },
    { "127.0.0.1:", -1, false },
    { "127.0.0.1", -1, false },
    { ":80", -1, false },
    { "", -1, false },
    { NULL, -1, false },
    { "localhost:8742", -1, false },
    { "::1:80", -1, false },
    { "[::1]", -1, false },
    { "[]:80", -1, false },
    { "[127.0.0.1]:80", -1, false },
    { "127.0.0.1:-1", -1, false },
    { "127.0.0.1:+1", -1, false },
    { "127.0.0.1:8 0", -1, false },
    { "127.1:80", -1, false },
    { "nonsense", -1, false },
    { "[1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111]:1", -1, false },
};

static void test_parse(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        struct listen_addr a;
        struct xt_err err = { 0 };
        enum xt_code rc = listen_parse(addresses[i].text, &a, &err);
        if (addresses[i].port < 0) {
            assert_int_equal(rc, XT_EINVAL);
            assert_string_equal(err.msg, "BIND_ADDR must be IP:port");
            continue;
        }
        if (rc != XT_OK) {
            fail_msg("%s: %s", addresses[i].text, err.msg);
        }
        assert_int_equal(listen_port(&a), addresses[i].port);
        assert_int_equal(listen_is_loopback(&a), addresses[i].loopback);
    }
}

static void test_open(void **state) {
    (void)state;
    struct listen_addr a, again;
    struct xt_err err = { 0 };
    int fd = -1, second = -1;
    assert_int_equal(listen_parse("127.0.0.1:0", &a, &err), XT_OK);
    assert_int_equal(listen_open(&a, "127.0.0.1:0", &fd, &err), XT_OK);
    assert_true(listen_port(&a) > 0);
    again = a;
    assert_int_equal(listen_open(&again, "there", &second, &err), XT_EUNAVAILABLE);
    assert_non_null(strstr(err.msg, "cannot listen on there: "));
    close(fd);
    assert_int_equal(listen_parse("192.0.2.1:0", &a, &err), XT_OK); /* nobody's address */
    assert_int_equal(listen_open(&a, "192.0.2.1:0", &fd, &err), XT_EUNAVAILABLE);
    assert_true(listen_raise_files() >= 64);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_parse), cmocka_unit_test(test_open) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
