/* codec.c -- see codec.h. Compression runs on the decoding threads (pack.c); the writer compresses only what it had to
 * merge. */
#include "store/text/codec.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define COMPRESS_LEVEL 1
#define ROOM_KEEP_BYTES ((size_t)1 << 20)
#define DICT_TEXT_MAX \
    ((size_t)16 << 10) /* longer ones have enough in themselves, and zstd copies its tables for them */
#define KIND_RAW 0
#define KIND_ZSTD 1
#define KIND_DICT 2
#define KIND_PACK 3
#define KIND_LAST 8 /* bytes above begin a text */
#define VARINT_BYTES 10
#define PACK_ARENA_BYTES ((size_t)8 << 20)

void codec_done(struct codec *k) {
    ZSTD_freeCCtx(k->c);
    ZSTD_freeDCtx(k->d);
    free(k->room);
    arena_done(&k->pack_arena);
    *k = (struct codec){ 0 };
}

void codec_trim(struct codec *k) {
    k->pack_n = 0;
    arena_done(&k->pack_arena);
    if (k->room_bytes > ROOM_KEEP_BYTES) {
        ZSTD_freeCCtx(k->c); /* sized for the same text */
        free(k->room);
        *k = (struct codec){ .dicts = k->dicts, .d = k->d };
    }
}

/* ---- numbers ---- */

static size_t put_varint(char *to, uint64_t v) {
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        to[n++] = (char)(v | 0x80);
    to[n++] = (char)v;
    return n;
}

/* Takes a number off the front of s; false: there is none. */
static bool take_varint(struct str *s, uint64_t *ret) {
    uint64_t v = 0;
    for (size_t i = 0; i < s->n && i < VARINT_BYTES; i++) {
        v |= (uint64_t)((unsigned char)s->p[i] & 0x7f) << (7 * i);
        if (!((unsigned char)s->p[i] & 0x80)) {
            *s = str_sub(*s, i + 1, s->n);
            *ret = v;
            return true;
        }
    }
    return false;
}

/* ---- encoding ---- */

static bool room_for(struct codec *k, size_t bytes) {
    if (k->room_bytes < bytes) {
        free(k->room);
        k->room = alloc_should_fail() ? NULL : malloc(bytes);
        k->room_bytes = k->room ? bytes : 0;
    }
    return k->room != NULL;
}

static bool encoder_ready(struct codec *k) {
    if (k->c)
        return true;
    k->c = alloc_should_fail() ? NULL : ZSTD_createCCtx();
    k->with = NULL;
    return k->c && !ZSTD_isError(ZSTD_CCtx_setParameter(k->c, ZSTD_c_dictIDFlag, 0));
}

/* The dictionary to use for a text of that length, made known to the context; NULL: none. */
static const struct dict *dict_for(struct codec *k, size_t n) {
    const struct dict *d = n <= DICT_TEXT_MAX ? dicts_current(k->dicts) : NULL;
    if (!d || d == k->with)
        return d;
    k->with = NULL;
    if (ZSTD_isError(ZSTD_CCtx_refCDict(k->c, d->c)))
        return NULL;
    k->with = d;
    return d;
}

/* Puts the text in form 1 or 2 at `to` (room bytes); 0: it is not worth it, a tenth has to be saved. */
static size_t compress(struct codec *k, struct str text, char *to, size_t room) {
    size_t head = 1, most = text.n - text.n / 10 - 1, n;
    if (text.n < PAYLOAD_MIN_BYTES || text.n > PAYLOAD_MAX_BYTES || !encoder_ready(k))
        return 0;
    const struct dict *d = dict_for(k, text.n);
    to[0] = d ? KIND_DICT : KIND_ZSTD;
    if (d)
        head += put_varint(to + 1, (uint64_t)d->number);
    most = most < room ? most : room;
    n = d ? ZSTD_compress2(k->c, to + head, most - head, text.p, text.n)
          : ZSTD_compressCCtx(k->c, to + head, most - head, text.p, text.n, COMPRESS_LEVEL);
    return ZSTD_isError(n) ? 0 : head + n; /* a room too small is the usual error: the text does not compress */
}

static struct str copy(struct arena *a, const char *p, size_t n) {
    char *z = arena_bytes(a, n);
    if (!z)
        return STR_NONE;
    memcpy(z, p, n);
    return (struct str){ z, n };
}

static bool raw(struct arena *a, struct str text, struct str *ret) {
    char *z = text.n < SIZE_MAX ? arena_bytes(a, text.n + 1) : NULL;
    if (!z)
        return false;
    z[0] = KIND_RAW;
    if (text.n > 0)
        memcpy(z + 1, text.p, text.n);
    *ret = (struct str){ z, text.n + 1 };
    return true;
}

bool payload_encode(struct codec *k, struct arena *a, struct str text, struct str *ret_z) {
    bool itself = text.n > 0 && (unsigned char)text.p[0] > KIND_LAST;
    bool tried = text.n >= PAYLOAD_MIN_BYTES && text.n <= PAYLOAD_MAX_BYTES && room_for(k, text.n);
    size_t n = tried ? compress(k, text, k->room, text.n) : 0;
    *ret_z = n > 0 ? copy(a, k->room, n) : STR_NONE;
    return str_has(*ret_z) || itself || raw(a, text, ret_z);
}

bool payload_encode_pack(struct codec *k, struct arena *a, const struct str *texts, size_t n, struct str *ret_z) {
    size_t total = 0, head = 1, at = 0;
    for (size_t i = 0; i < n; i++)
        total += texts[i].n;
    /* The texts one behind the other, then room for the form of all. */
    size_t most = 1 + n * VARINT_BYTES + 1 + total;
    if (!room_for(k, total + most))
        return false;
    char *to = k->room + total;
    to[0] = KIND_PACK;
    for (size_t i = 0; i < n; i++) {
        if (texts[i].n > 0)
            memcpy(k->room + at, texts[i].p, texts[i].n);
        at += texts[i].n;
        head += put_varint(to + head, texts[i].n);
    }
    size_t body = compress(k, (struct str){ k->room, total }, to + head, most - head);
    if (body == 0) {
        to[head] = KIND_RAW;
        memcpy(to + head + 1, k->room, total);
        body = 1 + total;
    }
    *ret_z = copy(a, to, head + body);
    return str_has(*ret_z);
}

/* ---- decoding ---- */

enum xt_code text_damaged(struct xt_err *err) { return xt_fail(err, XT_ESTORE, "a stored text is damaged"); }
static enum xt_code no_room(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }

/* `most`: bytes that may come out. */
static enum xt_code inflate(struct codec *k, struct arena *a, const struct dict *with, struct str frame, size_t most,
                            struct str *ret, struct xt_err *err) {
    unsigned long long size = ZSTD_getFrameContentSize(frame.p, frame.n);
    if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size > most)
        return text_damaged(err);
    if (!k->d)
        k->d = alloc_should_fail() ? NULL : ZSTD_createDCtx();
    char *text = k->d ? arena_bytes(a, (size_t)size) : NULL;
    if (!text)
        return no_room(err);
    size_t n = with ? ZSTD_decompress_usingDDict(k->d, text, (size_t)size, frame.p, frame.n, with->d)
                    : ZSTD_decompressDCtx(k->d, text, (size_t)size, frame.p, frame.n);
    if (ZSTD_isError(n) || n != size)
        return text_damaged(err);
    *ret = (struct str){ text, n };
    return XT_OK;
}

static enum xt_code inflate_with(struct codec *k, struct arena *a, struct str body, size_t most, struct str *ret,
                                 struct xt_err *err) {
    uint64_t number;
    const struct dict *with = NULL;
    if (!take_varint(&body, &number) || number == 0 || number > INT64_MAX)
        return text_damaged(err);
    enum xt_code code = dicts_find(k->dicts, &k->from, (int64_t)number, &with, err);
    return code == XT_OK ? inflate(k, a, with, body, most, ret, err) : code;
}

static enum xt_code decode(struct codec *k, struct arena *a, struct str z, size_t most, struct str *ret,
                           struct xt_err *err) {
    if (z.n == 0)
        return text_damaged(err);
    struct str body = { z.p + 1, z.n - 1 };
    switch ((unsigned char)z.p[0]) {
    case KIND_RAW: *ret = body; return XT_OK;
    case KIND_ZSTD: return inflate(k, a, NULL, body, most, ret, err);
    case KIND_DICT: return inflate_with(k, a, body, most, ret, err);
    default:
        if ((unsigned char)z.p[0] <= KIND_LAST)
            return text_damaged(err);
        *ret = z;
        return XT_OK;
    }
}

enum xt_code payload_decode(struct codec *k, struct arena *a, struct str z, struct str *ret, struct xt_err *err) {
    return decode(k, a, z, PAYLOAD_MAX_BYTES, ret, err);
}

enum xt_code payload_decode_pack(struct codec *k, struct arena *a, struct str z, uint32_t n, struct str *ret,
                                 uint32_t *ends, struct xt_err *err) {
    uint64_t total = 0;
    if (z.n == 0 || (unsigned char)z.p[0] != KIND_PACK)
        return text_damaged(err);
    z = str_sub(z, 1, z.n);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t bytes;
        if (!take_varint(&z, &bytes) || bytes > PACK_MAX_BYTES || (total += bytes) > PACK_MAX_BYTES)
            return text_damaged(err);
        ends[i] = (uint32_t)total;
    }
    if (z.n == 0 || (unsigned char)z.p[0] > KIND_DICT)
        return text_damaged(err);
    enum xt_code code = decode(k, a, z, (size_t)total, ret, err);
    return code == XT_OK && ret->n != total ? text_damaged(err) : code;
}

/* ---- rows ---- */

bool text_row_holds(const struct text_row *r, int64_t pid) {
    return r->n >= 1 && r->n <= PACK_MAX_TEXTS && pid >= r->first && pid - r->first < r->n;
}

static bool lies_in(struct str text, struct str z) {
    uintptr_t p = (uintptr_t)text.p, from = (uintptr_t)z.p;
    return p >= from && p <= from + z.n;
}

static enum xt_code copy_out(struct arena *a, struct str text, struct str *ret, struct xt_err *err) {
    *ret = arena_str(a, text);
    return str_has(*ret) ? XT_OK : no_room(err);
}

/* The texts of a pack become those that the codec keeps. */
static enum xt_code open_pack(struct codec *k, const struct text_row *r, struct xt_err *err) {
    struct arena *a = &k->pack_arena;
    k->pack_n = 0;
    if (!a->head)
        arena_init(a, PACK_ARENA_BYTES);
    arena_reset(a);
    k->pack_ends = arena_new(a, uint32_t, (size_t)r->n);
    if (!k->pack_ends)
        return no_room(err);
    enum xt_code code = payload_decode_pack(k, a, r->z, (uint32_t)r->n, &k->pack_text, k->pack_ends, err);
    if (code == XT_OK && lies_in(k->pack_text, r->z))
        code = copy_out(a, k->pack_text, &k->pack_text, err);
    if (code != XT_OK)
        return code;
    k->pack_first = r->first;
    k->pack_n = (uint32_t)r->n;
    return XT_OK;
}

static struct str pack_part(const struct codec *k, uint32_t i) {
    uint32_t from = i ? k->pack_ends[i - 1] : 0;
    return (struct str){ k->pack_text.p + from, k->pack_ends[i] - from };
}

bool codec_kept(const struct codec *k, struct arena *a, int64_t pid, struct str *ret) {
    if (!k->pack_n || pid < k->pack_first || pid - k->pack_first >= (int64_t)k->pack_n)
        return false;
    *ret = arena_str(a, pack_part(k, (uint32_t)(pid - k->pack_first)));
    return true;
}

enum xt_code text_row_get(struct codec *k, struct arena *a, const struct text_row *r, int64_t pid, struct str *ret,
                          struct xt_err *err) {
    struct str text = STR_NONE;
    *ret = STR_NONE;
    if (r->n > 1) {
        enum xt_code code = open_pack(k, r, err);
        return code == XT_OK ? copy_out(a, pack_part(k, (uint32_t)(pid - r->first)), ret, err) : code;
    }
    enum xt_code code = payload_decode(k, a, r->z, &text, err);
    if (code == XT_OK && lies_in(text, r->z))
        return copy_out(a, text, ret, err);
    if (code == XT_OK)
        *ret = text;
    return code;
}

bool text_row_visit(struct codec *k, struct arena *a, const struct text_row *r, text_visitor *visit, void *arg) {
    struct xt_err unread;
    struct str text = STR_NONE;
    if (r->n == 1)
        return payload_decode(k, a, r->z, &text, &unread) != XT_OK || visit(arg, text);
    bool go_on = true;
    if (r->n < 1 || r->n > PACK_MAX_TEXTS || open_pack(k, r, &unread) != XT_OK)
        return true;
    for (uint32_t i = 0; i < k->pack_n && go_on; i++)
        go_on = visit(arg, pack_part(k, i));
    return go_on;
}

enum xt_code text_row_check(struct codec *k, struct arena *a, const struct text_row *r, struct xt_err *err) {
    struct str text;
    if (r->n == 1)
        return payload_decode(k, a, r->z, &text, err);
    if (r->n >= 1 && r->n <= PACK_MAX_TEXTS)
        return open_pack(k, r, err);
    return xt_fail(err, XT_ESTORE, "a stored text is damaged: a row of %lld texts", (long long)r->n);
}
