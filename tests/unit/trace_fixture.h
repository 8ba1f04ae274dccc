/* trace_fixture.h -- batches of traces and observations, and what reads give back as text: one line a record, a field
 * being name=value. Included by the tests of stores that hold telemetry. */
#pragma once
#include "store_fixture.h"

#define SEC NS_PER_SEC
#define HOUR (3600 * NS_PER_SEC)

/* ---- building ---- */

/* A request of project 1, default label "default". */
static UNUSED struct batch *batch_at(int64_t received) {
    struct batch *b = batch_new((size_t)1 << 30);
    assert_non_null(b);
    b->project = 1;
    b->default_label = STR_LIT("default");
    b->received = received;
    return b;
}

static UNUSED struct id id_of(struct batch *b, const char *text) {
    struct id id;
    assert_true(id_from_text(&b->arena, str_c(text), &id));
    return id;
}

static UNUSED struct trace *add_trace(struct batch *b, const char *id) {
    struct trace *t = batch_add_trace(b);
    assert_non_null(t);
    t->id = id_of(b, id);
    return t;
}

static UNUSED struct observation *add_obs(struct batch *b, const char *trace, const char *id) {
    struct observation *o = batch_add_observation(b);
    assert_non_null(o);
    o->trace_id = id_of(b, trace);
    o->id = id_of(b, id);
    return o;
}

static UNUSED struct str text_in(struct batch *b, const char *s) { return arena_str(&b->arena, str_c(s)); }

/* "a,b" as tags. */
static UNUSED void set_tags(struct batch *b, struct trace *t, const char *list) {
    struct str rest = arena_str(&b->arena, str_c(list)), part;
    t->tags = arena_new(&b->arena, struct str, strlen(list) + 1);
    t->ntags = 0;
    t->tags_has = true;
    while (rest.n > 0 && str_split(&rest, ',', &part))
        t->tags[t->ntags++] = part;
}

static UNUSED struct opt_money usd(const char *text) {
    struct opt_money m = { .has = true };
    bool exact;
    assert_true(money_parse(str_c(text), &m.v, &exact));
    if (!exact)
        m.text = str_c(text);
    return m;
}

/* ---- writing ---- */

static UNUSED struct batch_part whole(const struct batch *b) {
    return (struct batch_part){
        .b = b, .trace_to = b->ntraces, .observation_to = b->nobservations, .sample_to = b->nsamples
    };
}

/* The batches as one group; they are freed. */
static UNUSED void write_group(struct fixture *f, struct batch **b, size_t n) {
    struct batch_part *parts = calloc(n, sizeof *parts);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(f->store.ops->prepare(&f->store, b[i], &f->err), XT_OK);
        parts[i] = whole(b[i]);
    }
    if (f->store.ops->write(&f->store, parts, n, &f->err) != XT_OK)
        fail_msg("write: %s", f->err.msg);
    f->store.ops->tidy(&f->store); /* as the ingest writer does after each group */
    free(parts);
    for (size_t i = 0; i < n; i++)
        batch_free(b[i]);
}

static UNUSED void write_one(struct fixture *f, struct batch *b) { write_group(f, &b, 1); }

/* Everything that is kept beside the rows must follow from them. */
static UNUSED void assert_sound(struct fixture *f) {
    struct buf report;
    buf_init(&report, 1 << 20);
    enum xt_code code = f->store.ops->check(&f->store, true, &report, &f->err);
    if (code != XT_OK)
        fail_msg("check: %s\n%s", f->err.msg, report.p ? report.p : "");
    buf_done(&report);
}

/* ---- rows as text ---- */

static UNUSED void out_str(struct buf *out, const char *key, struct str s) {
    if (str_has(s)) {
        buf_printf(out, " %s=", key);
        buf_add_str(out, s);
    }
}
static UNUSED void out_time(struct buf *out, const char *key, int64_t t) {
    if (t != TIME_NONE)
        buf_printf(out, " %s=%lld", key, (long long)t);
}
static UNUSED void out_f64(struct buf *out, const char *key, double v) {
    if (!isnan(v))
        buf_printf(out, " %s=%.17g", key, v);
}
static UNUSED void out_i64(struct buf *out, const char *key, const struct opt_i64 *v) {
    if (v->has)
        buf_printf(out, " %s=%lld", key, (long long)v->v);
}
static UNUSED void out_money(struct buf *out, const char *key, bool has, money v, struct str text) {
    char digits[MONEY_TEXT_MAX];
    if (has) {
        size_t n = money_format(v, digits);
        out_str(out, key, (struct str){ digits, n });
        if (str_has(text))
            out_str(out, "as", text);
    }
}

static UNUSED void out_trace(struct buf *out, const struct trace_row *t) {
    buf_add_str(out, t->id);
    out_time(out, "ts", t->timestamp);
    out_time(out, "created", t->created);
    out_time(out, "updated", t->updated);
    out_str(out, "name", t->name);
    out_str(out, "user", t->user);
    out_str(out, "session", t->session);
    out_str(out, "release", t->release);
    out_str(out, "version", t->version);
    out_str(out, "env", t->environment);
    out_str(out, "external", t->external_id);
    out_str(out, "label", t->label);
    for (size_t i = 0; i < t->ntags; i++)
        out_str(out, "tag", t->tags[i]);
    if (t->is_public)
        buf_add_c(out, " public");
    if (t->bookmarked)
        buf_add_c(out, " bookmarked");
    out_str(out, "in", t->input);
    out_str(out, "out", t->output);
    out_str(out, "meta", t->metadata);
    out_f64(out, "latency", t->latency);
    out_money(out, "cost", t->cost_known, t->cost, t->cost_text);
    for (size_t i = 0; i < t->nobservation_ids; i++)
        out_str(out, "obs", t->observation_ids[i]);
    buf_add_char(out, '\n');
}

static UNUSED void out_obs(struct buf *out, const struct observation_row *o) {
    buf_add_c(out, "- ");
    buf_add_str(out, o->id);
    out_str(out, "of", o->trace_id);
    out_str(out, "parent", o->parent_id);
    out_str(out, "type", o->type);
    out_str(out, "name", o->name);
    out_str(out, "level", o->level);
    out_str(out, "status", o->status_message);
    out_str(out, "env", o->environment);
    out_str(out, "label", o->label);
    out_time(out, "start", o->start);
    out_time(out, "end", o->end);
    out_time(out, "completion", o->completion_start);
    out_time(out, "created", o->created);
    out_time(out, "updated", o->updated);
    out_str(out, "model", o->model);
    out_str(out, "params", o->model_parameters);
    out_str(out, "in", o->input);
    out_str(out, "out", o->output);
    out_str(out, "meta", o->metadata);
    out_str(out, "unit", o->unit);
    out_str(out, "pid", o->prompt_id);
    out_str(out, "pname", o->prompt_name);
    out_str(out, "pversion", o->prompt_version);
    out_str(out, "version", o->version);
    out_str(out, "mid", o->model_id);
    out_f64(out, "iprice", o->input_price);
    out_f64(out, "oprice", o->output_price);
    out_f64(out, "tprice", o->total_price);
    out_money(out, "icost", o->cost_input.has, o->cost_input.v, o->cost_input.text);
    out_money(out, "ocost", o->cost_output.has, o->cost_output.v, o->cost_output.text);
    out_money(out, "tcost", o->cost_total.has, o->cost_total.v, o->cost_total.text);
    out_str(out, "usage", o->usage_buckets);
    out_str(out, "costs", o->cost_buckets);
    out_str(out, "source", o->cost_source);
    out_f64(out, "latency", o->latency);
    out_f64(out, "ttft", o->time_to_first_token);
    out_i64(out, "tin", &o->tokens_in);
    out_i64(out, "tout", &o->tokens_out);
    out_i64(out, "ttotal", &o->tokens_total);
    buf_add_char(out, '\n');
}

static UNUSED void out_day(struct buf *out, const struct day_row *d) {
    char digits[MONEY_TEXT_MAX];
    time_format_date(d->day, digits);
    buf_printf(out, "%s traces=%lld obs=%lld", digits, (long long)d->traces, (long long)d->observations);
    out_money(out, "cost", true, d->cost, STR_NONE);
    for (size_t i = 0; i < d->nusage; i++) {
        const struct day_usage *u = &d->usage[i];
        buf_add_c(out, " [");
        buf_add_str(out, u->model);
        buf_printf(out, " n=%lld traces=%lld in=%lld out=%lld total=%lld", (long long)u->observations,
                   (long long)u->traces, (long long)u->tokens_in, (long long)u->tokens_out, (long long)u->tokens_total);
        out_money(out, "cost", true, u->cost, STR_NONE);
        buf_add_char(out, ']');
    }
    buf_add_char(out, '\n');
}

/* ---- reading ---- */

static UNUSED bool visit_trace(void *arg, const struct trace_row *t) {
    out_trace(arg, t);
    return true;
}
static UNUSED bool visit_obs(void *arg, const struct observation_row *o) {
    out_obs(arg, o);
    return true;
}
static UNUSED bool visit_day(void *arg, const struct day_row *d) {
    out_day(arg, d);
    return true;
}

/* The trace and its observations; "not found"; or the failure. */
static UNUSED void read_trace(struct fixture *f, int64_t project, const char *id, struct buf *out) {
    struct arena a;
    struct trace_ref ref = { .project = project, .deadline = TIME_NONE };
    arena_init(&a, 1 << 20);
    assert_true(id_key(&a, str_c(id), &ref.key));
    enum xt_code code = f->store.ops->trace_get(&f->store, &ref, visit_trace, visit_obs, out, &f->err);
    if (code == XT_ENOTFOUND)
        buf_add_c(out, "not found\n");
    else if (code != XT_OK)
        buf_printf(out, "failed: %s\n", f->err.msg);
    arena_done(&a);
}

static UNUSED struct trace_query all_traces(void) {
    return (struct trace_query){ .project = 1,
                                 .from = TIME_MIN,
                                 .to = TIME_MAX,
                                 .order = ORDER_TIMESTAMP,
                                 .descending = true,
                                 .limit = 50,
                                 .deadline = TIME_NONE };
}
static UNUSED int64_t read_list(struct fixture *f, const struct trace_query *q, struct buf *out) {
    int64_t total = -1;
    if (f->store.ops->traces_list(&f->store, q, visit_trace, out, &total, &f->err) != XT_OK)
        buf_printf(out, "failed: %s\n", f->err.msg);
    return total;
}

static UNUSED struct daily_query all_days(void) {
    return (struct daily_query){ .project = 1, .from = TIME_MIN, .to = TIME_MAX, .limit = 50, .deadline = TIME_NONE };
}
static UNUSED int64_t read_days(struct fixture *f, const struct daily_query *q, struct buf *out) {
    int64_t total = -1;
    if (f->store.ops->daily(&f->store, q, visit_day, out, &total, &f->err) != XT_OK)
        buf_printf(out, "failed: %s\n", f->err.msg);
    return total;
}

/* First words of the lines (ids, dates), blank between. */
static UNUSED void first_words(const struct buf *text, char *out, size_t room) {
    size_t n = 0;
    bool skip = false;
    for (size_t i = 0; i < text->n && n + 1 < room; i++) {
        if (text->p[i] == '\n') {
            skip = false;
            if (i + 1 < text->n)
                out[n++] = ' ';
        } else if (!skip) {
            skip = text->p[i] == ' ';
            if (!skip)
                out[n++] = text->p[i];
        }
    }
    out[n] = '\0';
}

/* Does the text hold this piece? Shows both when not. */
static UNUSED void assert_has(const struct buf *text, const char *piece) {
    if (!text->p || !memmem(text->p, text->n, piece, strlen(piece)))
        fail_msg("no \"%s\" in:\n%s", piece, text->p ? text->p : "");
}
static UNUSED void assert_lacks(const struct buf *text, const char *piece) {
    if (text->p && memmem(text->p, text->n, piece, strlen(piece)))
        fail_msg("\"%s\" in:\n%s", piece, text->p);
}
