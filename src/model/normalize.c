/* normalize.c -- what a record says in other words: token counts and costs out of `usage`, sums of stated costs.
 *
 *  1. Nothing stated is changed: only absent fields are filled, so a second pass finds nothing to do.
 *  2. Buckets are disjoint: the details of OpenAI's two shapes are taken out of input and output. usageDetails of other
 *     makes keep their own names; see usage_names below for what counts as Langfuse's input, output and total.
 *  3. Counts are integers from 0, also written as whole doubles or decimal strings; anything else in a usage map is
 *     passed over one by one. Sums saturate.
 *  4. A map of more than USAGE_MAX bytes is no usage map: it is kept, not read.
 * Threads: any; the batch must not be shared yet. */
#include "model/normalize.h"

#include "base/buf.h"
#include "json/json_read.h"
#include "json/json_write.h"

#define USAGE_MAX ((size_t)64 * 1024) /* bytes of JSON text */
#define BUCKETS_MAX 64                /* further members stay in `usage` alone */
#define NAME_MAX_BYTES 64             /* of a bucket made from a detail; longer ones are none of OpenAI's */
#define SCRATCH_MAX ((size_t)64 * 1024 * 1024)

struct bucket {
    struct str name;
    int64_t n;
};
/* input, output and total stand first, with has; the rest follows in order of the document. */
struct usage {
    struct opt_i64 input, output, total;
    struct bucket more[BUCKETS_MAX];
    size_t nmore;
};

/* First present spelling wins: they are synonyms, never summands. */
static const char *const input_names[] = {
    "input", "promptTokens", "prompt_tokens", "input_tokens", "inputTokens", NULL
};
static const char *const output_names[] = { "output",        "completionTokens", "completion_tokens",
                                            "output_tokens", "outputTokens",     NULL };
static const char *const total_names[] = { "total", "totalTokens", "total_tokens", NULL };
static const char *const input_details[] = { "prompt_tokens_details", "input_tokens_details", NULL };
static const char *const output_details[] = { "completion_tokens_details", "output_tokens_details", NULL };

static bool one_of(struct str name, const char *const *names) {
    for (; *names; names++) {
        if (str_eq_c(name, *names))
            return true;
    }
    return false;
}

/* Bytewise search, ASCII letters of any case; `word` is lower case. */
static bool has_word(struct str s, const char *word) {
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= s.n; i++) {
        if (str_eq_nocase(str_sub(s, i, n), (struct str){ word, n }))
            return true;
    }
    return false;
}

static int64_t add_saturating(int64_t a, int64_t b) {
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

/* A count: integer, whole double or decimal string, from 0. */
static bool count(const struct json *v, int64_t *ret) {
    double d;
    int64_t n;

    if (!v)
        return false;
    if (v->type == JSON_STRING) {
        if (!str_to_i64(v->text, &n))
            return false;
    } else if (!json_i64(v, &n)) {
        if (!json_f64(v, &d) || !(d >= 0 && d < 9223372036854775808.0))
            return false;
        n = (int64_t)d;
        if ((double)n != d)
            return false;
    }
    if (n < 0)
        return false;
    *ret = n;
    return true;
}

static struct opt_i64 first_count(const struct json *map, const char *const *names) {
    struct opt_i64 found = { 0, false };
    for (; *names && !found.has; names++)
        found.has = count(json_get(map, *names), &found.v);
    return found;
}

/* Sets a bucket; of equal names the last one counts, as in any JSON object. */
static void set_bucket(struct usage *u, struct str name, int64_t n) {
    for (size_t i = 0; i < u->nmore; i++) {
        if (str_eq(u->more[i].name, name)) {
            u->more[i].n = n;
            return;
        }
    }
    if (u->nmore < BUCKETS_MAX)
        u->more[u->nmore++] = (struct bucket){ name, n };
}

static bool has_bucket(const struct usage *u, struct str name) {
    for (size_t i = 0; i < u->nmore; i++) {
        if (str_eq(u->more[i].name, name))
            return true;
    }
    return false;
}

/* OpenAI's details are parts of the count above them: each becomes a bucket and leaves that count. `text_tokens` is the
 * remainder itself. */
static void split_details(struct arena *a, struct usage *u, const struct json *details, const char *prefix,
                          struct opt_i64 *whole) {
    if (!details || details->type != JSON_OBJECT || !whole->has)
        return;
    for (const struct json *m = details->child; m; m = m->next) {
        struct str name;
        int64_t n;

        if (!count(m, &n) || m->key.n > NAME_MAX_BYTES || str_eq_c(m->key, "text_tokens"))
            continue;
        name = arena_printf(a, "%s%.*s", prefix, STR_FMT(m->key));
        if (!str_has(name) || has_bucket(u, name) || u->nmore == BUCKETS_MAX)
            continue;
        set_bucket(u, name, n);
        whole->v = whole->v > n ? whole->v - n : 0;
    }
}

/* promptTokens is what was read, whatever its bucket: the sum of those whose names say `input`. */
static struct opt_i64 sum_named(const struct usage *u, struct opt_i64 first, const char *word) {
    for (size_t i = 0; i < u->nmore; i++) {
        if (!has_word(u->more[i].name, word))
            continue;
        first.v = add_saturating(first.v, u->more[i].n);
        first.has = true;
    }
    return first;
}

/* A map that states no total: the sum of its token buckets. Other counters (requests, images ...) are no tokens. */
static void derive_total(struct usage *u) {
    struct opt_i64 in = sum_named(u, u->input, "input"), out = sum_named(u, u->output, "output");
    if (!u->total.has && (in.has || out.has))
        u->total = (struct opt_i64){ add_saturating(in.v, out.v), true };
}

static void read_usage(struct arena *a, const struct json *map, struct usage *u) {
    u->nmore = 0;
    u->input = first_count(map, input_names);
    u->output = first_count(map, output_names);
    u->total = first_count(map, total_names);
    for (const struct json *m = map->child; m; m = m->next) {
        int64_t n;

        if (one_of(m->key, input_names) || one_of(m->key, output_names) || one_of(m->key, total_names))
            continue;
        if (has_word(m->key, "cost") || !count(m, &n))
            continue; /* inputCost, cost_in_usd_ticks ... are money */
        set_bucket(u, m->key, n);
    }
    for (size_t i = 0; input_details[i]; i++) {
        split_details(a, u, json_get(map, input_details[i]), "input_", &u->input);
        split_details(a, u, json_get(map, output_details[i]), "output_", &u->output);
    }
    derive_total(u);
}

static struct str usage_json(struct arena *a, const struct usage *u) {
    struct buf out;
    struct json_writer w;
    struct str text = STR_NONE;

    buf_init(&out, 2 * USAGE_MAX * 6);
    jw_init(&w, &out);
    jw_obj(&w);
    if (u->input.has)
        jw_kv_i64(&w, "input", u->input.v);
    if (u->output.has)
        jw_kv_i64(&w, "output", u->output.v);
    for (size_t i = 0; i < u->nmore; i++) {
        jw_key_str(&w, u->more[i].name);
        jw_i64(&w, u->more[i].n);
    }
    if (u->total.has)
        jw_kv_i64(&w, "total", u->total.v);
    jw_end(&w);
    if (jw_done(&w))
        text = arena_str(a, buf_str(&out));
    buf_done(&out);
    return text;
}

static bool differs(struct opt_i64 stated, struct opt_i64 mapped) { return mapped.has && stated.v != mapped.v; }

static void fill_i64(struct opt_i64 *field, struct opt_i64 v) {
    if (!field->has)
        *field = v;
}

/* A stated amount from 0 fills a missing one; digits that do not fit keep their text. False: no memory. */
static bool fill_money(struct arena *a, struct opt_money *field, const struct json *v) {
    struct opt_money given = { 0, true, STR_NONE };
    bool exact;

    if (field->has || !v || v->type != JSON_NUMBER || !money_parse(v->raw, &given.v, &exact) || given.v < 0)
        return true;
    if (!exact) {
        given.text = arena_str(a, v->raw);
        if (!str_has(given.text))
            return false;
    }
    *field = given;
    return true;
}

static bool expand_details(void *arg, unsigned depth, const struct json *parent, struct str key) {
    (void)arg;
    (void)parent;
    return depth == 2 && (one_of(key, input_details) || one_of(key, output_details));
}

/* The map as nodes in scratch, or NULL when the text is no JSON object (or memory is short: scratch->failed). */
static const struct json *parse_map(struct arena *scratch, struct str text) {
    const struct json_opts opts = { .max_depth = 1000, .lenient = true, .expand = expand_details };
    const struct json *root;
    char *padded;

    if (text.n > USAGE_MAX)
        return NULL;
    padded = arena_bytes(scratch, text.n + JSON_PADDING);
    if (!padded)
        return NULL;
    memcpy(padded, text.p, text.n);
    memset(padded + text.n, 0, JSON_PADDING);
    if (json_parse(scratch, (struct str){ padded, text.n }, &opts, &root, NULL) != XT_OK)
        return NULL;
    return root->type == JSON_OBJECT ? root : NULL;
}

/* Tokens, buckets, unit and costs out of the usage map. False: no memory. */
static bool derive_usage(struct batch *b, struct arena *scratch, struct observation *o) {
    const struct json *map = parse_map(scratch, o->usage);
    const struct json *unit;
    struct usage u;

    if (!map)
        return !scratch->failed;
    read_usage(scratch, map, &u);
    if (scratch->failed)
        return false;
    if (u.input.has || u.output.has || u.total.has || u.nmore > 0) {
        o->usage_buckets = usage_json(&b->arena, &u);
        if (!str_has(o->usage_buckets))
            return false;
    }
    fill_i64(&o->tokens_in, sum_named(&u, u.input, "input"));
    fill_i64(&o->tokens_out, sum_named(&u, u.output, "output"));
    fill_i64(&o->tokens_total, u.total);
    /* Counts that were stated beside a map that says otherwise win, and the map is not shown then. */
    if (differs(o->tokens_in, sum_named(&u, u.input, "input")) ||
        differs(o->tokens_out, sum_named(&u, u.output, "output")) || differs(o->tokens_total, u.total))
        o->usage_buckets = STR_NONE;
    unit = json_get(map, "unit");
    if (!str_has(o->unit) && unit && unit->type == JSON_STRING) {
        o->unit = arena_str(&b->arena, unit->text);
        if (!str_has(o->unit))
            return false;
    }
    return fill_money(&b->arena, &o->cost_input, json_get(map, "inputCost")) &&
           fill_money(&b->arena, &o->cost_output, json_get(map, "outputCost")) &&
           fill_money(&b->arena, &o->cost_total, json_get(map, "totalCost"));
}

/* Sum of the map's amounts whose names hold `word` ("": of all); a single one keeps its text. False: no memory. */
static bool fill_sum(struct arena *a, struct opt_money *field, const struct json *map, const char *word) {
    const struct json *only = NULL;
    struct opt_money sum = { 0, false, STR_NONE };
    size_t n = 0;

    for (const struct json *m = map->child; m; m = m->next) {
        money amount;
        bool exact;
        if (m->type != JSON_NUMBER || !has_word(m->key, word))
            continue;
        if (!money_parse(m->raw, &amount, &exact) || amount < 0)
            continue;
        sum.v = money_add(sum.v, amount);
        only = m;
        n++;
    }
    if (n == 1)
        return fill_money(a, field, only);
    sum.has = n > 0;
    if (!field->has)
        *field = sum;
    return true;
}

/* The map is shown with its total: one that states none gets it. `map` is not empty. */
static bool show_total(struct arena *a, struct observation *o, const struct json *map) {
    char total[MONEY_TEXT_MAX];
    struct str s = str_trim(o->cost_buckets);
    if (!o->cost_total.has || json_get(map, "total") || !map->child)
        return true;
    money_format(o->cost_total.v, total);
    o->cost_buckets = arena_printf(a, "%.*s,\"total\":%s}", STR_FMT(str_sub(s, 0, s.n - 1)), total);
    return str_has(o->cost_buckets);
}

/* costDetails -> the three costs: the total as stated, else the sum of all; input and output by what the names say. */
static bool derive_costs(struct batch *b, struct arena *scratch, struct observation *o) {
    const struct json *map = parse_map(scratch, o->cost_buckets);
    struct arena *a = &b->arena;

    if (!map)
        return !scratch->failed;
    return fill_sum(a, &o->cost_input, map, "input") && fill_sum(a, &o->cost_output, map, "output") &&
           fill_money(a, &o->cost_total, json_get(map, "total")) && fill_sum(a, &o->cost_total, map, "") &&
           show_total(a, o, map);
}

static bool normalize_observation(struct batch *b, struct arena *scratch, struct observation *o) {
    if (str_has(o->usage) && !str_has(o->usage_buckets)) {
        arena_reset(scratch);
        if (!derive_usage(b, scratch, o))
            return false;
    }
    if (str_has(o->cost_buckets) && !o->cost_total.has) {
        arena_reset(scratch);
        if (!derive_costs(b, scratch, o))
            return false;
    }
    if (!o->cost_total.has && (o->cost_input.has || o->cost_output.has)) {
        money in = o->cost_input.has ? o->cost_input.v : 0, out = o->cost_output.has ? o->cost_output.v : 0;
        o->cost_total = (struct opt_money){ money_add(in, out), true, STR_NONE };
        o->cost_total_parts = true;
    }
    return true;
}

enum xt_code normalize_batch(struct batch *b, struct xt_err *err) {
    struct arena scratch;
    enum xt_code code = XT_OK;

    arena_init(&scratch, SCRATCH_MAX);
    for (size_t i = 0; i < b->nobservations && code == XT_OK; i++) {
        if (!normalize_observation(b, &scratch, &b->observations[i])) {
            code = xt_fail(err, XT_ETOOBIG, "observations[%zu].usage: the request needs too much memory", i);
        }
    }
    arena_done(&scratch);
    return code;
}
