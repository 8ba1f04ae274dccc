/* json_write.h -- streaming JSON writer over a buf; cannot produce unbalanced output. The first error (full, no memory,
 * wrong nesting) sticks and turns later calls into no-ops: check jw_done once at the end. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/money.h"
#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

#define JW_DEPTH 64
struct json_writer {
    struct buf *out;
    unsigned depth;
    bool failed, need_comma, after_key;
    char stack[JW_DEPTH]; /* '{' or '[' */
};

void jw_init(struct json_writer *w, struct buf *out);
bool jw_done(const struct json_writer *w); /* one complete value was written and nothing failed */
void jw_obj(struct json_writer *w);
void jw_arr(struct json_writer *w);
void jw_end(struct json_writer *w); /* closes the innermost scope */
void jw_key(struct json_writer *w, const char *key);
void jw_key_str(struct json_writer *w, struct str key);
void jw_str(struct json_writer *w, struct str s);   /* absent: null. Escapes only '"', '\\' and bytes below 0x20 */
void jw_cstr(struct json_writer *w, const char *s); /* NULL: null */
void jw_i64(struct json_writer *w, int64_t v);
void jw_bool(struct json_writer *w, bool v);
void jw_null(struct json_writer *w);
/* Shortest text that reads back equal, always with ".0" or an exponent: 0.0, 1e16, 0.00001, 1e-6, -0.0.
 * NaN: null; infinities: the largest finite double (JSON has no other word for them). */
void jw_f64(struct json_writer *w, double v);
size_t json_format_f64(double v, char out[32]);
void jw_money(struct json_writer *w, money m);
/* Text that is JSON already (checked when it came in); absent: null. */
void jw_raw(struct json_writer *w, struct str json);
/* Convenience: key and value. */
void jw_kv_str(struct json_writer *w, const char *key, struct str s);
void jw_kv_cstr(struct json_writer *w, const char *key, const char *s);
void jw_kv_i64(struct json_writer *w, const char *key, int64_t v);
void jw_kv_f64(struct json_writer *w, const char *key, double v);
void jw_kv_bool(struct json_writer *w, const char *key, bool v);
void jw_kv_null(struct json_writer *w, const char *key);
void jw_kv_raw(struct json_writer *w, const char *key, struct str json);

#ifdef __cplusplus
}
#endif
