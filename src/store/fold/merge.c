/* merge.c -- see merge.h. */
#include "store/fold/merge.h"

#include "base/map.h"
#include "json/json_merge.h"

static void take_str(struct str *into, struct str given) {
    if (str_has(given))
        *into = given;
}

static void take_time(int64_t *into, int64_t given) {
    if (given != TIME_NONE)
        *into = given;
}

static void take_f64(double *into, double given) {
    if (!isnan(given))
        *into = given;
}

static void take_i64(struct opt_i64 *into, struct opt_i64 given) {
    if (given.has)
        *into = given;
}

static void take_money(struct opt_money *into, const struct opt_money *given) {
    if (given->has)
        *into = *given;
}

/* A stated total wins over a sum of parts, whichever came first; a sum is made again of all parts known by now. Costs that
 * come without a map make a stored map untrue: it goes. */
static void take_costs(struct observation *into, const struct observation *given) {
    bool stated = given->cost_total.has && !given->cost_total_parts;
    if (str_has(given->cost_buckets) || given->cost_total.has || given->cost_input.has || given->cost_output.has)
        into->cost_buckets = given->cost_buckets;
    take_money(&into->cost_input, &given->cost_input);
    take_money(&into->cost_output, &given->cost_output);
    if (stated) {
        into->cost_total = given->cost_total;
        into->cost_total_parts = false;
    } else if (given->cost_total_parts && (!into->cost_total.has || into->cost_total_parts)) {
        money in = into->cost_input.has ? into->cost_input.v : 0, out = into->cost_output.has ? into->cost_output.v : 0;
        into->cost_total = (struct opt_money){ money_add(in, out), true, STR_NONE };
        into->cost_total_parts = true;
    }
}

/* Counts that come without a map make a stored map untrue: it goes. */
static void take_usage(struct observation *into, const struct observation *given) {
    bool counts = given->tokens_in.has || given->tokens_out.has || given->tokens_total.has;
    take_str(&into->usage, given->usage);
    if (str_has(given->usage_buckets) || counts)
        into->usage_buckets = given->usage_buckets;
    take_i64(&into->tokens_in, given->tokens_in);
    take_i64(&into->tokens_out, given->tokens_out);
    take_i64(&into->tokens_total, given->tokens_total);
}

/* A payload with its stored form: the two go together. */
static void take_payload(struct str *into, struct stored *into_z, struct str given, struct stored given_z) {
    if (str_has(given)) {
        *into = given;
        *into_z = given_z;
    }
}

static bool take_metadata(struct arena *a, struct str *into, struct stored *into_z, enum merge_mode mode,
                          struct str given, struct stored given_z) {
    if (!merge_needs_metadata(mode, given) || !str_has(*into)) {
        take_payload(into, into_z, given, given_z);
        return true;
    }
    struct str merged = json_merge(a, *into, given);
    if (!str_has(merged))
        return false;
    if (merged.p == given.p && merged.n == given.n)
        *into_z = given_z;
    else if (merged.p != into->p || merged.n != into->n)
        *into_z = (struct stored){ .part = 0 };
    *into = merged;
    return true;
}

/* The parent's spelling follows the child's where both came by one protocol. */
static void take_parent(struct observation *into, const struct observation *given) {
    if (!id_has(&given->parent_id))
        return;
    into->parent_id = given->parent_id;
    if (given->parent_id.spell != ID_TEXT && given->parent_id.spell == given->id.spell && into->id.spell != ID_TEXT)
        into->parent_id.spell = into->id.spell;
}

bool merge_observation(struct arena *a, struct observation *into, const struct observation *given) {
    take_parent(into, given);
    take_str(&into->type, given->type);
    take_str(&into->name, given->name);
    take_str(&into->version, given->version);
    take_time(&into->start, given->start);
    take_time(&into->end, given->end);
    take_time(&into->completion_start, given->completion_start);
    take_str(&into->model, given->model);
    take_str(&into->model_parameters, given->model_parameters);
    take_payload(&into->input, &into->input_z, given->input, given->input_z);
    take_payload(&into->output, &into->output_z, given->output, given->output_z);
    take_usage(into, given);
    take_str(&into->unit, given->unit);
    take_str(&into->level, given->level);
    take_str(&into->status_message, given->status_message);
    take_str(&into->environment, given->environment);
    take_str(&into->project_label, given->project_label);
    take_str(&into->prompt_id, given->prompt_id);
    take_str(&into->prompt_name, given->prompt_name);
    take_str(&into->prompt_version, given->prompt_version);
    take_str(&into->model_id, given->model_id);
    take_f64(&into->input_price, given->input_price);
    take_f64(&into->output_price, given->output_price);
    take_f64(&into->total_price, given->total_price);
    take_costs(into, given);
    take_f64(&into->latency, given->latency);
    take_f64(&into->time_to_first_token, given->time_to_first_token);
    return take_metadata(a, &into->metadata, &into->metadata_z, given->merge, given->metadata, given->metadata_z);
}

/* ---- traces ---- */

/* Appends those of `more` that are not there yet. */
static bool unite(struct map *seen, struct str *list, size_t *n, const struct str *more, size_t nmore) {
    for (size_t i = 0; i < nmore; i++) {
        if (map_get(seen, more[i]))
            continue;
        if (!map_put(seen, more[i], list))
            return false;
        list[(*n)++] = more[i];
    }
    return true;
}

static bool take_tags(struct arena *a, struct trace_rec *into, const struct trace *given) {
    struct str *stored = NULL, *both;
    size_t nstored, n = 0;
    struct map seen;
    if (!given->tags_has)
        return true;
    if (given->merge != MERGE_DEEP) {
        into->tags = tags_encode(a, given->tags, given->ntags);
        return str_has(into->tags);
    }
    if (!tags_decode(a, into->tags, &stored, &nstored)) {
        if (a->failed)
            return false;
        nstored = 0; /* damaged: what is given replaces it */
    }
    both = given->ntags <= SIZE_MAX - nstored ? arena_new(a, struct str, nstored + given->ntags) : NULL;
    if (!both)
        return false;
    map_init(&seen, a);
    if (!unite(&seen, both, &n, stored, nstored) || !unite(&seen, both, &n, given->tags, given->ntags))
        return false;
    into->tags = tags_encode(a, both, n);
    return str_has(into->tags);
}

static void take_public(struct trace_rec *into, const struct trace *given) {
    if (given->is_public == TRI_NONE || (given->merge == MERGE_DEEP && into->is_public == TRI_TRUE))
        return;
    into->is_public = given->is_public;
}

bool merge_trace(struct arena *a, struct trace_rec *into, struct trace_texts *texts, const struct trace *given) {
    if (given->timestamp != TIME_NONE) {
        into->ts = given->timestamp;
        into->ts_source = TS_EXPLICIT;
    }
    if (!given->name_weak || !str_has(into->name))
        take_str(&into->name, given->name);
    take_str(&into->user, given->user);
    take_str(&into->session, given->session);
    take_str(&into->release, given->release);
    take_str(&into->version, given->version);
    take_str(&into->env, given->environment);
    take_str(&into->label, given->project_label);
    take_str(&into->external, given->external_id);
    take_public(into, given);
    if (given->bookmarked != TRI_NONE)
        into->bookmarked = given->bookmarked;
    take_f64(&into->latency, given->latency);
    take_money(&into->cost, &given->total_cost);
    take_payload(&texts->text[PAYLOAD_INPUT], &texts->z[PAYLOAD_INPUT], given->input, given->input_z);
    take_payload(&texts->text[PAYLOAD_OUTPUT], &texts->z[PAYLOAD_OUTPUT], given->output, given->output_z);
    return take_metadata(a, &texts->text[PAYLOAD_METADATA], &texts->z[PAYLOAD_METADATA], given->merge, given->metadata,
                         given->metadata_z) &&
           take_tags(a, into, given);
}
