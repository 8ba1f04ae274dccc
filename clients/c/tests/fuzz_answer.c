/* fuzz_answer.c -- any bytes as the answer of a server: an error or a result, which is then read in full. */
#include <stdint.h>
#include <stdlib.h>

#include "answer.h"
#include "error.h"

static size_t read_text(const char *s) { return s ? strlen(s) : 0; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *json = (const char *)data;
    volatile size_t sum = 0; /* so that what is read is not optimised away */
    xtrace_trace_list *list;
    xtrace_trace_detail *detail;
    xtrace_daily_list *days;
    xtrace_metric_result *metrics;
    xtrace_name_list *names;
    xtrace_ingest_result *told;
    xtrace_error e;

    error_clear(&e);
    if (answer_trace_list(json, size, &list, &e) == XTRACE_OK)
        for (size_t i = 0; i < list->count; i++)
            sum += read_text(list->items[i].id) + read_text(list->items[i].metadata_json) + list->items[i].tag_count;
    xtrace_trace_list_free(list);
    if (answer_trace_detail(json, size, &detail, &e) == XTRACE_OK)
        for (size_t i = 0; i < detail->observation_count; i++)
            sum += read_text(detail->observations[i].input_json) + read_text(detail->observations[i].prompt_version);
    xtrace_trace_detail_free(detail);
    if (answer_daily(json, size, &days, &e) == XTRACE_OK)
        for (size_t i = 0; i < days->count; i++)
            for (size_t k = 0; k < days->days[i].usage_count; k++)
                sum += read_text(days->days[i].usage[k].model);
    xtrace_daily_list_free(days);
    if (answer_metrics(json, size, &metrics, &e) == XTRACE_OK)
        for (size_t i = 0; i < metrics->count; i++)
            for (size_t k = 0; k < metrics->series[i].label_count; k++)
                sum += read_text(metrics->series[i].labels[k].value);
    xtrace_metric_result_free(metrics);
    if (answer_names(json, size, &names, &e) == XTRACE_OK)
        for (size_t i = 0; i < names->count; i++)
            sum += read_text(names->names[i]);
    xtrace_name_list_free(names);
    if (answer_ingest(json, size, &told, &e) == XTRACE_OK)
        for (size_t i = 0; i < told->count; i++)
            sum += read_text(told->refusals[i].message);
    xtrace_ingest_result_free(told);
    answer_read_error(json, size, &e);
    return (int)(sum & 0);
}
