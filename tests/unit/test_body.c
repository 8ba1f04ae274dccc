/* test_body.c -- limits at max-1, max and max+1, the shared budget, inflating, padding, taking. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/inflate.h"
#include "http/internal.h"

#define MAX 1000000u
#define RATIO 4u
#define STEP 16384u /* bytes that a body holds at first */

static char bytes[MAX * RATIO + 2];

static struct http_core make_core(void) {
    struct http_core core = { .conf = { .max_body = MAX, .inflate_ratio = RATIO } };
    core.bodies.limit = MAX * (RATIO + 1);
    return core;
}

static void drop(struct http_req *req) {
    req_release(req);
    http_unref(req);
}

/* Sends n bytes in pieces of `step`. */
static enum xt_code send_body(struct http_req *req, bool chunked, size_t n, size_t step, struct xt_err *err) {
    struct framing f = { .chunked = chunked, .length = chunked ? 0 : n };
    enum xt_code rc = body_begin(req, &f, err);
    for (size_t at = 0; rc == XT_OK && at < n; at += step) {
        rc = body_add(req, bytes + at, n - at < step ? n - at : step, err);
    }
    return rc == XT_OK ? body_finish(req, err) : rc;
}

static void test_limits(void **state) {
    (void)state;
    static const struct {
        size_t n, step;
        enum xt_code want;
    } cases[] = {
        { 0, 1, XT_OK },
        { 1, 1, XT_OK },
        { 65536, 1000, XT_OK },
        { 65537, 65537, XT_OK },
        { MAX - 1, 4096, XT_OK },
        { MAX, 4096, XT_OK },
        { MAX + 1, 4096, XT_ETOOBIG },
        { MAX, MAX, XT_OK },
        { MAX + 1, MAX + 1, XT_ETOOBIG },
    };
    struct http_core core = make_core();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int chunked = 0; chunked < 2; chunked++) {
            struct http_req *req = req_new(&core);
            struct xt_err err = { 0 };
            assert_int_equal(send_body(req, chunked, cases[i].n, cases[i].step, &err), cases[i].want);
            if (cases[i].want == XT_OK) {
                struct str b = http_body(req);
                assert_int_equal(b.n, cases[i].n);
                assert_memory_equal(b.p, bytes, b.n);
                for (size_t k = 0; k < HTTP_BODY_PADDING; k++) {
                    assert_int_equal(b.p[b.n + k], 0);
                }
                assert_int_equal(core.bodies.used, cases[i].n);
            } else {
                assert_int_equal(core.bodies.used, 0);
                assert_non_null(strstr(err.msg, "1000000"));
            }
            drop(req);
            assert_int_equal(core.bodies.used, 0);
        }
    }
}

static void test_no_body_allowed(void **state) {
    (void)state;
    struct http_core core = make_core();
    core.conf.max_body = 0;
    struct http_req *req = req_new(&core);
    assert_int_equal(send_body(req, false, 0, 1, NULL), XT_OK);
    drop(req);
    for (int chunked = 0; chunked < 2; chunked++) {
        req = req_new(&core);
        assert_int_equal(send_body(req, chunked, 1, 1, NULL), XT_ETOOBIG);
        drop(req);
    }
}

static void test_budget(void **state) {
    (void)state;
    struct http_core core = make_core();
    core.bodies.limit = MAX;
    struct xt_err err = { 0 };
    struct http_req *a = req_new(&core), *b = req_new(&core);
    struct framing most = { .length = MAX - 10 }, few = { .length = 10 }, more = { .length = 11 },
                   chunks = { .chunked = true };
    assert_int_equal(body_begin(a, &most, &err), XT_OK);
    assert_int_equal(core.bodies.used, STEP); /* what was only announced takes no room of others */
    assert_int_equal(body_add(a, bytes, STEP, &err), XT_OK);
    assert_int_equal(core.bodies.used, STEP);
    assert_int_equal(body_add(a, bytes, 1, &err), XT_OK);
    assert_int_equal(core.bodies.used, MAX - 10);
    assert_int_equal(body_begin(b, &more, &err), XT_EBUSY);
    assert_int_equal(core.counters.body_refused, 1);
    assert_int_equal(body_begin(b, &chunks, &err), XT_OK);
    assert_int_equal(body_add(b, bytes, 1, &err), XT_EBUSY); /* a chunked body starts with a step too */
    assert_int_equal(core.bodies.used, MAX - 10);
    assert_int_equal(body_begin(b, &few, &err), XT_OK);
    drop(a);
    assert_int_equal(core.bodies.used, 10);
    drop(b);
    assert_int_equal(core.bodies.used, 0);
}

static void test_take(void **state) {
    (void)state;
    struct http_core core = make_core();
    static const size_t sizes[] = { 0, 1, 70000, MAX };
    for (size_t i = 0; i < 4; i++) {
        for (int chunked = 0; chunked < 2; chunked++) {
            struct http_req *req = req_new(&core);
            size_t n = 42;
            assert_int_equal(send_body(req, chunked, sizes[i], 5000, NULL), XT_OK);
            char *p = http_body_take(req, &n);
            assert_non_null(p); /* also of an empty body */
            assert_int_equal(n, sizes[i]);
            drop(req);
            assert_int_equal(core.bodies.used, n);
            budget_give(&core.bodies, n);
            free(p);
        }
    }
}

/* Packs n bytes and sends them. */
static enum xt_code send_packed(struct http_core *core, enum coding c, size_t n, bool cut, struct xt_err *err,
                                size_t *ret_n) {
    struct buf packed;
    buf_init(&packed, 2 * MAX * RATIO);
    assert_int_equal(deflate_body(c, (struct str){ bytes, n }, &packed, NULL), XT_OK);
    struct http_req *req = req_new(core);
    struct framing f = { .length = packed.n - cut };
    req->coding = c;
    enum xt_code rc = body_begin(req, &f, err);
    if (rc == XT_OK) {
        rc = body_add(req, packed.p, packed.n - cut, err);
    }
    if (rc == XT_OK) {
        rc = body_finish(req, err);
    }
    if (rc == XT_OK) {
        struct str b = http_body(req);
        assert_int_equal(b.n, n);
        assert_memory_equal(b.p, bytes, n);
        for (size_t k = 0; k < HTTP_BODY_PADDING; k++) {
            assert_int_equal(b.p[b.n + k], 0);
        }
        assert_int_equal(core->bodies.used, n);
        *ret_n = n;
    }
    drop(req);
    buf_done(&packed);
    assert_int_equal(core->bodies.used, 0);
    return rc;
}

static void test_inflate(void **state) {
    (void)state;
    static const enum coding codings[] = { CODING_GZIP, CODING_ZSTD };
    static const struct {
        size_t n;
        bool cut;
        enum xt_code want;
    } cases[] = {
        { 0, false, XT_OK },           { 1, false, XT_OK },
        { 65535, false, XT_OK },       { 65536, false, XT_OK },
        { 65537, false, XT_OK },       { 1000000, false, XT_OK },
        { MAX * RATIO, false, XT_OK }, { MAX * RATIO + 1, false, XT_ETOOBIG },
        { 5000, true, XT_EINVAL },
    };
    struct http_core core = make_core();
    memset(bytes, 'a', sizeof(bytes)); /* a bomb: ratio far above the guess */
    for (size_t c = 0; c < 2; c++) {
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            struct xt_err err = { 0 };
            size_t n = 0;
            enum xt_code rc = send_packed(&core, codings[c], cases[i].n, cases[i].cut, &err, &n);
            assert_int_equal(rc, cases[i].want);
            if (rc == XT_EINVAL) {
                assert_non_null(strstr(err.msg, "decode failed: "));
            }
        }
    }
}

/* The inflated form counts as well. What is larger than the whole budget comes one at a time. */
static void test_inflate_budget(void **state) {
    (void)state;
    struct http_core core = make_core();
    struct xt_err err = { 0 };
    size_t n = 0;
    memset(bytes, 'b', sizeof(bytes));
    core.bodies.limit = 200000;
    assert_int_equal(send_packed(&core, CODING_GZIP, 150000, false, &err, &n), XT_OK);
    assert_int_equal(send_packed(&core, CODING_GZIP, 500000, false, &err, &n), XT_OK);
    struct http_req *other = req_new(&core), *large = req_new(&core), *second = req_new(&core);
    assert_int_equal(send_body(other, false, 100000, 1000, &err), XT_OK);
    assert_int_equal(send_body(large, false, 300000, 1000, &err), XT_OK); /* beside others */
    assert_int_equal(core.bodies.used, 400000);
    assert_int_equal(send_body(second, false, 300000, 1000, &err), XT_EBUSY); /* but not beside another such */
    assert_int_equal(send_body(second, false, 10, 1000, &err), XT_EBUSY);
    drop(large);
    assert_int_equal(send_body(second, false, 100000, 1000, &err), XT_OK);
    struct http_req *third = req_new(&core);
    assert_int_equal(send_body(third, false, 1, 1, &err), XT_EBUSY);
    assert_int_equal(send_body(third, true, 900000, 5000, &err), XT_EBUSY); /* a chunked one asks for little at first */
    drop(second);
    drop(other);
    assert_int_equal(send_body(third, true, 900000, 5000, &err), XT_OK); /* alone */
    drop(third);
    assert_int_equal(core.bodies.used, 0);
}

static void test_no_memory(void **state) {
    (void)state;
    struct http_core core = make_core();
    bool done = false;
    for (uint64_t k = 1; !done; k++) {
        struct buf packed;
        buf_init(&packed, MAX);
        assert_int_equal(deflate_body(CODING_GZIP, (struct str){ bytes, 500000 }, &packed, NULL), XT_OK);
        struct http_req *req = req_new(&core);
        struct framing f = { .chunked = true };
        struct xt_err err = { 0 };
        req->coding = CODING_GZIP;
        alloc_fail_at(k);
        enum xt_code rc = body_begin(req, &f, &err);
        rc = rc == XT_OK ? body_add(req, packed.p, packed.n, &err) : rc;
        rc = rc == XT_OK ? body_finish(req, &err) : rc;
        alloc_fail_at(0);
        assert_true(rc == XT_OK || rc == XT_ENOMEM);
        done = rc == XT_OK;
        drop(req);
        buf_done(&packed);
        assert_int_equal(core.bodies.used, 0);
        assert_true(k < 1000);
        assert_true(!done || k > 1);
    }
}

static int fill(void **state) {
    (void)state;
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (char)(x >> 24);
    }
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),    cmocka_unit_test(test_no_body_allowed), cmocka_unit_test(test_budget),
        cmocka_unit_test(test_take),      cmocka_unit_test(test_inflate),         cmocka_unit_test(test_inflate_budget),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
