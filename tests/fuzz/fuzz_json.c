/* fuzz_json.c -- json_parse against a plain reference checker, against itself in all its modes, and against the writer.
 *
 * What must hold for any bytes:
 *  1. Strict and lenient verdicts are those of the reference below, whatever is expanded and whatever follows the text.
 *  2. Raw slices lie inside the text; strings without escapes are slices too.
 *  3. What was accepted and is written again by json_write parses again, to an equal tree.
 *  4. A value merged with itself is JSON, and merging that once more changes nothing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "json/json_merge.h"
#include "json/json_read.h"
#include "json/json_write.h"

#define DEPTH 1000
#define ARENA ((size_t)256 << 20)

#define CHECK(cond) ((cond) ? (void)0 : check_failed(#cond, __LINE__))
static void check_failed(const char *cond, int line) {
    fprintf(stderr, "line %d: not so: %s\n", line, cond);
    abort();
}

/* ---- the reference: RFC 8259 read aloud, byte by byte. Slow, and with nothing in common with the reader. ---- */

struct ref {
    const unsigned char *p, *end;
    bool lone; /* a lone surrogate was met */
};

static int peek(const struct ref *r) { return r->p < r->end ? *r->p : -1; }

static bool take(struct ref *r, const char *word) {
    size_t n = strlen(word);
    bool is = (size_t)(r->end - r->p) >= n && memcmp(r->p, word, n) == 0;
    r->p += is ? n : 0;
    return is;
}

static void blanks(struct ref *r) {
    while (take(r, " ") || take(r, "\t") || take(r, "\n") || take(r, "\r")) {}
}

static bool digits(struct ref *r) {
    const unsigned char *from = r->p;
    while (peek(r) >= '0' && peek(r) <= '9') {
        r->p++;
    }
    return r->p > from;
}

static bool number(struct ref *r) {
    const unsigned char *from = r->p;
    take(r, "-");
    if (!take(r, "0") && !digits(r)) {
        return false;
    }
    if (take(r, ".") && !digits(r)) {
        return false;
    }
    if (take(r, "e") || take(r, "E")) {
        if (!take(r, "+")) {
            take(r, "-");
        }
        if (!digits(r)) {
            return false;
        }
    }
    size_t n = (size_t)(r->p - from);
    char *copy = malloc(n + 1);
    CHECK(copy);
    memcpy(copy, from, n);
    copy[n] = '\0';
    bool finite = isfinite(strtod(copy, NULL));
    free(copy);
    return finite;
}

static bool hex4(struct ref *r, unsigned *ret) {
    *ret = 0;
    for (int i = 0; i < 4; i++, r->p++) {
        int c = peek(r);
        const char *at = c > 0 ? strchr("0123456789abcdefABCDEF", c) : NULL;
        if (!at) {
            return false;
        }
        *ret = *ret * 16 + (c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 32) - 'a' + 10));
    }
    return true;
}

static bool unicode_escape(struct ref *r) {
    unsigned unit, low;
    if (!hex4(r, &unit)) {
        return false;
    }
    if (unit < 0xd800 || unit > 0xdfff) {
        return true;
    }
    struct ref ahead = *r;
    if (unit < 0xdc00 && take(&ahead, "\\u") && hex4(&ahead, &low) && low >= 0xdc00 && low <= 0xdfff) {
        *r = ahead;
    } else {
        r->lone = true;
    }
    return true;
}

/* One code point beyond ASCII: no overlong form, no surrogate, nothing above 10FFFF. */
static bool utf8(struct ref *r) {
    unsigned head = *r->p++, n = head >= 0xf0 ? 3 : head >= 0xe0 ? 2 : 1;
    unsigned code = head & (0x3fu >> n);
    if (head < 0xc0 || head > 0xf7) {
        return false;
    }
    for (unsigned i = 0; i < n; i++, r->p++) {
        if (peek(r) < 0x80 || peek(r) > 0xbf) {
            return false;
        }
        code = code << 6 | (*r->p & 0x3fu);
    }
    static const unsigned least[] = { 0, 0x80, 0x800, 0x10000 };
    return code >= least[n] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
}

static bool string(struct ref *r) {
    if (!take(r, "\"")) {
        return false;
    }
    while (!take(r, "\"")) {
        int c = peek(r);
        if (c < 0x20) {
            return false;
        }
        if (c >= 0x80) {
            if (!utf8(r)) {
                return false;
            }
            continue;
        }
        r->p++;
        if (c == '\\') {
            c = peek(r);
            if (c <= 0 || !strchr("\"\\/bfnrtu", c)) {
                return false;
            }
            r->p++;
            if (c == 'u' && !unicode_escape(r)) {
                return false;
            }
        }
    }
    return true;
}

static bool value(struct ref *r, unsigned depth);

static bool members(struct ref *r, unsigned depth, bool object) {
    const char *close = object ? "}" : "]";
    if (depth > DEPTH) {
        return false;
    }
    blanks(r);
    if (take(r, close)) {
        return true;
    }
    do {
        blanks(r);
        if (object) {
            if (!string(r)) {
                return false;
            }
            blanks(r);
            if (!take(r, ":")) {
                return false;
            }
        }
        if (!value(r, depth)) {
            return false;
        }
    } while (take(r, ","));
    return take(r, close);
}

static bool value(struct ref *r, unsigned depth) {
    blanks(r);
    int c = peek(r);
    bool ok = false;
    if (c == '{' || c == '[') {
        r->p++;
        ok = members(r, depth + 1, c == '{');
    } else if (c == '"') {
        ok = string(r);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        ok = number(r);
    } else {
        ok = take(r, "true") || take(r, "false") || take(r, "null");
    }
    blanks(r);
    return ok;
}

/* ---- the reader in all its modes ---- */

static bool expand_none(void *arg, unsigned depth, const struct json *parent, struct str key) {
    (void)arg, (void)depth, (void)parent, (void)key;
    return false;
}

static bool expand_some(void *arg, unsigned depth, const struct json *parent, struct str key) {
    (void)parent;
    return (*(size_t *)arg)++ % 3 != 0 && (depth + key.n) % 5 != 0;
}

/* The tree, or NULL for what is no JSON. */
static const struct json *parse(struct arena *a, struct str text, struct json_opts opts) {
    const struct json *root = NULL;
    struct xt_err err;
    opts.max_depth = DEPTH;
    enum xt_code code = json_parse(a, text, &opts, &root, &err);
    CHECK(code == XT_OK || code == XT_EINVAL);
    CHECK((code == XT_OK) == (root != NULL));
    return root;
}

static void check_verdicts(struct str text, bool strict, bool lenient) {
    size_t calls = 0;
    const struct json_opts modes[] = {
        { .lenient = false },
        { .expand = expand_none },
        { .expand = expand_some, .arg = &calls },
        { .raw_arrays = true },
        { .lenient = true },
        { .lenient = true, .expand = expand_none },
        { .lenient = true, .expand = expand_some, .arg = &calls },
    };
    for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
        struct arena a;
        arena_init(&a, ARENA);
        CHECK((parse(&a, text, modes[i]) != NULL) == (modes[i].lenient ? lenient : strict));
        arena_done(&a);
    }
    CHECK(json_valid(text, DEPTH) == strict);
}

static bool inside(struct str part, struct str whole) {
    return part.p >= whole.p && part.n <= whole.n && part.p - whole.p <= (ptrdiff_t)(whole.n - part.n);
}

/* Every slice lies in that of its parent, and has the form of its type. */
static void check_slices(const struct json *v, struct str whole) {
    CHECK(v->raw.n > 0 && inside(v->raw, whole));
    char first = v->raw.p[0], last = v->raw.p[v->raw.n - 1];
    switch (v->type) {
    case JSON_OBJECT: CHECK(first == '{' && last == '}'); break;
    case JSON_ARRAY: CHECK(first == '[' && last == ']'); break;
    case JSON_STRING:
        CHECK(v->raw.n >= 2 && first == '"' && last == '"' && v->text.p);
        CHECK(inside(v->text, v->raw) == !memchr(v->raw.p, '\\', v->raw.n));
        break;
    case JSON_NUMBER: CHECK(first == '-' || (first >= '0' && first <= '9')); break;
    case JSON_BOOL: CHECK(str_eq_c(v->raw, v->boolean ? "true" : "false")); break;
    default: CHECK(v->type == JSON_NULL && str_eq_c(v->raw, "null")); break;
    }
    for (const struct json *c = v->child; c; c = c->next) {
        CHECK((c->key.p != NULL) == (v->type == JSON_OBJECT));
        check_slices(c, v->raw);
    }
}

/* The writer nests less deeply than the reader: below that, raw text stands for the container. */
static void write_tree(struct json_writer *w, const struct json *v) {
    if (v->type == JSON_STRING) {
        jw_str(w, v->text);
    } else if ((v->type != JSON_OBJECT && v->type != JSON_ARRAY) || w->depth == JW_DEPTH) {
        jw_raw(w, v->raw);
    } else {
        v->type == JSON_OBJECT ? jw_obj(w) : jw_arr(w);
        for (const struct json *c = v->child; c; c = c->next) {
            if (c->key.p) {
                jw_key_str(w, c->key);
            }
            write_tree(w, c);
        }
        jw_end(w);
    }
}

static void check_equal(const struct json *a, const struct json *b) {
    CHECK(a->type == b->type && str_eq(a->key, b->key) && str_eq(a->text, b->text));
    CHECK(a->type == JSON_OBJECT || a->type == JSON_ARRAY || a->type == JSON_STRING || str_eq(a->raw, b->raw));
    const struct json *c = a->child, *d = b->child;
    for (; c && d; c = c->next, d = d->next) {
        check_equal(c, d);
    }
    CHECK(!c && !d);
}

static void check_numbers(const struct json *v) {
    double d;
    int64_t i;
    if (v->type == JSON_NUMBER) {
        CHECK(json_f64(v, &d) && isfinite(d));
        CHECK(!json_i64(v, &i) || (double)i == d);
    }
    for (const struct json *c = v->child; c; c = c->next) {
        check_numbers(c);
    }
}

/* The text with JSON_PADDING bytes behind it, in memory of exactly that size. */
static char *padded(const void *p, size_t n, const unsigned char *pad, size_t npad) {
    char *copy = malloc(n + JSON_PADDING);
    CHECK(copy);
    memcpy(copy, p, n);
    for (size_t i = 0; i < JSON_PADDING; i++) {
        copy[n + i] = npad ? (char)pad[i % npad] : ' ';
    }
    return copy;
}

static void check_rewrite(const struct json *tree) {
    struct buf out;
    struct json_writer w;
    struct arena a;
    buf_init(&out, (size_t)1 << 30);
    jw_init(&w, &out);
    write_tree(&w, tree);
    CHECK(jw_done(&w));
    char *text = padded(out.p, out.n, NULL, 0);
    arena_init(&a, ARENA);
    const struct json *again = parse(&a, (struct str){ text, out.n }, (struct json_opts){ .lenient = true });
    CHECK(again);
    check_equal(tree, again);
    arena_done(&a);
    free(text);
    buf_done(&out);
}

static void check_merge(struct str text) {
    struct arena a;
    arena_init(&a, ARENA);
    struct str once = json_merge(&a, text, text), twice = json_merge(&a, once, once);
    CHECK(once.p && str_eq(once, twice));
    char *copy = padded(once.p, once.n, NULL, 0);
    CHECK(parse(&a, (struct str){ copy, once.n }, (struct json_opts){ .lenient = true }));
    free(copy);
    arena_done(&a);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t n);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t n) {
    struct ref r = { data, data + n, false };
    bool lenient = value(&r, 0) && r.p == r.end, strict = lenient && !r.lone;
    /* What follows in memory: the end of the text again, or closing brackets. */
    const unsigned char *pad = n % 2 ? data + n - 1 : (const unsigned char *)"}],";
    char *copy = padded(data, n, pad, n % 2 ? 1 : 3);
    struct str text = { copy, n };
    check_verdicts(text, strict, lenient);
    if (lenient) {
        struct arena a;
        arena_init(&a, ARENA);
        const struct json *tree = parse(&a, text, (struct json_opts){ .lenient = true });
        CHECK(tree);
        check_slices(tree, text);
        check_numbers(tree);
        check_rewrite(tree);
        check_merge(text);
        arena_done(&a);
    }
    free(copy);
    return 0;
}
