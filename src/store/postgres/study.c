/* study.c -- dictionaries of texts (store/text/dict.h): made of the newest ones, added as rows of xtrace.dict, used by
 * prepare.
 *
 *  1. Several servers may train and add: numbers are the database's, rows are never changed, and each server encodes with
 *     the newest one that it knew or made. All read all.
 *  2. Training reads the newest texts in slices of SLICE_ROWS rows and SLICE_BYTES; what is beyond in a slice is passed
 *     over. */
#include "base/sha.h"
#include "store/postgres/engine.h"
#include "store/postgres/text.h"
#include "store/sample/hot.h"

#define LOAD_WAIT NS_PER_SEC
#define STUDY_WAIT (10 * NS_PER_SEC)
#define SLICE_ROWS 200
#define SLICE_BYTES ((int64_t)8 << 20)
#define STUDY_BYTES (PAYLOAD_MAX_BYTES + 4096)

#define SQL_ADD "INSERT INTO xtrace.dict(created, z, sum) VALUES ($1, $2, $3) RETURNING id"
/* Before a place (week, number), newest first. */
#define SQL_TEXTS                                                                                              \
    "SELECT d.week, d.pid, d.n, CASE WHEN sum(octet_length(d.z)) OVER (ORDER BY d.week DESC, d.pid DESC"       \
    " ROWS UNBOUNDED PRECEDING) <= $4 THEN d.z END FROM (SELECT p.week, p.pid, p.n, p.z FROM xtrace.payload p" \
    " WHERE (p.week, p.pid) < ($1, $2) ORDER BY p.week DESC, p.pid DESC LIMIT $3) d ORDER BY 1 DESC, 2 DESC"

/* ---- using one ---- */

static enum xt_code newest_dict(void *arg, int64_t number, struct dict_row *ret, struct xt_err *err) {
    struct pg_store *e = arg;
    struct pg_conn *c = pg_reader_get(e, clock_mono_ns() + LOAD_WAIT, err);
    if (!c)
        return XT_EUNAVAILABLE;
    struct dict_source from = pg_dict_source(c);
    enum xt_code code = from.row(from.arg, number, ret, err);
    pg_reader_put(e, c);
    return code;
}

enum xt_code postgres_prepare(struct store *s, struct batch *b, struct xt_err *err) {
    struct pg_store *e = pg_of(s);
    enum xt_code code = hot_prepare(b, err);
    if (code != XT_OK || b->ntraces + b->nobservations == 0)
        return code;
    if (!dicts_current(e->dicts))
        dicts_load_current(e->dicts, &(struct dict_source){ e, newest_dict });
    return texts_prepare(e->dicts, b, err);
}

/* ---- making one ---- */

struct study {
    struct pg_conn *c;
    struct codec codec;
    struct arena arena;
    struct pg_args args;
    int32_t week; /* of the last row that was seen */
    int64_t pid;
    bool more;
};

static void visit_rows(struct study *s, const PGresult *r, text_visitor *visit, void *arg) {
    for (int i = 0; i < PQntuples(r) && s->more; i++) {
        struct text_row row = { pg_i64(r, i, 1), pg_i64(r, i, 2), pg_bytes(r, i, 3) };
        s->week = (int32_t)pg_i64(r, i, 0);
        s->pid = row.first;
        if (!pg_is_null(r, i, 3))
            s->more = text_row_visit(&s->codec, &s->arena, &row, visit, arg);
        arena_reset(&s->arena);
    }
}

/* The next rows; fewer than asked for are the last ones. */
static enum xt_code visit_slice(struct study *s, int64_t rows, text_visitor *visit, void *arg, struct xt_err *err) {
    PGresult *r = NULL;
    pg_args_clear(&s->args);
    pg_arg_i32(&s->args, s->week);
    pg_arg_i64(&s->args, s->pid);
    pg_arg_i64(&s->args, rows);
    pg_arg_i64(&s->args, SLICE_BYTES);
    enum xt_code code = pg_query(s->c, SQL_TEXTS, &s->args, &r, err);
    if (code == XT_OK && PQnfields(r) != 4)
        code = text_damaged(err);
    if (code == XT_OK) {
        visit_rows(s, r, visit, arg);
        s->more = s->more && PQntuples(r) == (int)rows;
    }
    PQclear(r);
    return code;
}

static enum xt_code newest_texts(void *arg, int64_t rows, text_visitor *visit, void *visit_arg, struct xt_err *err) {
    struct pg_store *e = arg;
    enum xt_code code = XT_OK;
    struct pg_conn *c = pg_reader_get(e, clock_mono_ns() + STUDY_WAIT, err);
    if (!c)
        return XT_EUNAVAILABLE;
    struct study s = { .c = c,
                       .codec = { .dicts = e->dicts, .from = pg_dict_source(c) },
                       .week = INT32_MAX,
                       .pid = INT64_MAX,
                       .more = true };
    pg_args_init(&s.args);
    arena_init(&s.arena, STUDY_BYTES);
    for (; code == XT_OK && s.more && rows > 0; rows -= SLICE_ROWS)
        code = visit_slice(&s, rows < SLICE_ROWS ? rows : SLICE_ROWS, visit, visit_arg, err);
    arena_done(&s.arena);
    pg_args_done(&s.args);
    codec_done(&s.codec);
    pg_reader_put(e, c);
    return code;
}

enum xt_code postgres_study(struct store *s, struct buf *ret, struct xt_err *err) {
    struct pg_store *e = pg_of(s);
    return dicts_train(e->dicts, &(struct text_newest){ e, newest_texts }, ret, err);
}

/* The row in the writer's transaction, which is committed; nothing is learnt when nobody knows whether it was. */
static enum xt_code add_dict(struct pg_conn *c, struct str bytes, int64_t *ret_number, struct xt_err *err) {
    uint8_t sum[SHA256_BYTES];
    struct pg_args a;
    PGresult *r = NULL;
    if (!sha256(bytes, sum))
        return xt_fail(err, XT_ENOMEM, "no checksum of a dictionary");
    pg_args_init(&a);
    pg_arg_i64(&a, clock_now_ns());
    pg_arg_bytes(&a, bytes);
    pg_arg_bytes(&a, (struct str){ (const char *)sum, sizeof sum });
    enum xt_code code = pg_query(c, SQL_ADD, &a, &r, err);
    if (code == XT_OK)
        *ret_number = PQntuples(r) == 1 ? pg_i64(r, 0, 0) : 0;
    PQclear(r);
    pg_args_done(&a);
    return code == XT_OK ? pg_commit(c, err) : code;
}

enum xt_code postgres_learn(struct store *s, struct str what, struct xt_err *err) {
    struct pg_store *e = pg_of(s);
    int64_t number = 0;
    enum xt_code code = pg_writer_begin(e, err);
    if (code == XT_OK)
        code = add_dict(&e->writer, what, &number, err);
    pg_rollback(&e->writer);
    if (code == XT_OK && number > 0)
        dicts_use(e->dicts, number, what); /* without memory: at the next start */
    return code;
}
