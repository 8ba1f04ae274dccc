/* model_random.h -- random records for the comparison of a store with its model: few ids and few values, so that they meet.
 * One generator, seeded by the test. */
#pragma once
#include "trace_fixture.h"

#define BASE (1767225600 * SEC)
#define PROJECTS 2
#define WIDE_IDS 400

static uint64_t rng, seed_now;

/* Every test of a seed begins with this. */
static void random_begin(uint64_t seed) {
    seed_now = seed;
    rng = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
}
static uint64_t rnd(uint64_t n) {
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (rng * UINT64_C(0x2545F4914F6CDD1D) >> 33) % n;
}
static bool chance(unsigned percent) { return rnd(100) < percent; }
#define PICK(list) list[rnd(sizeof list / sizeof *list)]

static const char *const trace_ids[] = { "0af7651916cd43dd8448eb211c80319c",
                                         "0AF76519-16CD-43DD-8448-EB211C80319C",
                                         "0af76519-16cd-43dd-8448-eb211c80319c",
                                         "my trace",
                                         "My Trace",
                                         "x",
                                         "00000000000000aa",
                                         "00000000-0000-0000-0000-0000000000aa",
                                         "t8bytes",
                                         "y" };
/* Beside these few, that meet in every group: enough to fill what a store keeps in memory many times. */
static char wide_ids[WIDE_IDS][40];
static bool wide;

static void random_ids(bool many) {
    wide = many;
    for (unsigned i = 0; i < WIDE_IDS; i++)
        snprintf(wide_ids[i], sizeof wide_ids[i], i % 3 ? "%08x7651916cd43dd8448eb2%08x" : "trace %u of %u",
                 i * 2654435761U, i);
}
static const char *random_trace_id(void) { return wide && chance(85) ? wide_ids[rnd(WIDE_IDS)] : PICK(trace_ids); }

static const char *const obs_ids[] = { "b7ad6b7169203331", "00000000-0000-0000-b7ad-6b7169203331", "step", "s2",
                                       "00f067aa0ba902b7", "0af76519-16cd-43dd-8448-eb211c80319c" };
static const char *const users[] = { "ann", "bob", "" };
static const char *const sessions[] = { "s-1", "s-2", "s-3", "", "ann", "0af7651916cd43dd8448eb211c80319c" };
static const char *const names[] = {
    "chat", "embed", "", "an embedding with a rather long name that goes on for more than sixty-four bytes"
};
static const char *const envs[] = { "default", "prod", "test" };
static const char *const labels[] = { "default", "other", "third" };
static const char *const tag_lists[] = { "", "a", "b,a", "c,c", "a,b,c,d", "d" };
static const char *const metas[] = { "{}",  "{\"a\":1}", "{\"a\":{\"b\":1}}", "{\"a\":{\"c\":[1]},\"d\":\"e\"}",
                                     "[1]", "\"s\"" };
static const char *const texts[] = {
    "{\"messages\":[1,2,3]}", "\"short\"", "0",
    "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""
};
static const char *const models[] = { "gpt", "claude", "", "unknowns" };
static const char *const types[] = { "GENERATION", "SPAN", "EVENT" };
static const char *const amounts[] = {
    "0", "0.1", "0.000000000000000001", "9223372036.5", "-3", "0.12345678901234567891"
};
static const int64_t counts[] = { 0, 1, 1000, -5, INT64_MAX, INT64_MIN };

static int64_t random_time(void) {
    switch (rnd(4)) {
    case 0: return BASE + (int64_t)rnd(72) * HOUR;
    case 1: return BASE + (int64_t)rnd(72) * HOUR - 1;
    case 2: return BASE + (int64_t)rnd(3) * NS_PER_DAY + (int64_t)rnd(3) - 1;
    default: return BASE + (int64_t)rnd(72 * 3600) * SEC;
    }
}
static int64_t maybe_time(unsigned percent) { return chance(percent) ? random_time() : TIME_NONE; }
#define MAYBE(percent, list) (chance(percent) ? str_c(PICK(list)) : STR_NONE)

static void random_trace(struct batch *b) {
    struct trace *t = add_trace(b, random_trace_id());
    t->merge = chance(50) ? MERGE_DEEP : MERGE_REPLACE;
    t->timestamp = maybe_time(40);
    t->name = MAYBE(50, names);
    t->name_weak = chance(30);
    t->user = MAYBE(50, users);
    t->session = MAYBE(30, sessions);
    t->release = MAYBE(20, users);
    t->version = MAYBE(20, users);
    t->environment = MAYBE(30, envs);
    t->external_id = MAYBE(10, users);
    t->project_label = MAYBE(30, labels);
    if (chance(50))
        set_tags(b, t, PICK(tag_lists));
    t->is_public = (enum tri)rnd(3);
    t->bookmarked = (enum tri)rnd(3);
    if (chance(20))
        t->latency = (double)rnd(4) / 4;
    if (chance(20))
        t->total_cost = usd(PICK(amounts));
    t->input = MAYBE(30, texts);
    t->output = MAYBE(30, texts);
    t->metadata = MAYBE(50, metas);
}

static void random_obs(struct batch *b) {
    struct observation *o = add_obs(b, random_trace_id(), PICK(obs_ids));
    o->merge = chance(50) ? MERGE_DEEP : MERGE_REPLACE;
    if (chance(40))
        o->parent_id = id_of(b, PICK(obs_ids));
    o->type = MAYBE(50, types);
    o->name = MAYBE(50, names);
    o->start = maybe_time(60);
    o->end = maybe_time(50);
    o->completion_start = maybe_time(20);
    o->model = MAYBE(60, models);
    o->model_parameters = MAYBE(20, metas);
    o->input = MAYBE(40, texts);
    o->output = MAYBE(40, texts);
    o->metadata = MAYBE(40, metas);
    o->usage = MAYBE(20, metas);
    o->unit = MAYBE(20, users);
    o->level = MAYBE(20, envs);
    o->status_message = chance(90) ? MAYBE(20, users) : arena_printf(&b->arena, "%0*d", 600 + (int)rnd(400), 7);
    o->environment = MAYBE(40, envs);
    o->project_label = MAYBE(30, labels);
    o->prompt_id = MAYBE(10, users);
    o->prompt_name = MAYBE(10, users);
    o->prompt_version = MAYBE(10, users);
    o->version = MAYBE(10, users);
    o->model_id = MAYBE(10, users);
    if (chance(20))
        o->input_price = o->output_price = 0.25;
    if (chance(20))
        o->total_price = (double)rnd(3);
    if (chance(20))
        o->latency = (double)rnd(5);
    if (chance(10))
        o->time_to_first_token = (double)rnd(5);
    if (chance(20))
        o->cost_input = usd(PICK(amounts));
    if (chance(20))
        o->cost_output = usd(PICK(amounts));
    if (chance(40))
        o->cost_total = usd(PICK(amounts));
    o->usage_buckets = MAYBE(20, metas);
    o->cost_buckets = MAYBE(20, metas);
    o->tokens_in = (struct opt_i64){ PICK(counts), chance(50) };
    o->tokens_out = (struct opt_i64){ PICK(counts), chance(50) };
    o->tokens_total = (struct opt_i64){ PICK(counts), chance(50) };
    struct opt_i64 *const tokens[] = { &o->tokens_in, &o->tokens_out, &o->tokens_total };
    for (int i = 0; i < 3; i++)
        if (!tokens[i]->has)
            tokens[i]->v = 0;
}

/* ---- samples ---- */

static const char *const metric_names[] = { "tokens", "latency", "" };
static const char *const label_lists[] = { "", "a=1", "a=2", "a=1,b=2", "b=2", "a=,c=x y" };
static const char *const label_values[] = { "1", "2", "" };

static int64_t random_sample_time(void) {
    return chance(20) ? BASE + (int64_t)rnd(40) * 60 * SEC : BASE + (int64_t)rnd(40 * 60 * 1000) * (SEC / 1000);
}

/* Some in a few series that last, some each in one of its own. */
static UNUSED void random_samples(struct batch *b, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        char own[80];
        const char *list = PICK(label_lists);
        snprintf(own, sizeof own, "a=%d,trace_id=%016llx", (int)rnd(4), (unsigned long long)rnd(UINT32_MAX));
        sample_add(b, PICK(metric_names), chance(40) ? own : list, random_sample_time(), ((double)rnd(80) - 20) / 4);
    }
}
