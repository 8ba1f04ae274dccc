/* routes.c -- every route of the server, one row each. Order matters only between a literal and a capture of one shape. */
#include "api/api.h"

#include <string.h>

const struct http_route api_routes[] = {
    { .method = "GET", .path = "/healthz", .handle = health_live, .summary = "The process is up" },
    { .method = "GET", .path = "/readyz", .handle = health_ready, .summary = "The store takes writes and answers reads; within 2 s" },
    { .method = "GET", .path = "/metrics", .handle = health_metrics, .rights = RIGHT_READ, .internal = true,
      .summary = "The server's own state, Prometheus text" },
    { .method = "GET", .path = "/api/internal/rate_limit_stats", .handle = health_rate_stats, .rights = RIGHT_READ,
      .internal = true, .summary = "What the rate limit let through and refused" },
    { .method = "POST", .path = "/v1/l/batch", .handle = ingest_native_batch, .check_head = ingest_head_json, .rights = RIGHT_WRITE, .body = true,
      .summary = "A trace and observations" },
    { .method = "POST", .path = "/v1/l/traces", .handle = ingest_native_trace, .check_head = ingest_head_json, .rights = RIGHT_WRITE, .body = true,
      .summary = "One trace, the bare record as body" },
    { .method = "POST", .path = "/v1/l/observations", .handle = ingest_native_observation, .check_head = ingest_head_json, .rights = RIGHT_WRITE,
      .body = true, .summary = "One observation, the bare record as body" },
    { .method = "POST", .path = "/v1/metrics/batch", .handle = ingest_metrics_batch, .check_head = ingest_head_json, .rights = RIGHT_WRITE, .body = true,
      .summary = "Points of time series" },
    { .method = "POST", .path = "/api/public/otel/v1/traces", .handle = ingest_otlp_public, .check_head = ingest_head_otlp_public, .rights = RIGHT_WRITE,
      .body = true, .open_compat = true, .style = ERR_JSON_OTLP, .summary = "OTLP/HTTP trace export as Langfuse's SDKs send it, protobuf or JSON" },
    { .method = "POST", .path = "/v1/traces", .handle = ingest_otlp_standard, .check_head = ingest_head_otlp, .rights = RIGHT_WRITE, .body = true,
      .style = ERR_OTLP, .summary = "OTLP/HTTP trace export, protobuf or JSON" },
    { .method = "GET", .path = "/api/public/projects", .handle = projects_list, .rights = RIGHT_READ, .open_compat = true,
      .summary = "The project of the credential" },
    { .method = "GET", .path = "/api/public/traces", .handle = traces_list, .rights = RIGHT_READ, .rate_limited = true,
      .query_pool = true, .summary = "Traces, newest first; filters, order, pages" },
    { .method = "GET", .path = "/api/public/traces/:traceId", .handle = traces_get, .rights = RIGHT_READ,
      .rate_limited = true, .query_pool = true, .summary = "One trace with its observations" },
    { .method = "GET", .path = "/api/public/metrics/daily", .handle = metrics_daily, .rights = RIGHT_READ,
      .rate_limited = true, .query_pool = true, .summary = "Counts, cost and usage by day and model" },
    { .method = "GET", .path = "/api/public/metrics/query", .handle = metrics_query, .rights = RIGHT_READ,
      .rate_limited = true, .query_pool = true, .summary = "Series of one metric, aggregated in steps" },
    { .method = "GET", .path = "/api/public/metrics/names", .handle = metrics_names, .rights = RIGHT_READ,
      .rate_limited = true, .query_pool = true, .summary = "Names of all metrics" },
};
const size_t api_route_count = sizeof api_routes / sizeof api_routes[0];

static const char *right_word(unsigned rights) {
    return rights == 0 ? "none" : rights & RIGHT_ADMIN ? "admin" : rights & RIGHT_WRITE ? "write" : "read";
}

void api_print_markdown(FILE *out) {
    fputs("| method | path | right | rate limited | what |\n| --- | --- | --- | --- | --- |\n", out);
    for (size_t i = 0; i < api_route_count; i++) {
        const struct http_route *r = &api_routes[i];
        fprintf(out, "| %s | `%s` | %s%s%s | %s | %s |\n", r->method, r->path, right_word(r->rights),
                r->internal ? " (open on loopback)" : "", r->open_compat ? " (open in compat mode)" : "",
                r->rate_limited ? "yes" : "no", r->summary);
    }
}
