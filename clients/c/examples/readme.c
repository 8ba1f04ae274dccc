#include <stdio.h>
#include <xtrace.h>

int main(void) {
    xtrace_error error;
    xtrace_client *client = xtrace_client_new(NULL, &error); /* XTRACE_BASE_URL, API_BEARER_TOKEN */
    xtrace_trace_list *traces = NULL;

    if (!client || xtrace_healthz(client, NULL, &error) || xtrace_list_traces(client, NULL, &traces, NULL, &error)) {
        fprintf(stderr, "%s\n", error.message);
        xtrace_client_free(client);
        return 1;
    }
    printf("%zu traces\n", traces->count);
    xtrace_trace_list_free(traces);

    const xtrace_label labels[] = { { "node_id", "node-1" }, { "gpu_index", "0" } };
    xtrace_metric point;
    xtrace_metric_init(&point);
    point.name = "gpu_utilization";
    point.value = 0.85;
    point.labels = labels;
    point.label_count = 2;
    int failed = xtrace_push_metrics(client, &point, 1, NULL, &error);
    if (failed)
        fprintf(stderr, "%s\n", error.message);
    xtrace_client_free(client);
    return failed != 0;
}
