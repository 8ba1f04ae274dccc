/* test_conf.c -- the option table: sources, precedence, leniency, refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "conf/conf.h"

struct result {
    struct conf_source source;
    enum xt_code code;
    struct xt_err err;
    int rest;
    char warnings[2000];
};

static struct result load(char **argv, char **envp) {
    struct result r = { 0 };
    struct buf w;
    int argc = 0;
    while (argv[argc])
        argc++;
    buf_init(&w, 1000);
    r.code = conf_load(argc, argv, envp, &r.source, &r.rest, &w, &r.err);
    snprintf(r.warnings, sizeof r.warnings, "%.*s", STR_FMT(buf_str(&w)));
    buf_done(&w);
    return r;
}
#define ARGS(...) ((char *[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

static void test_defaults(void **state) {
    (void)state;
    struct result r = load(ARGS(), ARGS());
    assert_int_equal(r.code, XT_OK);
    assert_null(r.source.conf.database_url);
    assert_null(r.source.conf.bearer_token);
    assert_string_equal(r.source.conf.bind_addr, "127.0.0.1:8742");
    assert_string_equal(r.source.conf.default_project, "default");
    assert_int_equal(r.source.conf.rate_qps, 20);
    assert_int_equal(r.source.conf.rate_burst, 40);
    assert_int_equal(r.source.conf.max_body, 20971520);
    assert_false(r.source.conf.open_compat);
    assert_int_equal(r.source.conf.traces_retention_days, 90);
    assert_int_equal(r.source.conf.metrics_retention_days, 30);
    assert_int_equal(r.source.conf.retention_first_s, 600);
    assert_int_equal(r.source.conf.retention_interval_s, 3600);
    conf_done(&r.source);
}

static void test_precedence(void **state) {
    (void)state;
    char path[] = "/tmp/xtrace-conf-XXXXXX";
    int fd = mkstemp(path);
    const char text[] = "\xef\xbb\xbf# comment\n\nbind-addr = 1.1.1.1:1\nquery-threads=7\n  data-dir = /x y/z  \n";
    assert_int_equal(write(fd, text, sizeof text - 1), (ssize_t)sizeof text - 1);
    close(fd);
    char env_file[200];
    snprintf(env_file, sizeof env_file, "XTRACE_CONFIG=%s", path);
    struct result r =
        load(ARGS("--bind-addr", "3.3.3.3:3"), ARGS(env_file, "BIND_ADDR=2.2.2.2:2", "XTRACE_URL=ignored"));
    assert_int_equal(r.code, XT_OK);
    assert_string_equal(r.source.conf.bind_addr, "3.3.3.3:3");
    assert_int_equal(r.source.conf.query_threads, 7);
    assert_string_equal(r.source.conf.data_dir, "/x y/z");
    conf_done(&r.source);
    r = load(ARGS(), ARGS(env_file, "BIND_ADDR=2.2.2.2:2"));
    assert_string_equal(r.source.conf.bind_addr, "2.2.2.2:2");
    conf_done(&r.source);
    unlink(path);
}

static void test_lenient(void **state) {
    (void)state;
    struct result r =
        load(ARGS(), ARGS("RATE_LIMIT_QPS=abc", "RATE_LIMIT_BURST=", "XTRACE_MAX_REQUEST_BODY_BYTES=20MB"));
    assert_int_equal(r.code, XT_OK);
    assert_int_equal(r.source.conf.rate_qps, 20);
    assert_int_equal(r.source.conf.rate_burst, 40);
    assert_int_equal(r.source.conf.max_body, 20971520);
    assert_non_null(strstr(r.warnings, "RATE_LIMIT_QPS"));
    r = load(ARGS(), ARGS("RATE_LIMIT_QPS=4294967296", "RATE_LIMIT_BURST=+7"));
    assert_int_equal(r.code, XT_OK);
    assert_int_equal(r.source.conf.rate_qps, 20);
    assert_int_equal(r.source.conf.rate_burst, 7);
    assert_non_null(strstr(r.warnings, "RATE_LIMIT_QPS"));
    static const struct {
        char *value;
        bool on;
    } flags[] = { { "XTRACE_ALLOW_UNAUTHENTICATED_COMPAT=1", true },
                  { "XTRACE_ALLOW_UNAUTHENTICATED_COMPAT=TrUe", true },
                  { "XTRACE_ALLOW_UNAUTHENTICATED_COMPAT=yes", false },
                  { "XTRACE_ALLOW_UNAUTHENTICATED_COMPAT=on", false },
                  { "XTRACE_ALLOW_UNAUTHENTICATED_COMPAT= 1", false } };
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        r = load(ARGS(), ARGS(flags[i].value));
        assert_int_equal(r.code, XT_OK);
        assert_int_equal(r.source.conf.open_compat, flags[i].on);
    }
}

static void test_aliases(void **state) {
    (void)state;
    struct result r = load(ARGS(), ARGS("LANGFUSE_PUBLIC_KEY=lp", "LANGFUSE_SECRET_KEY=ls", "XTRACE_SECRET_KEY="));
    assert_string_equal(r.source.conf.public_key, "lp"); /* fallback when unset */
    assert_string_equal(r.source.conf.secret_key, "");   /* an empty value blocks it */
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        char *argv[3], *env;
        const char *word; /* the message must name it */
    } cases[] = {
        { { "--nonsense", "1" }, NULL, "--nonsense" },
        { { "--query-threads" }, NULL, "--query-threads" },
        { { NULL }, "RATE_LIMIT_QPS=0", "RATE_LIMIT_QPS" },
        { { NULL }, "RATE_LIMIT_BURST=0", "RATE_LIMIT_BURST" },
        { { NULL }, "XTRACE_QUERY_THREADS=abc", "XTRACE_QUERY_THREADS" },
        { { NULL }, "XTRACE_QUERY_THREADS=65", "XTRACE_QUERY_THREADS" },
        { { NULL }, "XTRACE_TLS_CERT=/c.pem", "tls-key" },
        { { NULL }, "XTRACE_INTERNAL_AUTH=maybe", "internal-auth" },
        { { NULL }, "XTRACE_LIST_FOREIGN_PROJECTS=maybe", "XTRACE_LIST_FOREIGN_PROJECTS" },
        { { NULL }, "XTRACE_CONFIG=/no/such/file", "/no/such/file" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct result r = load((char **)cases[i].argv, ARGS(cases[i].env));
        assert_int_not_equal(r.code, XT_OK);
        if (!strstr(r.err.msg, cases[i].word))
            fail_msg("case %zu: \"%s\" does not name %s", i, r.err.msg, cases[i].word);
    }
}

static void test_file_errors(void **state) {
    (void)state;
    static const struct {
        const char *text, *word;
    } cases[] = { { "bind-adr = 1\n", ":1: unknown key \"bind-adr\"" }, { "\n\nnonsense\n", ":3: expected" } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[] = "/tmp/xtrace-conf-XXXXXX";
        int fd = mkstemp(path);
        assert_true(write(fd, cases[i].text, strlen(cases[i].text)) > 0);
        close(fd);
        struct result r = load(ARGS("--config", path), ARGS());
        unlink(path);
        assert_int_equal(r.code, XT_EINVAL);
        assert_non_null(strstr(r.err.msg, cases[i].word));
    }
}

static void test_positional(void **state) {
    (void)state;
    struct result r = load(ARGS("--data-dir=/d", "--list-foreign-projects", "file", "more"), ARGS());
    assert_int_equal(r.code, XT_OK);
    assert_int_equal(r.rest, 2);
    assert_string_equal(r.source.conf.data_dir, "/d");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),   cmocka_unit_test(test_precedence), cmocka_unit_test(test_lenient),
        cmocka_unit_test(test_aliases),    cmocka_unit_test(test_refusals),   cmocka_unit_test(test_file_errors),
        cmocka_unit_test(test_positional),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
