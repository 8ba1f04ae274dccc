/* codec.h -- stored forms of texts (input, output, metadata, what is too long for a row): encoding, compression, rows.
 *
 * A text has a number of its own (pid). A row holds the texts pid to pid + n - 1: one, or a pack (pack.c): texts of one
 * trace that came in one request are compressed together, because they repeat each other.
 *
 * Stored form z, by its first byte: 0, raw bytes follow; 1, one zstd frame that states its content size follows; 2, the
 * number of a dictionary (dict.h; LEB128) and such a frame; 3, a pack: for each of its n texts the length (LEB128), then
 * the texts one behind the other in form 0, 1 or 2; 4 to 8 reserved; anything else, z is the text itself. JSON never
 * begins with a byte below 9, so most short texts are stored as they are, without a copy. A stored frame may claim any
 * size: beyond PAYLOAD_MAX_BYTES it is damage.
 * A codec is used by one thread at a time; its contexts are made on first use. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "store/text/dict.h"

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
    struct dicts *dicts;     /* NULL: none are used or known */
    struct dict_source from; /* where unknown ones are read, by whoever decodes; may change between uses */
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

/* ---- forms ---- */

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

/* ---- rows ---- */

/* A row as it was read: nothing in it is believed. z is valid for the call only. */
struct text_row {
    int64_t first, n;
    struct str z;
};
/* Is text `pid` in it, and is its n one that can be? */
bool text_row_holds(const struct text_row *r, int64_t pid);
/* Copies text `pid`, which it holds, into `a`. A pack is kept by the codec for its neighbours. */
enum xt_code text_row_get(struct codec *k, struct arena *a, const struct text_row *r, int64_t pid, struct str *ret,
                          struct xt_err *err);
/* Is text `pid` one of the pack that the codec kept? Then it is copied into `a`; *ret absent: no memory. */
bool codec_kept(const struct codec *k, struct arena *a, int64_t pid, struct str *ret);
/* Visits the texts of a row; those of one that can't be read are passed over. False: the visitor has enough. */
bool text_row_visit(struct codec *k, struct arena *a, const struct text_row *r, text_visitor *visit, void *arg);
/* Can all of it be read? XT_ESTORE: no, and why. */
enum xt_code text_row_check(struct codec *k, struct arena *a, const struct text_row *r, struct xt_err *err);

/* "a stored text is damaged", XT_ESTORE. */
enum xt_code text_damaged(struct xt_err *err);
