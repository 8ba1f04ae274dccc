/* view.c -- see view.h. */
#include "store/sqlite/view.h"

#include "store/fold/packed.h"

#define VIEW_BYTES ((size_t)2 << 30) /* three payloads of the largest size */

void view_init(struct view *v, struct conn *c) {
    *v = (struct view){ .c = c };
    arena_init(&v->arena, VIEW_BYTES);
}

void view_done(struct view *v) {
    codec_done(&v->codec);
    arena_done(&v->arena);
}

int obs_place_cmp(const struct obs_place *a, const struct obs_place *b) {
    if (a->start != b->start) {
        if (a->start == TIME_NONE || b->start == TIME_NONE)
            return a->start == TIME_NONE ? 1 : -1;
        return a->start < b->start ? -1 : 1;
    }
    if (a->created != b->created)
        return a->created < b->created ? -1 : 1;
    return str_cmp(a->oid, b->oid);
}

/* ---- the root observation ---- */

struct root {
    bool found;
    struct obs_place place;
    int64_t pid[2]; /* input, output */
};

static enum xt_code has_observation(struct conn *c, int64_t tseq, struct str oid, bool *ret, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_OBS_HAS, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    bind_blob(st, 2, oid);
    int rc = sqlite3_step(st);
    sqlite3_reset(st);
    *ret = rc == SQLITE_ROW;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "observation", err);
}

/* The row becomes the root when it comes before the present one and its parent is not in the trace. */
static enum xt_code consider(struct view *v, int64_t tseq, sqlite3_stmt *st, struct root *root, struct xt_err *err) {
    struct obs_place place = { col_time(st, 2), sqlite3_column_int64(st, 3), col_blob(st, 0) };
    struct str parent = col_blob(st, 1);
    bool dangling = true;
    if (root->found && obs_place_cmp(&place, &root->place) >= 0)
        return XT_OK;
    if (str_has(parent)) {
        bool there = false;
        enum xt_code code = has_observation(v->c, tseq, parent, &there, err);
        if (code != XT_OK)
            return code;
        dangling = !there;
    }
    if (!dangling)
        return XT_OK;
    root->place = place;
    root->place.oid = arena_str(&v->arena, place.oid);
    root->pid[0] = sqlite3_column_int64(st, 4);
    root->pid[1] = sqlite3_column_int64(st, 5);
    root->found = true;
    return str_has(root->place.oid) ? XT_OK : no_memory(err);
}

static enum xt_code find_root(struct view *v, int64_t tseq, struct root *root, struct xt_err *err) {
    int rc;
    enum xt_code code = XT_OK;
    sqlite3_stmt *st = conn_stmt(v->c, SQL_OBS_ROOTS, err);
    if (!st)
        return v->c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && code == XT_OK)
        code = consider(v, tseq, st, root, err);
    sqlite3_reset(st);
    if (code != XT_OK)
        return code;
    return rc == SQLITE_DONE ? XT_OK : conn_fail(v->c, rc, "observation", err);
}

/* ---- traces ---- */

static enum xt_code trace_io(struct view *v, const struct trace_rec *r, struct trace_row *ret, struct xt_err *err) {
    int64_t in = r->pid[PAYLOAD_INPUT], out = r->pid[PAYLOAD_OUTPUT];
    if ((in == 0 || out == 0) && r->nobs > 0) {
        struct root root = { 0 };
        enum xt_code code = find_root(v, r->tseq, &root, err);
        if (code != XT_OK)
            return code;
        in = in ? in : root.pid[0];
        out = out ? out : root.pid[1];
    }
    enum xt_code code = payload_get(v->c, &v->codec, &v->arena, in, &ret->input, err);
    if (code == XT_OK)
        code = payload_get(v->c, &v->codec, &v->arena, out, &ret->output, err);
    if (code == XT_OK)
        code = payload_get(v->c, &v->codec, &v->arena, r->pid[PAYLOAD_METADATA], &ret->metadata, err);
    return code;
}

enum xt_code view_trace(struct view *v, const struct trace_rec *r, bool io, struct trace_row *ret, struct xt_err *err) {
    struct str *tags;
    *ret = (struct trace_row){
        .id = id_print(&v->arena, r->id.key, r->id.spell, r->id.text),
        .timestamp = r->ts,
        .created = r->created,
        .updated = r->updated,
        .name = r->name,
        .user = r->user,
        .session = r->session,
        .release = r->release,
        .version = r->version,
        .environment = r->env,
        .external_id = r->external,
        .label = r->label,
        .is_public = r->is_public == TRI_TRUE,
        .bookmarked = r->bookmarked == TRI_TRUE,
        .latency = trace_rec_latency(r),
        .cost_known = trace_rec_cost_known(r),
        .cost = trace_rec_cost(r),
        .cost_text = r->cost.text,
    };
    if (!str_has(ret->id))
        return v->arena.failed ? no_memory(err) : row_damaged(err);
    if (!tags_decode(&v->arena, r->tags, &tags, &ret->ntags))
        return v->arena.failed ? no_memory(err) : row_damaged(err);
    ret->tags = tags;
    return io ? trace_io(v, r, ret, err) : XT_OK;
}

/* Text of an observation's id out of the packed fields, wherever they are. */
static enum xt_code id_text(struct view *v, sqlite3_stmt *st, struct str *ret, struct xt_err *err) {
    struct str rest = col_blob(st, 2), text;
    int64_t prest = sqlite3_column_int64(st, 3);
    enum xt_code code = prest ? payload_get(v->c, &v->codec, &v->arena, prest, &rest, err) : XT_OK;
    if (code != XT_OK)
        return code;
    if (!packed_read_id(rest, &text) || !str_has(text))
        return row_damaged(err);
    *ret = arena_str(&v->arena, text);
    return str_has(*ret) ? XT_OK : no_memory(err);
}

static enum xt_code one_id(struct view *v, sqlite3_stmt *st, struct str *ret, struct xt_err *err) {
    int spell = sqlite3_column_int(st, 1);
    if (spell == ID_TEXT)
        return id_text(v, st, ret, err);
    *ret = id_print(&v->arena, col_blob(st, 0), spell == ID_HEX32 || spell == ID_HEX16 ? (enum id_spell)spell : ID_UUID,
                    STR_NONE);
    if (str_has(*ret))
        return XT_OK;
    return v->arena.failed ? no_memory(err) : row_damaged(err);
}

enum xt_code view_observation_ids(struct view *v, int64_t tseq, struct trace_row *row, struct xt_err *err) {
    struct str *ids = NULL;
    size_t n = 0, room = 0;
    int rc;
    enum xt_code code = XT_OK;
    sqlite3_stmt *st = conn_stmt(v->c, SQL_OBS_IDS, err);
    if (!st)
        return v->c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    while (code == XT_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (n == room) {
            room = room ? room * 2 : 16;
            struct str *bigger = arena_new(&v->arena, struct str, room);
            if (!bigger) {
                code = no_memory(err);
                break;
            }
            if (n > 0)
                memcpy(bigger, ids, n * sizeof *ids);
            ids = bigger;
        }
        code = one_id(v, st, &ids[n], err);
        n++;
    }
    sqlite3_reset(st);
    if (code != XT_OK)
        return code;
    if (rc != SQLITE_DONE)
        return conn_fail(v->c, rc, "observation", err);
    row->observation_ids = ids;
    row->nobservation_ids = n;
    return XT_OK;
}

/* ---- observations ---- */

static enum xt_code obs_payloads(struct view *v, const struct obs_rec *r, struct observation_row *ret,
                                 struct xt_err *err) {
    struct str *const into[PAYLOADS] = { &ret->input, &ret->output, &ret->metadata };
    enum xt_code code = XT_OK;
    for (int i = 0; i < PAYLOADS && code == XT_OK; i++)
        code = payload_get(v->c, &v->codec, &v->arena, r->pid[i], into[i], err);
    return code;
}

enum xt_code view_observation(struct view *v, const struct obs_rec *r, struct str trace_id, struct observation_row *ret,
                              struct xt_err *err) {
    const struct observation *o = &r->v;
    *ret = (struct observation_row){
        .id = id_print(&v->arena, o->id.key, o->id.spell, o->id.text),
        .trace_id = trace_id,
        .type = o->type,
        .name = o->name,
        .level = o->level,
        .status_message = o->status_message,
        .environment = str_has(o->environment) ? o->environment : STR_LIT("default"),
        .label = o->project_label,
        .start = o->start,
        .end = o->end,
        .completion_start = o->completion_start,
        .created = r->created,
        .updated = r->updated,
        .model = o->model,
        .model_parameters = o->model_parameters,
        .unit = o->unit,
        .prompt_id = o->prompt_id,
        .prompt_name = o->prompt_name,
        .prompt_version = o->prompt_version,
        .model_id = o->model_id,
        .input_price = o->input_price,
        .output_price = o->output_price,
        .total_price = o->total_price,
        .cost_input = o->cost_input,
        .cost_output = o->cost_output,
        .cost_total = o->cost_total,
        .usage_buckets = o->usage_buckets,
        .cost_buckets = o->cost_buckets,
        .cost_source = r->cost_source == COST_GIVEN || r->cost_source == COST_PARTS ? STR_LIT("given")
                       : r->cost_source == COST_PRICED                              ? STR_LIT("priced")
                                                                                    : STR_NONE,
        .latency = isnan(o->latency) ? seconds_between(o->start, o->end) : o->latency,
        .time_to_first_token =
            isnan(o->time_to_first_token) ? seconds_between(o->start, o->completion_start) : o->time_to_first_token,
        .tokens_in = o->tokens_in,
        .tokens_out = o->tokens_out,
        .tokens_total = o->tokens_total,
    };
    if (id_has(&o->parent_id))
        ret->parent_id = id_print(&v->arena, o->parent_id.key, o->parent_id.spell, o->parent_id.text);
    if (!str_has(ret->id) || (id_has(&o->parent_id) && !str_has(ret->parent_id)))
        return v->arena.failed ? no_memory(err) : row_damaged(err);
    return obs_payloads(v, r, ret, err);
}
