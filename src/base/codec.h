/* codec.h -- hex, base64, percent-decoding, UTF-8, JSON string escapes. No allocation: the caller gives the room. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Exactly n bytes from 2n hex digits of any case. */
bool hex_decode(struct str s, uint8_t *out, size_t n);
void hex_encode(const uint8_t *in, size_t n, char *out /* 2n bytes, lower case, no NUL */);
/* Standard alphabet, padded, strict. out needs 3/4 of s.n. */
bool base64_decode(struct str s, uint8_t *out, size_t *ret_n);
/* Lenient: standard or URL-safe alphabet, padding optional (protobuf JSON bytes fields). */
bool base64_decode_lenient(struct str s, uint8_t *out, size_t *ret_n);
size_t base64_encode(const uint8_t *in, size_t n, char *out /* 4*((n+2)/3) bytes */);
/* Percent-decoding into out (>= s.n bytes). plus_is_space for query strings. A '%' without two hex digits stays as it
 * is (as the original's url decoder). Returns the length. The result may hold NUL and non-UTF-8: check it. */
size_t percent_decode(struct str s, bool plus_is_space, char *out);
bool utf8_valid(struct str s);
/* Copies s replacing each malformed sequence by U+FFFD; out needs 3 * s.n. Returns the length. */
size_t utf8_repair(struct str s, char *out);
/* Length of the longest prefix of at most n bytes that does not cut a UTF-8 sequence. */
size_t utf8_cut(struct str s, size_t n);
/* Unescapes the inside of a JSON string (no quotes) into out (>= s.n bytes). A lone surrogate fails, or becomes
 * U+FFFD when lenient. SIZE_MAX on malformed escapes. s is valid UTF-8. */
size_t json_unescape(struct str s, bool lenient, char *out);
/* Constant-time equality (content; the length may leak). */
bool mem_eq_const_time(struct str a, struct str b);

#ifdef __cplusplus
}
#endif
