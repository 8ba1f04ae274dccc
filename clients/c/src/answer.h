/* answer.h -- JSON answers -> the public structures. Answers are hostile: any bytes give a result or an error.
 *
 *  1. A result is one allocation of its own (an arena behind the public structure); its _free frees it all.
 *  2. Unknown fields are skipped; a known one of another type counts as absent, unless it is one without which the answer
 *     makes no sense (`data`, `id`, `timestamp` ...): then XTRACE_EANSWER. */
#pragma once
#include "error.h"

int answer_trace_list(const char *json, size_t n, xtrace_trace_list **ret, xtrace_error *error);
int answer_trace_detail(const char *json, size_t n, xtrace_trace_detail **ret, xtrace_error *error);
int answer_daily(const char *json, size_t n, xtrace_daily_list **ret, xtrace_error *error);
int answer_metrics(const char *json, size_t n, xtrace_metric_result **ret, xtrace_error *error);
int answer_names(const char *json, size_t n, xtrace_name_list **ret, xtrace_error *error);
/* The answer to a batch: {"message": text}; refusals when there are `errors`. */
int answer_ingest(const char *json, size_t n, xtrace_ingest_result **ret, xtrace_error *error);
/* Puts `code` and `message` of an error answer into *error, if it has them. */
void answer_read_error(const char *json, size_t n, xtrace_error *error);
