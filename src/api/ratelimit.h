/* ratelimit.h -- token bucket (GCRA) per credential over the five query routes of the original, and its
 * counters. Thread-safe. Buckets are kept for at most RATE_KEYS_MAX credentials; the idlest one gives way. */
#pragma once
#include "http/server.h"
#include "json/json_write.h"

#define RATE_KEYS_MAX 1024
struct rate_limiter;
struct rate_limiter *rate_limiter_new(uint64_t qps, uint64_t burst);
void rate_limiter_free(struct rate_limiter *r);
/* http hooks; app is a struct app. */
bool rate_admit(void *app, const struct http_auth *auth, unsigned *ret_wait_s);
void rate_refused(void *app, struct http_req *req, unsigned wait_s);
/* The object of GET /api/internal/rate_limit_stats. */
void rate_write_stats(struct rate_limiter *r, struct json_writer *w);
void rate_counts(struct rate_limiter *r, uint64_t *ret_allowed, uint64_t *ret_rejected);
