/* dictionary.c -- dictionaries of texts (store/text/dict.h) as rows of `dict`, and what the engine does with them: prepare,
 * study, learn. */
#include "base/sha.h"
#include "store/sample/hot.h"
#include "store/sqlite/payload.h"
#include "store/text/text.h"

#define LOAD_WAIT NS_PER_SEC
#define STUDY_WAIT (5 * NS_PER_SEC)

/* ---- reading ---- */

enum xt_code payload_dict(struct conn *c, int64_t number, struct dict_row *ret, struct xt_err *err) {
    enum xt_code code = XT_OK;
    sqlite3_stmt *st = conn_stmt(c, number ? SQL_DICT_GET : SQL_DICT_NEWEST, err);
    if (!st)
        return c->failed;
    if (number)
        sqlite3_bind_int64(st, 1, number);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        code = dict_row_set(ret, sqlite3_column_int64(st, 0), col_blob(st, 1), col_blob(st, 2), err);
    else if (rc != SQLITE_DONE)
        code = conn_fail(c, rc, "dictionary", err);
    sqlite3_reset(st);
    return code;
}

static enum xt_code newest_dict(void *arg, int64_t number, struct dict_row *ret, struct xt_err *err) {
    struct sqlite_store *e = arg;
    struct conn *c = reader_get(e, clock_mono_ns() + LOAD_WAIT, err);
    if (!c)
        return XT_EUNAVAILABLE;
    enum xt_code code = payload_dict(c, number, ret, err);
    reader_put(e, c);
    return code;
}

enum xt_code sqlite_prepare(struct store *s, struct batch *b, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    enum xt_code code = hot_prepare(b, err);
    if (code != XT_OK || b->ntraces + b->nobservations == 0)
        return code;
    if (!dicts_current(e->dicts))
        dicts_load_current(e->dicts, &(struct dict_source){ e, newest_dict });
    return texts_prepare(e->dicts, b, err);
}

/* ---- making one ---- */

static enum xt_code newest_texts(void *arg, int64_t rows, text_visitor *visit, void *visit_arg, struct xt_err *err) {
    struct sqlite_store *e = arg;
    struct conn *c = reader_get(e, clock_mono_ns() + STUDY_WAIT, err);
    if (!c)
        return XT_EUNAVAILABLE;
    enum xt_code code = payload_newest(c, rows, visit, visit_arg, err);
    reader_put(e, c);
    return code;
}

enum xt_code sqlite_study(struct store *s, struct buf *ret, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    return e->conf.read_only ? XT_OK : dicts_train(e->dicts, &(struct text_newest){ e, newest_texts }, ret, err);
}

enum xt_code sqlite_learn(struct store *s, struct str bytes, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    uint8_t sum[SHA256_BYTES];
    struct conn *c = &e->writer;
    if (!sha256(bytes, sum))
        return xt_fail(err, XT_ENOMEM, "no checksum of a dictionary");
    enum xt_code code = conn_begin(c, true, err);
    sqlite3_stmt *st = code == XT_OK ? conn_stmt(c, SQL_DICT_ADD, err) : NULL;
    if (st) {
        sqlite3_bind_int64(st, 1, clock_now_ns());
        bind_blob(st, 2, bytes);
        bind_blob(st, 3, (struct str){ (const char *)sum, sizeof sum });
        code = conn_run(c, st, "dictionary", err);
    } else if (code == XT_OK) {
        code = c->failed;
    }
    int64_t number = sqlite3_last_insert_rowid(c->db);
    if (code == XT_OK)
        code = conn_commit(c, err);
    if (code != XT_OK) {
        conn_rollback(c);
        return code;
    }
    dicts_use(e->dicts, number, bytes); /* without memory: at the next start */
    return XT_OK;
}
