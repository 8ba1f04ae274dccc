/* app.h -- what the handlers share: made by main, const while the server runs but for what guards itself. */
#pragma once
#include <stdatomic.h>

#include "base/clock.h"
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
    /* The listener is there before the store (a database server may be away, or be migrated for long): until it is cleared
     * only readiness and the process' own routes answer, and nothing above but conf is to be looked at. Cleared once, with
     * release: who sees that sees everything above. */
    _Atomic bool starting;
    /* While starting: another program's data are taken over, and so many records were. Relaxed: to be shown. */
    _Atomic bool taking_over;
    _Atomic int64_t taken_over;
    _Atomic bool stopping; /* set by the stop; readiness reads it. Relaxed: one flag, nothing else hangs on it */
};

static inline struct app *app_of(const struct http_req *req) { return http_app(req); }
/* Until when a read that begins now may take: monotonic ns. */
static inline int64_t app_query_deadline(const struct app *app) {
    return clock_mono_ns() + (int64_t)app->conf->query_timeout_ms * NS_PER_MS;
}
/* Records of which projectId the credential is shown, when it asks for those of `asked`; absent: of every one. A key sees its
 * own project, whatever it asks for; the default project all labels or, when so configured, its own. */
static inline struct str app_label(const struct app *app, const struct http_auth *auth, struct str asked) {
    if (!auth->is_default_tenant)
        return STR_NONE;
    return str_has(asked) || app->conf->list_foreign_projects ? asked : auth->project_name;
}
static inline bool app_is_starting(struct app *app) {
    return atomic_load_explicit(&app->starting, memory_order_acquire);
}
