/* trace_filter.h -- which traces a read is about, whatever it shows of them: what lists and the daily view have in common.
 * How an engine finds them is its own. */
#pragma once
#include "store/query.h"

struct trace_filter {
    int64_t project;
    struct str label, user, name, session, version, release; /* exact; absent: any */
    const struct str *tags;                                  /* all of them */
    size_t ntags;
    const struct str *environments; /* any of them; none: any */
    size_t nenvironments;
    struct record_keys keys; /* each of them: the trace's or an observation's */
    int64_t from, to;        /* inclusive */
};
/* Texts stay the query's. */
void trace_filter_of_list(const struct trace_query *q, struct trace_filter *ret);
void trace_filter_of_daily(const struct daily_query *q, struct trace_filter *ret);
/* No condition but project and time. */
bool trace_filter_is_plain(const struct trace_filter *f);
/* No condition but those that the rollups' keys answer (store/fold/rollup_fold.h): time, label, environment, name. */
bool trace_filter_by_rollups(const struct trace_filter *f);
