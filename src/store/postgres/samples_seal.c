/* samples_seal.c -- the thread that makes generations of full parts: of our own stream, and of streams whose server is gone.
 *
 *  1. It works on the replica, with a connection of its own; the writer and readers go on.
 *  2. One transaction: names are numbered, the packs go by COPY while they are made, the directory, the filter, the
 *     generation's row, what is carried, the rows of the log away, `sealed` forward. It ends with the stream's row, which is
 *     the only one that a group waits for.
 *  3. Whoever holds the lease `jobs` takes over streams whose time has run out: first the stream's row, in a transaction of
 *     its own, which waits for a group under way; from then on nobody writes there. Then everything of it is sealed, nothing
 *     is carried, and the row goes.
 *  4. What fails is tried again after SAMPLE_RETRY; nothing is lost but time. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/map.h"
#include "store/postgres/samples.h"

#define ROUND_NS (3 * NS_PER_SEC) /* between looks at what others left */
#define HOLD_SECONDS 30.0         /* as in samples.c */
#define JOBS_NS (15 * NS_PER_SEC)
#define STORE_NS (30 * NS_PER_SEC) /* one generation */
#define RENEW_NS (3 * NS_PER_SEC)  /* a network that hangs does not hold up the stop; the next round tries again */
#define CARRY_BYTES ((size_t)512 << 10)
#define NAMES_BYTES ((size_t)1 << 30)

static enum xt_code no_room(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }

static struct str holder_of(const struct pg_store *e) {
    return (struct str){ (const char *)e->holder, sizeof e->holder };
}

/* One generation in the making. */
struct sealing {
    struct pg_store *e;
    struct pg_conn *c;
    struct seal seal;
    int64_t stream, from, to, gen; /* parts (from, to] are sealed */
    int64_t aside[2 * PG_ASIDE];   /* keys of their rows that can't be read */
    size_t naside;
    int32_t week;
    bool last; /* the stream goes with it */
    struct arena names;
    struct map numbers; /* project and name -> number */
};

/* ---- names ---- */

static struct str name_key(struct arena *a, int64_t project, struct str name) {
    char *p = arena_bytes(a, sizeof project + name.n);
    if (!p)
        return STR_NONE;
    memcpy(p, &project, sizeof project);
    memcpy(p + sizeof project, name.p, name.n);
    return (struct str){ p, sizeof project + name.n };
}

/* The names of all parts as arguments: projects, texts, short forms. */
static enum xt_code name_args(const struct sealing *w, struct pg_args *a, struct xt_err *err) {
    size_t n = 0;
    char room[PG_SHORT_MAX];
    for (size_t i = 0; i < w->seal.nparts; i++)
        for (uint32_t k = 0; k < w->seal.parts[i]->n.names; k++)
            n += hot_name(w->seal.parts[i], k)->text != HOT_NONE;
    for (int column = 0; column < 3; column++) {
        pg_arg_array(a, column == 0 ? PG_INT8 : PG_TEXT, n);
        for (size_t i = 0; i < w->seal.nparts; i++)
            for (uint32_t k = 0; k < w->seal.parts[i]->n.names; k++) {
                const struct hot_name *name = hot_name(w->seal.parts[i], k);
                if (name->text == HOT_NONE)
                    continue;
                struct str text = hot_text(w->seal.parts[i], name->text);
                if (column == 0)
                    pg_item_i64(a, name->project);
                else
                    pg_item_text(a, column == 1 ? text : pg_short(text, room));
            }
    }
    return a->data.failed ? no_room(err) : XT_OK;
}

/* In the generation's transaction. Retention passes over names whose rows are locked. */
static enum xt_code number_names(struct sealing *w, struct xt_err *err) {
    struct pg_args a;
    PGresult *r = NULL;
    pg_args_init(&a);
    enum xt_code code = name_args(w, &a, err);
    if (code == XT_OK)
        code = pg_query(
            w->c,
            "INSERT INTO xtrace.mname(project, name, short) SELECT DISTINCT ON (project, short) project, name, short"
            " FROM unnest($1, $2, $3) AS u(project, name, short) ORDER BY project, short"
            " ON CONFLICT (project, short) DO NOTHING",
            &a, NULL, err);
    if (code == XT_OK)
        code = pg_query(w->c,
                        "SELECT m.project, m.name, m.id FROM (SELECT DISTINCT project, short FROM unnest($1, $2, $3)"
                        " AS u(project, name, short)) u JOIN xtrace.mname m USING (project, short) FOR KEY SHARE OF m",
                        &a, &r, err);
    for (int i = 0; code == XT_OK && i < PQntuples(r); i++) {
        struct str key = name_key(&w->names, pg_i64(r, i, 0), pg_text(&w->names, r, i, 1));
        if (!str_has(key) || !map_put(&w->numbers, key, (void *)(uintptr_t)pg_i64(r, i, 2)))
            code = no_room(err);
    }
    PQclear(r);
    pg_args_done(&a);
    return code;
}

static enum xt_code metric_of(void *arg, int64_t project, struct str name, int64_t *ret, struct xt_err *err) {
    struct sealing *w = arg;
    struct str key = name_key(&w->names, project, name);
    if (!str_has(key))
        return no_room(err);
    *ret = (int64_t)(uintptr_t)map_get(&w->numbers, key);
    return *ret ? XT_OK : xt_fail(err, XT_ESTORE, "a metric has no number");
}

/* ---- one transaction ---- */

static enum xt_code put_pack(void *arg, uint32_t number, const struct pack_part *p, struct xt_err *err) {
    struct sealing *w = arg;
    (void)err; /* pg_copy_end says what went wrong */
    pg_copy_row(w->c, 9);
    pg_put_i32(w->c, w->week);
    pg_put_i64(w->c, w->gen);
    pg_put_i32(w->c, (int32_t)number);
    pg_put_i32(w->c, (int32_t)p->points);
    pg_put_time(w->c, p->t0);
    pg_put_time(w->c, p->t1);
    pg_put_bytes(w->c, p->lab);
    pg_put_bytes(w->c, p->pts);
    pg_put_bytes(w->c, str_has(p->raw) ? p->raw : STR_LIT(""));
    return XT_OK;
}

static enum xt_code new_number(struct sealing *w, struct xt_err *err) {
    PGresult *r = NULL;
    enum xt_code code = pg_query(w->c, "SELECT nextval('xtrace.sample_gen')", NULL, &r, err);
    if (code == XT_OK)
        w->gen = pg_i64(r, 0, 0);
    PQclear(r);
    return code;
}

static enum xt_code put_packs(struct sealing *w, struct xt_err *err) {
    const struct seal_engine engine = { w, metric_of, put_pack };
    struct xt_err copy_err = { 0 };
    enum xt_code code = pg_copy_begin(
        w->c, "COPY xtrace.mpack(week, gen, part, n, t0, t1, lab, pts, raw) FROM STDIN (FORMAT binary)", err);
    if (code != XT_OK)
        return code;
    code = seal_make(&w->seal, &engine, err);
    enum xt_code copied = pg_copy_end(w->c, NULL, &copy_err);
    if (code == XT_OK && copied != XT_OK) {
        *err = copy_err;
        code = copied;
    }
    return code;
}

static enum xt_code put_dirs(struct sealing *w, struct xt_err *err) {
    enum xt_code code =
        pg_copy_begin(w->c, "COPY xtrace.mdir(name, gen, first, parts, n, t0, t1) FROM STDIN (FORMAT binary)", err);
    if (code != XT_OK)
        return code;
    for (size_t i = 0; i < w->seal.ndirs; i++) {
        const struct seal_dir *d = &w->seal.dirs[i];
        pg_copy_row(w->c, 7);
        pg_put_i64(w->c, d->metric);
        pg_put_i64(w->c, w->gen);
        pg_put_i32(w->c, (int32_t)d->first);
        pg_put_i32(w->c, (int32_t)d->parts);
        pg_put_i64(w->c, d->points);
        pg_put_i64(w->c, d->t0);
        pg_put_i64(w->c, d->t1);
    }
    return pg_copy_end(w->c, NULL, err);
}

static enum xt_code put_filter(struct sealing *w, struct xt_err *err) {
    enum xt_code code = pg_copy_begin(w->c, "COPY xtrace.mfilter(gen, part, z) FROM STDIN (FORMAT binary)", err);
    if (code != XT_OK)
        return code;
    for (size_t i = 0; i < w->seal.filter.rows; i++) {
        pg_copy_row(w->c, 3);
        pg_put_i64(w->c, w->gen);
        pg_put_i32(w->c, (int32_t)i);
        pg_put_bytes(w->c, (struct str){ (const char *)w->seal.filter.bytes + i * FILTER_ROW, FILTER_ROW });
    }
    return pg_copy_end(w->c, NULL, err);
}

static enum xt_code put_gen(struct sealing *w, struct xt_err *err) {
    struct pg_args a;
    pg_args_init(&a);
    pg_arg_i64(&a, w->gen);
    pg_arg_i32(&a, w->week);
    pg_arg_i64(&a, w->seal.t0);
    pg_arg_i64(&a, w->seal.t1);
    pg_arg_i64(&a, w->seal.points);
    pg_arg_i32(&a, (int32_t)w->seal.filter.rows);
    enum xt_code code = pg_query(
        w->c, "INSERT INTO xtrace.mgen(gen, week, t0, t1, n, frows) VALUES ($1, $2, $3, $4, $5, $6)", &a, NULL, err);
    pg_args_done(&a);
    return code;
}

/* What is left over, as rows of the part behind the sealed ones. */
static enum xt_code put_carried(struct sealing *w, struct xt_err *err) {
    const struct hot *h = w->seal.carried;
    struct hot_count at = { 0 }, next;
    struct buf row;
    int64_t k = pg_part_key(w->to + 1);
    if (!h)
        return XT_OK;
    enum xt_code code = pg_copy_begin(w->c, "COPY xtrace.mlog(stream, k, z) FROM STDIN (FORMAT binary)", err);
    if (code != XT_OK)
        return code;
    buf_init(&row, SIZE_MAX / 2);
    bool ok = true;
    while (ok && sample_log_next(h, &at, CARRY_BYTES, &next)) {
        buf_clear(&row);
        ok = sample_log_encode_to(h, &at, &next, &row);
        if (!ok)
            break;
        pg_copy_row(w->c, 3);
        pg_put_i64(w->c, w->stream);
        pg_put_i64(w->c, ++k);
        pg_put_bytes(w->c, buf_str(&row));
        at = next;
    }
    buf_done(&row);
    code = pg_copy_end(w->c, NULL, err);
    return code == XT_OK && !ok ? no_room(err) : code;
}

/* Rows that can't be read go where no reader looks; somebody may yet want to see them. */
static enum xt_code put_aside(const struct sealing *w, struct xt_err *err) {
    struct pg_args a;
    if (w->naside == 0)
        return XT_OK;
    pg_args_init(&a);
    pg_arg_i64(&a, w->stream);
    pg_arg_array(&a, PG_INT8, w->naside);
    for (size_t i = 0; i < w->naside; i++)
        pg_item_i64(&a, w->aside[i]);
    enum xt_code code =
        pg_query(w->c,
                 "INSERT INTO xtrace.mlog(stream, k, z) SELECT l.stream, -l.k, l.z FROM unnest($2) AS u(k)"
                 " JOIN xtrace.mlog l ON l.stream = $1 AND l.k = u.k ON CONFLICT DO NOTHING",
                 &a, NULL, err);
    pg_args_done(&a);
    return code;
}

/* The log's rows go, and the stream's row says so. *ret_ours false: it is not ours any more. */
static enum xt_code move_on(struct sealing *w, bool *ret_ours, struct xt_err *err) {
    PGresult *r = NULL;
    struct pg_args a;
    pg_args_init(&a);
    pg_arg_i64(&a, w->stream);
    pg_arg_i64(&a, pg_part_key(w->to + 1));
    enum xt_code code = put_aside(w, err);
    if (code == XT_OK)
        code = pg_query(w->c, "DELETE FROM xtrace.mlog WHERE stream = $1 AND k >= 0 AND k < $2", &a, NULL, err);
    pg_args_clear(&a);
    pg_arg_i64(&a, w->stream);
    pg_arg_bytes(&a, holder_of(w->e));
    pg_arg_i64(&a, w->from);
    if (!w->last) {
        pg_arg_i64(&a, w->to);
        pg_arg_f64(&a, HOLD_SECONDS);
    }
    if (code == XT_OK)
        code = pg_query(
            w->c,
            w->last ? "DELETE FROM xtrace.mstream WHERE stream = $1 AND holder = $2 AND sealed = $3"
                    : "UPDATE xtrace.mstream SET sealed = $4, until = clock_timestamp() + make_interval(secs => $5)"
                      " WHERE stream = $1 AND holder = $2 AND sealed = $3",
            &a, &r, err);
    *ret_ours = code == XT_OK && pg_touched(r) == 1;
    PQclear(r);
    pg_args_done(&a);
    return code;
}

static enum xt_code store(struct sealing *w, bool *ret_ours, struct xt_err *err) {
    *ret_ours = false;
    w->c->deadline = clock_mono_ns() + STORE_NS; /* the packs are made while their COPY runs */
    enum xt_code code = pg_begin(w->c, true, err);
    if (code == XT_OK && w->seal.nparts > 0) {
        code = number_names(w, err);
        if (code == XT_OK)
            code = new_number(w, err);
        if (code == XT_OK)
            code = put_packs(w, err);
        if (code == XT_OK && w->seal.ndirs > 0)
            code = put_dirs(w, err);
        if (code == XT_OK && w->seal.ndirs > 0)
            code = put_filter(w, err);
        if (code == XT_OK && w->seal.ndirs > 0)
            code = put_gen(w, err);
        if (code == XT_OK)
            code = put_carried(w, err);
    }
    if (code == XT_OK)
        code = move_on(w, ret_ours, err);
    if (code == XT_OK && *ret_ours)
        return pg_commit(w->c, err);
    pg_rollback(w->c);
    return code;
}

/* ---- a stream ---- */

/* Parts of the stream up to `upto`, at most two: one that was carried and one that was written. */
static void choose(const struct pg_view *v, struct sealing *w, int64_t upto) {
    w->to = w->from;
    for (size_t i = 0; i < v->n && w->seal.nparts < 2; i++) {
        const struct pg_view_part *p = &v->parts[i];
        if (p->stream != w->stream || p->number > upto)
            continue;
        if (w->seal.nparts == 1 && w->to % 2 == 0) /* two that were written: one at a time */
            break;
        hot_part_ref(p->hot);
        w->seal.parts[w->seal.nparts++] = p->hot;
        w->to = p->number;
    }
    w->to += w->to % 2; /* a carried part alone: `sealed` stays even */
}

/* What the replica knows of the stream. */
static void look_up(struct pg_samples *s, struct sealing *w) {
    pthread_mutex_lock(&s->mu);
    for (const struct pg_stream *t = s->streams; t; t = t->next)
        if (t->stream == w->stream)
            w->from = t->sealed;
    pthread_mutex_unlock(&s->mu);
}

/* Of the parts that were chosen. */
static void look_up_damaged(struct pg_samples *s, struct sealing *w) {
    pthread_mutex_lock(&s->mu);
    for (const struct pg_stream *t = s->streams; t; t = t->next)
        for (size_t i = 0; t->stream == w->stream && i < t->n; i++)
            if (t->parts[i].number <= w->to)
                for (size_t k = 0; k < t->parts[i].ndamaged && w->naside < 2 * PG_ASIDE; k++)
                    w->aside[w->naside++] = t->parts[i].damaged[k];
    pthread_mutex_unlock(&s->mu);
}

/* Seals some of a stream. *ret_sealed: the highest part that is sealed now; *ret_ours false: it is not ours. */
static enum xt_code seal_some(struct pg_store *e, int64_t stream, int64_t upto, bool everything, int64_t *ret_sealed,
                              bool *ret_ours, bool *ret_end, struct xt_err *err) {
    struct pg_samples *s = e->samples;
    struct pg_conn *c = &s->seal_conn;
    struct pg_view v = { .parts = NULL };
    struct sealing w = { .e = e, .c = c, .stream = stream, .week = pg_week(clock_now_ns()), .from = -1 };
    c->deadline = TIME_NONE;
    *ret_ours = true;
    *ret_end = false;
    enum xt_code code = pg_begin(c, false, err);
    if (code == XT_OK)
        code = pg_view_take(e, c, &v, err);
    pg_rollback(c);
    if (code != XT_OK)
        return code;
    look_up(s, &w);
    *ret_ours = w.from >= 0;
    arena_init(&w.names, NAMES_BYTES);
    map_init(&w.numbers, &w.names);
    w.seal.carry_none = everything;
    if (*ret_ours)
        choose(&v, &w, upto);
    look_up_damaged(s, &w);
    pthread_mutex_lock(&s->seal_mu);
    w.seal.cutoff = !everything && w.to <= s->cut_upto ? s->cutoff : TIME_MIN;
    pthread_mutex_unlock(&s->seal_mu);
    w.last = everything && w.seal.nparts == 0;
    if (*ret_ours && (w.seal.nparts > 0 || w.last))
        code = store(&w, ret_ours, err);
    *ret_end = w.seal.nparts == 0;
    if (code == XT_OK && *ret_ours)
        *ret_sealed = w.to;
    for (size_t i = 0; i < w.seal.nparts; i++)
        hot_part_unref(w.seal.parts[i]);
    seal_done(&w.seal);
    arena_done(&w.names);
    pg_view_done(&v);
    return code;
}

/* ---- the thread's rounds ---- */

/* Our own stream: its full parts. */
static enum xt_code seal_own(struct pg_store *e, int64_t own, int64_t full, struct xt_err *err) {
    struct pg_samples *s = e->samples;
    int64_t sealed = 0;
    bool ours = true, end = false;
    enum xt_code code = XT_OK;
    while (code == XT_OK && ours && !end && sealed < full) {
        code = seal_some(e, own, full, false, &sealed, &ours, &end, err);
        pthread_mutex_lock(&s->seal_mu);
        if (code == XT_OK && s->own == own) {
            s->gone = !ours;
            s->sealed = ours && !end ? sealed : s->sealed;
            if (ours && end)
                s->sealed = full;
        }
        bool stop = s->stopping;
        pthread_cond_broadcast(&s->seal_cv);
        pthread_mutex_unlock(&s->seal_mu);
        if (stop)
            break;
    }
    return code;
}

/* News of us: the stream stays ours. */
static enum xt_code renew(struct pg_store *e, int64_t own, struct xt_err *err) {
    struct pg_samples *s = e->samples;
    struct pg_conn *c = &s->seal_conn;
    PGresult *r = NULL;
    struct pg_args a;
    pg_args_init(&a);
    pg_arg_i64(&a, own);
    pg_arg_bytes(&a, holder_of(e));
    pg_arg_f64(&a, HOLD_SECONDS);
    c->deadline = clock_mono_ns() + RENEW_NS;
    enum xt_code code = pg_begin(c, true, err);
    if (code == XT_OK)
        code = pg_query(c,
                        "UPDATE xtrace.mstream SET until = clock_timestamp() + make_interval(secs => $3)"
                        " WHERE stream = $1 AND holder = $2",
                        &a, &r, err);
    bool ours = code == XT_OK && pg_touched(r) == 1;
    if (code == XT_OK)
        code = pg_commit(c, err);
    else
        pg_rollback(c);
    PQclear(r);
    pg_args_done(&a);
    if (code == XT_OK && !ours) {
        pthread_mutex_lock(&s->seal_mu);
        s->gone = s->gone || s->own == own;
        pthread_mutex_unlock(&s->seal_mu);
    }
    return code;
}

/* Takes a stream whose time has run out; 0: there is none, or the lease is somebody else's. */
static enum xt_code take_over(struct pg_store *e, int64_t *ret, struct xt_err *err) {
    struct pg_conn *c = &e->samples->seal_conn;
    PGresult *r = NULL;
    struct pg_args a;
    bool mine = false;
    *ret = 0;
    c->deadline = TIME_NONE;
    pg_args_init(&a);
    pg_arg_bytes(&a, holder_of(e));
    pg_arg_f64(&a, HOLD_SECONDS);
    enum xt_code code = pg_begin(c, true, err);
    if (code == XT_OK)
        code = pg_lease_take(e, c, STR_LIT("jobs"), JOBS_NS, &mine, err);
    e->samples->leads = e->samples->leads || mine;
    if (code == XT_OK && mine)
        code = pg_query(c,
                        "UPDATE xtrace.mstream SET holder = $1, until = clock_timestamp() + make_interval(secs => $2)"
                        " WHERE stream = (SELECT min(stream) FROM xtrace.mstream WHERE until <= clock_timestamp())"
                        " AND until <= clock_timestamp() RETURNING stream",
                        &a, &r, err);
    int64_t stream = code == XT_OK && r && PQntuples(r) == 1 ? pg_i64(r, 0, 0) : 0;
    if (code == XT_OK)
        code = pg_commit(c, err);
    else
        pg_rollback(c);
    PQclear(r);
    pg_args_done(&a);
    if (code == XT_OK)
        *ret = stream;
    return code;
}

/* The last cutoff of retention, whoever ran it. */
static enum xt_code hear_cut(struct pg_store *e, struct xt_err *err) {
    struct pg_samples *s = e->samples;
    PGresult *r = NULL;
    s->seal_conn.deadline = TIME_NONE;
    enum xt_code code = pg_query(&s->seal_conn, "SELECT v FROM xtrace.state WHERE k = 'sample_cut'", NULL, &r, err);
    if (code == XT_OK && PQntuples(r) == 1) {
        pthread_mutex_lock(&s->seal_mu);
        if (s->heard && s->stored_cut != pg_i64(r, 0, 0))
            s->heard_cut = pg_i64(r, 0, 0);
        s->stored_cut = pg_i64(r, 0, 0);
        pthread_mutex_unlock(&s->seal_mu);
    }
    PQclear(r);
    return code;
}

static enum xt_code adopt(struct pg_store *e, struct xt_err *err) {
    int64_t stream = 0;
    enum xt_code code = take_over(e, &stream, err);
    while (code == XT_OK && stream != 0) {
        int64_t sealed = 0;
        bool ours = true, end = false;
        while (code == XT_OK && ours && !end)
            code = seal_some(e, stream, INT64_MAX, true, &sealed, &ours, &end, err);
        if (code == XT_OK && ours)
            log_info("event=samples_taken_over stream=%lld", (long long)stream);
        if (code == XT_OK)
            code = take_over(e, &stream, err);
    }
    return code;
}

void *pg_seal_run(void *arg) {
    struct pg_store *e = arg;
    struct pg_samples *s = e->samples;
    bool told = false;
    pthread_mutex_lock(&s->seal_mu);
    while (!s->stopping) {
        const int64_t own = s->gone ? 0 : s->own, full = s->full_part;
        const bool due = s->asked && own != 0 && full > s->sealed;
        struct xt_err err = { 0 };
        s->asked = false;
        pthread_mutex_unlock(&s->seal_mu);
        enum xt_code code = own != 0 ? renew(e, own, &err) : XT_OK;
        if (code == XT_OK && own != 0)
            code = hear_cut(e, &err);
        if (code == XT_OK && due)
            code = seal_own(e, own, full, &err);
        if (code == XT_OK)
            code = adopt(e, &err);
        if (code != XT_OK && !told)
            log_error("event=samples_seal_failed code=%s message=\"%s\"", xt_code_word(code), err.msg);
        told = code != XT_OK;
        int64_t until = clock_mono_ns() + ROUND_NS;
        struct timespec ts = { (time_t)(until / NS_PER_SEC), (long)(until % NS_PER_SEC) };
        pthread_mutex_lock(&s->seal_mu);
        if (code != XT_OK && due)
            s->asked = true; /* again, after the wait */
        while (!s->stopping && (code != XT_OK || !s->asked) &&
               pthread_cond_timedwait(&s->seal_cv, &s->seal_mu, &ts) == 0) {}
    }
    pthread_mutex_unlock(&s->seal_mu);
    pg_close(&s->seal_conn);
    return NULL;
}
