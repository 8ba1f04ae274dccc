/* index_log.c -- the log of the index: one row a group, replayed into the hot part at start and by readers whose snapshot
 * is not that of memory.
 *
 * A row: format (1 byte), number of entries of each kind (varints), then the entries kind by kind: hash (5 bytes of an id,
 * 8 of a posting, least first), for postings the time and for all the trace, each as difference to the entry before of the
 * same kind (zigzag varint). A row is decoded whole or refused whole; nothing in it is believed before it is checked. */
#include "store/sqlite/index.h"

#define LOG_FORMAT 1
#define ID_BYTES 5
#define HASH_BYTES 8

static void put_varint(struct buf *b, uint64_t v) {
    char bytes[10];
    size_t n = 0;
    while (v >= 128) {
        bytes[n++] = (char)(v | 128);
        v >>= 7;
    }
    bytes[n++] = (char)v;
    buf_add(b, bytes, n);
}

static void put_delta(struct buf *b, uint64_t v, uint64_t before) {
    uint64_t d = v - before;
    put_varint(b, d << 1 ^ (0 - (d >> 63)));
}

static void put_hash(struct buf *b, uint64_t h, size_t n) {
    char bytes[HASH_BYTES];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)(h >> (8 * i));
    buf_add(b, bytes, n);
}

bool log_encode(const struct ix_hot *h, struct buf *ret) {
    buf_clear(ret);
    buf_add_char(ret, LOG_FORMAT);
    for (int k = 0; k < IX_KINDS; k++)
        put_varint(ret, h->staged.n[k] - h->published.n[k]);
    for (enum ix_kind k = 0; k < IX_KINDS; k++) {
        struct ix_entry before = { 0 };
        for (uint32_t i = h->published.n[k]; i < h->staged.n[k]; i++) {
            struct ix_entry e = hot_entry(h, k, i);
            put_hash(ret, e.h, ix_timed(k) ? HASH_BYTES : ID_BYTES);
            if (ix_timed(k))
                put_delta(ret, e.ts, before.ts);
            put_delta(ret, (uint64_t)e.tseq, (uint64_t)before.tseq);
            before = e;
        }
    }
    return !ret->failed;
}

/* ---- back ---- */

struct reader {
    const unsigned char *p, *end;
    bool bad;
};

static uint64_t get_varint(struct reader *r) {
    uint64_t v = 0;
    for (int shift = 0; shift < 64 && r->p < r->end; shift += 7) {
        unsigned char byte = *r->p++;
        v |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return v;
    }
    r->bad = true;
    return 0;
}

static uint64_t get_delta(struct reader *r, uint64_t before) {
    uint64_t z = get_varint(r);
    return before + (z >> 1 ^ (0 - (z & 1)));
}

static uint64_t get_hash(struct reader *r, size_t n) {
    uint64_t v = 0;
    if ((size_t)(r->end - r->p) < n) {
        r->bad = true;
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)r->p[i] << (8 * i);
    r->p += n;
    return v;
}

/* False with r->bad: no row of ours; without: no memory. */
static bool get_entries(struct reader *r, struct ix_hot *h, int bits, enum ix_kind k, uint64_t n) {
    struct ix_entry e = { 0 };
    for (uint64_t i = 0; i < n; i++) {
        e.h = get_hash(r, ix_timed(k) ? HASH_BYTES : ID_BYTES);
        if (ix_timed(k))
            e.ts = get_delta(r, e.ts);
        e.tseq = (int64_t)get_delta(r, (uint64_t)e.tseq);
        if (e.tseq < 1 || e.tseq >> IX_TSEQ_BITS != 0 || (!ix_timed(k) && e.h >> bits != 0))
            r->bad = true;
        if (r->bad || !hot_stage(h, k, &e))
            return false;
    }
    return true;
}

enum xt_code log_decode(struct ix_hot *h, int bits, struct str z, struct xt_err *err) {
    uint64_t n[IX_KINDS];
    struct reader r = { (const unsigned char *)z.p, (const unsigned char *)z.p + z.n, false };
    bool ok = z.n > 0 && *r.p++ == LOG_FORMAT;
    for (int k = 0; k < IX_KINDS && ok; k++) {
        n[k] = get_varint(&r);
        ok = !r.bad && n[k] <= z.n; /* an entry has several bytes */
    }
    for (enum ix_kind k = 0; k < IX_KINDS && ok; k++)
        if (!get_entries(&r, h, bits, k, n[k])) {
            hot_forget(h);
            return r.bad ? ix_damaged(NULL, "log", err) : xt_fail(err, XT_ENOMEM, "out of memory");
        }
    if (ok && r.p == r.end)
        return XT_OK;
    hot_forget(h);
    return ix_damaged(NULL, "log", err);
}

enum xt_code log_replay(struct conn *c, struct ix_hot *h, int bits, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_IX_LOG, err);
    enum xt_code code = XT_OK;
    int rc = SQLITE_DONE;
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, h->first_seq);
    while (code == XT_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        int64_t next = atomic_load_explicit(&h->last_seq, memory_order_relaxed) + 1;
        if (sqlite3_column_int64(st, 0) != next)
            code = ix_damaged(c, "log", err);
        else if (!hot_reserve(h))
            code = xt_fail(err, XT_ENOMEM, "out of memory");
        else
            code = log_decode(h, bits, col_blob(st, 1), err);
        if (code == XT_OK)
            hot_publish(h);
    }
    sqlite3_reset(st);
    if (code != XT_OK)
        return code;
    return rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "look-up", err);
}
