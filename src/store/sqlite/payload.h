/* payload.h -- texts out of line (input, output, metadata, long `rest`): encoding, compression, rows of `payload`.
 *
 * Stored form z, by its first byte: 0, raw bytes follow; 1, one zstd frame that states its content size follows; 2 to 8
 * reserved; anything else, z is the text itself. JSON never begins with a byte below 9, so most short texts are stored
 * as they are, without a copy. A stored frame may claim any size: beyond PAYLOAD_MAX_BYTES it is damage.
 * A codec is used by one thread at a time; its contexts are made on first use. */
#pragma once
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "store/sqlite/engine.h"

#define PAYLOAD_MAX_BYTES ((size_t)512 << 20)

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;
struct codec {
    struct ZSTD_CCtx_s *c;
    struct ZSTD_DCtx_s *d;
    char *room; /* scratch of the encoder */
    size_t room_bytes;
};
void codec_done(struct codec *k); /* a zeroed one is fine */
void codec_trim(struct codec *k); /* gives back room that one large text took */

/* The stored form, when it differs from the text; absent: store the text itself. Without memory for compression the
 * text stays as it is; false only when not even that could be said in `a`. */
bool payload_encode(struct codec *k, struct arena *a, struct str text, struct str *ret_z);
/* Text of a stored form; lives in `a` or in z. XT_ESTORE: damaged. */
enum xt_code payload_decode(struct codec *k, struct arena *a, struct str z, struct str *ret, struct xt_err *err);

/* Reads row `pid` (0: absent text) into the arena. A row that is missing is damage. */
enum xt_code payload_get(struct conn *c, struct codec *k, struct arena *a, int64_t pid, struct str *ret,
                         struct xt_err *err);
/* Appends a row with a number of the caller's. `z` absent: the text itself. */
enum xt_code payload_add(struct conn *c, int64_t pid, struct str text, struct str z, struct xt_err *err);
/* Is row `pid` exactly this stored form? A missing row is not. */
enum xt_code payload_same(struct conn *c, int64_t pid, struct str text, struct str z, bool *ret, struct xt_err *err);
enum xt_code payload_drop(struct conn *c, int64_t pid, struct xt_err *err); /* 0: nothing to do */
