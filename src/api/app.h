/* app.h -- what the handlers share: made by main, const while the server runs but for what guards itself. */
#pragma once
#include <stdatomic.h>

#include "conf/conf.h"
#include "http/server.h"
#include "ingest/writer.h"
#include "store/store.h"

struct auth;
struct rate_limiter;

struct app {
    const struct conf *conf;
    struct store *store;
    struct ingest *ingest;
    struct auth *auth;
    struct rate_limiter *limiter;
    int64_t default_project; /* number of the default tenant */
    int64_t started_mono_ns;
    _Atomic bool stopping; /* set by the stop; readiness reads it. Relaxed: one flag, nothing else hangs on it */
};

static inline struct app *app_of(const struct http_req *req) { return http_app(req); }
