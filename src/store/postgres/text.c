/* text.c -- see text.h. */
#include "store/postgres/text.h"

#include <stdlib.h>
#include <string.h>

#define WANT_BYTES ((size_t)64 << 20)

/* $1, $2: weeks and numbers of texts. $3: the weeks once more, so that the planner sees which partitions matter. $4: how
 * many bytes may come. */
#define SQL_LOAD                                                                                             \
    "SELECT d.week, d.pid, d.n,"                                                                             \
    " CASE WHEN sum(octet_length(d.z)) OVER (ORDER BY d.pid ROWS UNBOUNDED PRECEDING) <= $4 THEN d.z END"    \
    " FROM (SELECT DISTINCT ON (p.pid) p.week, p.pid, p.n, p.z FROM unnest($1, $2) AS q(week, pid), LATERAL" \
    "  (SELECT p.week, p.pid, p.n, p.z FROM xtrace.payload p WHERE p.week = q.week AND p.week = ANY($3)"     \
    "   AND p.pid <= q.pid ORDER BY p.pid DESC LIMIT 1) p WHERE q.pid < p.pid + p.n ORDER BY p.pid) d ORDER BY 2"
#define SQL_ONE "SELECT p.z FROM xtrace.payload p WHERE p.week = $1 AND p.pid = $2"
#define SQL_DICT "SELECT id, z, sum FROM xtrace.dict WHERE id = $1"
#define SQL_DICT_NEWEST "SELECT id, z, sum FROM xtrace.dict ORDER BY id DESC LIMIT 1"
enum { COL_WEEK, COL_PID, COL_N, COL_Z, COLUMNS };

void pg_texts_init(struct pg_texts *t, struct pg_conn *c, struct dicts *dicts) {
    *t = (struct pg_texts){ .c = c, .codec = { .dicts = dicts, .from = pg_dict_source(c) }, .most = TEXTS_LOAD_BYTES };
    pg_args_init(&t->args);
    arena_init(&t->arena, WANT_BYTES);
}

void pg_texts_done(struct pg_texts *t) {
    PQclear(t->rows);
    codec_done(&t->codec);
    pg_args_done(&t->args);
    arena_done(&t->arena);
}

/* ---- loading ---- */

bool pg_texts_want(struct pg_texts *t, int32_t week, int64_t pid) {
    if (pid == 0)
        return true;
    if (t->nwant == t->room) {
        size_t room = t->room ? t->room * 2 : 64;
        struct wanted_text *bigger = arena_new(&t->arena, struct wanted_text, room);
        if (!bigger)
            return false;
        if (t->nwant > 0)
            memcpy(bigger, t->want, t->nwant * sizeof *bigger);
        t->want = bigger;
        t->room = room;
    }
    t->want[t->nwant++] = (struct wanted_text){ week, pid };
    return true;
}

static int by_week(const void *a, const void *b) {
    const struct wanted_text *x = a, *y = b;
    if (x->week != y->week)
        return x->week < y->week ? -1 : 1;
    return (x->pid > y->pid) - (x->pid < y->pid);
}

/* Each text once, by week. Returns how many weeks there are. */
static size_t sort_wanted(struct pg_texts *t) {
    size_t n = 0, weeks = 0;
    qsort(t->want, t->nwant, sizeof *t->want, by_week);
    for (size_t i = 0; i < t->nwant; i++) {
        if (n > 0 && by_week(&t->want[n - 1], &t->want[i]) == 0)
            continue;
        weeks += n == 0 || t->want[n - 1].week != t->want[i].week;
        t->want[n++] = t->want[i];
    }
    t->nwant = n;
    return weeks;
}

static void say_wanted(struct pg_texts *t, size_t weeks) {
    struct pg_args *a = &t->args;
    pg_args_clear(a);
    pg_arg_array(a, PG_INT4, t->nwant);
    for (size_t i = 0; i < t->nwant; i++)
        pg_item_i32(a, t->want[i].week);
    pg_arg_array(a, PG_INT8, t->nwant);
    for (size_t i = 0; i < t->nwant; i++)
        pg_item_i64(a, t->want[i].pid);
    pg_arg_array(a, PG_INT4, weeks);
    for (size_t i = 0; i < t->nwant; i++)
        if (i == 0 || t->want[i].week != t->want[i - 1].week)
            pg_item_i32(a, t->want[i].week);
    pg_arg_i64(a, t->most);
}

static void forget(struct pg_texts *t) {
    t->want = NULL;
    t->nwant = t->room = 0;
    arena_reset(&t->arena);
}

enum xt_code pg_texts_load(struct pg_texts *t, struct xt_err *err) {
    PQclear(t->rows);
    t->rows = NULL;
    if (t->nwant == 0)
        return XT_OK;
    say_wanted(t, sort_wanted(t));
    forget(t);
    enum xt_code code = pg_query(t->c, SQL_LOAD, &t->args, &t->rows, err);
    pg_args_clear(&t->args);
    if (code == XT_OK && PQnfields(t->rows) != COLUMNS)
        code = text_damaged(err);
    return code;
}

/* ---- asking ---- */

/* The last row of the answer at or below that number. -1: there is none. */
static int find_row(const PGresult *r, int64_t pid) {
    int from = 0, to = r ? PQntuples(r) : 0;
    while (from < to) {
        int mid = from + (to - from) / 2;
        if (pg_i64(r, mid, COL_PID) <= pid)
            from = mid + 1;
        else
            to = mid;
    }
    return from - 1;
}

/* A row whose bytes the load left out. */
static enum xt_code get_late(struct pg_texts *t, struct arena *a, struct text_row *row, int32_t week, int64_t pid,
                             struct str *ret, struct xt_err *err) {
    PGresult *r = NULL;
    pg_args_clear(&t->args);
    pg_arg_i32(&t->args, week);
    pg_arg_i64(&t->args, row->first);
    enum xt_code code = pg_query(t->c, SQL_ONE, &t->args, &r, err);
    if (code == XT_OK && (PQntuples(r) != 1 || PQnfields(r) != 1))
        code = text_damaged(err);
    if (code == XT_OK) {
        row->z = pg_bytes(r, 0, 0);
        code = text_row_get(&t->codec, a, row, pid, ret, err);
    }
    PQclear(r);
    return code;
}

static enum xt_code get(void *arg, struct arena *a, int64_t pid, struct str *ret, struct xt_err *err) {
    struct pg_texts *t = arg;
    *ret = STR_NONE;
    if (pid == 0)
        return XT_OK;
    if (codec_kept(&t->codec, a, pid, ret))
        return str_has(*ret) ? XT_OK : xt_fail(err, XT_ENOMEM, "out of memory");
    int i = find_row(t->rows, pid);
    if (i < 0)
        return text_damaged(err);
    struct text_row row = { pg_i64(t->rows, i, COL_PID), pg_i64(t->rows, i, COL_N), pg_bytes(t->rows, i, COL_Z) };
    if (!text_row_holds(&row, pid))
        return text_damaged(err);
    if (pg_is_null(t->rows, i, COL_Z))
        return get_late(t, a, &row, (int32_t)pg_i64(t->rows, i, COL_WEEK), pid, ret, err);
    return text_row_get(&t->codec, a, &row, pid, ret, err);
}

struct text_source pg_texts_source(struct pg_texts *t) {
    return (struct text_source){ t, get };
}

/* ---- dictionaries ---- */

static enum xt_code read_dict(void *arg, int64_t number, struct dict_row *ret, struct xt_err *err) {
    PGresult *r = NULL;
    struct pg_args a;
    pg_args_init(&a);
    if (number)
        pg_arg_i64(&a, number);
    enum xt_code code = pg_query(arg, number ? SQL_DICT : SQL_DICT_NEWEST, &a, &r, err);
    if (code == XT_OK && PQntuples(r) > 0 && PQnfields(r) == 3)
        code = dict_row_set(ret, pg_i64(r, 0, 0), pg_bytes(r, 0, 1), pg_bytes(r, 0, 2), err);
    PQclear(r);
    pg_args_done(&a);
    return code;
}

struct dict_source pg_dict_source(struct pg_conn *c) {
    return (struct dict_source){ c, read_dict };
}
