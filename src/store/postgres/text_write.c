/* text_write.c -- rows of `payload` as a group needs them: stored texts read by one statement, new ones numbered and added by
 * one COPY, those that nothing points to any more taken away by one statement.
 *
 *  1. A text's row is the last one of its week at or below its number; a row of n texts has the numbers pid to pid + n - 1,
 *     all of one block, so the rows of several servers never interleave within one.
 *  2. The texts of a row are of one trace: who holds the trace's row may change its `gone`.
 *  3. A text that comes again as it is stored is not written again. */
#include <string.h>

#include "store/postgres/write.h"

#define SQL_READ                                                                                \
    "SELECT DISTINCT ON (p.pid) p.pid, p.n, p.z FROM unnest($1, $2) AS k(week, pid), LATERAL"   \
    " (SELECT p.pid, p.n, p.z FROM xtrace.payload p WHERE p.week = k.week AND p.week = ANY($3)" \
    "  AND p.pid <= k.pid ORDER BY p.pid DESC LIMIT 1) p WHERE k.pid < p.pid + p.n"
#define SQL_COPY "COPY xtrace.payload(week, pid, n, gone, z) FROM STDIN (FORMAT binary)"
/* Packs lose texts one by one; a row goes with its last one. */
#define SQL_DROP                                                                                                   \
    "WITH k AS (SELECT p.week, p.pid, p.n, p.gone + count(*) AS gone FROM unnest($1, $2) AS q(week, pid), LATERAL" \
    " (SELECT p.week, p.pid, p.n, p.gone FROM xtrace.payload p WHERE p.week = q.week AND p.week = ANY($3)"         \
    "  AND p.pid <= q.pid ORDER BY p.pid DESC LIMIT 1) p"                                                          \
    " WHERE q.pid < p.pid + p.n GROUP BY p.week, p.pid, p.n, p.gone),"                                             \
    " u AS (UPDATE xtrace.payload p SET gone = k.gone FROM k"                                                      \
    "  WHERE k.gone < k.n AND p.week = k.week AND p.pid = k.pid AND p.week = ANY($3))"                             \
    " DELETE FROM xtrace.payload p USING k"                                                                        \
    " WHERE k.gone >= k.n AND p.week = k.week AND p.pid = k.pid AND p.week = ANY($3)"

/* ---- stored texts ---- */

static struct str pid_key(const int64_t *pid) { return (struct str){ (const char *)pid, sizeof *pid }; }

bool group_text_want(struct pg_group *g, int32_t week, int64_t pid) {
    if (pid == 0 || map_get(&g->stored_texts, pid_key(&pid)))
        return true;
    if (g->nasked == g->cap_asked) {
        size_t cap = g->cap_asked ? g->cap_asked * 2 : 64;
        struct pg_stored_text **p = arena_new(g->a, struct pg_stored_text *, cap);
        if (!p)
            return false;
        if (g->nasked)
            memcpy(p, g->asked, g->nasked * sizeof *p);
        g->asked = p;
        g->cap_asked = cap;
    }
    struct pg_stored_text *t = arena_new(g->a, struct pg_stored_text, 1);
    if (!t)
        return false;
    *t = (struct pg_stored_text){ .week = week, .pid = pid };
    g->asked[g->nasked++] = t;
    return map_put(&g->stored_texts, pid_key(&t->pid), t);
}

struct str group_text_get(const struct pg_group *g, int64_t pid) {
    const struct pg_stored_text *t = pid ? map_get(&g->stored_texts, pid_key(&pid)) : NULL;
    return t ? t->text : STR_NONE;
}

/* Gives text `pid` to who asked for it. */
static void give(const struct pg_group *g, int64_t pid, struct str text) {
    struct pg_stored_text *t = map_get(&g->stored_texts, pid_key(&pid));
    if (t)
        t->text = text;
}

/* A row that can't be read gives nothing: its texts stay absent. */
static enum xt_code take_row(struct pg_group *g, const PGresult *r, int row, struct xt_err *err) {
    int64_t first = pg_i64(r, row, 0), n = pg_i64(r, row, 1);
    struct str z = pg_bytes(r, row, 2), text = STR_NONE;
    struct xt_err unread;
    enum xt_code code;
    if (n < 1 || n > PACK_MAX_TEXTS)
        return XT_OK;
    if (n == 1) {
        code = payload_decode(&g->w->codec, g->a, z, &text, &unread);
        if (code == XT_OK)
            give(g, first, text);
    } else {
        uint32_t *ends = arena_new(g->a, uint32_t, (size_t)n);
        if (!ends)
            return no_memory(err);
        code = payload_decode_pack(&g->w->codec, g->a, z, (uint32_t)n, &text, ends, &unread);
        for (int64_t i = 0; i < n && code == XT_OK; i++) {
            size_t from = i ? ends[i - 1] : 0;
            give(g, first + i, str_sub(text, from, ends[i] - from));
        }
    }
    if (code != XT_OK && code != XT_ESTORE) {
        *err = unread;
        return code;
    }
    return XT_OK;
}

/* Numbers and weeks as the first two parameters, their distinct weeks as the third. */
static enum xt_code arg_pids(struct pg_group *g, struct pg_stored_text *const *list, size_t n, struct xt_err *err) {
    struct pg_args *args = &g->w->args;
    struct pg_weeks weeks = { .n = 0 };
    pg_args_clear(args);
    pg_arg_array(args, PG_INT4, n);
    for (size_t i = 0; i < n; i++) {
        pg_item_i32(args, list[i]->week);
        if (!pg_weeks_add(g->a, &weeks, list[i]->week))
            return no_memory(err);
    }
    pg_arg_array(args, PG_INT8, n);
    for (size_t i = 0; i < n; i++)
        pg_item_i64(args, list[i]->pid);
    pg_arg_weeks(args, &weeks);
    return XT_OK;
}

enum xt_code group_texts_load(struct pg_group *g, struct xt_err *err) {
    PGresult *r = NULL;
    size_t n = g->nasked;
    if (n == 0)
        return XT_OK;
    enum xt_code code = arg_pids(g, g->asked, n, err);
    g->nasked = 0;
    if (code == XT_OK)
        code = pg_query(g->c, SQL_READ, &g->w->args, &r, err);
    g->trips++;
    if (code == XT_OK && !pg_group_keep(g, r))
        return xt_fail(err, XT_ESTORE, "too many answers at once");
    if (code == XT_OK && PQnfields(r) != 3)
        return row_damaged(err);
    for (int row = 0; code == XT_OK && row < PQntuples(r); row++)
        code = take_row(g, r, row, err);
    return code;
}

/* ---- new texts ---- */

/* n numbers in a row. 0: none are left (a mistake of ours: pg_load takes enough). */
static int64_t take_numbers(struct pg_write_state *w, uint32_t n) {
    for (size_t i = 0; i < w->npids; i++) {
        struct pid_block *b = &w->pids[i];
        if (b->end - b->next >= n) {
            b->next += n;
            return b->next - n;
        }
    }
    return 0;
}

/* A row to be added, with its numbers. NULL: err is filled. */
static struct pg_text_row *new_row(struct pg_group *g, int32_t week, uint32_t n, struct xt_err *err) {
    struct pg_text_row *row = arena_new(g->a, struct pg_text_row, 1);
    int64_t pid = take_numbers(g->w, n);
    if (!row || pid == 0) {
        if (row)
            xt_fail(err, XT_ESTORE, "no number is left for a new text");
        else
            no_memory(err);
        return NULL;
    }
    *row = (struct pg_text_row){ .week = week, .pid = pid };
    *g->texts_end = row;
    g->texts_end = &row->next;
    g->ntexts++;
    return row;
}

static enum xt_code let_go(struct pg_group *g, int32_t week, int64_t pid, struct xt_err *err) {
    if (pid == 0)
        return XT_OK;
    if (g->ngone == g->cap_gone) {
        size_t cap = g->cap_gone ? g->cap_gone * 2 : 64;
        struct pg_stored_text **p = arena_new(g->a, struct pg_stored_text *, cap);
        if (!p)
            return no_memory(err);
        if (g->ngone)
            memcpy(p, g->gone, g->ngone * sizeof *p);
        g->gone = p;
        g->cap_gone = cap;
    }
    struct pg_stored_text *t = arena_new(g->a, struct pg_stored_text, 1);
    if (!t)
        return no_memory(err);
    *t = (struct pg_stored_text){ .week = week, .pid = pid };
    g->gone[g->ngone++] = t;
    return XT_OK;
}

/* Text *pid becomes this one: nothing happens when it is that already, else it gets a number and the old one goes. */
static enum xt_code assign(struct pg_group *g, int32_t week, const struct fold_text *t, int64_t *pid,
                           struct xt_err *err) {
    if (!str_has(t->text) || (*pid && str_eq(group_text_get(g, *pid), t->text)))
        return XT_OK;
    enum xt_code code = let_go(g, week, *pid, err);
    if (code != XT_OK)
        return code;
    struct pack *p = t->remade ? NULL : t->z.pack;
    if (p && p->group == g->w->group) {
        p->used++;
        *pid = p->first + t->z.part;
        return XT_OK;
    }
    struct pg_text_row *row = new_row(g, week, p ? p->n : 1, err);
    if (!row)
        return err->code;
    if (p) {
        p->group = g->w->group;
        p->first = row->pid;
        p->used = 1;
        row->pack = p;
        *pid = row->pid + t->z.part;
        return XT_OK;
    }
    struct str z = t->z.z;
    if (t->remade && !payload_encode(&g->w->codec, g->a, t->text, &z))
        return no_memory(err);
    row->z = str_has(z) ? z : t->text;
    *pid = row->pid;
    return XT_OK;
}

static enum xt_code assign_all(struct pg_group *g, int32_t week, const struct fold_text given[PAYLOADS],
                               int64_t pid[PAYLOADS], struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (int k = 0; k < PAYLOADS && code == XT_OK; k++)
        code = assign(g, week, &given[k], &pid[k], err);
    return code;
}

enum xt_code group_texts_assign(struct pg_group *g, struct xt_err *err) {
    struct fold_text given[PAYLOADS];
    enum xt_code code = XT_OK;
    for (struct trace_state *t = g->f.first; t && code == XT_OK; t = t->next) {
        int32_t week = ((const struct pg_trace *)t->arg)->week;
        fold_trace_texts(t, given);
        code = assign_all(g, week, given, t->now.pid, err);
        for (struct obs_state *o = t->first; o && code == XT_OK; o = o->next) {
            fold_observation_texts(o, given);
            code = assign_all(g, week, given, o->pid, err);
        }
    }
    return code;
}

static enum xt_code copy_rows(struct pg_group *g, struct xt_err *err) {
    enum xt_code code = pg_copy_begin(g->c, SQL_COPY, err);
    if (code != XT_OK)
        return code;
    for (const struct pg_text_row *row = g->texts; row; row = row->next) {
        pg_copy_row(g->c, 5);
        pg_put_i32(g->c, row->week);
        pg_put_i64(g->c, row->pid);
        pg_put_i32(g->c, row->pack ? (int32_t)row->pack->n : 1);
        pg_put_i32(g->c, row->pack ? (int32_t)(row->pack->n - row->pack->used) : 0);
        pg_put_bytes(g->c, row->pack ? row->pack->z : row->z);
    }
    g->trips += 2;
    return pg_copy_end(g->c, NULL, err);
}

enum xt_code group_texts_put(struct pg_group *g, struct xt_err *err) {
    enum xt_code code = g->texts ? copy_rows(g, err) : XT_OK;
    if (code != XT_OK || g->ngone == 0)
        return code;
    code = arg_pids(g, g->gone, g->ngone, err);
    g->trips++;
    return code == XT_OK ? pg_query(g->c, SQL_DROP, &g->w->args, NULL, err) : code;
}
