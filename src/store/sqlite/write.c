/* write.c -- one group, one transaction (store.h: all parts or nothing, durable when it returns XT_OK).
 *
 *  1. Counters live in memory and are written to `state` in the transaction of the rows that used them. After a rollback
 *     they are read again: a commit that failed may yet have reached the disk. A number is never used twice, not even
 *     after its row is gone.
 *  2. Nothing of a group survives it in memory but the counters and the codec's room. */
#include <stdlib.h>
#include <string.h>

#include "store/sqlite/group.h"

#define SCRATCH_KEEP_BYTES ((size_t)1 << 20)

static enum xt_code get_counter(struct conn *c, const char *key, int64_t *ret, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_STATE_GET, err);
    if (!st)
        return c->failed;
    bind_str(st, 1, str_c(key));
    int rc = sqlite3_step(st);
    int64_t v = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return conn_fail(c, rc, "counter", err);
    if (v < 1)
        return xt_fail(err, XT_EUNAVAILABLE, "the store's counter %s is missing or damaged", key);
    *ret = v;
    return XT_OK;
}

static enum xt_code set_counter(struct conn *c, const char *key, int64_t v, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_STATE_SET, err);
    if (!st)
        return c->failed;
    bind_str(st, 1, str_c(key));
    sqlite3_bind_int64(st, 2, v);
    return conn_run(c, st, "counter", err);
}

static enum xt_code counters_load(struct conn *c, struct write_state *ws, struct xt_err *err) {
    enum xt_code code = get_counter(c, "next_tseq", &ws->next_tseq, err);
    if (code == XT_OK)
        code = get_counter(c, "next_pid", &ws->next_pid, err);
    ws->known = code == XT_OK;
    return code;
}

enum xt_code write_state_load(struct sqlite_store *e, struct xt_err *err) {
    struct write_state *ws = alloc_should_fail() ? NULL : calloc(1, sizeof *ws);
    if (!ws)
        return no_memory(err);
    arena_init(&ws->arena, SIZE_MAX / 2); /* bounded by the batches of a group, which the queue bounds */
    buf_init(&ws->rest, SIZE_MAX / 2);
    ws->codec.dicts = e->dicts;
    enum xt_code code = counters_load(&e->writer, ws, err);
    write_state_free(e);
    e->ws = ws;
    if (code != XT_OK)
        write_state_free(e);
    return code;
}

void write_state_free(struct sqlite_store *e) {
    struct write_state *ws = e->ws;
    if (!ws)
        return;
    arena_done(&ws->arena);
    buf_done(&ws->rest);
    codec_done(&ws->codec);
    free(ws);
    e->ws = NULL;
}

/* Forgets a group; what one large record took is given back. */
static void write_state_tidy(struct write_state *ws) {
    arena_reset(&ws->arena);
    codec_trim(&ws->codec);
    if (ws->rest.cap > SCRATCH_KEEP_BYTES) {
        buf_done(&ws->rest);
        buf_init(&ws->rest, SIZE_MAX / 2);
    }
}

static enum xt_code write_records(struct sqlite_store *e, const struct batch_part *parts, size_t n,
                                  struct xt_err *err) {
    struct group g;
    enum xt_code code = XT_OK;
    group_init(&g, e);
    for (size_t i = 0; i < n && code == XT_OK; i++)
        code = group_add(&g, &parts[i], err);
    return code == XT_OK ? group_flush(&g, err) : code;
}

static enum xt_code write_all(struct sqlite_store *e, const struct batch_part *parts, size_t n, struct xt_err *err) {
    struct write_state *ws = e->ws;
    const int64_t old_tseq = ws->next_tseq, old_pid = ws->next_pid;
    enum xt_code code = write_records(e, parts, n, err);
    if (code == XT_OK && ws->next_tseq != old_tseq)
        code = set_counter(&e->writer, "next_tseq", ws->next_tseq, err);
    if (code == XT_OK && ws->next_pid != old_pid)
        code = set_counter(&e->writer, "next_pid", ws->next_pid, err);
    if (code == XT_OK)
        code = index_log(e, err);
    for (size_t i = 0; i < n && code == XT_OK; i++)
        if (parts[i].sample_from < parts[i].sample_to)
            code = samples_add(e, &parts[i], err);
    if (code == XT_OK)
        code = samples_log(e, err);
    return code == XT_OK ? conn_commit(&e->writer, err) : code;
}

static bool has_samples(const struct batch_part *parts, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (parts[i].sample_from < parts[i].sample_to)
            return true;
    return false;
}

enum xt_code sqlite_write(struct store *s, const struct batch_part *parts, size_t n, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    struct write_state *ws = e->ws;
    enum xt_code code = files_stand(e, err);
    if (code == XT_OK && has_samples(parts, n))
        code = samples_ready(e, err);
    if (code == XT_OK)
        code = conn_begin(&e->writer, true, err);
    if (code != XT_OK)
        return code;
    ws->group++;
    if (!ws->known)
        code = counters_load(&e->writer, ws, err);
    if (code == XT_OK)
        code = index_begin(e, err);
    if (code == XT_OK)
        code = write_all(e, parts, n, err);
    if (code == XT_OK) /* what was committed to a file without a name is as good as not committed */
        code = files_stand(e, err);
    if (code == XT_OK) {
        index_commit(e);
    } else {
        conn_rollback(&e->writer);
        index_abort(e);
        ws->known = false;
    }
    samples_end(e, code == XT_OK);
    write_state_tidy(ws);
    return code;
}
