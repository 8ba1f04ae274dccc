/* conf.h -- every setting, from one option table (conf.c): flag, environment variable, file key, --help and
 * docs/configuration.md are made of the same rows. Read once at start; const afterwards.
 *
 * Precedence: flag, environment, file (--config FILE or XTRACE_CONFIG; `key = value`, '#' comments), default.
 * The original's own variables keep names, defaults and leniency: unparsable numbers warn and give
 * the default. All others stop the start with one clear line. XTRACE_* names that are no option are left alone; an
 * unknown flag or file key is an error. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"

struct conf {
    /* store */
    const char *database_url; /* DATABASE_URL; NULL: SQLite in data_dir */
    uint64_t
        database_write_timeout_ms; /* XTRACE_DATABASE_WRITE_TIMEOUT_MS 10000: one write transaction of PostgreSQL */
    const char *data_dir;          /* XTRACE_DATA_DIR, ./xtrace-data */
    /* access */
    const char *bearer_token; /* API_BEARER_TOKEN; NULL: generated (only without database_url) */
    const char *public_key;   /* XTRACE_PUBLIC_KEY, falls back to LANGFUSE_PUBLIC_KEY when unset */
    const char *secret_key;
    const char *default_project;   /* DEFAULT_PROJECT_ID, "default" */
    bool open_compat;              /* XTRACE_ALLOW_UNAUTHENTICATED_COMPAT */
    bool list_foreign_projects;    /* default on: lists show records of every projectId of the tenant */
    const char *internal_auth;     /* "auto" (open on loopback), "open", "required": /metrics and /api/internal/ */
    uint64_t rate_qps, rate_burst; /* RATE_LIMIT_QPS 20, RATE_LIMIT_BURST 40; 0 is refused */
    /* HTTP */
    const char *bind_addr;          /* BIND_ADDR, 127.0.0.1:8742; IP:port, [v6]:port */
    const char *cors_origins;       /* comma list, or "*" ; empty: no CORS */
    const char *tls_cert, *tls_key; /* PEM files; both or none */
    uint64_t max_body;              /* XTRACE_MAX_REQUEST_BODY_BYTES 20971520 */
    uint64_t inflate_ratio;         /* inflated bytes may be max_body times this, default 4 */
    uint64_t max_connections;       /* 4096 */
    uint64_t http_threads;          /* 0: one a core, at most 4 */
    uint64_t body_budget;           /* bytes of bodies under way, all connections; default 256 MiB, at least one body */
    uint64_t idle_timeout_ms, header_timeout_ms, request_timeout_ms; /* 60000, 10000, 60000 */
    /* ingest */
    uint64_t queue_max_bytes;    /* 128 MiB */
    uint64_t ingest_deadline_ms; /* 4000 */
    uint64_t group_max_records;  /* records of one transaction, default 5000 */
    uint64_t stop_timeout_ms;    /* 10000 */
    /* store and queries */
    uint64_t query_timeout_ms; /* 10000 */
    uint64_t query_threads;    /* 4: reads running at once */
    uint64_t query_queue;      /* 64: reads waiting; beyond: 503 */
    uint64_t cache_bytes;      /* SQLite page cache of the writer, 64 MiB */
    uint64_t traces_retention_days,
        metrics_retention_days;                       /* TRACES_RETENTION_DAYS 90, METRICS_RETENTION_DAYS 30; 0 keeps */
    uint64_t retention_first_s, retention_interval_s; /* 600, 3600 */
    /* log */
    const char *log_level; /* XTRACE_LOG: error, warn, info, debug; default info */
};

struct conf_file; /* the text that strings point into */
/* argv without the program and subcommand. Unknown flags fail. `ret_rest` gets the index of the first positional
 * argument (== argc when none). Strings live until conf_done. Warnings are collected as lines in `warnings`. */
struct conf_source {
    struct conf conf;
    struct conf_file *owned;
};
enum xt_code conf_load(int argc, char **argv, char **envp, struct conf_source *ret, int *ret_rest, struct buf *warnings,
                       struct xt_err *err);
void conf_done(struct conf_source *c);
void conf_print_help(FILE *out);     /* the options of --help */
void conf_print_markdown(FILE *out); /* docs/configuration.md's table (a test compares) */
