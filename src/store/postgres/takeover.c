/* takeover.c -- takes over a database that the original (lipish/xtrace 0.1) filled: every row of its tables becomes a
 * record of ours, piece by piece; see docs/storage.md.
 *
 *  1. A piece is one transaction of the ordinary group write, which also moves the place in xtrace.takeover on. So a
 *     process that is killed anywhere leaves whole pieces, and whoever goes on begins behind the last one: nothing is
 *     written twice, points of metrics included.
 *  2. One server works, under the lease `takeover`; others wait. The lease only spares work: what keeps two from writing
 *     the same piece is that the place moves on from the step that was read (a COMMIT that is not known is settled so, too).
 *  3. The original's tables are only read.
 *  4. What can't be stored is tried alone, then left out, logged and counted.
 * All of it on the one thread that starts the server, before there is an ingest writer. */
#include "store/postgres/takeover.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "store/fold/record.h"
#include "store/postgres/write.h"

#define LEASE STR_LIT("takeover")
#define LEASE_NS (10 * NS_PER_SEC)
#define LOOK_NS (10 * NS_PER_SEC)
#define READ_NS (60 * NS_PER_SEC)
#define WEEKS_NS (120 * NS_PER_SEC)
#define REPORT_NS (5 * NS_PER_SEC)
#define STUDY_NS (2 * NS_PER_SEC)
#define LESSON_MAX_BYTES ((size_t)1 << 20)
#define PIECE_ROWS 4000
#define PIECE_POINTS 20000
#define PIECE_BYTES ((int64_t)8 << 20)

struct pg_takeover {
    struct tk_source source;
    struct tk_place place;
    bool looked; /* the source is known */
    bool begun;  /* there is a place in the database */
    bool held;   /* the lease is, until: */
    int64_t held_until;
    int32_t rows; /* of the next piece; fewer after a refusal */
    int64_t reported, studied, started;
};

void pg_takeover_free(struct pg_store *e) {
    if (!e->takeover)
        return;
    tk_source_done(&e->takeover->source);
    free(e->takeover);
    e->takeover = NULL;
}

static struct pg_takeover *takeover_of(struct pg_store *e) {
    if (e->takeover || alloc_should_fail())
        return e->takeover;
    struct pg_takeover *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    tk_source_init(&t->source);
    t->rows = PIECE_ROWS;
    t->started = clock_mono_ns();
    e->takeover = t;
    return t;
}

/* ---- the place ---- */

static void text_at(const PGresult *r, int col, char out[TK_UUID_MAX]) {
    snprintf(out, TK_UUID_MAX, "%.*s", STR_FMT(str_sub(pg_bytes(r, 0, col), 0, TK_UUID_MAX - 1)));
}

static enum xt_code place_read(struct pg_conn *c, struct pg_takeover *t, struct xt_err *err) {
    PGresult *r = NULL;
    enum xt_code code =
        pg_query(c,
                 "SELECT step, phase, coalesce(trace::text, ''), coalesce(observation::text, ''), point, "
                 "traces, observations, points, skipped FROM xtrace.takeover WHERE id = 1",
                 NULL, &r, err);
    if (code != XT_OK)
        return code;
    t->begun = PQntuples(r) == 1;
    if (t->begun) {
        t->place = (struct tk_place){ .step = pg_i64(r, 0, 0),
                                      .phase = (int)pg_i64(r, 0, 1),
                                      .point = pg_i64(r, 0, 4),
                                      .traces = pg_i64(r, 0, 5),
                                      .observations = pg_i64(r, 0, 6),
                                      .points = pg_i64(r, 0, 7),
                                      .skipped = pg_i64(r, 0, 8) };
        text_at(r, 2, t->place.trace);
        text_at(r, 3, t->place.observation);
    }
    PQclear(r);
    return XT_OK;
}

/* What there is to take over, and how far that is. */
static enum xt_code look(struct pg_store *e, struct pg_takeover *t, struct xt_err *err) {
    struct pg_conn *c = pg_reader_get(e, clock_mono_ns() + LOOK_NS, err);
    if (!c)
        return err->code;
    enum xt_code code = place_read(c, t, err);
    if (code == XT_OK && !t->looked && (!t->begun || t->place.phase != TK_DONE))
        code = tk_look(c, &t->source, err);
    pg_reader_put(e, c);
    if (code == XT_OK && t->begun && t->place.phase != TK_DONE && !t->source.found)
        return xt_fail(err, XT_ECONFLICT,
                       "the tables of the original are gone before all of them was taken over: put them back");
    t->looked = t->looked || code == XT_OK;
    return code;
}

/* Other servers may have been here since. *ret_mine: the work is ours, and the place as it stands. */
static enum xt_code take_lease(struct pg_store *e, struct pg_takeover *t, bool *ret_mine, struct xt_err *err) {
    enum xt_code code = pg_writer_begin(e, err);
    if (code == XT_OK)
        code = pg_lease_take(e, &e->writer, LEASE, LEASE_NS, ret_mine, err);
    if (code == XT_OK && !t->begun && *ret_mine)
        code = pg_query(&e->writer, "INSERT INTO xtrace.takeover(id) VALUES(1) ON CONFLICT (id) DO NOTHING", NULL, NULL,
                        err);
    if (code == XT_OK)
        code = pg_commit(&e->writer, err);
    pg_rollback(&e->writer);
    t->held = code == XT_OK && *ret_mine;
    t->held_until = clock_mono_ns() + LEASE_NS / 2;
    return t->held ? look(e, t, err) : code;
}

/* Records keep the times of their creation: the weeks of the last years get partitions as if they had been written here,
 * so that retention drops them whole. Nothing depends on it (the rest has the DEFAULT partition). */
static void make_weeks(struct pg_store *e, const struct pg_takeover *t) {
    struct xt_err err;
    struct buf sql;
    buf_init(&sql, 4096);
    buf_printf(
        &sql,
        "SELECT xtrace.partitions_ensure(w::int) FROM (SELECT DISTINCT floor(extract(epoch FROM at) / 604800) AS w "
        "FROM (SELECT created_at AS at FROM public.traces%s) d WHERE at BETWEEN now() - interval '200 weeks' AND "
        "now()) d",
        t->source.points ? " UNION ALL SELECT timestamp FROM public.metrics" : "");
    enum xt_code code = pg_writer_begin(e, &err);
    e->writer.deadline = clock_mono_ns() + WEEKS_NS;
    if (code == XT_OK && !sql.failed)
        code = pg_query(&e->writer, sql.p, NULL, NULL, &err);
    if (code == XT_OK)
        code = pg_commit(&e->writer, &err);
    pg_rollback(&e->writer);
    if (code != XT_OK)
        log_warn("event=takeover_partitions_failed message=\"%s\"", err.msg);
    buf_done(&sql);
}

/* ---- a piece ---- */

/* In the piece's transaction: the place moves on, if it is where it was. */
struct move {
    struct pg_store *e;
    const struct tk_place *next;
};
static enum xt_code move_on(void *arg, struct pg_conn *c, struct xt_err *err) {
    const struct move *m = arg;
    const struct tk_place *p = m->next;
    PGresult *r = NULL;
    struct pg_args a;
    bool mine = false;
    pg_args_init(&a);
    pg_arg_i64(&a, p->step - 1);
    pg_arg_i64(&a, p->phase);
    pg_arg_text(&a, p->trace[0] ? str_c(p->trace) : STR_NONE);
    pg_arg_text(&a, p->observation[0] ? str_c(p->observation) : STR_NONE);
    pg_arg_i64(&a, p->point);
    pg_arg_i64(&a, p->traces);
    pg_arg_i64(&a, p->observations);
    pg_arg_i64(&a, p->points);
    pg_arg_i64(&a, p->skipped);
    enum xt_code code = pg_query(c,
                                 "UPDATE xtrace.takeover SET step = step + 1, phase = $2, trace = $3::uuid, "
                                 "observation = $4::uuid, point = $5, traces = $6, observations = $7, points = $8, "
                                 "skipped = $9, finished = CASE WHEN $2 = 2 THEN now() END WHERE id = 1 AND step = $1",
                                 &a, &r, err);
    pg_args_done(&a);
    if (code != XT_OK)
        return code;
    bool moved = pg_touched(r) == 1;
    PQclear(r);
    if (moved && p->phase == TK_DONE)
        return pg_lease_give(m->e, c, LEASE, err);
    code = moved ? pg_lease_take(m->e, c, LEASE, LEASE_NS, &mine, err) : XT_OK;
    if (code != XT_OK || mine)
        return code;
    return xt_fail(err, XT_ECONFLICT, "another server takes the database over");
}

static enum xt_code write_parts(struct store *s, const struct batch_part *parts, size_t n, const struct tk_place *next,
                                struct xt_err *err) {
    struct move m = { pg_of(s), next };
    const struct pg_also also = { &m, move_on };
    return pg_write_with(pg_of(s), parts, n, &also, err);
}

static bool is_refusal(enum xt_code rc) {
    return rc == XT_EREFUSED || rc == XT_ESTORE || rc == XT_ETOOBIG || rc == XT_ESCHEMA;
}

/* Says which record stays behind. */
static void log_left(const struct batch *b, const struct xt_err *why) {
    char id_text[LOG_TEXT_MAX], reason[LOG_TEXT_MAX];
    const char *word = "sample";
    struct str id = b->nsamples ? b->samples[0].name : STR_NONE;
    struct arena a;
    arena_init(&a, 16 * 1024);
    if (b->nobservations) {
        word = "observation";
        id = id_print(&a, b->observations[0].id.key, ID_UUID, STR_NONE);
    } else if (b->ntraces) {
        word = "trace";
        id = id_print(&a, b->traces[0].id.key, ID_UUID, STR_NONE);
    }
    log_warn("event=takeover_left kind=%s id=\"%s\" reason=\"%s\"", word, log_text(id_text, str_sub(id, 0, 120)),
             log_text(reason, str_c(why->msg)));
    arena_done(&a);
}

static size_t piece_parts(const struct tk_piece *p, struct batch_part parts[TK_BATCHES]) {
    for (size_t i = 0; i < p->n; i++)
        parts[i] = (struct batch_part){ .b = p->batches[i],
                                        .trace_to = p->batches[i]->ntraces,
                                        .observation_to = p->batches[i]->nobservations,
                                        .sample_to = p->batches[i]->nsamples };
    return p->n;
}

/* A refused piece of one row (a trace with its first observation, at most): the trace alone, else nothing of it. */
static enum xt_code write_without(struct store *s, struct tk_piece *p, struct xt_err *err) {
    struct batch_part parts[TK_BATCHES];
    const struct batch *b = p->batches[0];
    enum xt_code code = XT_EREFUSED;
    log_left(b, err);
    p->next.skipped++;
    if (b->ntraces && b->nobservations) {
        size_t n = piece_parts(p, parts);
        parts[0].observation_to = 0;
        p->next.observations--;
        code = write_parts(s, parts, n, &p->next, err);
        if (!is_refusal(code))
            return code;
        p->next.skipped++;
    } else if (b->nobservations) {
        p->next.observations--;
    }
    p->next.traces -= (int64_t)b->ntraces;
    if (b->nsamples)
        p->next.points--;
    return write_parts(s, NULL, 0, &p->next, err);
}

static enum xt_code write_piece(struct store *s, struct pg_takeover *t, struct tk_piece *p, struct xt_err *err) {
    struct batch_part parts[TK_BATCHES];
    enum xt_code code = XT_OK;
    for (size_t i = 0; i < p->n && code == XT_OK; i++)
        code = s->ops->prepare(s, p->batches[i], err);
    if (code == XT_OK)
        code = write_parts(s, parts, piece_parts(p, parts), &p->next, err);
    if (code == XT_OK)
        t->rows = t->rows < PIECE_ROWS / 2 ? t->rows * 2 : PIECE_ROWS;
    if ((!is_refusal(code) && code != XT_ENOMEM) || (code == XT_ENOMEM && t->rows == 1))
        return code;
    if (t->rows == 1 && p->n > 0)
        return write_without(s, p, err);
    t->rows = t->rows > 8 ? t->rows / 8 : 1;
    t->held = false; /* the place is read again */
    return XT_OK;
}

static enum xt_code project_number(void *arg, struct str name, int64_t *ret, struct xt_err *err) {
    return postgres_project_open(arg, name, ret, err);
}

static enum xt_code step(struct store *s, struct pg_takeover *t, const struct store_takeover *to, struct xt_err *err) {
    struct pg_store *e = pg_of(s);
    const struct tk_projects projects = { s, project_number, to->project, to->project_name };
    const bool points = t->place.phase == TK_POINTS;
    const struct tk_limits limits = { points && t->rows == PIECE_ROWS ? PIECE_POINTS : t->rows, PIECE_BYTES };
    struct tk_piece piece;
    struct pg_conn *c = pg_reader_get(e, clock_mono_ns() + READ_NS, err);
    if (!c)
        return err->code;
    enum xt_code code = tk_read(c, &t->source, &projects, &t->place, &limits, &piece, err);
    pg_reader_put(e, c);
    if (code != XT_OK)
        return code;
    code = write_piece(s, t, &piece, err);
    if (code == XT_OK && t->held) {
        t->place = piece.next;
        t->held_until = clock_mono_ns() + LEASE_NS / 2;
    } else {
        t->held = false;
    }
    tk_piece_done(&piece);
    if (code == XT_OK)
        s->ops->tidy(s);
    return code == XT_ECONFLICT ? XT_OK : code;
}

/* Texts are learnt from as they come, as when a server runs. */
static void learn(struct store *s, struct pg_takeover *t) {
    struct xt_err unheard;
    struct buf lesson;
    if (!s->ops->study || clock_mono_ns() - t->studied < STUDY_NS)
        return;
    buf_init(&lesson, LESSON_MAX_BYTES);
    if (s->ops->study(s, &lesson, &unheard) == XT_OK && lesson.n > 0)
        s->ops->learn(s, buf_str(&lesson), &unheard);
    buf_done(&lesson);
    t->studied = clock_mono_ns();
}

static void report(struct pg_takeover *t, const char *event) {
    const struct tk_place *p = &t->place;
    log_info("event=%s seconds=%.1f traces=%lld observations=%lld points=%lld left=%lld", event,
             (double)(clock_mono_ns() - t->started) / (double)NS_PER_SEC, (long long)p->traces,
             (long long)p->observations, (long long)p->points, (long long)p->skipped);
    t->reported = clock_mono_ns();
}

enum xt_code postgres_take_over(struct store *s, struct store_takeover *to, struct xt_err *err) {
    struct pg_store *e = pg_of(s);
    struct pg_takeover *t = takeover_of(e);
    enum xt_code code = XT_OK;
    if (!t)
        return no_memory(err);
    if (!t->looked || !t->held)
        code = look(e, t, err);
    if (code == XT_OK && (t->begun ? t->place.phase == TK_DONE : !t->source.found)) {
        to->done = true;
        return XT_OK;
    }
    bool mine = t->held, first = !t->begun;
    if (code == XT_OK && (!t->held || clock_mono_ns() > t->held_until))
        code = take_lease(e, t, &mine, err);
    if (code != XT_OK)
        return code;
    if (!mine)
        return xt_fail(err, XT_EBUSY, "another server takes the database over");
    if (first) {
        log_info("event=takeover message=\"the tables of the original are taken over\"");
        make_weeks(e, t);
    }
    if (t->place.phase != TK_DONE)
        code = step(s, t, to, err);
    if (code == XT_OK)
        learn(s, t);
    to->traces = t->place.traces;
    to->observations = t->place.observations;
    to->points = t->place.points;
    to->done = code == XT_OK && t->place.phase == TK_DONE;
    if (to->done)
        report(t, "takeover_done");
    else if (clock_mono_ns() - t->reported > REPORT_NS)
        report(t, "takeover_goes_on");
    return code;
}
