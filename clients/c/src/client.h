/* client.h -- a client: its options, and one request over libcurl.
 *
 *  1. Options are copied at the start and const from then on.
 *  2. Handles of libcurl keep connections; each is used by one call at a time. `mu` guards the free list and nothing else.
 *  3. After fork a child never touches its parent's handles (their sockets are shared): it forgets them.
 *  4. No redirect is followed, so that the credential goes nowhere else. SIGPIPE never reaches the host. */
#pragma once
#include <curl/curl.h>
#include <pthread.h>

#include "base/buf.h"
#include "error.h"
#include "process.h"

#define CLIENT_HANDLES 8 /* kept for the next call */

struct xtrace_client {
    xtrace_options o; /* its texts are NULL: the copies stand below */
    char *base_url;   /* without a trailing slash */
    char *authorization, *user_agent, *proxy, *ca_file;
    struct logger logger;
    struct fork_guard *guard;
    pthread_mutex_t mu;
    CURL *idle[CLIENT_HANDLES];
    size_t idle_count;
};

struct http_request {
    const char *method; /* "GET", "POST" */
    const char *path;   /* with its query, beginning with '/' */
    const char *body;   /* POST: JSON */
    size_t body_bytes;
    bool gzipped;
    bool once;                /* on a connection of its own, so that libcurl never repeats it behind our back */
    int64_t deadline_ns;      /* monotonic */
    int timeout_ms;           /* of this request; the deadline holds, too */
    const _Atomic int *abort; /* not 0: break off; may be NULL */
    CURLM *multi;             /* performs it, so that who sets *abort can wake it; NULL: within a second */
};

struct http_answer {
    int code; /* XTRACE_OK: there is an answer, whatever its status */
    int status, retry_after_s;
    bool sent;         /* some of the request may have reached the server */
    bool takes_traces; /* the server takes several traces in one native batch (header X-Xtrace-Accepts) */
    struct buf body;   /* answer_done frees */
};
void answer_done(struct http_answer *a);

/* Frees a handle and its connections. */
void client_close(CURL *h);
/* Performs it once. The result's code is also returned; on failure *error says why. */
int client_request(struct xtrace_client *c, const struct http_request *q, struct http_answer *ret, xtrace_error *error);
/* XTRACE_EHTTP with what the server said. */
int answer_error(const struct http_answer *a, xtrace_error *error);
/* Is it worth sending the same again? Network errors, 408, 429, 500, 502, 503, 504. */
bool answer_temporary(const struct http_answer *a);
/* Did the server certainly not keep what was sent? */
bool answer_kept_nothing(const struct http_answer *a);
/* Waiting time before attempt number `attempt` (from 1), ms: doubling with jitter, at least what the server asked for. */
int retry_wait_ms(int min_ms, int max_ms, int attempt, int retry_after_s, uint64_t random);
