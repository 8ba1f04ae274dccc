/* test_json_read.c -- what is JSON and what is not, the tree, its slices, and the limits.
 *
 * Each document is parsed in all ways (strict and lenient, all, some and no containers expanded), with several paddings
 * behind it: the verdict must be the same, and nothing behind the text may count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "json/json_read.h"

static bool expand_none(void *arg, unsigned depth, const struct json *parent, struct str key) {
    (void)arg, (void)depth, (void)parent, (void)key;
    return false;
}

/* Every second container: mixes checked and expanded parts. */
static bool expand_some(void *arg, unsigned depth, const struct json *parent, struct str key) {
    (void)parent, (void)key;
    unsigned *calls = arg;
    return (depth + ++*calls) % 2 == 0;
}

/* The text with `pad` behind it, in memory of exactly that size. */
static char *padded(struct str text, const char *pad) {
    char *p = malloc(text.n + JSON_PADDING);
    assert_non_null(p);
    memcpy(p, text.p, text.n);
    for (size_t i = 0; i < JSON_PADDING; i++) {
        p[text.n + i] = pad[i % strlen(pad)];
    }
    return p;
}

static const char *const paddings[] = { " ", "]", "}", "}]", ",1]", "\"", "0", "\\", "\xff" };

/* One verdict for all ways of parsing, or the test fails. */
static bool parses(struct str text, bool lenient, unsigned max_depth) {
    int verdict = -1;
    for (size_t pad = 0; pad < sizeof(paddings) / sizeof(*paddings); pad++) {
        for (int way = 0; way < 4; way++) {
            char *p = padded(text, paddings[pad]);
            struct arena a;
            arena_init(&a, 1 << 24);
            unsigned calls = 0;
            struct json_opts opts = { .max_depth = max_depth, .lenient = lenient, .arg = &calls };
            opts.expand = way == 1 ? expand_none : way == 2 ? expand_some : NULL;
            opts.raw_arrays = way == 3;
            const struct json *root = NULL;
            struct xt_err err;
            enum xt_code code = json_parse(&a, (struct str){ p, text.n }, &opts, &root, &err);
            assert_true(code == XT_OK || (code == XT_EINVAL && err.msg[0] && !root));
            if (verdict >= 0 && verdict != (code == XT_OK)) {
                fail_msg("verdicts differ on %.*s (padding %s, way %d)", STR_FMT(text), paddings[pad], way);
            }
            verdict = code == XT_OK;
            if (root) {
                assert_true(root->raw.p >= p && root->raw.p + root->raw.n <= p + text.n);
            }
            arena_done(&a);
            free(p);
        }
    }
    if (!lenient && json_valid(text, max_depth) != verdict) {
        fail_msg("json_valid differs on %.*s", STR_FMT(text));
    }
    return verdict;
}

static const struct str good[] = {
    STR_LIT("{}"),
    STR_LIT("[]"),
    STR_LIT("null"),
    STR_LIT("true"),
    STR_LIT("false"),
    STR_LIT("\"\""),
    STR_LIT("0"),
    STR_LIT(" \t\r\n{} \t\r\n"),
    STR_LIT(" 1 "),
    STR_LIT(" \"a\" "),
    STR_LIT("[1,2]"),
    STR_LIT("[ 1 , 2 ]"),
    STR_LIT("{\"a\":1}"),
    STR_LIT("{ \"a\" : 1 , \"b\" : [ { } , [ ] ] }"),
    STR_LIT("[[],{},[[]],{\"\":{}}]"),
    STR_LIT("{\"a\":1,\"a\":2}"),
    STR_LIT("{\"\":\"\"}"),
    STR_LIT("[\"a:b\",\"c,d\",\"[\",\"}\"]"),
    STR_LIT("-0"),
    STR_LIT("-0.0"),
    STR_LIT("10"),
    STR_LIT("-12.50"),
    STR_LIT("1e5"),
    STR_LIT("1E+5"),
    STR_LIT("1.5e-5"),
    STR_LIT("0e0"),
    STR_LIT("0E-1"),
    STR_LIT("123456789012345678901234567890"),
    STR_LIT("-99999999999999999999"),
    STR_LIT("1e308"),
    STR_LIT("1.7976931348623157e308"),
    STR_LIT("17976931348623157e292"),
    STR_LIT("1e-999"),
    STR_LIT("0.0001e312"),
    STR_LIT("0e999999999999999999999"),
    STR_LIT("0.000e9999"),
    STR_LIT("5e-324"),
    STR_LIT("1e-99999999999999999999999999"),
    STR_LIT("[1e00000000000000000000000000000000000000000000000000000001]"),
    STR_LIT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e4\\uFFFF\""),
    STR_LIT("\"\\ud83d\\ude00\\uD83D\\uDE00\""),
    STR_LIT("\"\\u0000\""),
    STR_LIT("{\"\\u0000\":1}"),
    STR_LIT("\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\""),
    STR_LIT("\"\x7f\""),
    STR_LIT("\"\\\\\""),
    STR_LIT("[\"\\\\\",\"\\\"\"]"),
    STR_LIT("\"\xed\x9f\xbf\xee\x80\x80\""),
    STR_LIT("\"//\""),
    STR_LIT("[0,0.0,-1,\"\\\\u12\"]"),
};

static const struct str bad[] = {
    STR_LIT(""),
    STR_LIT(" "),
    STR_LIT("\n\t"),
    STR_LIT("{"),
    STR_LIT("["),
    STR_LIT("}"),
    STR_LIT("]"),
    STR_LIT("\""),
    STR_LIT(","),
    STR_LIT(":"),
    STR_LIT("nul"),
    STR_LIT("nulll"),
    STR_LIT("Null"),
    STR_LIT("tru"),
    STR_LIT("truex"),
    STR_LIT("fals"),
    STR_LIT("falsey"),
    STR_LIT("NaN"),
    STR_LIT("Infinity"),
    STR_LIT("-Infinity"),
    STR_LIT("-NaN"),
    STR_LIT("01"),
    STR_LIT("1."),
    STR_LIT(".5"),
    STR_LIT("+1"),
    STR_LIT("1e"),
    STR_LIT("1e+"),
    STR_LIT("-"),
    STR_LIT("--1"),
    STR_LIT("-01"),
    STR_LIT("00"),
    STR_LIT("-.5"),
    STR_LIT("1.e5"),
    STR_LIT("1e5.5"),
    STR_LIT("1.2.3"),
    STR_LIT("0x10"),
    STR_LIT("1_000"),
    STR_LIT("1a"),
    STR_LIT("1\""),
    STR_LIT("1-2"),
    STR_LIT("1e999"),
    STR_LIT("-1e999"),
    STR_LIT("1e309"),
    STR_LIT("1.7976931348623159e308"),
    STR_LIT("179769313486231590e291"),
    STR_LIT("0.001e312"),
    STR_LIT("1e99999999999999999999999999"),
    STR_LIT("[1e999]"),
    STR_LIT("{\"a\":1e400}"),
    STR_LIT("{} xyz"),
    STR_LIT("{}{}"),
    STR_LIT("[] []"),
    STR_LIT("1 2"),
    STR_LIT("{},"),
    STR_LIT("\"a\" \"b\""),
    STR_LIT("\"a\"b"),
    STR_LIT("nulltrue"),
    STR_LIT("null null"),
    STR_LIT("[]1"),
    STR_LIT("{}}"),
    STR_LIT("[]]"),
    STR_LIT("[1"),
    STR_LIT("[1,"),
    STR_LIT("[1,]"),
    STR_LIT("[,1]"),
    STR_LIT("[,]"),
    STR_LIT("[1 2]"),
    STR_LIT("[1,,2]"),
    STR_LIT("[1}"),
    STR_LIT("{]"),
    STR_LIT("[}"),
    STR_LIT("[1:2]"),
    STR_LIT("[\"a\":1]"),
    STR_LIT("[\"a\":1,2]"),
    STR_LIT("[:]"),
    STR_LIT("[[1]"),
    STR_LIT("[[]"),
    STR_LIT("[{}"),
    STR_LIT("{\"a\":{}"),
    STR_LIT("{\"a\":{\"b\":1}"),
    STR_LIT("{\"a\":[}"),
    STR_LIT("{\"a\":[1}"),
    STR_LIT("{\"a\":[1]]"),
    STR_LIT("[{\"a\":1]"),
    STR_LIT("[{]"),
    STR_LIT("[{]}"),
    STR_LIT("[[1]]]"),
    STR_LIT("{\"a\":{\"b\":1}}}"),
    STR_LIT("[\"a\",{\"b\":\"c\":1}]"),
    STR_LIT("{\"a\"}"),
    STR_LIT("{\"a\":}"),
    STR_LIT("{\"a\":1,}"),
    STR_LIT("{,}"),
    STR_LIT("{1:2}"),
    STR_LIT("{a:1}"),
    STR_LIT("{\"a\" 1}"),
    STR_LIT("{\"a\":1 \"b\":2}"),
    STR_LIT("{\"a\"::1}"),
    STR_LIT("{\"a\":1,\"b\"}"),
    STR_LIT("{null:1}"),
    STR_LIT("{\"a\":1;\"b\":2}"),
    STR_LIT("{'a':1}"),
    STR_LIT("{\"a\":\"b\" \"c\"}"),
    STR_LIT("{[]:1}"),
    STR_LIT("{\"a\",1}"),
    STR_LIT("\"a"),
    STR_LIT("\"a\\\""),
    STR_LIT("[\"a]"),
    STR_LIT("{\"a:1}"),
    STR_LIT("\"\\\""),
    STR_LIT("\"\\x\""),
    STR_LIT("\"\\u\""),
    STR_LIT("\"\\u12\""),
    STR_LIT("\"\\u123g\""),
    STR_LIT("\"\\U0041\""),
    STR_LIT("\"\\u+123\""),
    STR_LIT("{\"\\x\":1}"),
    STR_LIT("[[\"\\u00\"]]"),
    STR_LIT("\"\\'\""),
    STR_LIT("\"\\\0\""),
    STR_LIT("\"a\nb\""),
    STR_LIT("\"\t\""),
    STR_LIT("\"\0\""),
    STR_LIT("\"\x1f\""),
    STR_LIT("{\"a\nb\":1}"),
    STR_LIT("\0"),
    STR_LIT("{}\0"),
    STR_LIT("[1\0]"),
    STR_LIT("[1\x0c]"),
    STR_LIT("[1\x0b]"),
    STR_LIT("[1\x1a]"),
    STR_LIT("{\"a\"\x1a"
            "1}"),
    STR_LIT("\"\xff\""),
    STR_LIT("\"\xc3\""),
    STR_LIT("\"\xc0\x80\""),
    STR_LIT("\"\xed\xa0\x80\""),
    STR_LIT("\"\xf4\x90\x80\x80\""),
    STR_LIT("\"\xe2\x82\""),
    STR_LIT("[\xc2\xa0]"),
    STR_LIT("\xef\xbb\xbf{}"),
    STR_LIT("[1,\xff]"),
    STR_LIT("{\"\x80\":1}"),
    STR_LIT("// c\n1"),
    STR_LIT("[1/**/]"),
    STR_LIT("#\n1"),
    STR_LIT("\\"),
    STR_LIT("[\\\"a\"]"),
};

/* Fine only where a lone surrogate is let pass. */
static const struct str lenient_only[] = {
    STR_LIT("\"\\ud800\""),          STR_LIT("\"\\udc00\""),   STR_LIT("\"\\ud800\\ud800\\udc00\""),
    STR_LIT("\"\\udc00\\ud800\""),   STR_LIT("\"a\\ud83dx\""), STR_LIT("{\"\\uDFFF\":[\"\\uD800\\u0041\"]}"),
    STR_LIT("[[[\"\\ud800\\n\"]]]"),
};

static void test_verdicts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        if (!parses(good[i], false, 100) || !parses(good[i], true, 100)) {
            fail_msg("refused: %.*s", STR_FMT(good[i]));
        }
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        if (parses(bad[i], false, 100) || parses(bad[i], true, 100)) {
            fail_msg("accepted: %.*s", STR_FMT(bad[i]));
        }
    }
    for (size_t i = 0; i < sizeof(lenient_only) / sizeof(*lenient_only); i++) {
        if (parses(lenient_only[i], false, 100) || !parses(lenient_only[i], true, 100)) {
            fail_msg("not lenient: %.*s", STR_FMT(lenient_only[i]));
        }
    }
}

/* No beginning of a document but the whole is one, whatever stands behind it. */
static void test_truncated(void **state) {
    (void)state;
    struct str doc =
        STR_LIT("{\"a\":[1,-2.5e3,true,false,null,\"x\\u00e4\\\"\",{\"b\":{},\"c\":[[],[{}]]}],\"d\":{\"e\":\"f\"}}");
    for (size_t n = 0; n < doc.n; n++) {
        assert_false(parses((struct str){ doc.p, n }, false, 100));
    }
    assert_true(parses(doc, false, 100));
}

struct doc {
    struct arena arena;
    char *text;
    const struct json *root;
};

static void doc_open(struct doc *d, struct str text, const struct json_opts *opts) {
    arena_init(&d->arena, 1 << 24);
    d->text = padded(text, "\"}]");
    assert_int_equal(json_parse(&d->arena, (struct str){ d->text, text.n }, opts, &d->root, NULL), XT_OK);
}

static void doc_close(struct doc *d) {
    arena_done(&d->arena);
    free(d->text);
}

static void assert_str(struct str got, const char *want) {
    if (!str_eq_c(got, want)) {
        fail_msg("\"%.*s\" is not \"%s\"", STR_FMT(got), want);
    }
}

static void test_tree(void **state) {
    (void)state;
    struct doc d;
    doc_open(
        &d,
        STR_LIT(
            " { \"s\" : \"x\" , \"n\" : -1.50 , \"t\":true,\"f\":false,\"z\":null, \"a\" : [ 1 , [ ] , { } , \"e\" ] ,"
            "\"o\" : { \"k\" : { \"d\" : 1 } } , \"s\" : \"y\" } "),
        &(struct json_opts){ .max_depth = 5 });
    const struct json *r = d.root;
    assert_int_equal(r->type, JSON_OBJECT);
    assert_null(r->key.p);
    assert_true(r->expanded && r->raw.p[0] == '{' && r->raw.p[r->raw.n - 1] == '}');
    const struct json *v = r->child;
    assert_str(v->key, "s");
    assert_str(v->raw, "\"x\"");
    assert_str(v->text, "x");
    assert_ptr_equal(v->text.p, v->raw.p + 1); /* a slice of the text */
    v = v->next;
    assert_int_equal(v->type, JSON_NUMBER);
    assert_str(v->raw, "-1.50");
    assert_null(v->text.p);
    v = v->next;
    assert_true(v->type == JSON_BOOL && v->boolean);
    v = v->next;
    assert_true(v->type == JSON_BOOL && !v->boolean);
    v = v->next;
    assert_true(v->type == JSON_NULL);
    assert_str(v->raw, "null");
    v = v->next;
    assert_true(v->type == JSON_ARRAY && v->expanded);
    assert_str(v->raw, "[ 1 , [ ] , { } , \"e\" ]");
    assert_null(v->child->key.p);
    assert_str(v->child->raw, "1");
    assert_true(v->child->next->type == JSON_ARRAY && v->child->next->expanded && !v->child->next->child);
    assert_str(v->child->next->raw, "[ ]");
    assert_str(v->child->next->next->raw, "{ }");
    assert_str(v->child->next->next->next->text, "e");
    assert_null(v->child->next->next->next->next);
    assert_str(json_get(json_get(json_get(r, "o"), "k"), "d")->raw, "1");
    assert_str(json_get(r, "o")->raw, "{ \"k\" : { \"d\" : 1 } }");
    assert_str(json_get(r, "s")->text, "y"); /* the last of equal names */
    assert_null(json_get(r, "missing"));
    assert_null(json_get(r, ""));
    assert_null(json_get(NULL, "s"));
    assert_null(json_get(json_get(r, "a"), "s"));
    doc_close(&d);
}

static void test_roots(void **state) {
    (void)state;
    static const struct {
        struct str in;
        enum json_type type;
        const char *raw;
    } cases[] = {
        { STR_LIT(" null "), JSON_NULL, "null" },    { STR_LIT("true\n"), JSON_BOOL, "true" },
        { STR_LIT("\t-5"), JSON_NUMBER, "-5" },      { STR_LIT(" \"a b\" "), JSON_STRING, "\"a b\"" },
        { STR_LIT(" [ 1 ] "), JSON_ARRAY, "[ 1 ]" }, { STR_LIT("\n{ }\n"), JSON_OBJECT, "{ }" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct doc d;
        doc_open(&d, cases[i].in, &(struct json_opts){ .max_depth = 1 });
        assert_int_equal(d.root->type, cases[i].type);
        assert_str(d.root->raw, cases[i].raw);
        assert_null(d.root->next);
        doc_close(&d);
    }
}

static void test_unescape(void **state) {
    (void)state;
    struct doc d;
    doc_open(&d,
             STR_LIT("{\"a\\u00e4\\n\":\"\\ud83d\\ude00\\\"\\\\\\/\\b\\f\\r\\t\",\"plain\":\"slice\",\"z\":\"\\u0000\","
                     "\"l\":\"x\\ud800y\",\"raw\":[\"\\udc00\"]}"),
             &(struct json_opts){ .max_depth = 5, .lenient = true, .expand = expand_none });
    const struct json *v = d.root->child;
    assert_str(v->key, "a\xc3\xa4\n");
    assert_str(v->text, "\xf0\x9f\x98\x80\"\\/\b\f\r\t");
    v = v->next;
    assert_str(v->key, "plain");
    assert_ptr_equal(v->text.p, v->raw.p + 1);
    v = v->next;
    assert_int_equal(v->text.n, 1);
    assert_int_equal(v->text.p[0], 0);
    v = v->next;
    assert_str(v->text, "x\xef\xbf\xbdy");
    assert_str(v->raw, "\"x\\ud800y\"");
    assert_str(v->next->raw, "[\"\\udc00\"]"); /* raw text keeps what it was */
    doc_close(&d);
}

struct asked {
    char log[200];
};

static bool expand_log(void *arg, unsigned depth, const struct json *parent, struct str key) {
    struct asked *asked = arg;
    size_t n = strlen(asked->log);
    snprintf(asked->log + n, sizeof(asked->log) - n, "%u %.*s/%.*s%s;", depth, STR_FMT(parent->key), STR_FMT(key),
             parent->type == JSON_ARRAY ? "[]" : "");
    assert_true(parent->expanded);
    return !str_eq_c(key, "raw");
}

static void test_expand(void **state) {
    (void)state;
    struct asked asked = { "" };
    struct doc d;
    doc_open(&d,
             STR_LIT("{\"raw\":{\"deep\":[1,{\"x\":\"y\"}]},\"obs\":[{\"raw\":[1, 2],\"id\":{}},3],\"r\\u0061w\":[ ]}"),
             &(struct json_opts){ .max_depth = 5, .expand = expand_log, .arg = &asked });
    assert_string_equal(asked.log, "2 /raw;2 /obs;3 obs/[];4 /raw;4 /id;2 /raw;");
    const struct json *raw = d.root->child, *obs = raw->next;
    assert_true(raw->type == JSON_OBJECT && !raw->expanded && !raw->child);
    assert_str(raw->raw, "{\"deep\":[1,{\"x\":\"y\"}]}");
    assert_null(json_get(raw, "deep"));
    assert_true(obs->expanded && obs->child->expanded);
    assert_str(json_get(obs->child, "raw")->raw, "[1, 2]");
    assert_true(json_get(obs->child, "id")->expanded);
    assert_str(obs->child->next->raw, "3");
    assert_false(obs->next->expanded);
    doc_close(&d);

    asked.log[0] = '\0';
    doc_open(&d, STR_LIT("[[1],{\"a\":[2]}]"),
             &(struct json_opts){ .max_depth = 5, .expand = expand_log, .arg = &asked, .raw_arrays = true });
    assert_string_equal(asked.log, "2 /[];");
    assert_true(d.root->expanded);
    assert_false(d.root->child->expanded);
    assert_str(d.root->child->raw, "[1]");
    assert_str(json_get(d.root->child->next, "a")->raw, "[2]");
    doc_close(&d);
}

static void test_numbers(void **state) {
    (void)state;
    static const struct {
        const char *in;
        bool is_i64;
        int64_t i64;
        double f64;
        const char *type;
    } cases[] = {
        { "0", true, 0, 0, "integer" },
        { "-1", true, -1, -1, "integer" },
        { "9223372036854775807", true, INT64_MAX, 9223372036854775807.0, "integer" },
        { "-9223372036854775808", true, INT64_MIN, -9223372036854775808.0, "integer" },
        { "9223372036854775808", false, 0, 9223372036854775808.0, "integer" },
        { "123456789012345678901234567890", false, 0, 123456789012345678901234567890.0, "integer" },
        { "1.0", false, 0, 1, "number" },
        { "1e3", false, 0, 1000, "number" },
        { "2E0", false, 0, 2, "number" },
        { "0.1", false, 0, 0.1, "number" },
        { "1e-999", false, 0, 0, "number" },
        { "1.7976931348623157e308", false, 0, 1.7976931348623157e308, "number" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct doc d;
        doc_open(&d, str_c(cases[i].in), &(struct json_opts){ .max_depth = 1 });
        int64_t n = 42;
        double f = 42;
        assert_str(d.root->raw, cases[i].in); /* digits stay as they came */
        assert_int_equal(json_i64(d.root, &n), cases[i].is_i64);
        assert_true(n == (cases[i].is_i64 ? cases[i].i64 : 42));
        assert_true(json_f64(d.root, &f));
        assert_true(f == cases[i].f64);
        assert_string_equal(json_type_name(d.root), cases[i].type);
        doc_close(&d);
    }
}

static void test_type_names(void **state) {
    (void)state;
    static const char *const names[] = { "null", "boolean", "string", "array", "object", "integer", "number" };
    struct doc d;
    doc_open(&d, STR_LIT("[null,true,\"1\",[],{},1,1.5]"), &(struct json_opts){ .max_depth = 2 });
    const struct json *v = d.root->child;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++, v = v->next) {
        int64_t n;
        double f;
        assert_string_equal(json_type_name(v), names[i]);
        assert_int_equal(json_i64(v, &n), i == 5);
        assert_int_equal(json_f64(v, &f), i >= 5);
    }
    assert_null(v);
    int64_t n;
    assert_false(json_i64(NULL, &n));
    doc_close(&d);
}

/* depth containers in each other, of the given kind: "[" or "{", or both in turn. */
static char *nested(size_t depth, const char *kinds, size_t *ret_n) {
    char *p = malloc(depth * 6 + 8);
    assert_non_null(p);
    size_t n = 0, k = strlen(kinds);
    for (size_t i = 0; i < depth; i++) {
        bool object = kinds[i % k] == '{';
        memcpy(p + n, object ? "{\"a\":" : "[", object ? 5 : 1);
        n += object ? 5 : 1;
    }
    p[n++] = '1';
    for (size_t i = depth; i-- > 0;) {
        p[n++] = kinds[i % k] == '{' ? '}' : ']';
    }
    *ret_n = n;
    return p;
}

static void test_depth(void **state) {
    (void)state;
    static const unsigned limits[] = { 0, 1, 2, 127, 1000, 1024 };
    static const char *const kinds[] = { "[", "{", "[{" };
    for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
        for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
            for (unsigned depth = limits[i] ? limits[i] - 1 : 0; depth <= limits[i] + 1; depth++) {
                size_t n;
                char *p = nested(depth, kinds[k], &n);
                if (parses((struct str){ p, n }, false, limits[i]) != (depth <= limits[i])) {
                    fail_msg("depth %u with limit %u", depth, limits[i]);
                }
                free(p);
            }
        }
    }
    size_t n;
    char *p = nested(1025, "[", &n);
    assert_false(parses((struct str){ p, n }, false, UINT32_MAX)); /* the stack's own limit */
    free(p);
    p = malloc(1 << 20);
    assert_non_null(p);
    memset(p, '[', 1 << 20);
    assert_false(json_valid((struct str){ p, 1 << 20 }, 1000));
    free(p);
}

static void test_messages(void **state) {
    (void)state;
    static const struct {
        struct str in;
        const char *msg;
    } cases[] = {
        { STR_LIT(""), "no JSON value at byte 0" },
        { STR_LIT("{\"a\": 01}"), "invalid number at byte 6" },
        { STR_LIT("[1, 1e999]"), "number out of range at byte 4" },
        { STR_LIT("[1 2]"), "unexpected token at byte 3" },
        { STR_LIT("[tru]"), "invalid literal at byte 1" },
        { STR_LIT("[x]"), "expected a value at byte 1" },
        { STR_LIT("{} x "), "no closing bracket at byte 4" },
        { STR_LIT("{\"a\":1"), "no closing bracket at byte 6" },
        { STR_LIT("{\"a\":}"), "expected a value at byte 5" },
        { STR_LIT("1 x"), "trailing characters at byte 2" },
        { STR_LIT("[\"ab\\x\"]"), "invalid escape at byte 4" },
        { STR_LIT("[\"a\\n\\ud800\"]"), "invalid escape at byte 5" },
        { STR_LIT("[\"\xc3\xa4\xff\"]"), "invalid UTF-8 at byte 4" },
        { STR_LIT("[\"\\\"\n\"]"), "control character in a string at byte 4" },
        { STR_LIT("[\"a\", \"b]"), "string without an end at byte 6" },
        { STR_LIT("[[[]]]"), "nested too deep at byte 2" },
        { STR_LIT("[[]"), "unexpected end at byte 3" },
        { STR_LIT("[] []"), "trailing characters at byte 3" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct arena a;
        arena_init(&a, 1 << 20);
        char *p = padded(cases[i].in, " ");
        const struct json *root = NULL;
        struct xt_err err;
        assert_int_equal(
            json_parse(&a, (struct str){ p, cases[i].in.n }, &(struct json_opts){ .max_depth = 2 }, &root, &err),
            XT_EINVAL);
        assert_string_equal(err.msg, cases[i].msg);
        assert_null(root);
        free(p);
        arena_done(&a);
    }
    struct arena a;
    arena_init(&a, 1 << 20);
    const struct json *root = NULL;
    assert_int_equal(json_parse(&a, STR_NONE, &(struct json_opts){ .max_depth = 2 }, &root, NULL), XT_EINVAL);
    arena_done(&a);
    assert_false(json_valid(STR_NONE, 10));
}

/* Numbers of any length are decided in linear time, exactly at the bound of double. */
static void test_long_numbers(void **state) {
    (void)state;
    size_t n = 400000;
    char *p = malloc(n + 1);
    assert_non_null(p);
    memset(p, '1', n);
    assert_true(json_valid((struct str){ p, 308 }, 1));
    assert_true(json_valid((struct str){ p, 309 }, 1)); /* 1.1e308 */
    assert_false(json_valid((struct str){ p, 310 }, 1));
    assert_false(json_valid((struct str){ p, n }, 1));
    p[1] = '.';
    assert_true(json_valid((struct str){ p, n }, 1));
    p[0] = '0';
    memset(p + 2, '0', n - 2);
    assert_true(json_valid((struct str){ p, n }, 1));
    memcpy(p + n - 8, "1e399990", 8); /* 1e-399991 * 1e399990 */
    assert_true(json_valid((struct str){ p, n }, 1));
    memcpy(p + n - 8, "1e400298", 8); /* the 1 is digit 399991 behind the point: 1e307 */
    assert_true(json_valid((struct str){ p, n }, 1));
    memcpy(p + n - 8, "1e400299", 8);
    assert_true(json_valid((struct str){ p, n }, 1));
    memcpy(p + n - 8, "1e400300", 8);
    assert_false(json_valid((struct str){ p, n }, 1));
    free(p);
}

/* Too much for the arena is the sender's fault, no memory is ours; in both cases nothing is returned and all is freed. */
static void test_limits(void **state) {
    (void)state;
    size_t count = 5000;
    char *p = malloc(count * 7 + 2 + JSON_PADDING);
    assert_non_null(p);
    for (size_t i = 0; i < count; i++) {
        memcpy(p + i * 7, "[\"\\n\"],", 7);
    }
    memmove(p + 1, p, count * 7);
    p[0] = '[';
    p[count * 7] = ']';
    memset(p + count * 7 + 1, ' ', JSON_PADDING);
    struct str text = { p, count * 7 + 1 };
    struct json_opts opts = { .max_depth = 2 };
    struct arena a;
    struct xt_err err;
    for (size_t limit = 0; limit < 300000; limit += 1000) {
        const struct json *root = NULL;
        arena_init(&a, limit);
        assert_int_equal(json_parse(&a, text, &opts, &root, &err), XT_ETOOBIG);
        assert_null(root);
        arena_done(&a);
    }
    uint64_t n = 1;
    enum xt_code code;
    do {
        const struct json *root = NULL;
        arena_init(&a, 1 << 24);
        alloc_fail_at(n++);
        code = json_parse(&a, text, &opts, &root, &err);
        alloc_fail_at(0);
        assert_true(code == XT_ENOMEM ? !root : code == XT_OK && root);
        arena_done(&a);
    } while (code != XT_OK && n < 100);
    assert_true(code == XT_OK && n > 3);
    free(p);
}

/* The work space grows for a large document, fails cleanly without memory, and is given back behind it. */
static void test_workspace(void **state) {
    (void)state;
    size_t n = 3 << 20;
    char *p = malloc(n + JSON_PADDING);
    assert_non_null(p);
    memset(p, ' ', n + JSON_PADDING);
    p[0] = '[';
    p[n - 1] = ']';
    struct arena a;
    arena_init(&a, 1 << 20);
    const struct json *root = NULL;
    struct json_opts opts = { .max_depth = 2 };
    for (int round = 0; round < 2; round++) {
        alloc_fail_at(round == 0 ? 2 : 1); /* the arena's first chunk comes before */
        assert_int_equal(json_parse(&a, (struct str){ p, n }, &opts, &root, NULL), XT_ENOMEM);
        assert_int_equal(json_parse(&a, (struct str){ p, n }, &opts, &root, NULL), XT_OK);
    }
    for (uint64_t i = 1; i <= 2; i++) { /* the copy, the work space */
        alloc_fail_at(i);
        assert_false(json_valid((struct str){ p, n }, 2));
        alloc_fail_at(0);
        assert_true(json_valid((struct str){ p, n }, 2));
    }
    assert_true(json_valid(STR_LIT("[]"), 2));
    arena_done(&a);
    free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),  cmocka_unit_test(test_truncated),    cmocka_unit_test(test_tree),
        cmocka_unit_test(test_roots),     cmocka_unit_test(test_unescape),     cmocka_unit_test(test_expand),
        cmocka_unit_test(test_numbers),   cmocka_unit_test(test_type_names),   cmocka_unit_test(test_depth),
        cmocka_unit_test(test_messages),  cmocka_unit_test(test_long_numbers), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_workspace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
