/* payload.c -- see payload.h. Compression runs on the decoding threads (pack.c); the writer compresses only what it had
 * to merge. */
#include "store/sqlite/payload.h"

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

static enum xt_code damaged(struct xt_err *err) { return xt_fail(err, XT_ESTORE, "a stored text is damaged"); }
static enum xt_code no_room(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }

/* `most`: bytes that may come out. */
static enum xt_code inflate(struct codec *k, struct arena *a, const struct dict *with, struct str frame, size_t most,
                            struct str *ret, struct xt_err *err) {
    unsigned long long size = ZSTD_getFrameContentSize(frame.p, frame.n);
    if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size > most)
        return damaged(err);
    if (!k->d)
        k->d = alloc_should_fail() ? NULL : ZSTD_createDCtx();
    char *text = k->d ? arena_bytes(a, (size_t)size) : NULL;
    if (!text)
        return no_room(err);
    size_t n = with ? ZSTD_decompress_usingDDict(k->d, text, (size_t)size, frame.p, frame.n, with->d)
                    : ZSTD_decompressDCtx(k->d, text, (size_t)size, frame.p, frame.n);
    if (ZSTD_isError(n) || n != size)
        return damaged(err);
    *ret = (struct str){ text, n };
    return XT_OK;
}

static enum xt_code inflate_with(struct codec *k, struct arena *a, struct str body, size_t most, struct str *ret,
                                 struct xt_err *err) {
    uint64_t number;
    const struct dict *with = NULL;
    if (!take_varint(&body, &number) || number == 0 || number > INT64_MAX)
        return damaged(err);
    enum xt_code code = dicts_find(k->dicts, k->conn, (int64_t)number, &with, err);
    return code == XT_OK ? inflate(k, a, with, body, most, ret, err) : code;
}

static enum xt_code decode(struct codec *k, struct arena *a, struct str z, size_t most, struct str *ret,
                           struct xt_err *err) {
    if (z.n == 0)
        return damaged(err);
    struct str body = { z.p + 1, z.n - 1 };
    switch ((unsigned char)z.p[0]) {
    case KIND_RAW: *ret = body; return XT_OK;
    case KIND_ZSTD: return inflate(k, a, NULL, body, most, ret, err);
    case KIND_DICT: return inflate_with(k, a, body, most, ret, err);
    default:
        if ((unsigned char)z.p[0] <= KIND_LAST)
            return damaged(err);
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
        return damaged(err);
    z = str_sub(z, 1, z.n);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t bytes;
        if (!take_varint(&z, &bytes) || bytes > PACK_MAX_BYTES || (total += bytes) > PACK_MAX_BYTES)
            return damaged(err);
        ends[i] = (uint32_t)total;
    }
    if (z.n == 0 || (unsigned char)z.p[0] > KIND_DICT)
        return damaged(err);
    enum xt_code code = decode(k, a, z, (size_t)total, ret, err);
    return code == XT_OK && ret->n != total ? damaged(err) : code;
}

/* ---- rows ---- */

struct row {
    int64_t first, n;
    struct str z; /* valid until the statement is reset */
};

/* At the row that should hold text `pid`. XT_ESTORE: there is none. */
static enum xt_code find_row(struct conn *c, sqlite3_stmt *st, int64_t pid, struct row *ret, struct xt_err *err) {
    sqlite3_bind_int64(st, 1, pid);
    int rc = sqlite3_step(st);
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE ? damaged(err) : conn_fail(c, rc, "payload", err);
    *ret = (struct row){ .first = sqlite3_column_int64(st, 0), .n = sqlite3_column_int64(st, 1) };
    bool in = pid >= ret->first && ret->n >= 1 && ret->n <= PACK_MAX_TEXTS && pid - ret->first < ret->n;
    return in ? XT_OK : damaged(err);
}

static bool lies_in(struct str text, struct str z) {
    uintptr_t p = (uintptr_t)text.p, from = (uintptr_t)z.p;
    return p >= from && p <= from + z.n;
}

static enum xt_code copy_out(struct arena *a, struct str text, struct str *ret, struct xt_err *err) {
    *ret = arena_str(a, text);
    return str_has(*ret) ? XT_OK : no_room(err);
}

/* The texts of a pack become those that the codec knows. */
static enum xt_code open_pack(struct codec *k, const struct row *r, struct xt_err *err) {
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

static bool pack_has(const struct codec *k, int64_t pid) {
    return k->pack_n && pid >= k->pack_first && pid - k->pack_first < (int64_t)k->pack_n;
}

static enum xt_code read_single(struct codec *k, struct arena *a, const struct row *r, struct str *ret,
                                struct xt_err *err) {
    struct str text = STR_NONE;
    enum xt_code code = payload_decode(k, a, r->z, &text, err);
    if (code == XT_OK && lies_in(text, r->z))
        return copy_out(a, text, ret, err);
    if (code == XT_OK)
        *ret = text;
    return code;
}

enum xt_code payload_get(struct conn *c, struct codec *k, struct arena *a, int64_t pid, struct str *ret,
                         struct xt_err *err) {
    struct row r = { .n = 0 };
    *ret = STR_NONE;
    if (pid == 0)
        return XT_OK;
    if (pack_has(k, pid))
        return copy_out(a, pack_part(k, (uint32_t)(pid - k->pack_first)), ret, err);
    sqlite3_stmt *st = conn_stmt(c, SQL_PAYLOAD_GET, err);
    if (!st)
        return c->failed;
    k->conn = c;
    k->dicts = c->dicts;
    enum xt_code code = find_row(c, st, pid, &r, err);
    if (code == XT_OK) {
        r.z = col_blob(st, 2);
        code = r.n == 1 ? read_single(k, a, &r, ret, err) : open_pack(k, &r, err);
    }
    sqlite3_reset(st);
    if (code == XT_OK && r.n > 1)
        code = copy_out(a, pack_part(k, (uint32_t)(pid - r.first)), ret, err);
    return code;
}

static enum xt_code add_row(struct conn *c, int64_t pid, int64_t n, struct str z, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_PAYLOAD_ADD, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, pid);
    sqlite3_bind_int64(st, 2, n);
    bind_blob(st, 3, z);
    return conn_run(c, st, "payload", err);
}

enum xt_code payload_add(struct conn *c, int64_t pid, struct str text, struct str z, struct xt_err *err) {
    return add_row(c, pid, 1, str_has(z) ? z : text, err);
}

enum xt_code payload_add_pack(struct conn *c, int64_t pid, const struct pack *p, struct xt_err *err) {
    return add_row(c, pid, p->n, p->z, err);
}

enum xt_code payload_same(struct conn *c, struct codec *k, struct arena *a, int64_t pid, struct str text, bool *ret,
                          struct xt_err *err) {
    struct str stored;
    enum xt_code code = payload_get(c, k, a, pid, &stored, err);
    *ret = code == XT_OK && str_eq(stored, text);
    return code == XT_ESTORE ? XT_OK : code;
}

/* Visits the texts of one row; false: enough. */
static bool visit_row(struct codec *k, struct arena *a, const struct row *r, bool (*visit)(void *arg, struct str text),
                      void *arg) {
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

enum xt_code payload_newest(struct conn *c, int64_t rows, bool (*visit)(void *arg, struct str text), void *arg,
                            struct xt_err *err) {
    struct codec k = { .dicts = c->dicts, .conn = c };
    struct arena a;
    int rc;
    bool go_on = true;
    sqlite3_stmt *st = conn_stmt(c, SQL_PAYLOAD_NEWEST, err);
    if (!st)
        return c->failed;
    arena_init(&a, PAYLOAD_MAX_BYTES + 4096);
    sqlite3_bind_int64(st, 1, rows);
    while (go_on && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct row r = { sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1), col_blob(st, 2) };
        go_on = visit_row(&k, &a, &r, visit, arg);
        arena_reset(&a);
    }
    sqlite3_reset(st);
    codec_done(&k);
    arena_done(&a);
    return !go_on || rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "payload", err);
}

static bool read_row(struct codec *k, struct arena *a, const struct row *r, struct xt_err *err) {
    struct str text;
    if (r->n == 1)
        return payload_decode(k, a, r->z, &text, err) == XT_OK;
    if (r->n >= 1 && r->n <= PACK_MAX_TEXTS)
        return open_pack(k, r, err) == XT_OK;
    xt_fail(err, XT_ESTORE, "a stored text is damaged: a row of %lld texts", (long long)r->n);
    return false;
}

enum xt_code payload_check(struct conn *c, struct buf *report, size_t most, struct xt_err *err) {
    struct codec k = { .dicts = c->dicts, .conn = c };
    struct arena a;
    int64_t end = 0; /* of the row before */
    int rc;
    sqlite3_stmt *st = conn_stmt(c, SQL_PAYLOAD_ALL, err);
    if (!st)
        return c->failed;
    arena_init(&a, PAYLOAD_MAX_BYTES + 4096);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && most > 0) {
        struct row r = { sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1), col_blob(st, 2) };
        struct xt_err why = { 0 };
        bool fine = read_row(&k, &a, &r, &why);
        if (!fine || r.first < end) {
            buf_printf(report, "payload %lld: %s\n", (long long)r.first, fine ? "numbers used twice" : why.msg);
            most--;
        }
        end = r.first + r.n;
        arena_reset(&a);
    }
    sqlite3_reset(st);
    codec_done(&k);
    arena_done(&a);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? XT_OK : conn_fail(c, rc, "payload", err);
}

/* ---- removal ---- */

static enum xt_code run_for(struct conn *c, enum sql_id id, int64_t first, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, id, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, first);
    return conn_run(c, st, "payload", err);
}

enum xt_code payload_lose(struct conn *c, int64_t first, int64_t n, int64_t gone, struct xt_err *err) {
    bool noted = gone < n;
    if (noted) {
        sqlite3_stmt *st = conn_stmt(c, SQL_PAYLOAD_GONE, err);
        if (!st)
            return c->failed;
        sqlite3_bind_int64(st, 1, first);
        sqlite3_bind_int64(st, 2, gone);
        int rc = sqlite3_step(st);
        gone = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
        if (rc == SQLITE_ROW)
            rc = sqlite3_step(st);
        sqlite3_reset(st);
        if (rc != SQLITE_DONE)
            return conn_fail(c, rc, "payload", err);
    }
    if (gone < n)
        return XT_OK;
    enum xt_code code = noted ? run_for(c, SQL_PAYLOAD_GONE_DROP, first, err) : XT_OK;
    return code == XT_OK ? run_for(c, SQL_PAYLOAD_DROP, first, err) : code;
}

static enum xt_code end_run(struct conn *c, struct payload_drops *d, size_t i, struct xt_err *err) {
    int64_t n = d->run[i].n;
    d->run[i].n = 0;
    return n ? payload_lose(c, d->run[i].first, n, d->run[i].gone, err) : XT_OK;
}

enum xt_code payload_drop_in(struct conn *c, struct payload_drops *d, int64_t pid, struct xt_err *err) {
    struct row r = { .n = 0 };
    struct xt_err missing;
    if (pid == 0)
        return XT_OK;
    for (size_t i = 0; i < DROP_RUNS; i++)
        if (d->run[i].n && pid >= d->run[i].first && pid - d->run[i].first < d->run[i].n) {
            d->run[i].gone++;
            return XT_OK;
        }
    sqlite3_stmt *st = conn_stmt(c, SQL_PAYLOAD_ROW, err);
    if (!st)
        return c->failed;
    enum xt_code code = find_row(c, st, pid, &r, &missing);
    sqlite3_reset(st);
    if (code == XT_ESTORE)
        return XT_OK; /* it is gone already */
    if (code != XT_OK) {
        *err = missing;
        return code;
    }
    if (r.n == 1)
        return run_for(c, SQL_PAYLOAD_DROP, pid, err);
    size_t i = d->next;
    d->next = (i + 1) % DROP_RUNS;
    code = end_run(c, d, i, err);
    d->run[i].first = r.first;
    d->run[i].n = r.n;
    d->run[i].gone = 1;
    return code;
}

enum xt_code payload_drops_end(struct conn *c, struct payload_drops *d, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (size_t i = 0; i < DROP_RUNS && code == XT_OK; i++)
        code = end_run(c, d, i, err);
    return code;
}

enum xt_code payload_drop(struct conn *c, int64_t pid, struct xt_err *err) {
    struct payload_drops d = { .next = 0 };
    enum xt_code code = payload_drop_in(c, &d, pid, err);
    return code == XT_OK ? payload_drops_end(c, &d, err) : code;
}
