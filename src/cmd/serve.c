/* serve.c -- start and stop of the server.
 *
 * Start: configuration, token, store (lock, schema), writer, jobs, listener: what a part needs is there before it.
 * When the store is a database server, the listener is first: it says that the process lives (/healthz) and is not ready
 * (/readyz), and tells everybody else to retry, for as long as the database is away, its schema is worked on or another
 * program's data are taken over; the other parts are tried once a second until they stand (app.starting). What waiting
 * can't mend (a schema of a newer program, a missing right) ends the process with one line, as it does without a listener.
 * Stop (SIGTERM, SIGINT): readiness says 503, no new connections, open requests finish while the writer still runs, the
 * writer drains, the store closes; all within stop_timeout_ms. A second signal ends the process at once: what was
 * acknowledged is on disk by then anyway. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api/api.h"
#include "api/app.h"
#include "api/auth.h"
#include "api/ratelimit.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/id.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "http/listen.h"
#include "jobs/jobs.h"

#define TOKEN_BYTES 24
#define RETRY_NS NS_PER_SEC /* between two looks whether the database is there */
#define TOKEN_TEXT (2 * TOKEN_BYTES + 1)

struct server {
    struct conf_source source;
    struct store store;
    bool store_open;
    struct app app;
    struct http_server *http;
    struct jobs *jobs;
    char token[TOKEN_TEXT]; /* when it was made by us */
    bool token_made;        /* now, not read from the file */
    bool announced;
    char token_path[4096];
};

/* ---- token ---- */

static enum xt_code read_token(const char *path, char out[TOKEN_TEXT], struct xt_err *err) {
    char text[TOKEN_TEXT + 1] = { 0 };
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo in its place must not hold the start */
    if (fd < 0 && errno == ENOENT)
        return xt_fail(err, XT_ENOTFOUND, "token file %.150s: none", path);
    if (fd < 0)
        return xt_fail(err, XT_EINVAL, "token file %.150s: %s", path, strerror(errno));
    ssize_t n = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? read(fd, text, sizeof text - 1) : 0;
    close(fd);
    struct str s = str_trim((struct str){ text, n > 0 ? (size_t)n : 0 });
    bool whole = s.n >= 16 && s.n < TOKEN_TEXT;
    for (size_t i = 0; i < s.n; i++) /* zeros, where a disk lost the bytes, would end it early */
        whole = whole && s.p[i] > ' ' && s.p[i] <= '~';
    if (!whole)
        return xt_fail(err, XT_EINVAL, "token file %.150s holds no token: remove it to get a new one", path);
    memcpy(out, s.p, s.n);
    out[s.n] = 0;
    return XT_OK;
}

/* The directory's new entry is on disk as well: clients are about to be given the token. Some file systems have no such
 * call for directories. */
static bool sync_dir(const char *dir) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Written beside and renamed, so that a crash leaves no half a token. */
static enum xt_code write_token(const char *dir, const char *path, const char *token, struct xt_err *err) {
    char temp[4200];
    snprintf(temp, sizeof temp, "%s.new", path);
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t n = strlen(token);
    bool ok = fd >= 0 && write(fd, token, n) == (ssize_t)n && write(fd, "\n", 1) == 1 && fsync(fd) == 0;
    if (fd >= 0)
        ok = close(fd) == 0 && ok;
    if (!ok || rename(temp, path) != 0 || !sync_dir(dir))
        return xt_fail(err, XT_EUNAVAILABLE, "token file %.150s: %s", path, strerror(errno));
    return XT_OK;
}

/* Without token and DATABASE_URL the first start makes a token and keeps it in the data directory. */
static enum xt_code settle_token(struct server *s, struct xt_err *err) {
    struct conf *c = &s->source.conf;
    if (c->bearer_token)
        return XT_OK;
    if (c->database_url)
        return xt_fail(err, XT_EINVAL, "missing env API_BEARER_TOKEN");
    snprintf(s->token_path, sizeof s->token_path, "%s/token", c->data_dir);
    enum xt_code rc = read_token(s->token_path, s->token, err);
    if (rc == XT_ENOTFOUND) {
        uint8_t r[TOKEN_BYTES];
        if (!random_bytes(r, sizeof r))
            return xt_fail(err, XT_EUNAVAILABLE, "the system has no randomness");
        hex_encode(r, sizeof r, s->token);
        s->token[TOKEN_TEXT - 1] = 0;
        s->token_made = true;
        rc = write_token(c->data_dir, s->token_path, s->token, err);
    }
    c->bearer_token = s->token;
    return rc;
}

/* ---- parts ---- */

static enum xt_code start_auth(struct server *s, struct xt_err *err) {
    const struct conf *c = &s->source.conf;
    struct listen_addr addr;
    enum xt_code rc = listen_parse(c->bind_addr, &addr, err);
    if (rc != XT_OK)
        return rc;
    bool open =
        strcmp(c->internal_auth, "open") == 0 || (strcmp(c->internal_auth, "auto") == 0 && listen_is_loopback(&addr));
    struct auth_conf ac = {
        .bearer_token = str_c(c->bearer_token),
        .public_key = str_c(c->public_key),
        .secret_key = str_c(c->secret_key),
        .default_project = str_c(c->default_project),
        .default_number = s->app.default_project,
        .open_compat = c->open_compat,
        .internal = open ? INTERNAL_OPEN : INTERNAL_REQUIRED,
    };
    s->app.auth = auth_new(&s->store, &ac, err);
    s->app.limiter = s->app.auth ? rate_limiter_new(c->rate_qps, c->rate_burst) : NULL;
    if (!s->app.auth)
        return err->code;
    return s->app.limiter ? XT_OK : xt_fail(err, XT_ENOMEM, "out of memory");
}

static enum xt_code start_http(struct server *s, struct xt_err *err) {
    const struct conf *c = &s->source.conf;
    struct http_conf hc = {
        .bind_addr = c->bind_addr,
        .tls_cert = c->tls_cert,
        .tls_key = c->tls_key,
        .cors_origins = c->cors_origins,
        .max_body = c->max_body,
        .inflate_ratio = c->inflate_ratio,
        .max_connections = c->max_connections,
        .threads = c->http_threads,
        .body_budget = c->body_budget,
        .idle_timeout_ms = c->idle_timeout_ms,
        .header_timeout_ms = c->header_timeout_ms,
        .request_timeout_ms = c->request_timeout_ms,
        .query_threads = c->query_threads,
        .query_queue = c->query_queue,
        .routes = api_routes,
        .nroutes = api_route_count,
        .hooks = { auth_authorise, rate_admit, rate_refused },
        .app = &s->app,
    };
    return http_server_start(&hc, &s->http, err);
}

/* The store with what must be known of it. After a failure nothing of it stays. */
static enum xt_code start_store(struct server *s, struct xt_err *err) {
    const struct conf *c = &s->source.conf;
    enum xt_code rc = cmd_open_store(c, STORE_SERVE, &s->store, err);
    if (rc != XT_OK)
        return rc;
    rc = settle_token(s, err); /* the directory exists and is ours now */
    if (rc == XT_OK)
        rc = s->store.ops->project_open(&s->store, str_c(c->default_project), &s->app.default_project, err);
    if (rc != XT_OK) {
        store_close(&s->store);
        return rc;
    }
    s->store_open = true;
    s->app.store = &s->store;
    return XT_OK;
}

/* What works with the store. */
static enum xt_code start_parts(struct server *s, struct xt_err *err) {
    const struct conf *c = &s->source.conf;
    enum xt_code rc;
    if ((rc = start_auth(s, err)) != XT_OK)
        return rc;
    struct ingest_conf ic = { .queue_max_bytes = c->queue_max_bytes, .group_max_records = c->group_max_records };
    if ((rc = ingest_start(&s->store, &ic, &s->app.ingest, err)) != XT_OK)
        return rc;
    return jobs_start(c, &s->store, s->app.ingest, &s->jobs, err);
}

/* The port that was bound stands in place of a 0. */
static void announce(struct server *s) {
    const struct conf *c = &s->source.conf;
    const char *url = c->database_url ? c->database_url : "sqlite:";
    if (s->announced)
        return;
    s->announced = true;
    const char *colon = strrchr(c->bind_addr, ':');
    int host = colon ? (int)(colon - c->bind_addr) : (int)strlen(c->bind_addr);
    const char *scheme = c->tls_cert ? "https" : "http";
    log_info("event=start version=%s addr=%.*s:%u store=%.*s rate_limit_qps=%llu rate_limit_burst=%llu max_body=%llu",
             XTRACE_VERSION, host, c->bind_addr, http_server_port(s->http), (int)strcspn(url, ":"), url,
             (unsigned long long)c->rate_qps, (unsigned long long)c->rate_burst, (unsigned long long)c->max_body);
    printf("xtrace listens on %s://%.*s:%u\n", scheme, host, c->bind_addr, http_server_port(s->http));
    if (s->token[0] && (s->token_made || isatty(STDOUT_FILENO)))
        printf("token: %s   (kept in %s)\n", s->token, s->token_path);
    else if (s->token[0])
        printf("token: in %s\n", s->token_path);
    fflush(stdout);
}

/* ---- signals ---- */

struct signals {
    sigset_t set;
    sem_t stop;
    struct server *server;
};

/* Takes the next signal; past `deadline` (monotonic; TIME_NONE: none) gives 0. */
static int next_signal(const sigset_t *set, int64_t deadline) {
    for (;;) {
        int64_t left = deadline == TIME_NONE ? NS_PER_DAY : deadline - clock_mono_ns();
        struct timespec ts = { .tv_sec = left > 0 ? left / NS_PER_SEC : 0,
                               .tv_nsec = left > 0 ? left % NS_PER_SEC : 0 };
        int sig = sigtimedwait(set, NULL, &ts);
        if (sig > 0)
            return sig;
        if (errno == EAGAIN && deadline != TIME_NONE)
            return 0;
    }
}

static void reload(struct server *s) {
    struct xt_err err = { 0 };
    if (s->source.conf.tls_cert && http_server_reload_tls(s->http, &err) != XT_OK)
        log_error("event=tls_reload_failed message=\"%s\"", err.msg);
    else
        log_info("event=reload");
}

/* Also the guard of the stop: what has not ended by its deadline (a query in the store, say) is ended with the process.
 * Everything acknowledged is on disk, so that is an orderly end. */
static void *signals_main(void *arg) {
    struct signals *sg = arg;
    int64_t deadline = TIME_NONE;
    for (;;) {
        int sig = next_signal(&sg->set, deadline);
        if (sig == 0) {
            log_warn("event=stop_forced message=\"not everything ended in time; nothing acknowledged is lost\"");
            _exit(0);
        }
        if (sig == SIGHUP) {
            if (deadline == TIME_NONE)
                reload(sg->server);
            continue;
        }
        if (deadline != TIME_NONE)
            _exit(1);
        deadline = clock_mono_ns() + (int64_t)sg->server->source.conf.stop_timeout_ms * NS_PER_MS;
        log_info("event=stop signal=%d", sig);
        sem_post(&sg->stop);
    }
    return NULL;
}

/* From here on signals are taken; until then they wait. */
static enum xt_code signals_start(struct signals *sg, struct xt_err *err) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, signals_main, sg) != 0)
        return xt_fail(err, XT_ENOMEM, "cannot start the signal thread");
    pthread_detach(thread);
    return XT_OK;
}

/* ---- start ---- */

/* Waits for the end of a pause or for the stop. True: stop. */
static bool stop_within(struct signals *sg, int64_t ns) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    int64_t until = (int64_t)ts.tv_sec * NS_PER_SEC + ts.tv_nsec + ns;
    ts = (struct timespec){ .tv_sec = until / NS_PER_SEC, .tv_nsec = until % NS_PER_SEC };
    int rc;
    while ((rc = sem_clockwait(&sg->stop, CLOCK_MONOTONIC, &ts)) != 0 && errno == EINTR)
        continue;
    return rc == 0;
}

/* A database server that is away: said once, and again when it says something else. True: stop. */
static bool wait_for_store(struct server *s, struct signals *sg, const struct xt_err *why, struct xt_err *said) {
    announce(s);
    if (strcmp(why->msg, said->msg) != 0)
        log_warn("event=store_waiting message=\"%s\"", why->msg);
    *said = *why;
    return stop_within(sg, RETRY_NS);
}

/* What another program left in the database is taken over first; *ret_stop: a signal came. */
static enum xt_code start_take_over(struct server *s, struct signals *sg, bool *ret_stop, struct xt_err *err) {
    struct store_takeover to = { .project = s->app.default_project,
                                 .project_name = str_c(s->source.conf.default_project) };
    struct xt_err said = { 0 };
    enum xt_code rc = XT_OK;
    while (!*ret_stop && !to.done && s->store.ops->take_over) {
        rc = s->store.ops->take_over(&s->store, &to, err);
        if (to.done)
            break;
        announce(s);
        atomic_store_explicit(&s->app.taken_over, to.traces + to.observations + to.points, memory_order_relaxed);
        atomic_store_explicit(&s->app.taking_over, true, memory_order_relaxed);
        if (rc == XT_OK)
            *ret_stop = stop_within(sg, 0);
        else if (rc == XT_EBUSY)
            *ret_stop = stop_within(sg, RETRY_NS / 5);
        else if (rc == XT_EUNAVAILABLE || rc == XT_ETIMEOUT)
            *ret_stop = wait_for_store(s, sg, err, &said);
        else
            return rc;
    }
    atomic_store_explicit(&s->app.taking_over, false, memory_order_relaxed);
    return XT_OK;
}

/* Listener first; *ret_stop: a signal came before the rest stood. */
static enum xt_code start_remote(struct server *s, struct signals *sg, bool *ret_stop, struct xt_err *err) {
    struct xt_err said = { 0 };
    atomic_store_explicit(&s->app.starting, true, memory_order_relaxed);
    enum xt_code rc = start_http(s, err);
    if (rc == XT_OK)
        rc = signals_start(sg, err);
    while (rc == XT_OK && (rc = start_store(s, err)) == XT_EUNAVAILABLE) {
        *ret_stop = wait_for_store(s, sg, err, &said);
        if (*ret_stop)
            return XT_OK;
        rc = XT_OK;
    }
    if (rc == XT_OK)
        rc = start_take_over(s, sg, ret_stop, err);
    if (rc == XT_OK && !*ret_stop)
        rc = start_parts(s, err);
    if (rc != XT_OK || *ret_stop)
        return rc;
    if (said.msg[0])
        log_info("event=store_found");
    atomic_store_explicit(&s->app.starting, false, memory_order_release);
    return XT_OK;
}

static enum xt_code start(struct server *s, struct signals *sg, bool *ret_stop, struct xt_err *err) {
    const struct conf *c = &s->source.conf;
    s->app.conf = c;
    s->app.started_mono_ns = clock_mono_ns();
    if (c->database_url && !c->bearer_token)
        return settle_token(s, err); /* before anything is touched */
    if (c->bearer_token && c->bearer_token[0] == 0)
        log_warn(
            "event=configuration message=\"API_BEARER_TOKEN is empty: no Bearer token is accepted but project keys\"");
    if (c->database_url && store_is_remote(c->database_url))
        return start_remote(s, sg, ret_stop, err);
    enum xt_code rc = start_store(s, err);
    if (rc == XT_OK)
        rc = start_parts(s, err);
    if (rc == XT_OK)
        rc = start_http(s, err);
    return rc == XT_OK ? signals_start(sg, err) : rc;
}

/* ---- stop ---- */

static void stop(struct server *s) {
    int64_t deadline = clock_mono_ns() + (int64_t)s->source.conf.stop_timeout_ms * NS_PER_MS;
    int64_t margin = (int64_t)s->source.conf.stop_timeout_ms * NS_PER_MS / 5;
    atomic_store_explicit(&s->app.stopping, true, memory_order_relaxed);
    if (s->http)
        http_server_quiesce(s->http);
    jobs_stop(s->jobs);
    if (s->http)
        http_server_stop(s->http, deadline - margin);
    if (s->app.ingest) {
        if (!ingest_stop(s->app.ingest, deadline - margin / 2)) {
            log_error("event=stop_forced message=\"the store did not return; nothing acknowledged is lost\"");
            fflush(stdout);
            ingest_leave(s->app.ingest);
            _exit(0);
        }
        ingest_free(s->app.ingest);
    }
    auth_free(s->app.auth);
    rate_limiter_free(s->app.limiter);
    if (s->store_open)
        store_close(&s->store);
    conf_done(&s->source);
}

int cmd_serve(int argc, char **argv, char **envp) {
    static struct server s; /* one a process; large, and threads point into it until the end */
    static struct signals sg;
    struct xt_err err = { 0 };
    int rest = 0;
    if (!cmd_conf(argc, argv, envp, &s.source, &rest))
        return 1;
    if (rest != argc) {
        fprintf(stderr, "xtrace: serve takes no arguments: \"%.40s\"\n", argv[rest]);
        return 1;
    }
    /* Bodies above a megabyte come from the system and go back to it; smaller ones stay with the allocator (its default
     * gives every 66 KB body back, which costs more than reading it). */
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    mallopt(M_TRIM_THRESHOLD, 8 << 20);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&sg.set);
    sigaddset(&sg.set, SIGTERM);
    sigaddset(&sg.set, SIGINT);
    sigaddset(&sg.set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &sg.set, NULL); /* inherited by every thread: only sigwait takes them */
    sem_init(&sg.stop, 0, 0);
    sg.server = &s;
    bool stopped = false;
    if (start(&s, &sg, &stopped, &err) != XT_OK) {
        stop(&s);
        return cmd_fail(&err);
    }
    announce(&s);
    while (!stopped && sem_wait(&sg.stop) != 0)
        continue;
    stop(&s);
    log_info("event=stopped");
    return 0;
}
