/* json_write.c -- the stack of open scopes decides what may come next; what may not fails the writer for good.
 *
 *  1. need_comma: the innermost scope (or the root) has a value. At the root a second value is refused.
 *  2. after_key: a member's name was written and its value is due; only ever in an object.
 *  3. Nothing is written after a failure, so what stands in the buffer is a prefix of valid JSON. */
#include "json/json_write.h"

#include <string.h>

void jw_init(struct json_writer *w, struct buf *out) { *w = (struct json_writer){ .out = out }; }

bool jw_done(const struct json_writer *w) { return !w->failed && !w->out->failed && w->depth == 0 && w->need_comma; }

/* Before each value: is one due here, and does a comma precede it? */
static bool begin_value(struct json_writer *w) {
    if (w->failed) {
        return false;
    }
    if (w->after_key) {
        w->after_key = false;
    } else if (w->depth == 0) {
        w->failed = w->need_comma;
    } else if (w->stack[w->depth - 1] == '{') {
        w->failed = true;
    } else if (w->need_comma) {
        buf_add_char(w->out, ',');
    }
    w->need_comma = true;
    return !w->failed;
}

static void add_value(struct json_writer *w, const char *text, size_t n) {
    if (begin_value(w)) {
        buf_add(w->out, text, n);
    }
}

static void open_scope(struct json_writer *w, char bracket) {
    if (w->depth == JW_DEPTH) {
        w->failed = true;
    }
    if (begin_value(w)) {
        buf_add_char(w->out, bracket);
        w->stack[w->depth++] = bracket;
        w->need_comma = false;
    }
}

void jw_obj(struct json_writer *w) { open_scope(w, '{'); }

void jw_arr(struct json_writer *w) { open_scope(w, '['); }

void jw_end(struct json_writer *w) {
    if (w->depth == 0 || w->after_key) {
        w->failed = true;
    }
    if (!w->failed) {
        buf_add_char(w->out, w->stack[--w->depth] == '{' ? '}' : ']');
        w->need_comma = true;
    }
}

/* What stands for a byte in a string: 0 itself, 'u' \u00XX, else the letter of its short escape. */
static const char escapes[256] = {
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'b', 't', 'n', 'u', 'f', 'r', 'u', 'u',         'u',
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', ['"'] = '"', ['\\'] = '\\',
};

static void add_escaped(struct buf *out, struct str s) {
    static const char hex[] = "0123456789abcdef";
    size_t from = 0;
    buf_add_char(out, '"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        char escape = escapes[c];
        if (!escape) {
            continue;
        }
        buf_add(out, s.p + from, i - from);
        from = i + 1;
        if (escape == 'u') {
            buf_add(out, (const char[]){ '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] }, 6);
        } else {
            buf_add(out, (const char[]){ '\\', escape }, 2);
        }
    }
    buf_add(out, s.p + from, s.n - from);
    buf_add_char(out, '"');
}

void jw_key_str(struct json_writer *w, struct str key) {
    if (w->depth == 0 || w->stack[w->depth - 1] != '{' || w->after_key || !key.p) {
        w->failed = true;
    }
    if (w->failed) {
        return;
    }
    if (w->need_comma) {
        buf_add_char(w->out, ',');
    }
    add_escaped(w->out, key);
    buf_add_char(w->out, ':');
    w->after_key = true;
}

void jw_key(struct json_writer *w, const char *key) { jw_key_str(w, str_c(key)); }

void jw_str(struct json_writer *w, struct str s) {
    if (!s.p) {
        jw_null(w);
    } else if (begin_value(w)) {
        add_escaped(w->out, s);
    }
}

void jw_cstr(struct json_writer *w, const char *s) { jw_str(w, str_c(s)); }

void jw_i64(struct json_writer *w, int64_t v) {
    char text[20]; /* INT64_MIN has 20 characters */
    size_t at = sizeof(text);
    uint64_t rest = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do {
        text[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (v < 0) {
        text[--at] = '-';
    }
    add_value(w, text + at, sizeof(text) - at);
}

void jw_bool(struct json_writer *w, bool v) { add_value(w, v ? "true" : "false", v ? 4 : 5); }

void jw_null(struct json_writer *w) { add_value(w, "null", 4); }

void jw_f64(struct json_writer *w, double v) {
    char text[32];
    add_value(w, text, json_format_f64(v, text));
}

void jw_money(struct json_writer *w, money m) {
    char text[MONEY_TEXT_MAX];
    add_value(w, text, money_format(m, text));
}

void jw_raw(struct json_writer *w, struct str json) {
    if (!json.p) {
        jw_null(w);
    } else if (json.n == 0) {
        w->failed = true; /* no value at all */
    } else {
        add_value(w, json.p, json.n);
    }
}

void jw_kv_str(struct json_writer *w, const char *key, struct str s) {
    jw_key(w, key);
    jw_str(w, s);
}

void jw_kv_cstr(struct json_writer *w, const char *key, const char *s) {
    jw_key(w, key);
    jw_cstr(w, s);
}

void jw_kv_i64(struct json_writer *w, const char *key, int64_t v) {
    jw_key(w, key);
    jw_i64(w, v);
}

void jw_kv_f64(struct json_writer *w, const char *key, double v) {
    jw_key(w, key);
    jw_f64(w, v);
}

void jw_kv_bool(struct json_writer *w, const char *key, bool v) {
    jw_key(w, key);
    jw_bool(w, v);
}

void jw_kv_null(struct json_writer *w, const char *key) {
    jw_key(w, key);
    jw_null(w);
}

void jw_kv_raw(struct json_writer *w, const char *key, struct str json) {
    jw_key(w, key);
    jw_raw(w, json);
}
