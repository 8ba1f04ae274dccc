/* payload.h -- texts out of line (input, output, metadata, long `rest`): encoding, compression, rows of `payload`.
 *
 * A text has a number of its own. A row holds the texts pid to pid + n - 1: one, or a pack (pack.c): texts of one trace
 * that came in one request are compressed together, because they repeat each other.
 *
 * Stored form z, by its first byte: 0, raw bytes follow; 1, one zstd frame that states its content size follows; 2, the
 * number of a dictionary (dict.h; LEB128) and such a frame; 3, a pack: for each of its n texts the length (LEB128), then
 * the texts one behind the other in form 0, 1 or 2; 4 to 8 reserved; anything else, z is the text itself. JSON never
 * begins with a byte below 9, so most short texts are stored as they are, without a copy. A stored frame may claim any
 * size: beyond PAYLOAD_MAX_BYTES it is damage.
 * A codec is used by one thread at a time; its contexts are made on first use. */
#pragma once
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "store/sqlite/dict.h"
#include "store/sqlite/engine.h"

#define PAYLOAD_MAX_BYTES ((size_t)512 << 20)
#define PAYLOAD_MIN_BYTES 64      /* shorter ones are not compressed */
#define PACK_MAX_TEXTS 4096       /* of one row */
#define PACK_MAX_BYTES (1u << 20) /* of its texts together; the encoder stays far below */

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

/* A pack in memory, on its way to a row: made by prepare, numbered by the writer. */
struct pack {
    struct str z;
    uint32_t n;
    /* The writer's, of the group it is in: */
    struct pack *next;
    uint64_t group;
    int64_t first;
    uint32_t used; /* texts that something points to */
};

struct codec {
    struct dicts *dicts; /* NULL: none are used or known */
    struct conn *conn;   /* where they are read; set by payload_get */
    struct ZSTD_CCtx_s *c;
    struct ZSTD_DCtx_s *d;
    const struct dict *with; /* what `c` refers to */
    char *room;              /* scratch of the encoder */
    size_t room_bytes;
    /* The pack that was read last: its neighbours are usually read next. */
    int64_t pack_first;
    uint32_t pack_n; /* 0: none */
    struct arena pack_arena;
    struct str pack_text;
    uint32_t *pack_ends; /* in pack_text */
};
void codec_done(struct codec *k); /* a zeroed one is fine */
void codec_trim(struct codec *k); /* gives back room that one large text took, forgets the pack */

/* The stored form, when it differs from the text; absent: store the text itself. Without memory for compression the
 * text stays as it is; false only when not even that could be said in `a`. */
bool payload_encode(struct codec *k, struct arena *a, struct str text, struct str *ret_z);
/* The stored form of n texts (2 to PACK_MAX_TEXTS, PACK_MAX_BYTES together). False: no memory. */
bool payload_encode_pack(struct codec *k, struct arena *a, const struct str *texts, size_t n, struct str *ret_z);
/* Text of a stored form that is no pack; lives in `a` or in z. XT_ESTORE: damaged. */
enum xt_code payload_decode(struct codec *k, struct arena *a, struct str z, struct str *ret, struct xt_err *err);
/* The n texts of a pack, one behind the other in *ret (in `a` or in z); ends[i] is where text i ends. */
enum xt_code payload_decode_pack(struct codec *k, struct arena *a, struct str z, uint32_t n, struct str *ret,
                                 uint32_t *ends, struct xt_err *err);

/* Reads text `pid` (0: absent text) into the arena. A row that is missing is damage. */
enum xt_code payload_get(struct conn *c, struct codec *k, struct arena *a, int64_t pid, struct str *ret,
                         struct xt_err *err);
/* Appends a row of one text with a number of the caller's. `z` absent: the text itself. */
enum xt_code payload_add(struct conn *c, int64_t pid, struct str text, struct str z, struct xt_err *err);
enum xt_code payload_add_pack(struct conn *c, int64_t pid, const struct pack *p, struct xt_err *err);
/* Is text `pid` exactly this one? A missing or damaged one is not. */
enum xt_code payload_same(struct conn *c, struct codec *k, struct arena *a, int64_t pid, struct str text, bool *ret,
                          struct xt_err *err);
/* Visits texts from the newest row on, `rows` of them at most, until the visitor says false. Rows that can't be read are
 * passed over. */
enum xt_code payload_newest(struct conn *c, int64_t rows, bool (*visit)(void *arg, struct str text), void *arg,
                            struct xt_err *err);

/* Decodes every row and looks at every dictionary; a line into the report for each of the first `most` that can't be read.
 */
enum xt_code payload_check(struct conn *c, struct buf *report, size_t most, struct xt_err *err);

/* ---- removal ---- */

/* Texts to remove, counted by row: packs lose theirs one by one in no order, but many of one pack at a time. */
#define DROP_RUNS 8
struct payload_drops {
    struct {
        int64_t first, n, gone; /* n 0: free */
    } run[DROP_RUNS];
    size_t next; /* the run that makes room */
};
/* Removes text `pid` (0: nothing to do), at the latest with payload_drops_end. */
enum xt_code payload_drop_in(struct conn *c, struct payload_drops *d, int64_t pid, struct xt_err *err);
enum xt_code payload_drops_end(struct conn *c, struct payload_drops *d, struct xt_err *err);
enum xt_code payload_drop(struct conn *c, int64_t pid, struct xt_err *err); /* at once */
/* `gone` more texts of the pack in row `first` have no one who points to them. */
enum xt_code payload_lose(struct conn *c, int64_t first, int64_t n, int64_t gone, struct xt_err *err);
