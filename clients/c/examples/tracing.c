/* A traced request: a root span, the call of a model below it, an event, a metric point. */
#include <stdio.h>
#include <xtrace.h>

static void print_log(void *arg, int level, const char *line) {
    (void)arg, (void)level;
    fprintf(stderr, "xtrace: %s\n", line);
}

static void answer_question(xtrace_tracer *tracer, const char *question) {
    xtrace_span *span = xtrace_span_start(tracer, "answer");
    xtrace_span_set_user(span, "user-7");
    xtrace_span_set_session(span, "session-3");
    xtrace_span_add_tag(span, "example");
    xtrace_span_set_input(span, question);

    xtrace_span *call = xtrace_generation_start(tracer, "chat", "small-model"); /* below `answer` by itself */
    xtrace_span_set_input_json(call, "[{\"role\":\"user\",\"content\":\"2 + 2?\"}]");
    xtrace_span_first_token(call);
    xtrace_span_set_output(call, "4");
    xtrace_span_set_usage(call, 12, 1, XTRACE_INT_NONE);
    xtrace_span_end(call);

    xtrace_span_event(span, "answered", "DEFAULT", NULL);
    xtrace_metric_event(tracer, "answers", 1, NULL, NULL);
    xtrace_span_set_output(span, "4");
    xtrace_span_end(span); /* the trace is complete */
}

int main(void) {
    xtrace_error error;
    xtrace_options options;
    xtrace_options_init(&options);
    options.log = print_log;
    xtrace_client *client = xtrace_client_new(&options, &error);
    xtrace_sender *sender = client ? xtrace_sender_new(client, NULL, &error) : NULL;
    xtrace_tracer *tracer = sender ? xtrace_tracer_new(sender, NULL, &error) : NULL;
    xtrace_sender_stats stats;

    if (!tracer)
        fprintf(stderr, "%s\n", error.message);
    answer_question(tracer, "What is 2 + 2?"); /* works without a tracer, too: then nothing is recorded */
    xtrace_tracer_free(tracer);
    int code = xtrace_sender_stop(sender, 5000, &stats);
    printf("%llu records delivered\n", (unsigned long long)stats.delivered);
    xtrace_client_free(client);
    return !tracer || code != XTRACE_OK;
}
