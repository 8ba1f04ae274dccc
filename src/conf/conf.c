/* conf.c -- the option table and the one loop that reads it. See conf.h for precedence and leniency.
 *
 * Invariants: every row's field is filled exactly once, by the first source that has the option (flag, environment, file,
 * default); strings point into argv, envp, the file's text or the table, never into freed memory. */
#include "conf/conf.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

enum kind { KIND_STR, KIND_U64, KIND_BOOL };

struct option {
    const char *key;  /* file key; the flag is --key */
    const char *env;  /* environment variable */
    const char *env2; /* read when `env` is unset (an empty `env` blocks it) */
    enum kind kind;
    bool lenient;      /* the original's own: an unreadable value warns and gives the default */
    size_t offset;     /* in struct conf */
    const char *def;   /* default as text; NULL: unset */
    uint64_t min, max; /* KIND_U64 */
    const char *unit;  /* "bytes", "ms", "" ... */
    const char *help;
};

#define F(field) offsetof(struct conf, field)
#define STR(key, env, field, def, help) \
    { key, env, NULL, KIND_STR, false, F(field), def, 0, 0, "", help }
#define TWONAMES(key, env, env2, field, help) \
    { key, env, env2, KIND_STR, false, F(field), NULL, 0, 0, "", help }
#define NUM(key, env, field, def, min, max, unit, help) \
    { key, env, NULL, KIND_U64, false, F(field), def, min, max, unit, help }
#define OLDNUM(key, env, field, def, min, max, unit, help) \
    { key, env, NULL, KIND_U64, true, F(field), def, min, max, unit, help }
#define FLAG(key, env, field, def, help) \
    { key, env, NULL, KIND_BOOL, false, F(field), def, 0, 0, "", help }
#define OLDFLAG(key, env, field, def, help) \
    { key, env, NULL, KIND_BOOL, true, F(field), def, 0, 0, "", help }
#define GIB (UINT64_C(1) << 30)
#define HOUR_MS 3600000

static const struct option options[] = {
    STR("database-url", "DATABASE_URL", database_url, NULL,
        "Store: sqlite:PATH or postgresql://... (libpq's). Unset: SQLite in the data directory"),
    NUM("database-write-timeout-ms", "XTRACE_DATABASE_WRITE_TIMEOUT_MS", database_write_timeout_ms, "10000", 1000,
        HOUR_MS, "ms",
        "PostgreSQL: time for one write transaction; then it is undone and its callers are told to retry"),
    STR("data-dir", "XTRACE_DATA_DIR", data_dir, "./xtrace-data",
        "Directory of the embedded store, its lock and the token"),
    STR("bearer-token", "API_BEARER_TOKEN", bearer_token, NULL,
        "Token of the default project, all rights. Unset without DATABASE_URL: made on first start and kept"),
    TWONAMES("public-key", "XTRACE_PUBLIC_KEY", "LANGFUSE_PUBLIC_KEY", public_key, "User name of Basic authorisation"),
    TWONAMES("secret-key", "XTRACE_SECRET_KEY", "LANGFUSE_SECRET_KEY", secret_key, "Password of Basic authorisation"),
    STR("default-project", "DEFAULT_PROJECT_ID", default_project, "default", "Project of the token and the pair above"),
    OLDFLAG("allow-unauthenticated-compat", "XTRACE_ALLOW_UNAUTHENTICATED_COMPAT", open_compat, "off",
            "Without a key pair: projects and OTLP need no credential (1 or true)"),
    FLAG("list-foreign-projects", "XTRACE_LIST_FOREIGN_PROJECTS", list_foreign_projects, "on",
         "Lists of the default project show records that state another projectId"),
    STR("internal-auth", "XTRACE_INTERNAL_AUTH", internal_auth, "auto",
        "/metrics and /api/internal/: auto (open on loopback), open, required"),
    OLDNUM("rate-limit-qps", "RATE_LIMIT_QPS", rate_qps, "20", 1, UINT32_MAX, "requests/s",
           "Refill of a credential's query bucket"),
    OLDNUM("rate-limit-burst", "RATE_LIMIT_BURST", rate_burst, "40", 1, UINT32_MAX, "requests",
           "Size of a credential's query bucket"),
    STR("bind-addr", "BIND_ADDR", bind_addr, "127.0.0.1:8742", "Address to listen on: IP:port or [v6]:port"),
    STR("cors-origins", "XTRACE_CORS_ORIGINS", cors_origins, "",
        "Origins that browsers may call from, comma-separated, or *"),
    STR("tls-cert", "XTRACE_TLS_CERT", tls_cert, NULL, "Certificate chain (PEM file); read again on SIGHUP"),
    STR("tls-key", "XTRACE_TLS_KEY", tls_key, NULL, "Private key (PEM file)"),
    OLDNUM("max-request-body-bytes", "XTRACE_MAX_REQUEST_BODY_BYTES", max_body, "20971520", 0, GIB, "bytes",
           "Largest request body"),
    NUM("inflate-ratio", "XTRACE_INFLATE_RATIO", inflate_ratio, "4", 1, 1000, "",
        "A compressed body may inflate to this many times the largest body"),
    NUM("max-connections", "XTRACE_MAX_CONNECTIONS", max_connections, "4096", 1, 100000, "",
        "Connections held at once"),
    NUM("http-threads", "XTRACE_HTTP_THREADS", http_threads, "0", 0, 64, "",
        "Threads that read and decode; 0: one a core, at most 4"),
    NUM("body-budget-bytes", "XTRACE_BODY_BUDGET_BYTES", body_budget, "268435456", 1 << 20, 64 * GIB, "bytes",
        "Request bodies under way, all connections together; beyond it callers are told to retry"),
    NUM("idle-timeout-ms", "XTRACE_IDLE_TIMEOUT_MS", idle_timeout_ms, "60000", 100, HOUR_MS, "ms",
        "A silent connection is closed after this"),
    NUM("header-timeout-ms", "XTRACE_HEADER_TIMEOUT_MS", header_timeout_ms, "10000", 100, HOUR_MS, "ms",
        "Time for a request's headers"),
    NUM("request-timeout-ms", "XTRACE_REQUEST_TIMEOUT_MS", request_timeout_ms, "60000", 100, HOUR_MS, "ms",
        "Time for a request's body"),
    NUM("queue-max-bytes", "XTRACE_QUEUE_MAX_BYTES", queue_max_bytes, "134217728", 1 << 20, 64 * GIB, "bytes",
        "Decoded batches waiting or being written; beyond it callers are told to retry"),
    NUM("ingest-deadline-ms", "XTRACE_INGEST_DEADLINE_MS", ingest_deadline_ms, "4000", 10, HOUR_MS, "ms",
        "A write that is not durable by then is told to retry"),
    NUM("group-max-records", "XTRACE_GROUP_MAX_RECORDS", group_max_records, "5000", 1, 1000000, "",
        "Records of one transaction"),
    NUM("stop-timeout-ms", "XTRACE_STOP_TIMEOUT_MS", stop_timeout_ms, "10000", 100, HOUR_MS, "ms",
        "Time for an orderly stop"),
    NUM("query-timeout-ms", "XTRACE_QUERY_TIMEOUT_MS", query_timeout_ms, "10000", 10, HOUR_MS, "ms",
        "Time for one query; then 504"),
    NUM("query-threads", "XTRACE_QUERY_THREADS", query_threads, "4", 1, 64, "",
        "Queries running at once; PostgreSQL: so many connections"),
    NUM("query-queue", "XTRACE_QUERY_QUEUE", query_queue, "64", 0, 100000, "", "Queries waiting; beyond it 503"),
    NUM("cache-bytes", "XTRACE_CACHE_BYTES", cache_bytes, "67108864", 1 << 20, 64 * GIB, "bytes",
        "Page cache of the embedded store's writer"),
    NUM("traces-retention-days", "TRACES_RETENTION_DAYS", traces_retention_days, "90", 0, 100000, "days",
        "Traces are removed this long after they were created; 0 keeps them"),
    NUM("metrics-retention-days", "METRICS_RETENTION_DAYS", metrics_retention_days, "30", 0, 100000, "days",
        "Samples older than this are removed; 0 keeps them"),
    NUM("retention-first-round", "XTRACE_RETENTION_FIRST_ROUND", retention_first_s, "600", 0, 604800, "s",
        "Removing of old records begins this long after the start: what is loaded again can be read for a while"),
    NUM("retention-interval", "XTRACE_RETENTION_INTERVAL", retention_interval_s, "3600", 1, 604800, "s",
        "Time from one round of removing to the next"),
    STR("log", "XTRACE_LOG", log_level, "info", "error, warn, info or debug; lines go to stderr"),
};
#define OPTION_COUNT (sizeof options / sizeof options[0])

struct conf_file {
    char *text;
};

static void *field_of(struct conf *c, const struct option *o) { return (char *)c + o->offset; }

static bool parse_bool(const struct option *o, struct str v, bool *ret) {
    if (o->lenient) { /* as in the original: on for exactly these two */
        *ret = str_eq_c(v, "1") || str_eq_nocase(v, STR_LIT("true"));
        return true;
    }
    if (str_eq_c(v, "1") || str_eq_nocase(v, STR_LIT("true")) || str_eq_nocase(v, STR_LIT("on")) ||
        str_eq_nocase(v, STR_LIT("yes")))
        *ret = true;
    else if (str_eq_c(v, "0") || str_eq_nocase(v, STR_LIT("false")) || str_eq_nocase(v, STR_LIT("off")) ||
             str_eq_nocase(v, STR_LIT("no")))
        *ret = false;
    else
        return false;
    return true;
}

/* Puts one value into its field. `where` names the source in messages. */
static enum xt_code set_option(struct conf *c, const struct option *o, const char *value, const char *where,
                               struct buf *warnings, struct xt_err *err) {
    struct str v = str_c(value);
    if (o->kind == KIND_STR) {
        *(const char **)field_of(c, o) = value;
        return XT_OK;
    }
    if (o->kind == KIND_BOOL) {
        if (parse_bool(o, v, (bool *)field_of(c, o)))
            return XT_OK;
        return xt_fail(err, XT_EINVAL, "%s: must be on or off, not \"%.*s\"", where, STR_FMT(str_sub(v, 0, 40)));
    }
    uint64_t n = 0;
    uint64_t *field = field_of(c, o);
    bool good = str_to_u64(v, &n);
    if (o->lenient && !good && str_starts(v, "+")) /* as the original's parser takes it */
        good = str_to_u64(str_sub(v, 1, v.n), &n);
    if (o->lenient && n > o->max && o->max == UINT32_MAX) /* unreadable to the original's: a u32 there */
        good = false;
    if (!good) {
        if (!o->lenient)
            return xt_fail(err, XT_EINVAL, "%s: must be a whole number, not \"%.*s\"", where,
                           STR_FMT(str_sub(v, 0, 40)));
        buf_printf(warnings, "%s: not a whole number in range: \"%.*s\"; using %s\n", where, STR_FMT(str_sub(v, 0, 40)),
                   o->def);
        str_to_u64(str_c(o->def), field);
        return XT_OK;
    }
    if (n < o->min || n > o->max)
        return xt_fail(err, XT_EINVAL, "%s: must be between %llu and %llu, not %llu", where, (unsigned long long)o->min,
                       (unsigned long long)o->max, (unsigned long long)n);
    *field = n;
    return XT_OK;
}

static const struct option *find_key(struct str key) {
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (str_eq_c(key, options[i].key))
            return &options[i];
    return NULL;
}

static const char *env_get(char **envp, const char *name) {
    size_t n = strlen(name);
    for (char **e = envp; name[0] && e && *e; e++)
        if (strncmp(*e, name, n) == 0 && (*e)[n] == '=')
            return *e + n + 1;
    return NULL;
}

static enum xt_code read_file(const char *path, char **ret, struct xt_err *err) {
    FILE *f = fopen(path, "re");
    if (!f)
        return xt_fail(err, XT_EINVAL, "config file %s: %s", path, strerror(errno));
    struct buf b;
    buf_init(&b, 1 << 20);
    char chunk[4096];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        buf_add(&b, chunk, n);
    bool bad = ferror(f) != 0 || b.failed || memchr(b.p ? b.p : "", 0, b.n) != NULL;
    fclose(f);
    if (bad) {
        buf_done(&b);
        return xt_fail(err, XT_EINVAL, "config file %s: cannot be read, or is no text of at most 1 MiB", path);
    }
    buf_add_char(&b, '\n');
    *ret = buf_take(&b, &n);
    return *ret ? XT_OK : xt_fail(err, XT_ENOMEM, "out of memory");
}

/* `key = value` lines into values[], cutting the text in place. */
static enum xt_code parse_file(const char *path, char *text, const char **values, struct xt_err *err) {
    unsigned line = 0;
    assert(text);
    if (str_starts(str_c(text), "\xef\xbb\xbf")) /* a byte order mark, as some editors write it */
        text += 3;
    for (char *p = text, *end; (end = strchr(p, '\n')) != NULL; p = end + 1) {
        line++;
        *end = 0;
        struct str s = str_trim(str_c(p));
        if (s.n == 0 || s.p[0] == '#')
            continue;
        size_t eq = str_find(s, '=');
        if (eq == s.n)
            return xt_fail(err, XT_EINVAL, "%s:%u: expected `key = value`", path, line);
        struct str key = str_trim(str_sub(s, 0, eq));
        struct str value = str_trim(str_sub(s, eq + 1, s.n));
        const struct option *o = find_key(key);
        if (!o)
            return xt_fail(err, XT_EINVAL, "%s:%u: unknown key \"%.*s\"", path, line, STR_FMT(str_sub(key, 0, 60)));
        char *v = p + (value.p - p); /* inside the mutable line */
        v[value.n] = 0;
        values[o - options] = v;
    }
    return XT_OK;
}

/* --key value, --key=value, --flag (booleans: on). Stops at the first positional argument or after "--". */
static enum xt_code parse_flags(int argc, char **argv, const char **values, const char **ret_config, int *ret_rest,
                                struct xt_err *err) {
    int i = 0;
    for (; i < argc && argv[i][0] == '-' && argv[i][1] == '-'; i++) {
        struct str arg = str_c(argv[i] + 2);
        if (arg.n == 0) {
            i++;
            break;
        }
        size_t eq = str_find(arg, '=');
        struct str key = str_sub(arg, 0, eq);
        bool is_config = str_eq_c(key, "config");
        const struct option *o = is_config ? NULL : find_key(key);
        if (!o && !is_config)
            return xt_fail(err, XT_EINVAL, "unknown option --%.*s (see xtrace --help)", STR_FMT(str_sub(key, 0, 60)));
        const char *value = eq < arg.n ? arg.p + eq + 1 : NULL;
        if (!value && o && o->kind == KIND_BOOL)
            value = "true";
        if (!value && i + 1 < argc)
            value = argv[++i];
        if (!value)
            return xt_fail(err, XT_EINVAL, "option --%.*s needs a value", STR_FMT(key));
        if (is_config)
            *ret_config = value;
        else
            values[o - options] = value;
    }
    *ret_rest = i;
    return XT_OK;
}

static enum xt_code check_combinations(const struct conf *c, struct xt_err *err) {
    if ((c->tls_cert == NULL) != (c->tls_key == NULL))
        return xt_fail(err, XT_EINVAL, "tls-cert and tls-key: give both or none");
    if (strcmp(c->internal_auth, "auto") != 0 && strcmp(c->internal_auth, "open") != 0 &&
        strcmp(c->internal_auth, "required") != 0)
        return xt_fail(err, XT_EINVAL, "internal-auth: must be auto, open or required, not \"%.40s\"",
                       c->internal_auth);
    return XT_OK;
}

enum xt_code conf_load(int argc, char **argv, char **envp, struct conf_source *ret, int *ret_rest, struct buf *warnings,
                       struct xt_err *err) {
    const char *flags[OPTION_COUNT] = { NULL }, *file[OPTION_COUNT] = { NULL };
    const char *config = env_get(envp, "XTRACE_CONFIG");
    memset(ret, 0, sizeof *ret);
    enum xt_code rc = parse_flags(argc, argv, flags, &config, ret_rest, err);
    if (rc != XT_OK)
        return rc;
    if (config && *config) {
        ret->owned = calloc(1, sizeof *ret->owned);
        if (!ret->owned)
            return xt_fail(err, XT_ENOMEM, "out of memory");
        rc = read_file(config, &ret->owned->text, err);
        if (rc == XT_OK)
            rc = parse_file(config, ret->owned->text, file, err);
    }
    for (size_t i = 0; rc == XT_OK && i < OPTION_COUNT; i++) {
        const struct option *o = &options[i];
        char where[80];
        const char *value = flags[i];
        snprintf(where, sizeof where, "--%s", o->key);
        if (!value) {
            value = env_get(envp, o->env);
            snprintf(where, sizeof where, "%s", o->env);
        }
        if (!value && o->env2) {
            value = env_get(envp, o->env2);
            snprintf(where, sizeof where, "%s", o->env2);
        }
        if (!value) {
            value = file[i];
            snprintf(where, sizeof where, "%s", o->key);
        }
        if (!value)
            value = o->def;
        if (value)
            rc = set_option(&ret->conf, o, value, where, warnings, err);
    }
    if (rc == XT_OK)
        rc = check_combinations(&ret->conf, err);
    if (rc != XT_OK)
        conf_done(ret);
    return rc;
}

void conf_done(struct conf_source *c) {
    if (c->owned)
        free(c->owned->text);
    free(c->owned);
    c->owned = NULL;
}

void conf_print_help(FILE *out) {
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option *o = &options[i];
        fprintf(out, "  --%s\n      %s%s%s%s%s%s.\n      Environment: %s%s%s\n", o->key, o->help,
                o->unit[0] ? " [" : "", o->unit, o->unit[0] ? "]" : "", o->def && o->def[0] ? ". Default: " : "",
                o->def && o->def[0] ? o->def : "", o->env, o->env2 ? ", else " : "", o->env2 ? o->env2 : "");
    }
}

void conf_print_markdown(FILE *out) {
    fputs("| flag / file key | environment | default | meaning |\n| --- | --- | --- | --- |\n", out);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option *o = &options[i];
        fprintf(out, "| `--%s` | `%s`%s%s%s | %s%s%s%s%s | %s |\n", o->key, o->env, o->env2 ? " or `" : "",
                o->env2 ? o->env2 : "", o->env2 ? "`" : "", o->def && o->def[0] ? "`" : "",
                o->def && o->def[0] ? o->def : "unset", o->def && o->def[0] ? "`" : "", o->unit[0] ? " " : "", o->unit,
                o->help);
    }
}
