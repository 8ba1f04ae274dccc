/* payload.c -- see payload.h. Compression runs on the decoding threads (sqlite_prepare); the writer compresses only what
 * it had to merge. */
#include "store/sqlite/payload.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define COMPRESS_MIN_BYTES 64
#define COMPRESS_LEVEL 1
#define ROOM_KEEP_BYTES ((size_t)1 << 20)
#define KIND_RAW 0
#define KIND_ZSTD 1
#define KIND_LAST 8 /* bytes above begin a text */

void codec_done(struct codec *k) {
    ZSTD_freeCCtx(k->c);
    ZSTD_freeDCtx(k->d);
    free(k->room);
    *k = (struct codec){ 0 };
}

void codec_trim(struct codec *k) {
    if (k->room_bytes > ROOM_KEEP_BYTES) {
        ZSTD_freeCCtx(k->c); /* sized for the same text */
        free(k->room);
        *k = (struct codec){ .d = k->d };
    }
}

/* ---- encoding ---- */

/* Contexts and room of the encoder; false: not now, which only means that nothing is compressed. */
static bool encoder_ready(struct codec *k, size_t bytes) {
    if (!k->c) {
        k->c = alloc_should_fail() ? NULL : ZSTD_createCCtx();
        if (!k->c)
            return false;
    }
    if (k->room_bytes < bytes) {
        free(k->room);
        k->room = alloc_should_fail() ? NULL : malloc(bytes);
        k->room_bytes = k->room ? bytes : 0;
    }
    return k->room != NULL;
}

/* Length of the frame in k->room, or 0 when it is not worth keeping: it has to save a tenth. */
static size_t compress(struct codec *k, struct str text) {
    size_t most = text.n - text.n / 10;
    if (text.n < COMPRESS_MIN_BYTES || text.n > PAYLOAD_MAX_BYTES || !encoder_ready(k, most))
        return 0;
    size_t n = ZSTD_compressCCtx(k->c, k->room, most - 1, text.p, text.n, COMPRESS_LEVEL);
    return ZSTD_isError(n) ? 0 : n; /* a room too small is the usual error: the text does not compress */
}

static bool with_kind(struct arena *a, char kind, const char *p, size_t n, struct str *ret) {
    char *z = n < SIZE_MAX ? arena_bytes(a, n + 1) : NULL;
    if (!z)
        return false;
    z[0] = kind;
    if (n > 0)
        memcpy(z + 1, p, n);
    *ret = (struct str){ z, n + 1 };
    return true;
}

bool payload_encode(struct codec *k, struct arena *a, struct str text, struct str *ret_z) {
    bool itself = text.n > 0 && (unsigned char)text.p[0] > KIND_LAST;
    size_t n = compress(k, text);
    *ret_z = STR_NONE;
    if (n > 0 && with_kind(a, KIND_ZSTD, k->room, n, ret_z))
        return true;
    return itself || with_kind(a, KIND_RAW, text.p, text.n, ret_z);
}

static bool prepare(struct codec *k, struct arena *a, struct str text, struct str *ret_z) {
    return !str_has(text) || str_has(*ret_z) || payload_encode(k, a, text, ret_z);
}

enum xt_code sqlite_prepare(struct store *s, struct batch *b, struct xt_err *err) {
    struct codec k = { 0 }; /* one a batch: threads keep nothing when they idle */
    bool ok = true;
    (void)s;
    for (size_t i = 0; i < b->ntraces && ok; i++) {
        struct trace *t = &b->traces[i];
        ok = prepare(&k, &b->arena, t->input, &t->input_z) && prepare(&k, &b->arena, t->output, &t->output_z) &&
             prepare(&k, &b->arena, t->metadata, &t->metadata_z);
    }
    for (size_t i = 0; i < b->nobservations && ok; i++) {
        struct observation *o = &b->observations[i];
        ok = prepare(&k, &b->arena, o->input, &o->input_z) && prepare(&k, &b->arena, o->output, &o->output_z) &&
             prepare(&k, &b->arena, o->metadata, &o->metadata_z);
    }
    codec_done(&k);
    return ok ? XT_OK : xt_fail(err, XT_ENOMEM, "out of memory");
}

/* ---- decoding ---- */

static enum xt_code damaged(struct xt_err *err) { return xt_fail(err, XT_ESTORE, "a stored text is damaged"); }

static enum xt_code inflate(struct codec *k, struct arena *a, struct str frame, struct str *ret, struct xt_err *err) {
    unsigned long long size = ZSTD_getFrameContentSize(frame.p, frame.n);
    if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size > PAYLOAD_MAX_BYTES)
        return damaged(err);
    if (!k->d)
        k->d = alloc_should_fail() ? NULL : ZSTD_createDCtx();
    char *text = k->d ? arena_bytes(a, (size_t)size) : NULL;
    if (!text)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    size_t n = ZSTD_decompressDCtx(k->d, text, (size_t)size, frame.p, frame.n);
    if (ZSTD_isError(n) || n != size)
        return damaged(err);
    *ret = (struct str){ text, n };
    return XT_OK;
}

enum xt_code payload_decode(struct codec *k, struct arena *a, struct str z, struct str *ret, struct xt_err *err) {
    if (z.n == 0)
        return damaged(err);
    struct str body = { z.p + 1, z.n - 1 };
    switch ((unsigned char)z.p[0]) {
    case KIND_RAW: *ret = body; return XT_OK;
    case KIND_ZSTD: return inflate(k, a, body, ret, err);
    default:
        if ((unsigned char)z.p[0] <= KIND_LAST)
            return damaged(err);
        *ret = z;
        return XT_OK;
    }
}

/* ---- rows ---- */

static struct str stored_form(struct str text, struct str z) { return str_has(z) ? z : text; }

enum xt_code payload_get(struct conn *c, struct codec *k, struct arena *a, int64_t pid, struct str *ret,
                         struct xt_err *err) {
    struct str z, text = STR_NONE;
    if (pid == 0) {
        *ret = STR_NONE;
        return XT_OK;
    }
    sqlite3_stmt *st = conn_stmt(c, SQL_PAYLOAD_GET, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, pid);
    int rc = sqlite3_step(st);
    if (rc != SQLITE_ROW) {
        sqlite3_reset(st);
        return rc == SQLITE_DONE ? damaged(err) : conn_fail(c, rc, "payload", err);
    }
    z = col_blob(st, 0);
    enum xt_code code = payload_decode(k, a, z, &text, err);
    if (code == XT_OK && z.p[0] != KIND_ZSTD) { /* still in the row */
        text = arena_str(a, text);
        if (!str_has(text))
            code = xt_fail(err, XT_ENOMEM, "out of memory");
    }
    sqlite3_reset(st);
    if (code == XT_OK)
        *ret = text;
    return code;
}

enum xt_code payload_add(struct conn *c, int64_t pid, struct str text, struct str z, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_PAYLOAD_ADD, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, pid);
    bind_blob(st, 2, stored_form(text, z));
    return conn_run(c, st, "payload", err);
}

enum xt_code payload_same(struct conn *c, int64_t pid, struct str text, struct str z, bool *ret, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_PAYLOAD_GET, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, pid);
    int rc = sqlite3_step(st);
    *ret = rc == SQLITE_ROW && str_eq(col_blob(st, 0), stored_form(text, z));
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "payload", err);
}

enum xt_code payload_drop(struct conn *c, int64_t pid, struct xt_err *err) {
    if (pid == 0)
        return XT_OK;
    sqlite3_stmt *st = conn_stmt(c, SQL_PAYLOAD_DROP, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, pid);
    return conn_run(c, st, "payload", err);
}
