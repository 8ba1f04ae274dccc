/* write.c -- one group, one transaction (store.h: all parts or nothing, durable when it returns XT_OK).
 *
 *  1. A try that another server's insert, a deadlock or a broken connection ended is made again from the start, a few times
 *     and within the deadline of the whole: nothing of it is left but numbers that it took.
 *  2. A COMMIT whose answer never came is settled by pg_commit; what it can't settle is XT_EUNAVAILABLE.
 *  3. Nothing of a group survives it in memory but numbers and the codec's room. */
#include "store/postgres/write.h"

#include <stdlib.h>

#include "store/postgres/samples.h"
#include "store/postgres/text.h"

#define TRIES 8
#define SCRATCH_KEEP_BYTES ((size_t)1 << 20)

/* ---- what lives from group to group ---- */

enum xt_code pg_write_state_new(struct pg_store *e, struct xt_err *err) {
    struct pg_write_state *w = alloc_should_fail() ? NULL : calloc(1, sizeof *w);
    if (!w)
        return no_memory(err);
    arena_init(&w->arena, SIZE_MAX / 2); /* bounded by the batches of a group, which the queue bounds */
    buf_init(&w->rest, SIZE_MAX / 2);
    pg_args_init(&w->args);
    w->codec.dicts = e->dicts;
    w->codec.from = pg_dict_source(&e->writer);
    e->ws = w;
    return XT_OK;
}

void pg_write_state_free(struct pg_store *e) {
    struct pg_write_state *w = e->ws;
    if (!w)
        return;
    free(w->tseqs);
    arena_done(&w->arena);
    buf_done(&w->rest);
    pg_args_done(&w->args);
    codec_done(&w->codec);
    free(w);
    e->ws = NULL;
}

/* What one large record took is given back. */
static void give_back(struct pg_write_state *w) {
    arena_reset(&w->arena);
    codec_trim(&w->codec);
    if (w->rest.cap > SCRATCH_KEEP_BYTES) {
        buf_done(&w->rest);
        buf_init(&w->rest, SIZE_MAX / 2);
    }
    if (w->args.data.cap > SCRATCH_KEEP_BYTES) {
        pg_args_done(&w->args);
        pg_args_init(&w->args);
    }
}

/* ---- a group ---- */

void pg_group_init(struct pg_group *g, struct pg_store *e) {
    struct pg_write_state *w = e->ws;
    *g = (struct pg_group){ .e = e, .c = &e->writer, .w = w, .a = &w->arena };
    struct fold_source from = pg_fold_source;
    from.arg = g;
    g->texts_end = &g->texts;
    map_init(&g->stored_texts, g->a);
    fold_init(&g->f, g->a, &from);
    w->group++;
}

void pg_group_done(struct pg_group *g) {
    for (size_t i = 0; i < g->nresults; i++)
        PQclear(g->results[i]);
    g->nresults = 0;
    g->w->trips += g->trips;
    give_back(g->w);
}

static enum xt_code write_records(struct pg_group *g, const struct batch_part *parts, size_t n, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (size_t i = 0; i < n; i++)
        g->records += parts[i].trace_to - parts[i].trace_from + parts[i].observation_to - parts[i].observation_from;
    if (g->records == 0)
        return XT_OK;
    for (size_t i = 0; i < n && code == XT_OK; i++)
        code = fold_collect(&g->f, &parts[i], err);
    if (code == XT_OK)
        code = pg_load(g, err);
    for (size_t i = 0; i < n && code == XT_OK; i++)
        code = fold_add(&g->f, &parts[i], err);
    if (code == XT_OK)
        code = pg_load_more(g, err);
    return code == XT_OK ? pg_put(g, err) : code;
}

/* Everything of one try but its beginning and its end. */
static enum xt_code write_all(struct pg_group *g, const struct batch_part *parts, size_t n, struct xt_err *err) {
    enum xt_code code = write_records(g, parts, n, err);
    for (size_t i = 0; i < n && code == XT_OK; i++)
        code = pg_samples_add(g->e, &parts[i], err);
    if (code == XT_OK && g->e->samples->open) {
        code = pg_samples_log(g->e, g->c, err);
        g->trips++;
    }
    if (code == XT_OK && g->records > 0) {
        code = pg_rollups_add(g->c, &g->w->args, &g->f.rollups, err);
        g->trips++;
    }
    if (code == XT_OK && g->also) {
        code = g->also->in_group(g->also->arg, g->c, err);
        g->trips++;
    }
    g->trips++;
    return code == XT_OK ? pg_commit(g->c, err) : code;
}

static enum xt_code try_write(struct pg_store *e, const struct batch_part *parts, size_t n, const struct pg_also *also,
                              bool *ret_again, struct xt_err *err) {
    struct pg_group g;
    pg_group_init(&g, e);
    g.also = also;
    e->ws->tries++;
    enum xt_code code = write_all(&g, parts, n, err);
    if (code != XT_OK) {
        /* Another server inserted the same trace first. */
        bool taken = pg_state_is(g.c, "23505") && !g.c->unsettled;
        *ret_again = taken || pg_again(g.c) || (e->samples->lost_stream && !g.c->unsettled);
        if (taken)
            code = xt_fail(err, XT_EUNAVAILABLE, "other servers write the same traces");
        pg_rollback(g.c);
    }
    pg_samples_end(e, code == XT_OK, g.c->unsettled);
    pg_group_done(&g);
    return code;
}

static bool has_samples(const struct batch_part *parts, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (parts[i].sample_from < parts[i].sample_to)
            return true;
    return false;
}

enum xt_code pg_write_with(struct pg_store *e, const struct batch_part *parts, size_t n, const struct pg_also *also,
                           struct xt_err *err) {
    const bool samples = has_samples(parts, n);
    enum xt_code code = XT_OK;
    bool again = true;
    pg_partitions_ready(e);
    for (int i = 0; again && i < TRIES; i++) {
        again = false;
        code = samples ? pg_samples_ready(e, err) : XT_OK;
        if (code == XT_OK)
            code = i == 0 ? pg_writer_begin(e, err) : pg_begin(&e->writer, true, err);
        if (code == XT_OK)
            code = try_write(e, parts, n, also, &again, err);
    }
    return code;
}

enum xt_code postgres_write(struct store *s, const struct batch_part *parts, size_t n, struct xt_err *err) {
    return pg_write_with(pg_of(s), parts, n, NULL, err);
}
