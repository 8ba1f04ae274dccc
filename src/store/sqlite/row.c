/* row.c -- see row.h. What a file holds is not trusted: numbers out of range are damage or become the nearest legal
 * value, never an index or a length. */
#include "store/sqlite/row.h"

#include <string.h>

#include "store/fold/packed.h"

/* ---- columns ---- */

static enum id_spell spell_of(sqlite3_stmt *st, int col) {
    int v = sqlite3_column_int(st, col);
    return v >= ID_UUID && v <= ID_TEXT ? (enum id_spell)v : ID_UUID;
}

static enum tri tri_of(sqlite3_stmt *st, int col) {
    if (sqlite3_column_type(st, col) == SQLITE_NULL)
        return TRI_NONE;
    return sqlite3_column_int(st, col) ? TRI_TRUE : TRI_FALSE;
}

static struct opt_money money_of(sqlite3_stmt *st, int col_nano) {
    struct opt_money m = { 0 };
    if (sqlite3_column_type(st, col_nano) != SQLITE_NULL) {
        m.has = true;
        m.v = money_join(sqlite3_column_int64(st, col_nano), sqlite3_column_int64(st, col_nano + 1));
    }
    return m;
}

static struct opt_i64 i64_of(sqlite3_stmt *st, int col) {
    struct opt_i64 v = { sqlite3_column_int64(st, col), sqlite3_column_type(st, col) != SQLITE_NULL };
    return v;
}

static void bind_tri(sqlite3_stmt *st, int i, enum tri v) {
    if (v == TRI_NONE)
        sqlite3_bind_null(st, i);
    else
        sqlite3_bind_int(st, i, v == TRI_TRUE);
}

static void bind_money(sqlite3_stmt *st, int i, const struct opt_money *m) {
    int64_t nano, atto;
    if (!m->has) {
        sqlite3_bind_null(st, i);
        sqlite3_bind_null(st, i + 1);
        return;
    }
    money_split(m->v, &nano, &atto);
    sqlite3_bind_int64(st, i, nano);
    sqlite3_bind_int64(st, i + 1, atto);
}

static void bind_opt(sqlite3_stmt *st, int i, const struct opt_i64 *v) {
    if (v->has)
        sqlite3_bind_int64(st, i, v->v);
    else
        sqlite3_bind_null(st, i);
}

static void bind_pid(sqlite3_stmt *st, int i, int64_t pid) {
    if (pid)
        sqlite3_bind_int64(st, i, pid);
    else
        sqlite3_bind_null(st, i);
}

/* Text column as it is, or copied. */
static struct str text_of(sqlite3_stmt *st, int col, struct arena *copy) {
    struct str s = col_str(st, col);
    return copy ? arena_str(copy, s) : s;
}

/* ---- traces ---- */

bool trace_rec_read(sqlite3_stmt *st, struct arena *copy, struct trace_rec *ret) {
    *ret = (struct trace_rec){
        .tseq = sqlite3_column_int64(st, TC_TSEQ),
        .project = sqlite3_column_int64(st, TC_PROJECT),
        .id = { text_of(st, TC_ID, copy), spell_of(st, TC_SPELL), text_of(st, TC_ID_TEXT, copy) },
        .ts = sqlite3_column_int64(st, TC_TS),
        .ts_source = (enum ts_source)(sqlite3_column_int(st, TC_TS_SOURCE) & 3),
        .created = sqlite3_column_int64(st, TC_CREATED),
        .updated = sqlite3_column_int64(st, TC_UPDATED),
        .name = text_of(st, TC_NAME, copy),
        .user = text_of(st, TC_USER, copy),
        .session = text_of(st, TC_SESSION, copy),
        .tags = text_of(st, TC_TAGS, copy),
        .env = text_of(st, TC_ENV, copy),
        .release = text_of(st, TC_RELEASE, copy),
        .version = text_of(st, TC_VERSION, copy),
        .label = text_of(st, TC_LABEL, copy),
        .external = text_of(st, TC_EXTERNAL, copy),
        .is_public = tri_of(st, TC_PUBLIC),
        .bookmarked = tri_of(st, TC_BOOKMARKED),
        .latency = col_f64(st, TC_LATENCY),
        .cost = money_of(st, TC_COST_NANO),
        .nobs = sqlite3_column_int64(st, TC_NOBS),
        .t0 = col_time(st, TC_T0),
        .t1 = col_time(st, TC_T1),
        .ocost_n = sqlite3_column_int64(st, TC_OCOST_N),
        .ocost = sum_join(sqlite3_column_int64(st, TC_OCOST_HI), sqlite3_column_int64(st, TC_OCOST_LO)),
    };
    ret->cost.text = text_of(st, TC_COST_TEXT, copy);
    for (int i = 0; i < PAYLOADS; i++)
        ret->pid[i] = sqlite3_column_int64(st, TC_PIN + i);
    return !copy || !copy->failed;
}

void trace_rec_bind(sqlite3_stmt *st, const struct trace_rec *r) {
    int64_t hi, lo;
    sqlite3_bind_int64(st, 1 + TC_TSEQ, r->tseq);
    sqlite3_bind_int64(st, 1 + TC_PROJECT, r->project);
    bind_blob(st, 1 + TC_ID, r->id.key);
    sqlite3_bind_int(st, 1 + TC_SPELL, (int)r->id.spell);
    bind_str(st, 1 + TC_ID_TEXT, r->id.spell == ID_TEXT ? r->id.text : STR_NONE);
    sqlite3_bind_int64(st, 1 + TC_TS, r->ts);
    sqlite3_bind_int(st, 1 + TC_TS_SOURCE, (int)r->ts_source);
    sqlite3_bind_int64(st, 1 + TC_CREATED, r->created);
    sqlite3_bind_int64(st, 1 + TC_UPDATED, r->updated);
    bind_str(st, 1 + TC_NAME, r->name);
    bind_str(st, 1 + TC_USER, r->user);
    bind_str(st, 1 + TC_SESSION, r->session);
    bind_str(st, 1 + TC_TAGS, r->tags);
    bind_str(st, 1 + TC_ENV, r->env);
    bind_str(st, 1 + TC_RELEASE, r->release);
    bind_str(st, 1 + TC_VERSION, r->version);
    bind_str(st, 1 + TC_LABEL, r->label);
    bind_str(st, 1 + TC_EXTERNAL, r->external);
    bind_tri(st, 1 + TC_PUBLIC, r->is_public);
    bind_tri(st, 1 + TC_BOOKMARKED, r->bookmarked);
    bind_f64(st, 1 + TC_LATENCY, r->latency);
    bind_money(st, 1 + TC_COST_NANO, &r->cost);
    bind_str(st, 1 + TC_COST_TEXT, r->cost.text);
    sqlite3_bind_int64(st, 1 + TC_NOBS, r->nobs);
    bind_time(st, 1 + TC_T0, r->t0);
    bind_time(st, 1 + TC_T1, r->t1);
    sum_split(r->ocost, &hi, &lo);
    sqlite3_bind_int64(st, 1 + TC_OCOST_HI, hi);
    sqlite3_bind_int64(st, 1 + TC_OCOST_LO, lo);
    sqlite3_bind_int64(st, 1 + TC_OCOST_N, r->ocost_n);
    for (int i = 0; i < PAYLOADS; i++)
        bind_pid(st, 1 + TC_PIN + i, r->pid[i]);
}

/* ---- observations ---- */

/* The packed fields: in the row, or out of line when they are long. */
static enum xt_code read_rest(struct conn *c, struct codec *k, sqlite3_stmt *st, struct arena *a, bool copy,
                              struct obs_rec *ret, struct xt_err *err) {
    struct str rest = copy ? arena_str(a, col_blob(st, OC_REST)) : col_blob(st, OC_REST);
    if (ret->prest) {
        enum xt_code code = payload_get(c, k, a, ret->prest, &rest, err);
        if (code != XT_OK)
            return code;
    }
    if (a->failed)
        return no_memory(err);
    return packed_read(rest, &ret->v) ? XT_OK : row_damaged(err);
}

enum xt_code obs_rec_read(struct conn *c, struct codec *k, sqlite3_stmt *st, struct arena *a, bool copy,
                          struct obs_rec *ret, struct xt_err *err) {
    const double none = (double)NAN;
    struct arena *into = copy ? a : NULL;
    struct observation *v = &ret->v;
    memset(ret, 0, sizeof *ret);
    ret->tseq = sqlite3_column_int64(st, OC_TSEQ);
    ret->project = sqlite3_column_int64(st, OC_PROJECT);
    ret->created = sqlite3_column_int64(st, OC_CREATED);
    ret->updated = sqlite3_column_int64(st, OC_UPDATED);
    ret->cost_source = sqlite3_column_int(st, OC_COST_SOURCE);
    ret->price = sqlite3_column_int64(st, OC_PRICE);
    ret->prest = sqlite3_column_int64(st, OC_PREST);
    for (int i = 0; i < PAYLOADS; i++)
        ret->pid[i] = sqlite3_column_int64(st, OC_PIN + i);
    v->id = (struct id){ text_of(st, OC_OID, into), spell_of(st, OC_SPELL), STR_NONE };
    v->start = col_time(st, OC_START);
    v->end = col_time(st, OC_END);
    v->completion_start = col_time(st, OC_COMPLETION);
    v->type = text_of(st, OC_TYPE, into);
    v->level = text_of(st, OC_LEVEL, into);
    v->name = text_of(st, OC_NAME, into);
    v->model = text_of(st, OC_MODEL, into);
    v->parent_id = (struct id){ text_of(st, OC_PARENT, into), v->id.spell, STR_NONE };
    v->tokens_in = i64_of(st, OC_TIN);
    v->tokens_out = i64_of(st, OC_TOUT);
    v->tokens_total = i64_of(st, OC_TTOTAL);
    v->cost_total = money_of(st, OC_COST_NANO);
    v->cost_total_parts = ret->cost_source == COST_PARTS;
    v->input_price = v->output_price = v->total_price = none;
    v->latency = v->time_to_first_token = none;
    return read_rest(c, k, st, a, copy, ret, err);
}

void obs_rec_bind(sqlite3_stmt *st, const struct obs_rec *r, struct str rest) {
    const struct observation *v = &r->v;
    sqlite3_bind_int64(st, 1 + OC_TSEQ, r->tseq);
    bind_blob(st, 1 + OC_OID, v->id.key);
    sqlite3_bind_int64(st, 1 + OC_PROJECT, r->project);
    sqlite3_bind_int(st, 1 + OC_SPELL, (int)v->id.spell);
    sqlite3_bind_int64(st, 1 + OC_CREATED, r->created);
    sqlite3_bind_int64(st, 1 + OC_UPDATED, r->updated);
    bind_time(st, 1 + OC_START, v->start);
    bind_time(st, 1 + OC_END, v->end);
    bind_time(st, 1 + OC_COMPLETION, v->completion_start);
    bind_str(st, 1 + OC_TYPE, v->type);
    bind_str(st, 1 + OC_LEVEL, v->level);
    bind_str(st, 1 + OC_NAME, v->name);
    bind_str(st, 1 + OC_MODEL, v->model);
    bind_blob(st, 1 + OC_PARENT, v->parent_id.key);
    bind_opt(st, 1 + OC_TIN, &v->tokens_in);
    bind_opt(st, 1 + OC_TOUT, &v->tokens_out);
    bind_opt(st, 1 + OC_TTOTAL, &v->tokens_total);
    bind_money(st, 1 + OC_COST_NANO, &v->cost_total);
    bind_pid(st, 1 + OC_COST_SOURCE, r->cost_source);
    bind_pid(st, 1 + OC_PRICE, r->price);
    for (int i = 0; i < PAYLOADS; i++)
        bind_pid(st, 1 + OC_PIN + i, r->pid[i]);
    bind_blob(st, 1 + OC_REST, rest.n > 0 ? rest : STR_NONE);
    bind_pid(st, 1 + OC_PREST, r->prest);
}
