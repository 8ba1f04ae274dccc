/* inflate.c -- whole bodies through zlib and libzstd.
 *
 *  1. out->n never passes out->max: exactly max bytes are fine, one more is XT_ETOOBIG.
 *  2. Memory stays near the output itself: zlib streams into a buffer that doubles up to max, with 40 KB of its own;
 *     a zstd frame is decoded in one piece into a buffer of at most max + one block, which needs no window beside it.
 *  3. Input is read to its last byte, or the body is refused. */
#include "base/inflate.h"

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/arena.h"

#define GZIP_OR_ZLIB (15 + 32) /* zlib's window bits: 32 KB, header detected */
#define ZSTD_BLOCK ((size_t)128 * 1024)
#define ZSTD_WINDOW_MAX (UINT64_C(1) << 27) /* bytes; frames that need more are refused */
#define GUESS_RATIO 4                       /* first size of the output, in sizes of the input */
#define GUESS_MAX ((size_t)1 << 20)         /* bytes; of that first size */

static const struct {
    const char *name;
    enum coding coding;
} codings[] = {
    { "gzip", CODING_GZIP }, { "x-gzip", CODING_GZIP },       { "deflate", CODING_DEFLATE },
    { "zstd", CODING_ZSTD }, { "identity", CODING_IDENTITY },
};

enum coding coding_parse(struct str name) {
    name = str_trim(name);
    if (name.n == 0) {
        return CODING_IDENTITY;
    }
    for (size_t i = 0; i < sizeof(codings) / sizeof(codings[0]); i++) {
        if (str_eq_nocase(name, str_c(codings[i].name))) {
            return codings[i].coding;
        }
    }
    return CODING_UNKNOWN;
}

const char *coding_name(enum coding c) {
    static const char *const names[] = { [CODING_IDENTITY] = "identity",
                                         [CODING_GZIP] = "gzip",
                                         [CODING_DEFLATE] = "deflate",
                                         [CODING_ZSTD] = "zstd",
                                         [CODING_UNKNOWN] = "unknown" };
    return names[(unsigned)c <= CODING_UNKNOWN ? c : CODING_UNKNOWN];
}

static enum xt_code fail_damaged(enum coding c, const char *reason, struct xt_err *err) {
    return xt_fail(err, XT_EINVAL, "%s decode failed: %s", coding_name(c), reason);
}

static enum xt_code fail_too_big(const struct buf *out, struct xt_err *err) {
    return xt_fail(err, XT_ETOOBIG, "the decompressed body is larger than %zu bytes", out->max);
}

static enum xt_code fail_memory(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }

/* ---- zlib ---- */

static void *zlib_alloc(void *opaque, uInt n, uInt size) {
    (void)opaque;
    return alloc_should_fail() ? NULL : calloc(n, size);
}

static void zlib_free(void *opaque, void *p) {
    (void)opaque;
    free(p);
}

/* zlib counts in 32 bits: at most this much is shown to it at once. */
static uInt at_most_uint(size_t n) { return n < UINT_MAX ? (uInt)n : UINT_MAX; }

/* Makes room for at least one more byte, unless the buffer is at its maximum. False: no memory. */
static bool more_room(struct buf *out) {
    if (out->n == out->max || out->n + 1 < out->cap) {
        return true;
    }
    size_t more = out->n ? out->n : 1; /* doubles */
    return buf_reserve(out, more < out->max - out->n ? more : out->max - out->n);
}

/* One call of inflate(). A full buffer is offered one byte outside: a stream that ends there fits, any other does not. */
static int inflate_step(z_stream *z, struct str in, struct buf *out, bool *ret_too_big) {
    size_t read = (size_t)((const char *)z->next_in - in.p);
    Bytef beyond;
    bool full = out->n == out->max;
    size_t space = full ? 1 : (out->cap - 1 < out->max ? out->cap - 1 : out->max) - out->n;
    uInt offered = at_most_uint(space);
    z->avail_in = at_most_uint(in.n - read);
    z->next_out = full ? &beyond : (Bytef *)out->p + out->n;
    z->avail_out = offered;
    int rc = inflate(z, Z_NO_FLUSH);
    size_t written = offered - z->avail_out;
    *ret_too_big = full && written > 0;
    out->n += full ? 0 : written;
    return rc;
}

static bool gzip_magic(struct str s) {
    return s.n >= 2 && (unsigned char)s.p[0] == 0x1f && (unsigned char)s.p[1] == 0x8b;
}

/* z is at the start of the first member. */
static enum xt_code inflate_members(z_stream *z, enum coding c, struct str in, struct buf *out, struct xt_err *err) {
    for (;;) {
        if (!more_room(out)) {
            return fail_memory(err);
        }
        const Bytef *before = z->next_in;
        size_t n_before = out->n;
        bool too_big;
        int rc = inflate_step(z, in, out, &too_big);
        size_t read = (size_t)((const char *)z->next_in - in.p);
        if (too_big) {
            return fail_too_big(out, err);
        }
        if (rc == Z_STREAM_END) {
            if (read == in.n) {
                return XT_OK;
            }
            if (c != CODING_GZIP || !gzip_magic(str_sub(in, read, 2))) {
                return fail_damaged(c, "data after the end of the stream", err);
            }
            rc = inflateReset(z);
        } else if (z->next_in == before && out->n == n_before && (rc == Z_OK || rc == Z_BUF_ERROR)) {
            return fail_damaged(c, "the stream is cut off", err);
        }
        if (rc == Z_MEM_ERROR) {
            return fail_memory(err);
        }
        if (rc != Z_OK && rc != Z_BUF_ERROR) {
            return fail_damaged(c, z->msg ? z->msg : "damaged stream", err);
        }
    }
}

/* A zlib header is told from a raw stream by its check bits: a raw one that begins with 8 in its low half would be a
 * stored block with padding bits set, which no encoder writes. */
static bool zlib_header(struct str s) {
    if (s.n < 2) {
        return false;
    }
    unsigned cmf = (unsigned char)s.p[0], flags = (unsigned char)s.p[1];
    return (cmf & 15) == Z_DEFLATED && cmf >> 4 <= 7 && (cmf << 8 | flags) % 31 == 0;
}

static enum xt_code inflate_zlib(enum coding c, struct str in, struct buf *out, struct xt_err *err) {
    z_stream z = { .zalloc = zlib_alloc, .zfree = zlib_free, .next_in = (z_const Bytef *)in.p };
    bool raw = c == CODING_DEFLATE && !zlib_header(in);
    if (inflateInit2(&z, raw ? -MAX_WBITS : GZIP_OR_ZLIB) != Z_OK) {
        return fail_memory(err);
    }
    size_t guess = in.n < GUESS_MAX / GUESS_RATIO ? in.n * GUESS_RATIO : GUESS_MAX;
    enum xt_code code =
        buf_reserve(out, guess < out->max ? guess : out->max) ? inflate_members(&z, c, in, out, err) : fail_memory(err);
    inflateEnd(&z);
    return code;
}

/* ---- zstd (RFC 8878) ---- */

static uint64_t le_bytes(struct str s, size_t at, size_t n) {
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        v |= (uint64_t)(unsigned char)s.p[at + i] << (8 * i);
    }
    return v;
}

struct zstd_frame {
    size_t header;    /* bytes before the first block */
    uint64_t window;  /* bytes */
    uint64_t content; /* bytes that come out, UINT64_MAX when not stated */
    bool single;      /* one segment: the output is the window, nothing is needed beside it */
    bool checksum;
};

/* Header of the frame at s (magic number included). False: cut off. */
static bool zstd_frame_header(struct str s, struct zstd_frame *f) {
    static const unsigned char id_bytes[] = { 0, 1, 2, 4 }, content_bytes[] = { 0, 2, 4, 8 };
    if (s.n < 6) {
        return false;
    }
    unsigned descriptor = (unsigned char)s.p[4];
    *f = (struct zstd_frame){ .content = UINT64_MAX, .single = descriptor & 0x20, .checksum = descriptor & 4 };
    size_t at = 5, id_size = id_bytes[descriptor & 3], size = content_bytes[descriptor >> 6];
    size += f->single && size == 0;
    if (!f->single) {
        unsigned w = (unsigned char)s.p[at++];
        uint64_t base = UINT64_C(1) << (10 + (w >> 3));
        f->window = base + base / 8 * (w & 7);
    }
    at += id_size;
    if (size > s.n || at > s.n - size) {
        return false;
    }
    if (size) {
        f->content = le_bytes(s, at, size) + (size == 2 ? 256 : 0);
        f->window = f->single ? f->content : f->window;
    }
    f->header = at + size;
    return true;
}

/* Walks the blocks at s: the bytes they take, and the most that can come out (saturating at `enough`). False: cut off. */
static bool zstd_blocks(struct str s, const struct zstd_frame *f, size_t enough, size_t *ret_in, size_t *ret_out) {
    size_t at = 0, sum = 0, block = f->window < ZSTD_BLOCK ? (size_t)f->window : ZSTD_BLOCK;
    for (bool last = false; !last;) {
        if (s.n - at < 3) {
            return false;
        }
        uint64_t head = le_bytes(s, at, 3);
        last = head & 1;
        unsigned type = (unsigned)(head >> 1 & 3); /* 0 raw, 1 one byte repeated, 2 compressed, 3 reserved */
        size_t size = (size_t)(head >> 3), in_size = type == 1 ? 1 : size;
        at += 3;
        if (in_size > s.n - at) {
            return false;
        }
        at += in_size;
        size_t gives = type == 2 ? block : size;
        sum = gives < enough - sum ? sum + gives : enough;
    }
    if (f->checksum && s.n - at < 4) {
        return false;
    }
    *ret_in = at + (f->checksum ? 4 : 0);
    *ret_out = f->content < sum ? (size_t)f->content : sum;
    return true;
}

/* One frame at the start of `in` (8 bytes at least): the bytes it takes and the most that can come out of it. */
static enum xt_code zstd_frame_bound(struct str in, size_t enough, size_t *ret_in, size_t *ret_out,
                                     struct xt_err *err) {
    uint64_t magic = le_bytes(in, 0, 4);
    *ret_out = 0;
    if ((magic & ~UINT64_C(15)) == ZSTD_MAGIC_SKIPPABLE_START) {
        uint64_t size = le_bytes(in, 4, 4);
        *ret_in = 8 + (size_t)size;
        return size <= in.n - 8 ? XT_OK : fail_damaged(CODING_ZSTD, "the stream is cut off", err);
    }
    if (magic != ZSTD_MAGICNUMBER) {
        return fail_damaged(CODING_ZSTD, "no zstd frame", err);
    }
    struct zstd_frame f;
    if (!zstd_frame_header(in, &f)) {
        return fail_damaged(CODING_ZSTD, "the stream is cut off", err);
    }
    if (!f.single && f.window > ZSTD_WINDOW_MAX) {
        return fail_damaged(CODING_ZSTD, "the frame needs a window over 128 MB", err);
    }
    if (!zstd_blocks(str_sub(in, f.header, in.n), &f, enough, ret_in, ret_out)) {
        return fail_damaged(CODING_ZSTD, "the stream is cut off", err);
    }
    *ret_in += f.header;
    return XT_OK;
}

/* The most that can come out of all frames, at most `enough`. */
static enum xt_code zstd_bound(struct str in, size_t enough, size_t *ret, struct xt_err *err) {
    size_t sum = 0;
    while (in.n) {
        size_t taken = 0, gives = 0;
        if (in.n < 8) {
            return fail_damaged(CODING_ZSTD, "the stream is cut off", err);
        }
        enum xt_code code = zstd_frame_bound(in, enough, &taken, &gives, err);
        if (code != XT_OK) {
            return code;
        }
        sum = gives < enough - sum ? sum + gives : enough;
        in = str_sub(in, taken, in.n);
    }
    *ret = sum;
    return XT_OK;
}

static enum xt_code inflate_zstd(struct str in, struct buf *out, struct xt_err *err) {
    const size_t max = out->max, enough = max + ZSTD_BLOCK; /* a block more: what passes max is seen to pass it */
    size_t bound = 0;
    enum xt_code code = zstd_bound(in, enough, &bound, err);
    if (code != XT_OK) {
        return code;
    }
    out->max = enough;
    bool room = buf_reserve(out, bound);
    out->max = max;
    ZSTD_DCtx *ctx = !room || alloc_should_fail() ? NULL : ZSTD_createDCtx();
    if (!ctx) {
        return fail_memory(err);
    }
    size_t n = ZSTD_decompressDCtx(ctx, out->p, bound, in.p, in.n);
    ZSTD_freeDCtx(ctx);
    if (!ZSTD_isError(n) && n <= max) {
        out->n = n;
        return XT_OK;
    }
    ZSTD_ErrorCode reason = ZSTD_getErrorCode(n);
    if (!ZSTD_isError(n) || (reason == ZSTD_error_dstSize_tooSmall && bound == enough)) {
        return fail_too_big(out, err);
    }
    return reason == ZSTD_error_memory_allocation ? fail_memory(err)
                                                  : fail_damaged(CODING_ZSTD, ZSTD_getErrorName(n), err);
}

enum xt_code inflate_body(enum coding c, struct str in, struct buf *out, struct xt_err *err) {
    buf_clear(out);
    if (c == CODING_IDENTITY) {
        if (in.n > out->max) {
            return fail_too_big(out, err);
        }
        buf_add_str(out, in);
        return out->failed ? fail_memory(err) : XT_OK;
    }
    if (c != CODING_GZIP && c != CODING_DEFLATE && c != CODING_ZSTD) {
        return xt_fail(err, XT_EMEDIA, "unknown content encoding");
    }
    if (in.n == 0) {
        return fail_damaged(c, "the stream is cut off", err);
    }
    enum xt_code code = c == CODING_ZSTD ? inflate_zstd(in, out, err) : inflate_zlib(c, in, out, err);
    if (out->p) {
        out->p[out->n] = '\0';
    }
    return code;
}

/* ---- compression ---- */

static enum xt_code deflate_zlib(enum coding c, struct str in, struct buf *out, struct xt_err *err) {
    z_stream z = { .zalloc = zlib_alloc, .zfree = zlib_free };
    if (deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, c == CODING_GZIP ? 15 + 16 : 15, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        return fail_memory(err);
    }
    size_t bound = deflateBound(&z, in.n), read = 0;
    size_t space = bound < out->max ? bound : out->max;
    int rc = buf_reserve(out, space) ? Z_OK : Z_MEM_ERROR;
    while (rc == Z_OK && out->n < space) {
        uInt offered = at_most_uint(space - out->n), shown = at_most_uint(in.n - read);
        z.next_in = shown ? (z_const Bytef *)in.p + read : NULL;
        z.avail_in = shown;
        z.next_out = (Bytef *)out->p + out->n;
        z.avail_out = offered;
        rc = deflate(&z, read + shown == in.n ? Z_FINISH : Z_NO_FLUSH);
        read += shown - z.avail_in;
        out->n += offered - z.avail_out;
    }
    deflateEnd(&z);
    return rc == Z_STREAM_END ? XT_OK : fail_memory(err);
}

static enum xt_code deflate_zstd(struct str in, struct buf *out, struct xt_err *err) {
    size_t bound = ZSTD_compressBound(in.n);
    size_t space = bound < out->max ? bound : out->max;
    ZSTD_CCtx *ctx = !buf_reserve(out, space) || alloc_should_fail() ? NULL : ZSTD_createCCtx();
    if (!ctx) {
        return fail_memory(err);
    }
    size_t n = ZSTD_compressCCtx(ctx, out->p, space, in.p, in.n, 1);
    ZSTD_freeCCtx(ctx);
    if (ZSTD_isError(n)) {
        return fail_memory(err);
    }
    out->n = n;
    return XT_OK;
}

enum xt_code deflate_body(enum coding c, struct str in, struct buf *out, struct xt_err *err) {
    buf_clear(out);
    if (c == CODING_IDENTITY) {
        buf_add_str(out, in);
        return out->failed ? fail_memory(err) : XT_OK;
    }
    if (c != CODING_GZIP && c != CODING_DEFLATE && c != CODING_ZSTD) {
        return xt_fail(err, XT_EMEDIA, "unknown content encoding");
    }
    enum xt_code code = c == CODING_ZSTD ? deflate_zstd(in, out, err) : deflate_zlib(c, in, out, err);
    if (code != XT_OK) {
        out->n = 0;
    }
    if (out->p) {
        out->p[out->n] = '\0';
    }
    return code;
}
