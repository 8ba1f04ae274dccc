/* api.h -- the route table and the handlers it names, one resource a file. */
#pragma once
#include <stdio.h>

#include "http/http.h"

extern const struct http_route api_routes[];
extern const size_t api_route_count;

http_handler health_live, health_ready, health_rate_stats, health_metrics;        /* health.c */
http_handler projects_list;                                                       /* projects.c */
http_handler ingest_native_batch, ingest_native_trace, ingest_native_observation; /* ingest.c */
http_handler ingest_metrics_batch, ingest_otlp_public, ingest_otlp_standard;
enum xt_code ingest_head_json(struct http_req *req, struct xt_err *err);
enum xt_code ingest_head_otlp_public(struct http_req *req, struct xt_err *err);
enum xt_code ingest_head_otlp(struct http_req *req, struct xt_err *err);
http_handler traces_list, traces_get, observations_get;   /* traces.c */
http_handler metrics_names, metrics_query, metrics_daily; /* metrics.c */

/* docs/api.md's table of routes, from the rows (xtrace docs). */
void api_print_markdown(FILE *out);
