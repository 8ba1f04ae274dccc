/* drive_client.c -- what the suites make the library do: drive_client COMMAND [ARGUMENTS]; one `key=value` a line on
 * stdout. Address and token come from the environment, as for any program. */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xtrace.h>

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void on_log(void *arg, int level, const char *line) {
    (void)arg;
    fprintf(stderr, "log %d %s\n", level, line);
}

static xtrace_client *client_of_environment(void) {
    xtrace_options o;
    xtrace_error e;
    xtrace_client *c;

    xtrace_options_init(&o);
    o.log = on_log;
    o.log_level = XTRACE_LOG_DEBUG;
    o.ca_file = getenv("DRIVE_CA");
    o.proxy = getenv("DRIVE_PROXY");
    o.tls_insecure = getenv("DRIVE_INSECURE") != NULL;
    if (getenv("DRIVE_TIMEOUT_MS"))
        o.timeout_ms = atoi(getenv("DRIVE_TIMEOUT_MS"));
    o.retry_min_ms = 20;
    o.retry_max_ms = 200;
    c = xtrace_client_new(&o, &e);
    if (!c) {
        fprintf(stderr, "client: %s\n", e.message);
        exit(2);
    }
    return c;
}

static xtrace_sender *sender_of(xtrace_client *c) {
    xtrace_sender_options o;
    xtrace_error e;
    xtrace_sender *s;

    xtrace_sender_options_init(&o);
    o.retry_min_ms = 20;
    o.retry_max_ms = 200;
    o.max_delay_ms = 50;
    if (getenv("DRIVE_QUEUE"))
        o.max_queue_records = (size_t)atoll(getenv("DRIVE_QUEUE"));
    if (getenv("DRIVE_BATCH"))
        o.batch_records = (size_t)atoll(getenv("DRIVE_BATCH"));
    if (getenv("DRIVE_BATCH_BYTES"))
        o.batch_bytes = (size_t)atoll(getenv("DRIVE_BATCH_BYTES"));
    if (getenv("DRIVE_DELAY_MS"))
        o.max_delay_ms = atoi(getenv("DRIVE_DELAY_MS"));
    if (getenv("DRIVE_TIMEOUT_MS"))
        o.request_timeout_ms = atoi(getenv("DRIVE_TIMEOUT_MS"));
    o.max_queue_bytes = (size_t)1 << 30;
    s = xtrace_sender_new(c, &o, &e);
    if (!s) {
        fprintf(stderr, "sender: %s\n", e.message);
        exit(2);
    }
    return s;
}

static void print_stats(const xtrace_sender_stats *s) {
    printf("delivered=%llu\nrefused=%llu\nfull=%llu\nmemory=%llu\nstopped=%llu\nuncertain=%llu\npending=%llu\n"
           "requests=%llu\nretries=%llu\n",
           (unsigned long long)s->delivered, (unsigned long long)s->refused, (unsigned long long)s->dropped_full,
           (unsigned long long)s->dropped_memory, (unsigned long long)s->dropped_stopped,
           (unsigned long long)s->dropped_uncertain, (unsigned long long)s->pending, (unsigned long long)s->requests,
           (unsigned long long)s->retries);
}

static void print_error(const char *what, int code, const xtrace_error *e) {
    printf("%s=%d status=%d code=%s argument=%s retry=%d message=%s\n", what, code, e->http_status, e->server_code,
           e->argument, e->retry_after_s, e->message);
}

/* ---- spans THREADS EACH: trees of ten spans ---- */

struct worker {
    pthread_t thread;
    xtrace_tracer *tracer;
    long count;
    double took;
    int paced; /* waits for room instead of losing */
    xtrace_sender *sender;
};

static void *make_spans(void *arg) {
    struct worker *w = arg;
    const double start = seconds();

    for (long i = 0; i < w->count;) {
        if (w->paced) {
            xtrace_sender_stats s;
            xtrace_sender_get_stats(w->sender, &s);
            if (s.pending > 50000)
                (void)xtrace_sender_flush(w->sender, 20);
        }
        xtrace_span *root = xtrace_span_start(w->tracer, "root");
        for (i++; i < w->count && i % 10 != 0; i++)
            xtrace_span_end(xtrace_span_start(w->tracer, "child"));
        xtrace_span_end(root);
    }
    w->took = seconds() - start;
    return NULL;
}

static int spans(int argc, char **argv) {
    xtrace_client *c = client_of_environment();
    xtrace_sender *s = sender_of(c);
    xtrace_tracer *t = xtrace_tracer_new(s, NULL, NULL);
    struct worker w[64];
    xtrace_sender_stats stats;
    const int threads = atoi(argv[0]);
    const double start = seconds();
    int code;

    for (int i = 0; i < threads; i++) {
        w[i] = (struct worker){ .tracer = t, .count = atol(argv[1]), .paced = argc > 2, .sender = s };
        if (pthread_create(&w[i].thread, NULL, make_spans, &w[i]) != 0)
            return 1;
    }
    for (int i = 0; i < threads; i++)
        pthread_join(w[i].thread, NULL);
    printf("flush=%d\n", xtrace_sender_flush(s, 120000));
    xtrace_tracer_free(t);
    code = xtrace_sender_stop(s, 60000, &stats);
    printf("stop=%d\nseconds=%.3f\n", code, seconds() - start);
    print_stats(&stats);
    xtrace_client_free(c);
    return 0;
}

/* ---- points N: each its own number ---- */

static int points(int argc, char **argv) {
    xtrace_client *c = client_of_environment();
    xtrace_sender *s = sender_of(c);
    xtrace_sender_stats stats;
    xtrace_metric m;

    (void)argc;
    xtrace_metric_init(&m);
    m.name = argv[1];
    for (long i = 0; i < atol(argv[0]); i++) {
        m.value = 1;
        (void)xtrace_send_metric(s, &m, NULL);
        if (i % 1000 == 999)
            (void)xtrace_sender_flush(s, 60000);
    }
    printf("stop=%d\n", xtrace_sender_stop(s, 60000, &stats));
    print_stats(&stats);
    xtrace_client_free(c);
    return 0;
}

/* ---- trickle N ID...: one observation a millisecond, ids counted up, with a flush at the end ---- */

static int trickle(int argc, char **argv) {
    xtrace_client *c = client_of_environment();
    xtrace_sender *s = sender_of(c);
    xtrace_sender_stats stats;
    xtrace_observation o;
    char id[64];

    (void)argc;
    for (long i = 0; i < atol(argv[0]); i++) {
        xtrace_observation_init(&o);
        (void)snprintf(id, sizeof id, "00000000-0000-4000-8000-%012lx", i);
        o.id = id;
        o.trace_id = argv[1];
        o.name = "step";
        while (xtrace_send_observation(s, &o, NULL) == XTRACE_EFULL)
            (void)xtrace_sender_flush(s, 10);
        usleep(1000);
    }
    printf("stop=%d\n", xtrace_sender_stop(s, 60000, &stats));
    print_stats(&stats);
    xtrace_client_free(c);
    return 0;
}

/* ---- mixed: a bad record among good ones ---- */

static int mixed(int argc, char **argv) {
    xtrace_client *c = client_of_environment();
    xtrace_sender *s = sender_of(c);
    xtrace_sender_stats stats;
    char id[64];

    (void)argc;
    for (int i = 0; i < 40; i++) {
        xtrace_observation o;
        xtrace_observation_init(&o);
        (void)snprintf(id, sizeof id, "00000000-0000-4000-8000-%012x", i);
        o.id = id;
        o.trace_id = argv[0];
        o.name = "good";
        if (i == 17)
            o.name = "bad"; /* what the suite's server refuses */
        (void)xtrace_send_observation(s, &o, NULL);
    }
    printf("flush=%d\n", xtrace_sender_flush(s, 20000));
    printf("stop=%d\n", xtrace_sender_stop(s, 5000, &stats));
    print_stats(&stats);
    xtrace_client_free(c);
    return 0;
}

/* ---- stop MS: one record to a server that does not take it ---- */

static int stop(int argc, char **argv) {
    xtrace_client *c = client_of_environment();
    xtrace_sender *s = sender_of(c);
    xtrace_sender_stats stats;
    xtrace_metric m;
    double start;
    int code;

    (void)argc;
    xtrace_metric_init(&m);
    m.name = "stopped";
    m.value = 1;
    (void)xtrace_send_metric(s, &m, NULL);
    printf("flush=%d\n", xtrace_sender_flush(s, 300));
    start = seconds();
    code = xtrace_sender_stop(s, atoi(argv[0]), &stats);
    printf("stop=%d\nseconds=%.3f\n", code, seconds() - start);
    print_stats(&stats);
    xtrace_client_free(c);
    return 0;
}

/* ---- full: a batch that is full by its bytes goes at once; `early` is what had arrived before anybody asked ---- */

static int full(int argc, char **argv) {
    xtrace_client *c = client_of_environment();
    xtrace_sender *s = sender_of(c);
    xtrace_sender_stats stats = { 0 };
    xtrace_metric m;
    const double start = seconds();

    (void)argc, (void)argv;
    xtrace_metric_init(&m);
    m.name = "full";
    m.value = 1;
    (void)xtrace_send_metric(s, &m, NULL);
    usleep(100000); /* the thread has seen the first one, and waits */
    for (int i = 1; i < 100; i++)
        (void)xtrace_send_metric(s, &m, NULL);
    while (stats.delivered == 0 && seconds() - start < 5) {
        usleep(1000);
        xtrace_sender_get_stats(s, &stats);
    }
    printf("early=%d\n", stats.delivered > 0);
    printf("stop=%d\n", xtrace_sender_stop(s, 10000, &stats));
    print_stats(&stats);
    xtrace_client_free(c);
    return 0;
}

/* ---- order TRACE: a flush waits for a point although a trace behind it, of the same batch, has arrived ---- */

static void *flush_it(void *sender) {
    printf("flush=%d\n", xtrace_sender_flush(sender, 2000));
    return NULL;
}

static int order(int argc, char **argv) {
    xtrace_client *c = client_of_environment();
    xtrace_sender *s = sender_of(c);
    xtrace_sender_stats stats = { 0 };
    xtrace_metric m;
    xtrace_trace t;
    pthread_t flusher;

    (void)argc;
    xtrace_metric_init(&m);
    m.name = "order";
    m.value = 1;
    (void)xtrace_send_metric(s, &m, NULL);
    while (stats.requests == 0) { /* the server keeps this one waiting */
        usleep(1000);
        xtrace_sender_get_stats(s, &stats);
    }
    (void)xtrace_send_metric(s, &m, NULL);
    if (pthread_create(&flusher, NULL, flush_it, s) != 0)
        return 1;
    usleep(200000); /* the flush began; were it later, it would only ask for more */
    xtrace_trace_init(&t);
    t.id = argv[0];
    (void)xtrace_send_trace(s, &t, NULL);
    pthread_join(flusher, NULL);
    printf("stop=%d\n", xtrace_sender_stop(s, 0, &stats));
    print_stats(&stats);
    xtrace_client_free(c);
    return 0;
}

/* ---- fork: parent and child send; each its own ---- */

static int forked(int argc, char **argv) {
    xtrace_client *c = client_of_environment();
    xtrace_sender *s = sender_of(c);
    xtrace_tracer *t = xtrace_tracer_new(s, NULL, NULL);
    xtrace_sender_stats stats;
    xtrace_span *shared;
    pid_t child;
    int status = -1;

    (void)argc, (void)argv;
    for (int i = 0; i < 100; i++)
        xtrace_span_end(xtrace_span_start(t, "before"));
    shared = xtrace_span_start(t, "shared");
    child = fork();
    for (int i = 0; i < 50; i++)
        xtrace_span_end(xtrace_span_start(t, child == 0 ? "child" : "parent"));
    xtrace_span_end(shared);
    xtrace_tracer_free(t);
    const int code = xtrace_sender_stop(s, 30000, &stats);
    xtrace_client_free(c);
    if (child == 0) {
        fprintf(stderr, "child delivered %llu\n", (unsigned long long)stats.delivered);
        fflush(NULL);
        _exit(code == XTRACE_OK && stats.delivered == 50 ? 0 : 1); /* 50 spans of the trace that goes on */
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    printf("child=%d\nstop=%d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 999, code);
    print_stats(&stats);
    return 0;
}

/* ---- calls: all of them against a real server ---- */

static int calls(int argc, char **argv) {
    xtrace_client *c = client_of_environment();
    xtrace_error e;
    xtrace_trace t;
    xtrace_observation o[2];
    xtrace_metric m;
    const char *const tags[] = { "a", "b, c & \xc3\xa4" };
    const xtrace_label label = { "k\xc3\xa4", "v \"q\"" };

    (void)argc;
    printf("healthz=%d\n", xtrace_healthz(c, NULL, &e));
    xtrace_trace_init(&t);
    t.id = argv[0];
    t.timestamp = INT64_C(1767225600123456000);
    t.name = "n";
    t.user_id = "u&=?#";
    t.session_id = "s";
    t.tags = tags;
    t.tag_count = 2;
    t.metadata_json = "{\"big\":18446744073709551616,\"x\":[1,null]}";
    t.is_public = 1;
    xtrace_observation_init(&o[0]);
    xtrace_observation_init(&o[1]);
    o[0].id = argv[1];
    o[0].trace_id = o[1].trace_id = argv[0];
    o[0].type = "GENERATION";
    o[0].model = "m";
    o[0].prompt_tokens = 3;
    o[0].completion_tokens = 4;
    o[0].total_tokens = 7;
    o[0].total_cost = 0.25;
    o[0].start_time = INT64_C(1767225600123456000);
    o[0].end_time = INT64_C(1767225601123456000);
    o[0].prompt_version = "2";
    o[0].input_json = "\"in\"";
    o[1].id = argv[2];
    o[1].parent_id = argv[1];
    printf("ingest=%d\n", xtrace_ingest_batch(c, &t, o, 2, NULL, NULL, &e));

    xtrace_trace_query q;
    xtrace_trace_list *list;
    xtrace_trace_query_init(&q);
    q.user_id = "u&=?#";
    q.tags = tags;
    q.tag_count = 2;
    q.limit = 10;
    q.from = q.to = INT64_C(1767225600123456000);
    printf("list=%d\n", xtrace_list_traces(c, &q, &list, NULL, &e));
    if (list && list->count == 1) {
        const xtrace_trace_item *i = &list->items[0];
        printf(
            "list.id=%s\nlist.total=%lld\nlist.timestamp=%lld\nlist.tag=%s\nlist.observations=%zu %s\nlist.public=%d\n"
            "list.latency=%g\nlist.cost=%g\nlist.release=%s\nlist.metadata=%s\n",
            i->id, (long long)list->meta.total_items, (long long)i->timestamp, i->tags[1], i->observation_count,
            i->observation_ids[0], i->is_public, i->latency, i->total_cost, i->release ? i->release : "(absent)",
            i->metadata_json);
    }
    xtrace_trace_list_free(list);

    xtrace_trace_detail *d;
    printf("get=%d\n", xtrace_get_trace(c, argv[0], &d, NULL, &e));
    if (d && d->observation_count == 2) {
        for (size_t i = 0; i < 2; i++) {
            const xtrace_observation_item *x = &d->observations[i];
            if (strcmp(x->id, argv[1]) == 0)
                printf("get.model=%s\nget.tokens=%lld\nget.cost=%g\nget.latency=%g\nget.input=%s\nget.version=%s\n"
                       "get.ttft=%d\nget.usage=%s\n",
                       x->model, (long long)x->total_tokens, x->total_cost, x->latency, x->input_json,
                       x->prompt_version, isnan(x->time_to_first_token), x->usage_details_json);
            else
                printf("get.parent=%s\nget.cost2=%d\n", x->parent_id, isnan(x->total_cost));
        }
    }
    xtrace_trace_detail_free(d);
    int code = xtrace_get_trace(c, "00000000-0000-4000-8000-00000000dead", &d, NULL, &e);
    print_error("missing", code, &e);

    xtrace_daily_query dq;
    xtrace_daily_list *days;
    xtrace_daily_query_init(&dq);
    dq.from = INT64_C(1767225600000000000);
    dq.to = INT64_C(1767311999000000000);
    printf("daily=%d\n", xtrace_metrics_daily(c, &dq, &days, NULL, &e));
    if (days && days->count == 1)
        printf("daily.day=%s %lld %lld %g %s %lld\n", days->days[0].date, (long long)days->days[0].traces,
               (long long)days->days[0].observations, days->days[0].total_cost, days->days[0].usage[0].model,
               (long long)days->days[0].usage[0].total_usage);
    xtrace_daily_list_free(days);

    xtrace_metric_init(&m);
    m.name = "c:calls";
    m.value = 1.5;
    m.labels = &label;
    m.label_count = 1;
    m.timestamp = INT64_C(1767225600123456789);
    printf("push=%d\n", xtrace_push_metrics(c, &m, 1, NULL, &e));
    xtrace_metric_query mq;
    xtrace_metric_result *r;
    xtrace_metric_query_init(&mq);
    mq.name = "c:calls";
    mq.labels = &label;
    mq.label_count = 1;
    mq.from = mq.to = m.timestamp;
    mq.agg = "max";
    printf("query=%d\n", xtrace_query_metrics(c, &mq, &r, NULL, &e));
    if (r && r->count == 1 && r->series[0].point_count == 1)
        printf("query.label=%s:%s\nquery.value=%g\nquery.latest=%lld\nquery.truncated=%d\nquery.bucket=%lld\n",
               r->series[0].labels[0].name, r->series[0].labels[0].value, r->series[0].points[0].value,
               (long long)r->latest, r->truncated, (long long)r->series[0].points[0].timestamp);
    xtrace_metric_result_free(r);
    mq.labels = NULL;
    mq.label_count = 0;
    mq.group_by = "absent";
    printf("group=%d\n", xtrace_query_metrics(c, &mq, &r, NULL, &e));
    if (r && r->count == 1)
        printf("group.null=%d\n", r->series[0].labels[0].value == NULL);
    xtrace_metric_result_free(r);

    xtrace_name_list *names;
    printf("names=%d\n", xtrace_list_metric_names(c, &names, NULL, &e));
    if (names)
        printf("names.first=%s\n", names->count ? names->names[0] : "");
    xtrace_name_list_free(names);
    xtrace_client_free(c);
    return 0;
}

/* ---- get: one list call, its error told ---- */

static int get(int argc, char **argv) {
    xtrace_client *c = client_of_environment();
    xtrace_trace_list *list;
    xtrace_error e;
    const double start = seconds();

    (void)argc, (void)argv;
    int code = xtrace_list_traces(c, NULL, &list, NULL, &e);
    print_error("get", code, &e);
    printf("items=%zu\nseconds=%.3f\n", list ? list->count : 0, seconds() - start);
    xtrace_trace_list_free(list);
    xtrace_client_free(c);
    return 0;
}

/* ---- cost: nanoseconds of a span on the caller's thread; memory of the process at rest, and after bursts ---- */

static double span_cost(xtrace_tracer *t, long n) {
    const double start = seconds();
    for (long i = 0; i < n; i++)
        xtrace_span_end(xtrace_span_start(t, "cost"));
    return (seconds() - start) * 1e9 / (double)n;
}

static void print_memory(const char *name) {
    char line[256];
    FILE *f = fopen("/proc/self/status", "r");

    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "VmRSS:", 6) == 0)
            printf("%s=%ld\n", name, atol(line + 6));
    if (f)
        fclose(f);
}

static int cost(int argc, char **argv) {
    xtrace_client *c = client_of_environment();
    xtrace_sender *s = sender_of(c);
    xtrace_tracer_options o;
    xtrace_tracer *on, *off;
    double best = 1e9, best_off = 1e9;

    (void)argc, (void)argv;
    xtrace_tracer_options_init(&o);
    on = xtrace_tracer_new(s, &o, NULL);
    o.sample_rate = 0;
    off = xtrace_tracer_new(s, &o, NULL);
    xtrace_span_end(xtrace_span_start(on, "first"));
    (void)xtrace_sender_flush(s, 30000);
    print_memory("rest_kb");
    for (int i = 0; i < 9; i++) {
        double ns;
        xtrace_span *root = xtrace_span_start(on, "root");
        ns = span_cost(on, 5000);
        xtrace_span_end(root);
        best = ns < best ? ns : best;
        ns = span_cost(off, 100000);
        best_off = ns < best_off ? ns : best_off;
        (void)xtrace_sender_flush(s, 30000);
    }
    printf("sampled_ns=%.0f\nunsampled_ns=%.1f\n", best, best_off);
    print_memory("after_kb");
    xtrace_tracer_free(on);
    xtrace_tracer_free(off);
    (void)xtrace_sender_stop(s, 10000, NULL);
    xtrace_client_free(c);
    return 0;
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int arguments;
        int (*run)(int argc, char **argv);
    } commands[] = { { "spans", 2, spans }, { "points", 2, points }, { "trickle", 2, trickle }, { "mixed", 1, mixed },
                     { "stop", 1, stop },   { "fork", 0, forked },   { "calls", 3, calls },     { "get", 0, get },
                     { "cost", 0, cost },   { "full", 0, full },     { "order", 1, order } };

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (argc >= 2 && strcmp(argv[1], commands[i].name) == 0 && argc >= 2 + commands[i].arguments)
            return commands[i].run(argc - 2, argv + 2);
    fprintf(stderr, "usage: drive_client spans|points|trickle|mixed|stop|fork|calls|get|cost|full|order ...\n");
    return 2;
}
