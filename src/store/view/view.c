/* view.c -- see view.h. */
#include "store/view/view.h"

#include <math.h>
#include <string.h>

#include "store/fold/packed.h"

#define VIEW_BYTES ((size_t)2 << 30) /* three payloads of the largest size */

void view_init(struct view *v, const struct text_source *texts) {
    *v = (struct view){ .texts = *texts };
    arena_init(&v->arena, VIEW_BYTES);
}

void view_done(struct view *v) { arena_done(&v->arena); }

static enum xt_code get_text(struct view *v, int64_t pid, struct str *ret, struct xt_err *err) {
    *ret = STR_NONE;
    return pid ? v->texts.get(v->texts.arg, &v->arena, pid, ret, err) : XT_OK;
}

static enum xt_code not_made(const struct view *v, struct xt_err *err) {
    return v->arena.failed ? no_memory(err) : row_damaged(err);
}

/* ---- order ---- */

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

bool obs_root_gives_way(const struct obs_root *root, const struct obs_place *place) {
    return !root->found || obs_place_cmp(place, &root->place) < 0;
}

/* ---- traces ---- */

bool view_wants_root(const struct trace_rec *r) {
    return (r->pid[PAYLOAD_INPUT] == 0 || r->pid[PAYLOAD_OUTPUT] == 0) && r->nobs > 0;
}

void view_trace_texts(const struct trace_rec *r, const struct obs_root *root, int64_t ret_pid[PAYLOADS]) {
    for (int i = 0; i < PAYLOADS; i++)
        ret_pid[i] = r->pid[i];
    for (int i = PAYLOAD_INPUT; root && i <= PAYLOAD_OUTPUT; i++)
        if (ret_pid[i] == 0)
            ret_pid[i] = root->pid[i];
}

enum xt_code view_trace(struct view *v, const struct trace_rec *r, const int64_t pid[PAYLOADS], struct trace_row *ret,
                        struct xt_err *err) {
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
    if (!str_has(ret->id) || !tags_decode(&v->arena, r->tags, &tags, &ret->ntags))
        return not_made(v, err);
    ret->tags = tags;
    struct str *const into[PAYLOADS] = { &ret->input, &ret->output, &ret->metadata };
    enum xt_code code = XT_OK;
    for (int i = 0; pid && i < PAYLOADS && code == XT_OK; i++)
        code = get_text(v, pid[i], into[i], err);
    return code;
}

/* ---- ids ---- */

/* Text of an observation's id out of the packed fields, wherever they are. */
static enum xt_code id_text(struct view *v, struct str rest, int64_t prest, struct str *ret, struct xt_err *err) {
    struct str text;
    enum xt_code code = prest ? get_text(v, prest, &rest, err) : XT_OK;
    if (code != XT_OK)
        return code;
    if (!packed_read_id(rest, &text) || !str_has(text))
        return row_damaged(err);
    *ret = arena_str(&v->arena, text);
    return str_has(*ret) ? XT_OK : no_memory(err);
}

static bool id_room(struct view *v, struct id_list *to) {
    if (to->n < to->room)
        return true;
    size_t room = to->room ? to->room * 2 : 16;
    struct str *bigger = arena_new(&v->arena, struct str, room);
    if (!bigger)
        return false;
    if (to->n > 0)
        memcpy(bigger, to->v, to->n * sizeof *to->v);
    to->v = bigger;
    to->room = room;
    return true;
}

enum xt_code view_add_id(struct view *v, struct id_list *to, struct str key, int spell, struct str rest, int64_t prest,
                         struct xt_err *err) {
    struct str id = STR_NONE;
    if (!id_room(v, to))
        return no_memory(err);
    if (spell == ID_TEXT) {
        enum xt_code code = id_text(v, rest, prest, &id, err);
        if (code != XT_OK)
            return code;
    } else {
        id =
            id_print(&v->arena, key, spell == ID_HEX32 || spell == ID_HEX16 ? (enum id_spell)spell : ID_UUID, STR_NONE);
        if (!str_has(id))
            return not_made(v, err);
    }
    to->v[to->n++] = id;
    return XT_OK;
}

/* ---- observations ---- */

static enum xt_code obs_payloads(struct view *v, const struct obs_rec *r, struct observation_row *ret,
                                 struct xt_err *err) {
    struct str *const into[PAYLOADS] = { &ret->input, &ret->output, &ret->metadata };
    enum xt_code code = XT_OK;
    for (int i = 0; i < PAYLOADS && code == XT_OK; i++)
        code = get_text(v, r->pid[i], into[i], err);
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
        .version = o->version,
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
        return not_made(v, err);
    return obs_payloads(v, r, ret, err);
}
