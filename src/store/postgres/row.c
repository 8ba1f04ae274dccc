/* row.c -- see row.h. */
#include "store/postgres/row.h"

#include "store/fold/packed.h"

/* Columns of PG_TRACE_COLUMNS. */
enum trace_col {
    TC_TSEQ,
    TC_PROJECT,
    TC_ID,
    TC_SPELL,
    TC_ID_TEXT,
    TC_TS,
    TC_TS_SOURCE,
    TC_CREATED,
    TC_UPDATED,
    TC_NAME,
    TC_USER,
    TC_SESSION,
    TC_TAGS,
    TC_ENV,
    TC_RELEASE,
    TC_VERSION,
    TC_LABEL,
    TC_EXTERNAL,
    TC_PUBLIC,
    TC_BOOKMARKED,
    TC_LATENCY,
    TC_COST,
    TC_COST_TEXT,
    TC_NOBS,
    TC_T0,
    TC_T1,
    TC_OCOST,
    TC_OCOST_N,
    TC_PIN,
    TC_POUT,
    TC_PMETA,
    TC_END
};
/* Columns of PG_OBS_COLUMNS. */
enum obs_col {
    OC_TSEQ,
    OC_OID,
    OC_PROJECT,
    OC_SPELL,
    OC_CREATED,
    OC_UPDATED,
    OC_START,
    OC_END_AT,
    OC_COMPLETION,
    OC_TYPE,
    OC_LEVEL,
    OC_NAME,
    OC_MODEL,
    OC_PARENT,
    OC_TIN,
    OC_TOUT,
    OC_TTOTAL,
    OC_COST,
    OC_COST_SOURCE,
    OC_PRICE,
    OC_PIN,
    OC_POUT,
    OC_PMETA,
    OC_REST,
    OC_END
};
_Static_assert((int)TC_END == PG_TRACE_NCOLUMNS && (int)OC_END == PG_OBS_NCOLUMNS, "the lists of columns");

/* ---- columns ---- */

/* Where a row stands in a result, and where its texts go. */
struct cells {
    const PGresult *r;
    int row, col;
    struct arena *a;
};

static int64_t i64_at(const struct cells *c, int i) { return pg_i64(c->r, c->row, c->col + i); }
static int64_t time_at(const struct cells *c, int i) { return pg_time(c->r, c->row, c->col + i); }
static struct str text_at(const struct cells *c, int i) { return pg_text(c->a, c->r, c->row, c->col + i); }
static struct str bytes_at(const struct cells *c, int i) { return pg_bytes(c->r, c->row, c->col + i); }

static enum id_spell spell_at(const struct cells *c, int i) {
    int64_t v = i64_at(c, i);
    return v >= ID_UUID && v <= ID_TEXT ? (enum id_spell)v : ID_UUID;
}

static enum tri tri_at(const struct cells *c, int i) {
    if (pg_is_null(c->r, c->row, c->col + i))
        return TRI_NONE;
    return pg_bool(c->r, c->row, c->col + i) ? TRI_TRUE : TRI_FALSE;
}

static struct opt_i64 opt_at(const struct cells *c, int i) {
    return (struct opt_i64){ i64_at(c, i), !pg_is_null(c->r, c->row, c->col + i) };
}

static struct opt_money money_at(const struct cells *c, int i) {
    return (struct opt_money){ pg_num(c->r, c->row, c->col + i), !pg_is_null(c->r, c->row, c->col + i), STR_NONE };
}

/* ---- traces ---- */

/* The JSON array that the fold and the views know. */
static enum xt_code tags_at(const struct cells *c, int i, struct str *ret, struct xt_err *err) {
    struct str *tags;
    size_t n;
    *ret = STR_NONE;
    if (pg_is_null(c->r, c->row, c->col + i))
        return XT_OK;
    if (!pg_texts(c->a, c->r, c->row, c->col + i, &tags, &n))
        return c->a->failed ? no_memory(err) : row_damaged(err);
    *ret = tags_encode(c->a, tags, n);
    return str_has(*ret) ? XT_OK : no_memory(err);
}

enum xt_code pg_trace_read(const PGresult *r, int row, int col, struct arena *a, struct trace_rec *ret,
                           struct xt_err *err) {
    const struct cells c = { r, row, col, a };
    *ret = (struct trace_rec){
        .tseq = i64_at(&c, TC_TSEQ),
        .project = i64_at(&c, TC_PROJECT),
        .id = { bytes_at(&c, TC_ID), spell_at(&c, TC_SPELL), text_at(&c, TC_ID_TEXT) },
        .ts = i64_at(&c, TC_TS),
        .ts_source = (enum ts_source)(i64_at(&c, TC_TS_SOURCE) & 3),
        .created = i64_at(&c, TC_CREATED),
        .updated = i64_at(&c, TC_UPDATED),
        .name = text_at(&c, TC_NAME),
        .user = text_at(&c, TC_USER),
        .session = text_at(&c, TC_SESSION),
        .env = text_at(&c, TC_ENV),
        .release = text_at(&c, TC_RELEASE),
        .version = text_at(&c, TC_VERSION),
        .label = text_at(&c, TC_LABEL),
        .external = text_at(&c, TC_EXTERNAL),
        .is_public = tri_at(&c, TC_PUBLIC),
        .bookmarked = tri_at(&c, TC_BOOKMARKED),
        .latency = pg_f64(r, row, col + TC_LATENCY),
        .cost = money_at(&c, TC_COST),
        .nobs = i64_at(&c, TC_NOBS),
        .t0 = time_at(&c, TC_T0),
        .t1 = time_at(&c, TC_T1),
        .ocost_n = i64_at(&c, TC_OCOST_N),
        .ocost = pg_num(r, row, col + TC_OCOST),
    };
    ret->cost.text = text_at(&c, TC_COST_TEXT);
    for (int i = 0; i < PAYLOADS; i++)
        ret->pid[i] = i64_at(&c, TC_PIN + i);
    enum xt_code code = tags_at(&c, TC_TAGS, &ret->tags, err);
    if (code != XT_OK)
        return code;
    if (a->failed)
        return no_memory(err);
    return str_has(ret->id.key) && str_has(ret->env) && str_has(ret->label) ? XT_OK : row_damaged(err);
}

/* ---- observations ---- */

enum xt_code pg_obs_read(const PGresult *r, int row, int col, struct arena *a, struct obs_rec *ret,
                         struct xt_err *err) {
    const struct cells c = { r, row, col, a };
    const double none = (double)NAN;
    struct observation *v = &ret->v;
    *ret = (struct obs_rec){ .tseq = i64_at(&c, OC_TSEQ),
                             .project = i64_at(&c, OC_PROJECT),
                             .created = i64_at(&c, OC_CREATED),
                             .updated = i64_at(&c, OC_UPDATED),
                             .cost_source = (int)(i64_at(&c, OC_COST_SOURCE) & 3),
                             .price = i64_at(&c, OC_PRICE) };
    for (int i = 0; i < PAYLOADS; i++)
        ret->pid[i] = i64_at(&c, OC_PIN + i);
    v->id = (struct id){ bytes_at(&c, OC_OID), spell_at(&c, OC_SPELL), STR_NONE };
    v->start = time_at(&c, OC_START);
    v->end = time_at(&c, OC_END_AT);
    v->completion_start = time_at(&c, OC_COMPLETION);
    v->type = text_at(&c, OC_TYPE);
    v->level = text_at(&c, OC_LEVEL);
    v->name = text_at(&c, OC_NAME);
    v->model = text_at(&c, OC_MODEL);
    v->parent_id = (struct id){ bytes_at(&c, OC_PARENT), v->id.spell, STR_NONE };
    v->tokens_in = opt_at(&c, OC_TIN);
    v->tokens_out = opt_at(&c, OC_TOUT);
    v->tokens_total = opt_at(&c, OC_TTOTAL);
    v->cost_total = money_at(&c, OC_COST);
    v->cost_total_parts = ret->cost_source == COST_PARTS;
    v->input_price = v->output_price = v->total_price = none;
    v->latency = v->time_to_first_token = none;
    if (a->failed)
        return no_memory(err);
    bool ok = str_has(v->id.key) && packed_read(bytes_at(&c, OC_REST), v);
    return ok ? XT_OK : row_damaged(err);
}
