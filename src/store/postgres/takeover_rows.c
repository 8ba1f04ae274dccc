/* takeover_rows.c -- rows of the original's tables to records of ours; see takeover.h.
 *
 *  1. Rows are read in order of keys behind a place. A piece of traces has all observations of its traces, unless they are
 *     too many: then it ends inside a trace, and the next piece goes on with that trace's observations.
 *  2. Nothing is derived here: a NULL stays absent, tokens of a `usage` included, so that the answers are the original's.
 *  3. Texts are read as they are: the original does not escape. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/codec.h"
#include "json/json_read.h"
#include "json/json_write.h"
#include "store/postgres/takeover.h"
#include "store/postgres/wire.h"

#define PG_EPOCH_US INT64_C(946684800000000) /* 2000-01-01 */
#define UUID_FIRST "00000000-0000-0000-0000-000000000000"
#define UUID_LAST "ffffffff-ffff-ffff-ffff-ffffffffffff"
#define PIECE_ARENA_MAX ((size_t)2 << 30)

/* ---- values ---- */

int64_t tk_time(int64_t us) {
    if (us == INT64_MIN || us == INT64_MAX)
        return us == INT64_MAX ? TIME_MAX : TIME_MIN;
    return time_from_us((__int128)us + PG_EPOCH_US);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* A number at `from`, its end. *ret_whole: neither fraction nor exponent. */
static size_t number_end(struct str s, size_t from, bool *ret_whole) {
    size_t i = from;
    *ret_whole = true;
    for (; i < s.n && (is_digit(s.p[i]) || strchr("+-.eE", s.p[i])); i++)
        if (s.p[i] == '.' || s.p[i] == 'e' || s.p[i] == 'E')
            *ret_whole = false;
    return i;
}

/* Does the whole number fit int64 or uint64? Such a number the original answers as it is. */
static bool fits_64(struct str number) {
    uint64_t v = 0;
    bool negative = number.n > 0 && number.p[0] == '-';
    for (size_t i = negative; i < number.n; i++)
        if (__builtin_mul_overflow(v, UINT64_C(10), &v) || __builtin_add_overflow(v, (uint64_t)(number.p[i] - '0'), &v))
            return false;
    return !negative || v <= (uint64_t)INT64_MAX + 1;
}

/* The double that the original makes of a large whole number. False: beyond double, or no number that strtod reads. */
static bool as_double(struct arena *a, struct str number, char out[32], size_t *ret_n) {
    char *text = arena_bytes(a, number.n + 1), *end;
    if (!text)
        return false;
    memcpy(text, number.p, number.n);
    text[number.n] = '\0';
    double v = strtod(text, &end);
    if (*end || !isfinite(v))
        return false;
    *ret_n = json_format_f64(v, out);
    return true;
}

/* Where the next number of 19 digits or more begins, at or behind `from`; s.n: none. Strings are stepped over. */
static size_t long_number(struct str s, size_t from, size_t *ret_end, bool *ret_whole) {
    for (size_t i = from; i < s.n;) {
        if (s.p[i] == '"') {
            for (i++; i < s.n && s.p[i] != '"'; i++)
                i += s.p[i] == '\\';
            i++;
        } else if (is_digit(s.p[i]) || s.p[i] == '-') {
            *ret_end = number_end(s, i, ret_whole);
            if (*ret_end - i >= 19)
                return i;
            i = *ret_end > i ? *ret_end : i + 1;
        } else {
            i++;
        }
    }
    return s.n;
}

struct str tk_json(struct arena *a, struct str text) {
    size_t end = 0, from = 0, at;
    bool whole = false;
    if (!str_has(text) || str_eq_c(text, "null"))
        return STR_NONE;
    if (long_number(text, 0, &end, &whole) >= text.n)
        return text;
    char *out = arena_bytes(a, text.n + text.n / 2), number[32]; /* a double may take 24 where 19 stood */
    size_t n = 0, digits;
    if (!out)
        return STR_NONE;
    while ((at = long_number(text, from, &end, &whole)) < text.n) {
        struct str given = { text.p + at, end - at };
        memcpy(out + n, text.p + from, at - from);
        n += at - from;
        if (whole && !fits_64(given) && as_double(a, given, number, &digits))
            given = (struct str){ number, digits };
        if (a->failed)
            return STR_NONE;
        memcpy(out + n, given.p, given.n);
        n += given.n;
        from = end;
    }
    memcpy(out + n, text.p + from, text.n - from);
    return (struct str){ out, n + text.n - from };
}

bool tk_money(struct arena *a, double v, struct opt_money *ret) {
    char text[32];
    bool exact = true;
    *ret = (struct opt_money){ .has = false };
    if (!isfinite(v))
        return true;
    struct str s = { text, json_format_f64(v, text) };
    if (!money_parse(s, &ret->v, &exact))
        return true;
    ret->has = true;
    if (!exact) {
        ret->text = arena_str(a, s);
        return str_has(ret->text);
    }
    return true;
}

/* Header: dimensions, flag, type, and for each dimension its size and lower bound; then the elements. */
bool tk_tags(struct arena *a, struct str array, struct str **ret, size_t *ret_n) {
    *ret = NULL;
    *ret_n = 0;
    if (!str_has(array))
        return true;
    if (array.n < 12 || wire_get32(array.p) > 6)
        return false;
    size_t dimensions = wire_get32(array.p), head = 12 + 8 * dimensions;
    if (dimensions == 0)
        return true;
    if (array.n < head)
        return false;
    struct str rest = str_sub(array, head, array.n), *v = arena_new(a, struct str, rest.n / 4 + 1);
    if (!v)
        return false;
    for (size_t n = 0; rest.n >= 4; *ret_n = n) {
        uint32_t size = wire_get32(rest.p);
        rest = str_sub(rest, 4, rest.n);
        if (size == UINT32_MAX)
            continue;
        if (size > rest.n)
            return false;
        v[n++] = (struct str){ rest.p, size };
        rest = str_sub(rest, size, rest.n);
    }
    *ret = v;
    return true;
}

/* ---- columns ---- */

#define OID_UUID 2950
#define OID_TIME 1184
#define OID_JSONB 3802

struct column {
    const char *name;
    Oid type;
    bool required;
};
/* The order is that of the results, and of the enums below. */
#define TRACE_COLUMNS(X)                    \
    X(ID, "id", OID_UUID, 1)                \
    X(PROJECT, "project_id", PG_TEXT, 1)    \
    X(TIMESTAMP, "timestamp", OID_TIME, 1)  \
    X(NAME, "name", PG_TEXT, 1)             \
    X(INPUT, "input", OID_JSONB, 1)         \
    X(OUTPUT, "output", OID_JSONB, 1)       \
    X(SESSION, "session_id", PG_TEXT, 0)    \
    X(RELEASE, "release", PG_TEXT, 0)       \
    X(VERSION, "version", PG_TEXT, 0)       \
    X(USER, "user_id", PG_TEXT, 0)          \
    X(METADATA, "metadata", OID_JSONB, 0)   \
    X(TAGS, "tags", PG_TEXT_ARRAY, 0)       \
    X(PUBLIC, "public", PG_BOOL, 0)         \
    X(EXTERNAL, "external_id", PG_TEXT, 0)  \
    X(BOOKMARKED, "bookmarked", PG_BOOL, 0) \
    X(LATENCY, "latency", PG_FLOAT8, 0)     \
    X(COST, "total_cost", PG_FLOAT8, 0)     \
    X(CREATED, "created_at", OID_TIME, 0)   \
    X(UPDATED, "updated_at", OID_TIME, 0)   \
    X(ENVIRONMENT, "environment", PG_TEXT, 0)
#define OBSERVATION_COLUMNS(X)                           \
    X(ID, "id", OID_UUID, 1)                             \
    X(TRACE, "trace_id", OID_UUID, 1)                    \
    X(TYPE, "type", PG_TEXT, 1)                          \
    X(NAME, "name", PG_TEXT, 1)                          \
    X(START, "start_time", OID_TIME, 1)                  \
    X(END, "end_time", OID_TIME, 1)                      \
    X(COMPLETION, "completion_start_time", OID_TIME, 0)  \
    X(MODEL, "model", PG_TEXT, 0)                        \
    X(PARAMETERS, "model_parameters", OID_JSONB, 0)      \
    X(INPUT, "input", OID_JSONB, 0)                      \
    X(OUTPUT, "output", OID_JSONB, 0)                    \
    X(USAGE, "usage", OID_JSONB, 0)                      \
    X(LEVEL, "level", PG_TEXT, 0)                        \
    X(MESSAGE, "status_message", PG_TEXT, 0)             \
    X(PARENT, "parent_observation_id", OID_UUID, 0)      \
    X(PROMPT_ID, "prompt_id", PG_TEXT, 0)                \
    X(PROMPT_NAME, "prompt_name", PG_TEXT, 0)            \
    X(PROMPT_VERSION, "prompt_version", PG_TEXT, 0)      \
    X(MODEL_ID, "model_id", PG_TEXT, 0)                  \
    X(PRICE_IN, "input_price", PG_FLOAT8, 0)             \
    X(PRICE_OUT, "output_price", PG_FLOAT8, 0)           \
    X(PRICE_TOTAL, "total_price", PG_FLOAT8, 0)          \
    X(COST_IN, "calculated_input_cost", PG_FLOAT8, 0)    \
    X(COST_OUT, "calculated_output_cost", PG_FLOAT8, 0)  \
    X(COST_TOTAL, "calculated_total_cost", PG_FLOAT8, 0) \
    X(LATENCY, "latency", PG_FLOAT8, 0)                  \
    X(FIRST_TOKEN, "time_to_first_token", PG_FLOAT8, 0)  \
    X(TOKENS_OUT, "completion_tokens", PG_INT8, 0)       \
    X(TOKENS_IN, "prompt_tokens", PG_INT8, 0)            \
    X(TOKENS_TOTAL, "total_tokens", PG_INT8, 0)          \
    X(UNIT, "unit", PG_TEXT, 0)                          \
    X(METADATA, "metadata", OID_JSONB, 0)                \
    X(PROJECT, "project_id", PG_TEXT, 0)                 \
    X(CREATED, "created_at", OID_TIME, 0)                \
    X(UPDATED, "updated_at", OID_TIME, 0)                \
    X(ENVIRONMENT, "environment", PG_TEXT, 0)
#define METRIC_COLUMNS(X)                     \
    X(ID, "id", PG_INT8, 1)                   \
    X(PROJECT, "project_id", PG_TEXT, 1)      \
    X(ENVIRONMENT, "environment", PG_TEXT, 0) \
    X(NAME, "name", PG_TEXT, 1)               \
    X(LABELS, "labels", OID_JSONB, 1)         \
    X(VALUE, "value", PG_FLOAT8, 1)           \
    X(TIMESTAMP, "timestamp", OID_TIME, 1)

#define ROW(word, name, type, required) { name, type, required },
#define T_WORD(word, name, type, required) T_##word,
#define O_WORD(word, name, type, required) O_##word,
#define M_WORD(word, name, type, required) M_##word,
static const struct column trace_columns[] = { TRACE_COLUMNS(ROW) };
static const struct column observation_columns[] = { OBSERVATION_COLUMNS(ROW) };
static const struct column metric_columns[] = { METRIC_COLUMNS(ROW) };
enum { TRACE_COLUMNS(T_WORD) T_LEFT };
enum { OBSERVATION_COLUMNS(O_WORD) O_LEFT, O_RANK };
enum { METRIC_COLUMNS(M_WORD) M_LEFT };
#define COUNT(table) (sizeof(table) / sizeof *(table))

/* A row of the answer: table, column, type, readable. */
static bool column_find(const PGresult *r, const char *table, const struct column *col) {
    for (int i = 0; i < PQntuples(r); i++)
        if (str_eq_c(pg_bytes(r, i, 0), table) && str_eq_c(pg_bytes(r, i, 1), col->name) &&
            pg_i64(r, i, 2) == (int64_t)col->type)
            return true;
    return false;
}

static bool has_required(const PGresult *r, const char *table, const struct column *cols, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (cols[i].required && !column_find(r, table, &cols[i]))
            return false;
    return true;
}

/* A table, in what order it is read, and what comes after its columns. */
struct reading {
    const char *table;
    const struct column *cols;
    size_t n;
    const char *where; /* of $1 ... */
    int args;          /* ... $args */
    const char *order;
    const char *rank; /* expression over the rows of a piece, or NULL */
};

/* What the text of a row weighs about; compressed values as they are when they come out. */
static void add_weight(struct buf *b, const PGresult *r, const struct reading *q) {
    const struct column *cols = q->cols;
    buf_add_c(b, "200");
    for (size_t i = 0; i < q->n; i++)
        if ((cols[i].type == OID_JSONB || cols[i].type == PG_TEXT) && column_find(r, q->table, &cols[i]))
            buf_printf(b,
                       " + CASE WHEN \"%s\" IS NULL THEN 0 WHEN pg_column_compression(\"%s\") IS NULL THEN "
                       "pg_column_size(\"%s\") ELSE octet_length(\"%s\"::text) END",
                       cols[i].name, cols[i].name, cols[i].name, cols[i].name);
}

/* Rows in order that `where` takes: the first, and as many more as $args+1 rows and $args+2 bytes hold. Behind their
 * columns: how many there were within the rows, then the rank. */
static bool statement(struct buf *b, const PGresult *r, const struct reading *q) {
    buf_clear(b);
    buf_add_c(b, "SELECT ");
    for (size_t i = 0; i < q->n; i++) {
        const char *cast = q->cols[i].type == OID_JSONB ? "::text" : "";
        if (column_find(r, q->table, &q->cols[i]))
            buf_printf(b, "\"%s\"%s, ", q->cols[i].name, cast);
        else
            buf_add_c(b, "NULL, ");
    }
    buf_printf(b,
               "count_, %s FROM (SELECT d.*, sum(weight_) OVER w AS total_, row_number() OVER w AS row_, "
               "count(*) OVER () AS count_ FROM (SELECT t.*, t.ctid AS place_, ",
               q->rank ? q->rank : "0");
    add_weight(b, r, q);
    buf_printf(b,
               "::bigint AS weight_ FROM public.%s t WHERE %s ORDER BY %s LIMIT $%d) d WINDOW w AS (ORDER BY %s)) s "
               "WHERE row_ = 1 OR total_ <= $%d ORDER BY %s",
               q->table, q->where, q->order, q->args + 1, q->order, q->args + 2, q->order);
    return !b->failed;
}

void tk_source_init(struct tk_source *s) {
    *s = (struct tk_source){ .found = false };
    buf_init(&s->traces, 1 << 16);
    buf_init(&s->observations, 1 << 16);
    buf_init(&s->metrics, 1 << 16);
}

void tk_source_done(struct tk_source *s) {
    buf_done(&s->traces);
    buf_done(&s->observations);
    buf_done(&s->metrics);
}

/* Observations of one trace that began and were written at one moment stand in the original's answers in the order in
 * which its table has them: their rank makes nanoseconds of their creation. */
#define TIES "least(row_number() OVER (PARTITION BY trace_id, start_time, created_at ORDER BY place_), 1000) - 1"

static enum xt_code make_statements(const PGresult *r, struct tk_source *s, struct xt_err *err) {
    const bool timed = column_find(r, "observations", &observation_columns[O_CREATED]);
    const struct reading traces = {
        "traces", trace_columns, COUNT(trace_columns), "id >= $1::uuid AND (id > $1::uuid OR $2)", 2, "id", NULL
    };
    const struct reading observations = {
        "observations",
        observation_columns,
        COUNT(observation_columns),
        "trace_id >= $1::uuid AND trace_id <= $2::uuid AND (trace_id > $1::uuid OR id > $3::uuid OR $4)",
        4,
        "trace_id, id",
        timed ? TIES : NULL
    };
    const struct reading metrics = { "metrics", metric_columns, COUNT(metric_columns), "id > $1", 1, "id", NULL };
    bool ok = statement(&s->traces, r, &traces) && statement(&s->observations, r, &observations) &&
              (!s->points || statement(&s->metrics, r, &metrics));
    return ok ? XT_OK : xt_fail(err, XT_ENOMEM, "out of memory");
}

enum xt_code tk_look(struct pg_conn *c, struct tk_source *s, struct xt_err *err) {
    PGresult *r = NULL;
    enum xt_code code = pg_query(c,
                                 "SELECT c.relname::text, a.attname::text, a.atttypid::bigint, "
                                 "has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE') "
                                 "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
                                 "JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 "
                                 "AND NOT a.attisdropped WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') "
                                 "AND c.relname IN ('_sqlx_migrations', 'traces', 'observations', 'metrics')",
                                 NULL, &r, err);
    if (code != XT_OK)
        return code;
    const struct column mark = { "checksum", PG_BYTEA, true };
    s->found = column_find(r, "_sqlx_migrations", &mark) &&
               has_required(r, "traces", trace_columns, COUNT(trace_columns)) &&
               has_required(r, "observations", observation_columns, COUNT(observation_columns));
    s->points = s->found && has_required(r, "metrics", metric_columns, COUNT(metric_columns));
    for (int i = 0; s->found && code == XT_OK && i < PQntuples(r); i++)
        if (!pg_bool(r, i, 3) && !str_eq_c(pg_bytes(r, i, 0), "_sqlx_migrations") &&
            (s->points || !str_eq_c(pg_bytes(r, i, 0), "metrics")))
            code = xt_fail(err, XT_EFORBIDDEN, "the database's user lacks a right: SELECT on table public.%.*s",
                           STR_FMT(pg_bytes(r, i, 0)));
    if (code == XT_OK && s->found)
        code = make_statements(r, s, err);
    PQclear(r);
    return code;
}

/* ---- records ---- */

static int64_t time_at(const PGresult *r, int row, int col) {
    return pg_is_null(r, row, col) ? TIME_NONE : tk_time(pg_i64(r, row, col));
}
static enum tri tri_at(const PGresult *r, int row, int col) {
    return pg_is_null(r, row, col) ? TRI_NONE : pg_bool(r, row, col) ? TRI_TRUE : TRI_FALSE;
}
static double f64_at(const PGresult *r, int row, int col) {
    double v = pg_f64(r, row, col);
    return isfinite(v) ? v : (double)NAN;
}
static struct opt_i64 i64_at(const PGresult *r, int row, int col) {
    return (struct opt_i64){ pg_i64(r, row, col), !pg_is_null(r, row, col) };
}
static bool money_at(struct arena *a, const PGresult *r, int row, int col, struct opt_money *ret) {
    return tk_money(a, pg_f64(r, row, col), ret);
}
/* NULL: absent. */
static bool id_at(struct arena *a, const PGresult *r, int row, int col, struct id *ret) {
    struct str s = pg_bytes(r, row, col);
    *ret = ID_NONE;
    if (!str_has(s))
        return true;
    if (s.n != 16 || !id_from_bytes(a, (const uint8_t *)s.p, 16, ret))
        return false;
    ret->spell = ID_UUID;
    return true;
}

static bool add_trace(struct batch *b, const PGresult *r, int row) {
    struct arena *a = &b->arena;
    struct trace *t = batch_add_trace(b);
    if (!t || !id_at(a, r, row, T_ID, &t->id))
        return false;
    t->merge = MERGE_REPLACE;
    t->index = (size_t)row;
    t->project_label = pg_bytes(r, row, T_PROJECT);
    t->timestamp = time_at(r, row, T_TIMESTAMP);
    t->name = pg_bytes(r, row, T_NAME);
    t->session = pg_bytes(r, row, T_SESSION);
    t->release = pg_bytes(r, row, T_RELEASE);
    t->version = pg_bytes(r, row, T_VERSION);
    t->user = pg_bytes(r, row, T_USER);
    t->external_id = pg_bytes(r, row, T_EXTERNAL);
    t->environment = pg_bytes(r, row, T_ENVIRONMENT);
    t->is_public = tri_at(r, row, T_PUBLIC);
    t->bookmarked = tri_at(r, row, T_BOOKMARKED);
    t->latency = f64_at(r, row, T_LATENCY);
    t->created = time_at(r, row, T_CREATED);
    t->updated = time_at(r, row, T_UPDATED);
    t->input = tk_json(a, pg_bytes(r, row, T_INPUT));
    t->output = tk_json(a, pg_bytes(r, row, T_OUTPUT));
    t->metadata = tk_json(a, pg_bytes(r, row, T_METADATA));
    t->tags_has = !pg_is_null(r, row, T_TAGS);
    return money_at(a, r, row, T_COST, &t->total_cost) && tk_tags(a, pg_bytes(r, row, T_TAGS), &t->tags, &t->ntags) &&
           !a->failed;
}

/* Prices, costs, counts. */
static bool add_amounts(struct arena *a, struct observation *o, const PGresult *r, int row) {
    o->input_price = f64_at(r, row, O_PRICE_IN);
    o->output_price = f64_at(r, row, O_PRICE_OUT);
    o->total_price = f64_at(r, row, O_PRICE_TOTAL);
    o->latency = f64_at(r, row, O_LATENCY);
    o->time_to_first_token = f64_at(r, row, O_FIRST_TOKEN);
    o->tokens_out = i64_at(r, row, O_TOKENS_OUT);
    o->tokens_in = i64_at(r, row, O_TOKENS_IN);
    o->tokens_total = i64_at(r, row, O_TOKENS_TOTAL);
    return money_at(a, r, row, O_COST_IN, &o->cost_input) && money_at(a, r, row, O_COST_OUT, &o->cost_output) &&
           money_at(a, r, row, O_COST_TOTAL, &o->cost_total);
}

static bool add_observation(struct batch *b, const PGresult *r, int row) {
    struct arena *a = &b->arena;
    struct observation *o = batch_add_observation(b);
    if (!o || !id_at(a, r, row, O_ID, &o->id) || !id_at(a, r, row, O_TRACE, &o->trace_id) ||
        !id_at(a, r, row, O_PARENT, &o->parent_id))
        return false;
    o->merge = MERGE_REPLACE;
    o->index = (size_t)row;
    o->type = pg_bytes(r, row, O_TYPE);
    o->name = pg_bytes(r, row, O_NAME);
    o->start = time_at(r, row, O_START);
    o->end = time_at(r, row, O_END);
    o->completion_start = time_at(r, row, O_COMPLETION);
    o->created = time_at(r, row, O_CREATED);
    if (o->created > TIME_NEAR_MIN && o->created < TIME_NEAR_MAX - 1000)
        o->created += pg_i64(r, row, O_RANK);
    o->updated = time_at(r, row, O_UPDATED);
    o->model = pg_bytes(r, row, O_MODEL);
    o->model_parameters = tk_json(a, pg_bytes(r, row, O_PARAMETERS));
    o->input = tk_json(a, pg_bytes(r, row, O_INPUT));
    o->output = tk_json(a, pg_bytes(r, row, O_OUTPUT));
    o->usage = tk_json(a, pg_bytes(r, row, O_USAGE));
    o->metadata = tk_json(a, pg_bytes(r, row, O_METADATA));
    o->level = pg_bytes(r, row, O_LEVEL);
    o->status_message = pg_bytes(r, row, O_MESSAGE);
    o->prompt_id = pg_bytes(r, row, O_PROMPT_ID);
    o->prompt_name = pg_bytes(r, row, O_PROMPT_NAME);
    o->prompt_version = pg_bytes(r, row, O_PROMPT_VERSION);
    o->model_id = pg_bytes(r, row, O_MODEL_ID);
    o->unit = pg_bytes(r, row, O_UNIT);
    o->project_label = pg_bytes(r, row, O_PROJECT);
    o->environment = pg_bytes(r, row, O_ENVIRONMENT);
    return add_amounts(a, o, r, row) && !a->failed;
}

/* Values that are no strings stand as their text; null ones are left out. */
static bool read_labels(struct arena *a, struct str text, struct sample *s) {
    const struct json_opts opts = { .max_depth = 1024, .lenient = true, .raw_arrays = true };
    const struct json *root;
    size_t n = 0;
    if (!str_has(text) || str_eq_c(text, "{}"))
        return true;
    char *padded = arena_bytes(a, text.n + JSON_PADDING);
    if (!padded)
        return false;
    memcpy(padded, text.p, text.n);
    memset(padded + text.n, 0, JSON_PADDING);
    if (json_parse(a, (struct str){ padded, text.n }, &opts, &root, NULL) != XT_OK)
        return !a->failed;
    if (root->type != JSON_OBJECT)
        return true;
    for (const struct json *m = root->child; m; m = m->next)
        n++;
    s->labels = arena_new(a, struct label, n + 1);
    if (!s->labels)
        return false;
    for (const struct json *m = root->child; m; m = m->next)
        if (m->type != JSON_NULL)
            s->labels[s->nlabels++] = (struct label){ m->key, m->type == JSON_STRING ? m->text : m->raw };
    s->nlabels = labels_sort(s->labels, s->nlabels);
    return true;
}

static bool add_point(struct batch *b, const PGresult *r, int row) {
    struct sample *s = batch_add_sample(b);
    if (!s || !read_labels(&b->arena, pg_bytes(r, row, M_LABELS), s))
        return false;
    s->name = pg_bytes(r, row, M_NAME);
    s->timestamp = time_at(r, row, M_TIMESTAMP);
    s->value = pg_f64(r, row, M_VALUE);
    return true;
}

/* ---- pieces ---- */

void tk_piece_done(struct tk_piece *p) {
    for (size_t i = 0; i < p->n; i++)
        batch_free(p->batches[i]);
    for (size_t i = 0; i < TK_RESULTS; i++)
        PQclear(p->results[i]);
    *p = (struct tk_piece){ .n = 0 };
}

/* NULL: no memory. */
static struct batch *piece_batch(struct tk_piece *p, int64_t project, struct str label) {
    struct batch *b = batch_new(PIECE_ARENA_MAX);
    if (!b)
        return NULL;
    b->project = project;
    b->default_label = arena_str(&b->arena, label);
    p->batches[p->n++] = b;
    return b;
}

static void uuid_at(const PGresult *r, int row, int col, char out[TK_UUID_MAX]) {
    struct str s = pg_bytes(r, row, col);
    out[0] = '\0';
    if (s.n != 16)
        return;
    char hex[33];
    hex_encode((const uint8_t *)s.p, 16, hex);
    snprintf(out, TK_UUID_MAX, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

/* Were there more rows than came? */
static bool is_cut(const PGresult *r, int left, const struct tk_limits *l) {
    int n = PQntuples(r);
    return n > 0 && (n >= l->rows || pg_i64(r, n - 1, left) > n);
}

/* In a piece that goes on inside a trace (at->observation) the rest of it alone. */
static enum xt_code read_traces(struct pg_conn *c, const struct tk_source *s, const struct tk_place *at,
                                const struct tk_limits *l, struct tk_piece *p, char last[TK_UUID_MAX], bool *ret_final,
                                struct xt_err *err) {
    struct pg_args a;
    *ret_final = false;
    snprintf(last, TK_UUID_MAX, "%s", at->trace);
    if (at->observation[0])
        return XT_OK;
    pg_args_init(&a);
    pg_arg_text(&a, str_c(at->trace[0] ? at->trace : UUID_FIRST));
    pg_arg_bool(&a, !at->trace[0]);
    pg_arg_i64(&a, l->rows);
    pg_arg_i64(&a, l->bytes);
    enum xt_code code = pg_query(c, s->traces.p, &a, &p->results[0], err);
    pg_args_done(&a);
    if (code != XT_OK)
        return code;
    const PGresult *r = p->results[0];
    *ret_final = !is_cut(r, T_LEFT, l);
    if (*ret_final)
        snprintf(last, TK_UUID_MAX, "%s", UUID_LAST);
    else
        uuid_at(r, PQntuples(r) - 1, T_ID, last);
    return XT_OK;
}

static enum xt_code read_observations(struct pg_conn *c, const struct tk_source *s, const struct tk_place *at,
                                      const struct tk_limits *l, const char *last, struct tk_piece *p,
                                      struct xt_err *err) {
    struct pg_args a;
    pg_args_init(&a);
    pg_arg_text(&a, str_c(at->trace[0] ? at->trace : UUID_FIRST));
    pg_arg_text(&a, str_c(last));
    /* Of a trace that is done, none; of one that is begun, those behind the place; at the beginning, all. */
    pg_arg_text(&a, str_c(at->observation[0] ? at->observation : UUID_LAST));
    pg_arg_bool(&a, !at->trace[0]);
    pg_arg_i64(&a, l->rows);
    pg_arg_i64(&a, l->bytes);
    enum xt_code code = pg_query(c, s->observations.p, &a, &p->results[1], err);
    pg_args_done(&a);
    return code;
}

static enum xt_code full(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }

static enum xt_code read_records(struct pg_conn *c, const struct tk_source *s, const struct tk_projects *pr,
                                 const struct tk_place *at, const struct tk_limits *l, struct tk_piece *p,
                                 struct xt_err *err) {
    char last[TK_UUID_MAX], end[TK_UUID_MAX] = UUID_LAST;
    bool final = false;
    enum xt_code code = read_traces(c, s, at, l, p, last, &final, err);
    if (code == XT_OK)
        code = read_observations(c, s, at, l, last, p, err);
    struct batch *b = code == XT_OK ? piece_batch(p, pr->project, pr->name) : NULL;
    if (code != XT_OK)
        return code;
    if (!b)
        return full(err);
    const PGresult *traces = p->results[0], *observations = p->results[1];
    int n = PQntuples(observations);
    bool cut = is_cut(observations, O_LEFT, l);
    if (cut)
        uuid_at(observations, n - 1, O_TRACE, end);
    for (int i = 0; traces && i < PQntuples(traces); i++) {
        char id[TK_UUID_MAX];
        uuid_at(traces, i, T_ID, id);
        if (strcmp(id, end) > 0)
            break; /* its observations did not fit: next time */
        if (!add_trace(b, traces, i))
            return full(err);
    }
    for (int i = 0; i < n; i++)
        if (!add_observation(b, observations, i))
            return full(err);
    snprintf(p->next.trace, sizeof p->next.trace, "%s", cut ? end : last);
    p->next.observation[0] = '\0';
    if (cut)
        uuid_at(observations, n - 1, O_ID, p->next.observation);
    else if (final)
        p->next.phase = TK_POINTS;
    p->next.traces += (int64_t)b->ntraces;
    p->next.observations += (int64_t)b->nobservations;
    return XT_OK;
}

/* The batch of a point's project. The original showed points of its own project and environment alone: others are kept in
 * a project of that name ("project" or "project/environment"), so that no sum changes. *ret NULL: the piece is full. */
static enum xt_code batch_of(const struct tk_projects *pr, struct tk_piece *p, struct str project, struct str env,
                             struct batch **ret, struct xt_err *err) {
    bool usual = !str_has(env) || str_eq_c(env, "default");
    *ret = NULL;
    if (p->n == 0 && !piece_batch(p, pr->project, pr->name))
        return full(err);
    if (usual && str_eq(project, pr->name)) {
        *ret = p->batches[0];
        return XT_OK;
    }
    struct arena *a = &p->batches[0]->arena;
    struct str name = usual ? project : arena_printf(a, "%.*s/%.*s", STR_FMT(project), STR_FMT(env));
    if (!str_has(name))
        return full(err);
    for (size_t i = 1; i < p->n && !*ret; i++)
        if (str_eq(p->batches[i]->default_label, name))
            *ret = p->batches[i];
    if (*ret || p->n == TK_BATCHES)
        return XT_OK;
    int64_t number = 0;
    enum xt_code code = pr->number(pr->arg, name, &number, err);
    if (code == XT_OK && !(*ret = piece_batch(p, number, name)))
        return full(err);
    return code;
}

static enum xt_code read_points(struct pg_conn *c, const struct tk_source *s, const struct tk_projects *pr,
                                const struct tk_place *at, const struct tk_limits *l, struct tk_piece *p,
                                struct xt_err *err) {
    struct pg_args a;
    pg_args_init(&a);
    pg_arg_i64(&a, at->point);
    pg_arg_i64(&a, l->rows);
    pg_arg_i64(&a, l->bytes);
    enum xt_code code = pg_query(c, s->metrics.p, &a, &p->results[0], err);
    pg_args_done(&a);
    if (code != XT_OK)
        return code;
    const PGresult *r = p->results[0];
    int i = 0, n = PQntuples(r);
    for (; i < n; i++) {
        struct batch *b = NULL;
        if (!isfinite(pg_f64(r, i, M_VALUE))) {
            p->dropped++;
        } else {
            code = batch_of(pr, p, pg_bytes(r, i, M_PROJECT), pg_bytes(r, i, M_ENVIRONMENT), &b, err);
            if (code != XT_OK)
                return code;
            if (!b)
                break; /* of too many projects: the rest next time */
            if (!add_point(b, r, i))
                return full(err);
            p->next.points++;
        }
        p->next.point = pg_i64(r, i, M_ID);
    }
    p->next.skipped += (int64_t)p->dropped;
    if (i == n && !is_cut(r, M_LEFT, l))
        p->next.phase = TK_DONE;
    return XT_OK;
}

enum xt_code tk_read(struct pg_conn *c, const struct tk_source *s, const struct tk_projects *p,
                     const struct tk_place *at, const struct tk_limits *limits, struct tk_piece *ret,
                     struct xt_err *err) {
    *ret = (struct tk_piece){ .next = *at };
    ret->next.step = at->step + 1;
    enum xt_code code = XT_OK;
    if (at->phase == TK_TRACES)
        code = read_records(c, s, p, at, limits, ret, err);
    else if (s->points)
        code = read_points(c, s, p, at, limits, ret, err);
    else
        ret->next.phase = TK_DONE;
    if (code != XT_OK)
        tk_piece_done(ret);
    return code;
}
