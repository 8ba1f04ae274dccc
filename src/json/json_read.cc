/* json_read.cc -- the one C++ file: simdjson behind the C interface of json_read.h, and the shortest text of a double.
 *
 * simdjson's first stage finds the tokens of the whole text, and sees to its UTF-8, to control characters in strings and
 * to strings that never end. Its on-demand iterators then check only what they pass. What makes the check complete:
 *  1. Every value is visited, below containers that are not expanded too; the text of each token is checked here.
 *  2. Strings are taken with get_raw_json_string(), never skipped: skip_child() takes any string before a ':' for a key.
 *  3. After a nested container there must be a token left (simdjson 3.0.1 does not look and would read on past the list
 *     of tokens). The last token is then always the root's own bracket, which simdjson compares first.
 *  4. The root must end at the last token: current_location() is out of bounds.
 *  5. Depth is counted here; simdjson is told a larger one. Recursion is one level a container, DEPTH_MAX at most.
 * Memory beside the arena: 4 bytes a byte of text for token positions and 1.7 for a string buffer that is never touched;
 * pages are used only as tokens need them.
 * No exceptions: simdjson reports errors as values and allocates with nothrow. */
#include "json/json_read.h"

#include <cassert>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <new>
#include <simdjson.h>
#include <string_view>
#include <utility>

#include "base/codec.h"
#include "json/json_lex.h"
#include "json/json_write.h"

namespace ondemand = simdjson::ondemand;

static_assert(JSON_PADDING >= simdjson::SIMDJSON_PADDING, "callers give simdjson too little room after the text");

namespace {

constexpr unsigned DEPTH_MAX = 1024;      /* what the stack of any thread bears: about 300 bytes a level */
constexpr size_t CACHE_MAX = 1024 * 1024; /* bytes of text that the cached work space may be made for */
constexpr size_t CACHE_MIN = 16 * 1024;

/* One document on its way. Reason and place of the first failure stay. */
struct walk {
    ondemand::document *doc;
    const char *begin, *end; /* the text without blanks around it */
    const char *escape;      /* first backslash at or after the last string looked at, or end */
    const char *seen;        /* end of the last token that was fine */
    struct arena *arena;
    const struct json_opts *opts;
    unsigned max_depth;
    enum xt_code code;
    const char *reason, *at;
};

/* Work space of a thread. Freed with the thread. */
struct workspace {
    ondemand::parser parser;
    char *copy = nullptr; /* json_valid's padded copy */
    size_t copy_cap = 0;
    bool busy = false; /* the expand callback must not parse */
    ~workspace() { free(copy); }
};

thread_local workspace tls;

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

const char *trim_end(const char *begin, const char *end) {
    while (end > begin && is_blank(end[-1])) {
        end--;
    }
    return end;
}

const char *skip_blanks(const char *p, const char *end) {
    while (p < end && is_blank(*p)) {
        p++;
    }
    return p;
}

struct str slice(const char *begin, const char *end) {
    return { begin, static_cast<size_t>(end - begin) };
}

bool fail(walk &w, const char *at, const char *reason) {
    w.code = XT_EINVAL;
    w.reason = reason;
    w.at = at;
    return false;
}

/* simdjson met a token where another kind was due. */
bool fail_token(walk &w) {
    const char *at = skip_blanks(w.seen, w.end);
    return fail(w, at, at == w.end ? "unexpected end" : "unexpected token");
}

/* The root's bracket is not the last token: the text was cut off, or something follows. */
bool fail_end(walk &w) { return fail(w, w.end, "no closing bracket"); }

/* The arena gave no n bytes: it refuses what would pass its limit (a chunk's head included), else memory is short. */
bool fail_memory(walk &w, size_t n) {
    constexpr size_t head = 128;
    w.code = n + head > w.arena->limit - w.arena->used ? XT_ETOOBIG : XT_ENOMEM;
    return false;
}

/* ---- scalars ---- */

/* From the first backslash of a string on. */
bool check_escapes(walk &w, struct str rest) {
    const char *at;
    const char *reason = json_escape_fault(rest, w.opts->lenient, &at);
    return !reason || fail(w, at, reason);
}

/* Checks the inside of a string. With `ret`, also unescapes it: a slice of the text when nothing is escaped. */
bool take_string(walk &w, struct str inside, struct str *ret) {
    const char *end = inside.p + inside.n;
    if (w.escape < inside.p) { /* strings come in order, so the text is searched for backslashes only once */
        const void *found = memchr(inside.p, '\\', static_cast<size_t>(w.end - inside.p));
        w.escape = found ? static_cast<const char *>(found) : w.end;
    }
    if (w.escape >= end) {
        if (ret) {
            *ret = inside;
        }
        return true;
    }
    if (!ret) {
        return check_escapes(w, slice(w.escape, end));
    }
    char *out = arena_bytes(w.arena, inside.n);
    if (!out) {
        return fail_memory(w, inside.n);
    }
    size_t n = json_unescape(inside, w.opts->lenient, out);
    if (n == SIZE_MAX) {
        return check_escapes(w, slice(w.escape, end)) && fail(w, w.escape, "invalid escape");
    }
    *ret = { out, n };
    return true;
}

/* A token that is no bracket, without the blanks behind it. `node` is NULL below what is not expanded. */
bool take_scalar(walk &w, struct str token, struct json *node) {
    struct json unused;
    struct json *v = node ? node : &unused;
    const char *end = token.p + token.n;
    v->raw = token;
    switch (token.p[0]) {
    case '"':
        v->type = JSON_STRING;
        if (token.n < 2 || end[-1] != '"') {
            return fail(w, token.p, "invalid string");
        }
        if (!take_string(w, slice(token.p + 1, end - 1), node ? &v->text : nullptr)) {
            return false;
        }
        break;
    case 't':
    case 'f':
        v->type = JSON_BOOL;
        v->boolean = token.p[0] == 't';
        if (std::string_view(token.p, token.n) != (v->boolean ? "true" : "false")) {
            return fail(w, token.p, "invalid literal");
        }
        break;
    case 'n':
        v->type = JSON_NULL;
        if (std::string_view(token.p, token.n) != "null") {
            return fail(w, token.p, "invalid literal");
        }
        break;
    default:
        v->type = JSON_NUMBER;
        if (token.p[0] != '-' && (token.p[0] < '0' || token.p[0] > '9')) {
            return fail(w, token.p, "expected a value");
        }
        if (const char *reason = json_number_fault(token)) {
            return fail(w, token.p, reason);
        }
    }
    w.seen = end;
    return true;
}

/* ---- containers ---- */

struct json *new_node(walk &w) {
    void *room = arena_raw(w.arena, 1, sizeof(struct json), alignof(struct json));
    if (!room) {
        fail_memory(w, sizeof(struct json));
        return nullptr;
    }
    return new (room) struct json();
}

/* New node at *tail, which moves on; *ret is NULL when the container is not expanded (no tail). */
bool add_node(walk &w, struct json ***tail, struct json **ret) {
    *ret = *tail ? new_node(w) : nullptr;
    if (!*tail || !*ret) {
        return !*tail;
    }
    **tail = *ret;
    *tail = &(*ret)->next;
    return true;
}

bool take_nested(walk &w, ondemand::value &v, unsigned depth, struct json *node, const struct json *parent);

/* `parent` is the expanded container that holds the value, or NULL with `node`. */
bool take_value(walk &w, ondemand::value &v, unsigned depth, struct json *node, const struct json *parent) {
    std::string_view token = v.raw_json_token();
    const char *begin = token.data();
    if (*begin == '{' || *begin == '[') {
        return take_nested(w, v, depth + 1, node, parent);
    }
    if (!take_scalar(w, slice(begin, trim_end(begin, begin + token.size())), node)) {
        return false;
    }
    /* Other scalars are skipped when the iterator moves on. */
    return *begin != '"' || !v.get_raw_json_string().error() || fail_token(w);
}

bool take_members(walk &w, ondemand::array array, unsigned depth, struct json *node) {
    struct json **tail = node ? &node->child : nullptr;
    for (auto item : array) {
        ondemand::value v;
        if (item.get(v)) {
            return fail_token(w);
        }
        struct json *child;
        if (!add_node(w, &tail, &child) || !take_value(w, v, depth, child, node)) {
            return false;
        }
    }
    return true;
}

bool take_members(walk &w, ondemand::object object, unsigned depth, struct json *node) {
    struct json **tail = node ? &node->child : nullptr;
    for (auto item : object) {
        ondemand::field field;
        if (std::move(item).get(field)) {
            return fail_token(w);
        }
        /* simdjson gives the begin of the key only. Its end lies before the colon, which lies before the value. */
        const char *key = field.key().raw();
        const char *colon = trim_end(key, field.value().raw_json_token().data()) - 1;
        const char *quote = trim_end(key, colon) - 1;
        if (quote < key || *colon != ':' || *quote != '"') {
            return fail(w, key, "invalid string");
        }
        struct json *child;
        if (!add_node(w, &tail, &child) || !take_string(w, slice(key, quote), child ? &child->key : nullptr)) {
            return false;
        }
        w.seen = colon + 1;
        if (!take_value(w, field.value(), depth, child, node)) {
            return false;
        }
    }
    return true;
}

/* Is this container, whose key is set, to have nodes below it? */
bool wanted(const walk &w, unsigned depth, const struct json *node, const struct json *parent) {
    if (node->type == JSON_ARRAY && w.opts->raw_arrays) {
        return false;
    }
    return !w.opts->expand || w.opts->expand(w.opts->arg, depth, parent, node->key);
}

bool take_nested(walk &w, ondemand::value &v, unsigned depth, struct json *node, const struct json *parent) {
    const char *begin = v.raw_json_token().data();
    if (depth > w.max_depth) {
        return fail(w, begin, "nested too deep");
    }
    w.seen = begin + 1;
    if (node) {
        node->type = *begin == '{' ? JSON_OBJECT : JSON_ARRAY;
        node->expanded = wanted(w, depth, node, parent);
    }
    struct json *inner = node && node->expanded ? node : nullptr;
    if (*begin == '{') {
        ondemand::object object;
        if (v.get_object().get(object)) {
            return fail_token(w);
        }
        if (!take_members(w, object, depth, inner)) {
            return false;
        }
    } else {
        ondemand::array array;
        if (v.get_array().get(array)) {
            return fail_token(w);
        }
        if (!take_members(w, array, depth, inner)) {
            return false;
        }
    }
    const char *next;
    if (w.doc->current_location().get(next)) {
        return fail(w, w.end, "unexpected end");
    }
    w.seen = trim_end(begin, next);
    if (node) {
        node->raw = slice(begin, w.seen);
    }
    return true;
}

/* `root` is NULL when only the verdict counts. */
bool take_root(walk &w, struct json *root) {
    if (*w.begin != '{' && *w.begin != '[') {
        std::string_view token;
        if (w.doc->raw_json_token().get(token)) {
            return fail_token(w);
        }
        const char *end = trim_end(token.data(), token.data() + token.size());
        if (!take_scalar(w, slice(token.data(), end), root)) {
            return false;
        }
        return end == w.end || fail(w, skip_blanks(end, w.end), "trailing characters");
    }
    if (w.max_depth < 1) {
        return fail(w, w.begin, "nested too deep");
    }
    w.seen = w.begin + 1;
    if (root) {
        root->type = *w.begin == '{' ? JSON_OBJECT : JSON_ARRAY;
        root->expanded = true;
        root->raw = slice(w.begin, w.end);
    }
    bool ok;
    if (*w.begin == '{') {
        ondemand::object object;
        ok = w.doc->get_object().get(object) ? fail_end(w) : take_members(w, object, 1, root);
    } else {
        ondemand::array array;
        ok = w.doc->get_array().get(array) ? fail_end(w) : take_members(w, array, 1, root);
    }
    const char *rest;
    if (ok && !w.doc->current_location().get(rest)) {
        return fail(w, rest, "trailing characters");
    }
    return ok;
}

/* ---- the whole document ---- */

/* Room for n bytes of text. */
enum xt_code reserve(workspace &ws, size_t n) {
    if (n <= ws.parser.capacity()) {
        return XT_OK;
    }
    size_t capacity = CACHE_MIN;
    while (capacity < n && capacity < CACHE_MAX) {
        capacity *= 2;
    }
    if (capacity < n) {
        capacity = n;
    }
    if (capacity > simdjson::SIMDJSON_MAXSIZE_BYTES) {
        return XT_ETOOBIG;
    }
    if (alloc_should_fail() || ws.parser.allocate(capacity, DEPTH_MAX + 8)) {
        ws.parser = ondemand::parser();
        return XT_ENOMEM;
    }
    return XT_OK;
}

/* Checks w's text, building nodes from `root` down when that is given. The text is padded. */
enum xt_code run(walk &w, struct str text, struct json *root) {
    w.end = trim_end(text.p, text.p + text.n);
    w.begin = skip_blanks(text.p, w.end);
    w.seen = w.begin;
    w.escape = w.begin; /* before any string: not looked for yet */
    w.max_depth = w.opts->max_depth < DEPTH_MAX ? w.opts->max_depth : DEPTH_MAX;
    w.code = XT_OK;
    if (w.begin == w.end) {
        fail(w, w.begin, "no JSON value");
        return w.code;
    }
    assert(!tls.busy);
    if ((w.code = reserve(tls, text.n)) != XT_OK) {
        return w.code;
    }
    tls.busy = true;
    ondemand::document doc;
    w.doc = &doc;
    simdjson::error_code error = tls.parser.iterate(text.p, text.n, text.n + simdjson::SIMDJSON_PADDING).get(doc);
    if (error == simdjson::MEMALLOC) {
        w.code = XT_ENOMEM;
    } else if (error) { /* it names the fault, but not where */
        const char *at = w.begin, *reason = json_text_fault(slice(w.begin, w.end), &at);
        fail(w, reason ? at : w.begin, reason ? reason : simdjson::error_message(error));
    } else {
        take_root(w, root);
    }
    w.doc = nullptr;
    tls.busy = false;
    if (tls.parser.capacity() > CACHE_MAX) {
        tls.parser = ondemand::parser();
    }
    return w.code;
}

} /* namespace */

extern "C" enum xt_code json_parse(struct arena *arena, struct str text, const struct json_opts *opts,
                                   const struct json **ret, struct xt_err *err) {
    if (!text.p) {
        text = { "", 0 };
    }
    walk w = {};
    w.arena = arena;
    w.opts = opts;
    struct json *root = new_node(w);
    if (root) {
        run(w, text, root);
    }
    switch (w.code) {
    case XT_OK: *ret = root; return XT_OK;
    case XT_EINVAL: return xt_fail(err, XT_EINVAL, "%s at byte %zu", w.reason, static_cast<size_t>(w.at - text.p));
    case XT_ETOOBIG: return xt_fail(err, XT_ETOOBIG, "JSON document too large");
    default: return xt_fail(err, XT_ENOMEM, "out of memory");
    }
}

extern "C" bool json_valid(struct str text, unsigned max_depth) {
    if (!text.p || text.n > simdjson::SIMDJSON_MAXSIZE_BYTES) {
        return false;
    }
    size_t need = text.n + JSON_PADDING;
    if (tls.copy_cap < need) {
        size_t cap = need < CACHE_MIN ? CACHE_MIN : need + need / 4;
        char *p = alloc_should_fail() ? nullptr : static_cast<char *>(realloc(tls.copy, cap));
        if (!p) {
            return false;
        }
        tls.copy = p;
        tls.copy_cap = cap;
    }
    memcpy(tls.copy, text.p, text.n);
    memset(tls.copy + text.n, ' ', JSON_PADDING);
    struct json_opts opts = {};
    opts.max_depth = max_depth;
    walk w = {};
    w.opts = &opts;
    bool ok = run(w, { tls.copy, text.n }, nullptr) == XT_OK;
    if (tls.copy_cap > CACHE_MAX) {
        free(tls.copy);
        tls.copy = nullptr;
        tls.copy_cap = 0;
    }
    return ok;
}

/* Declared in json_write.h; it stands here because std::to_chars is the one that gives the shortest digits. */
extern "C" size_t json_format_f64(double v, char out[32]) {
    constexpr double max = 1.7976931348623157e308;
    if (v != v) {
        memcpy(out, "null", 5);
        return 4;
    }
    v = v > max ? max : v < -max ? -max : v;
    char text[32]; /* "-d.ddddde+XXX": at most 24 */
    const char *end = std::to_chars(text, text + sizeof(text), v, std::chars_format::scientific).ptr;
    char digits[20] = { '0' };
    size_t n = 0, at = 0;
    int point = 0; /* decimal exponent of the first digit, then the digits left of the point */
    const char *p = text;
    if (*p == '-') {
        out[at++] = *p++;
    }
    for (; *p != 'e'; p++) {
        if (*p != '.') {
            digits[n++] = *p;
        }
    }
    p += p[1] == '+' ? 2 : 1; /* from_chars takes no '+' */
    std::from_chars(p, end, point);
    point++;
    if (point > 16 || point <= -5) { /* 1e16, 1.25e-7 */
        out[at++] = digits[0];
        if (n > 1) {
            out[at++] = '.';
            memcpy(out + at, digits + 1, n - 1);
            at += n - 1;
        }
        out[at++] = 'e';
        at = static_cast<size_t>(std::to_chars(out + at, out + 31, point - 1).ptr - out);
    } else if (point <= 0) { /* 0.00125 */
        memcpy(out + at, "0.00000", 7);
        at += 2 + static_cast<size_t>(-point);
        memcpy(out + at, digits, n);
        at += n;
    } else { /* 1250.0, 12.5 */
        size_t whole = static_cast<size_t>(point);
        for (size_t i = 0; i < whole; i++) {
            out[at++] = i < n ? digits[i] : '0';
        }
        out[at++] = '.';
        if (n > whole) {
            memcpy(out + at, digits + whole, n - whole);
        } else {
            out[at] = '0';
        }
        at += n > whole ? n - whole : 1;
    }
    out[at] = '\0';
    return at;
}
