/* http.c -- one request over libcurl, and what its answer means. */
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "answer.h"
#include "base/clock.h"
#include "client.h"

/* ---- SIGPIPE ---- */

/* A TLS library may write to a closed socket: the signal is held back, and taken if it came. */
struct pipe_guard {
    sigset_t before;
    bool was_pending;
};

static void pipe_block(struct pipe_guard *g) {
    sigset_t pipe, pending;

    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigemptyset(&pending);
    sigpending(&pending);
    g->was_pending = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe, &g->before);
}

static void pipe_restore(const struct pipe_guard *g) {
    const struct timespec now = { 0, 0 };
    sigset_t pipe, pending;

    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigemptyset(&pending);
    sigpending(&pending);
    if (!g->was_pending && sigismember(&pending, SIGPIPE) == 1)
        (void)sigtimedwait(&pipe, NULL, &now);
    pthread_sigmask(SIG_SETMASK, &g->before, NULL);
}

/* ---- handles ---- */

void client_close(CURL *h) {
    struct pipe_guard pipe;

    pipe_block(&pipe); /* TLS says goodbye on the connections */
    curl_easy_cleanup(h);
    pipe_restore(&pipe);
}

static CURL *handle_get(struct xtrace_client *c) {
    CURL *h = NULL;

    if (fork_guard_epoch(c->guard) == 0 && fork_guard_renew(c->guard)) {
        pthread_mutex_init(&c->mu, NULL); /* whoever held it is not in this process */
        c->idle_count = 0;
        fork_guard_done(c->guard);
    }
    pthread_mutex_lock(&c->mu);
    if (c->idle_count > 0)
        h = c->idle[--c->idle_count];
    pthread_mutex_unlock(&c->mu);
    return h ? h : curl_easy_init();
}

static void handle_put(struct xtrace_client *c, CURL *h) {
    curl_easy_reset(h); /* keeps the connection */
    pthread_mutex_lock(&c->mu);
    if (c->idle_count < CLIENT_HANDLES) {
        c->idle[c->idle_count++] = h;
        h = NULL;
    }
    pthread_mutex_unlock(&c->mu);
    if (h)
        client_close(h);
}

/* ---- one request ---- */

struct transfer {
    const struct http_request *q;
    struct http_answer *a;
    bool too_large, no_memory;
};

static size_t on_body(char *p, size_t size, size_t n, void *arg) {
    struct transfer *t = arg;
    const size_t bytes = size * n;

    t->too_large = bytes > t->a->body.max - t->a->body.n;
    if (t->too_large)
        return 0;
    buf_add(&t->a->body, p, bytes);
    t->no_memory = t->a->body.failed;
    return t->no_memory ? 0 : bytes;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    const struct transfer *t = arg;

    (void)a, (void)b, (void)c, (void)d;
    return (t->q->abort && atomic_load(t->q->abort)) || clock_mono_ns() > t->q->deadline_ns;
}

static bool add_header(struct curl_slist **list, const char *line) {
    struct curl_slist *more = curl_slist_append(*list, line);

    if (more)
        *list = more;
    return more != NULL;
}

static bool set_headers(const struct xtrace_client *c, const struct http_request *q, struct curl_slist **list) {
    bool ok = add_header(list, "Accept: application/json");

    if (*c->authorization)
        ok = ok && add_header(list, c->authorization);
    if (q->body) {
        ok = ok && add_header(list, "Content-Type: application/json") && add_header(list, "Expect:");
        if (q->gzipped)
            ok = ok && add_header(list, "Content-Encoding: gzip");
    }
    return ok;
}

static bool set_options(const struct xtrace_client *c, CURL *h, struct transfer *t, struct curl_slist *headers,
                        const char *url) {
    const struct http_request *q = t->q;
    int64_t left = (q->deadline_ns - clock_mono_ns()) / 1000000;
    CURLcode rc = CURLE_OK;

    if (left > q->timeout_ms)
        left = q->timeout_ms;
    if (left < 1)
        left = 1;
#define SET(option, value) (rc = rc == CURLE_OK ? curl_easy_setopt(h, option, value) : rc)
    SET(CURLOPT_URL, url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_PATH_AS_IS, 1L); /* an id of ".." stays one */
#if LIBCURL_VERSION_NUM >= 0x075700
    SET(CURLOPT_QUICK_EXIT, 1L); /* a time-out does not wait for a name that is still being looked up */
#endif
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_HTTPHEADER, headers);
    SET(CURLOPT_USERAGENT, c->user_agent);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)c->o.connect_timeout_ms);
    SET(CURLOPT_TIMEOUT_MS, (long)left);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, t);
    SET(CURLOPT_ACCEPT_ENCODING, "gzip");
    if (c->proxy)
        SET(CURLOPT_PROXY, c->proxy);
    if (c->ca_file)
        SET(CURLOPT_CAINFO, c->ca_file);
    if (c->o.tls_insecure) {
        SET(CURLOPT_SSL_VERIFYPEER, 0L);
        SET(CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (q->once) {
        SET(CURLOPT_FRESH_CONNECT, 1L);
        SET(CURLOPT_FORBID_REUSE, 1L);
    }
    if (q->body) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDS, q->body);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_bytes);
    } else {
        SET(CURLOPT_HTTPGET, 1L);
    }
#undef SET
    return rc == CURLE_OK;
}

static int failed(struct http_answer *a, const struct transfer *t, CURLcode rc, xtrace_error *error) {
    if (t->too_large)
        return a->code = error_set(error, XTRACE_EANSWER, "the answer is longer than %zu bytes", a->body.max);
    if (t->no_memory || rc == CURLE_OUT_OF_MEMORY)
        return a->code = error_set(error, XTRACE_ENOMEM, "no memory");
    if (rc == CURLE_OPERATION_TIMEDOUT || rc == CURLE_ABORTED_BY_CALLBACK)
        return a->code = error_set(error, XTRACE_ETIMEOUT, "no answer in time");
    return a->code = error_set(error, XTRACE_ENETWORK, "%s", curl_easy_strerror(rc));
}

/* Nothing can have been read by the server yet. */
static bool never_sent(CURL *h, CURLcode rc) {
    long bytes = 0;

    (void)curl_easy_getinfo(h, CURLINFO_REQUEST_SIZE, &bytes);
    return bytes == 0 || rc == CURLE_COULDNT_CONNECT || rc == CURLE_COULDNT_RESOLVE_HOST ||
           rc == CURLE_COULDNT_RESOLVE_PROXY || rc == CURLE_SSL_CONNECT_ERROR || rc == CURLE_PEER_FAILED_VERIFICATION;
}

static bool header_has(CURL *h, const char *name, const char *word) {
    struct curl_header *found;

    return curl_easy_header(h, name, 0, CURLH_HEADER, -1, &found) == CURLHE_OK && strstr(found->value, word);
}

/* curl_easy_perform on a multi handle, which curl_multi_wakeup can wake from another thread. */
static CURLcode perform_on(CURLM *multi, CURL *h, const struct http_request *q) {
    CURLcode result = CURLE_ABORTED_BY_CALLBACK;
    int running = 1, left;

    if (curl_multi_add_handle(multi, h) != CURLM_OK)
        return CURLE_OUT_OF_MEMORY;
    while (running && !(q->abort && atomic_load(q->abort)))
        if (curl_multi_perform(multi, &running) != CURLM_OK ||
            (running && curl_multi_poll(multi, NULL, 0, 1000, NULL) != CURLM_OK))
            break;
    for (const CURLMsg *m; (m = curl_multi_info_read(multi, &left)) != NULL;)
        if (m->msg == CURLMSG_DONE && m->easy_handle == h)
            result = m->data.result;
    curl_multi_remove_handle(multi, h);
    return result;
}

static int perform(struct xtrace_client *c, CURL *h, struct transfer *t, struct curl_slist *headers, const char *url,
                   xtrace_error *error) {
    struct http_answer *a = t->a;
    struct pipe_guard pipe;
    curl_off_t wait = 0;
    long status = 0;
    CURLcode rc;

    if (!set_options(c, h, t, headers, url))
        return a->code = error_set(error, XTRACE_ENOMEM, "no memory");
    pipe_block(&pipe);
    rc = t->q->multi ? perform_on(t->q->multi, h, t->q) : curl_easy_perform(h);
    pipe_restore(&pipe);
    if (rc != CURLE_OK) {
        a->sent = !never_sent(h, rc);
        return failed(a, t, rc, error);
    }
    a->sent = true;
    (void)curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(h, CURLINFO_RETRY_AFTER, &wait);
    a->takes_traces = header_has(h, "X-Xtrace-Accepts", "traces");
    a->status = (int)status;
    a->retry_after_s = wait <= 0 ? -1 : wait < INT_MAX ? (int)wait : INT_MAX;
    return a->code = XTRACE_OK;
}

int client_request(struct xtrace_client *c, const struct http_request *q, struct http_answer *a, xtrace_error *error) {
    struct transfer t = { .q = q, .a = a };
    struct curl_slist *headers = NULL;
    struct buf url;
    CURL *h;

    *a = (struct http_answer){ .retry_after_s = -1 };
    buf_init(&a->body, c->o.max_answer_bytes);
    error_clear(error);
    buf_init(&url, (size_t)16 << 20);
    buf_add_c(&url, c->base_url);
    buf_add_c(&url, q->path);
    h = handle_get(c);
    if (!h || url.failed || !set_headers(c, q, &headers))
        a->code = error_set(error, XTRACE_ENOMEM, "no memory");
    else
        perform(c, h, &t, headers, url.p, error);
    if (h)
        handle_put(c, h);
    curl_slist_free_all(headers);
    buf_done(&url);
    if (error) {
        error->http_status = a->status;
        error->retry_after_s = a->retry_after_s;
    }
    return a->code;
}

void answer_done(struct http_answer *a) { buf_done(&a->body); }

/* ---- what an answer means ---- */

int answer_error(const struct http_answer *a, xtrace_error *error) {
    if (!error)
        return XTRACE_EHTTP;
    error_set(error, XTRACE_EHTTP, "HTTP status %d", a->status);
    error->http_status = a->status;
    error->retry_after_s = a->retry_after_s;
    answer_read_error(a->body.p, a->body.n, error);
    return XTRACE_EHTTP;
}

bool answer_temporary(const struct http_answer *a) {
    if (a->code != XTRACE_OK)
        return a->code == XTRACE_ENETWORK || a->code == XTRACE_ETIMEOUT;
    return a->status == 408 || a->status == 429 || a->status == 500 || (a->status >= 502 && a->status <= 504);
}

bool answer_kept_nothing(const struct http_answer *a) {
    return a->code == XTRACE_OK ? a->status == 429 || a->status == 503 : !a->sent;
}

int retry_wait_ms(int min_ms, int max_ms, int attempt, int retry_after_s, uint64_t random) {
    int64_t wait = min_ms;

    for (int i = 1; i < attempt && wait < max_ms; i++)
        wait *= 2;
    if (wait > max_ms)
        wait = max_ms;
    wait = wait / 2 + (int64_t)(random % (uint64_t)(wait / 2 + 1)); /* between half and all of it */
    if (retry_after_s > 60)
        retry_after_s = 60;
    if (retry_after_s > 0 && wait < (int64_t)retry_after_s * 1000)
        wait = (int64_t)retry_after_s * 1000 + (int64_t)(random % 250);
    return wait > 0 ? (int)wait : 1;
}
