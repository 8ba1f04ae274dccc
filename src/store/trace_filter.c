/* trace_filter.c -- see trace_filter.h. */
#include "store/trace_filter.h"

#include "store/fold/keys.h"

void trace_filter_of_list(const struct trace_query *q, struct trace_filter *ret) {
    *ret = (struct trace_filter){
        .project = q->project,
        .label = q->label,
        .user = q->user,
        .name = q->name,
        .session = q->session,
        .version = q->version,
        .release = q->release,
        .tags = q->tags,
        .ntags = q->ntags,
        .environments = q->environments,
        .nenvironments = q->nenvironments,
        .keys = q->keys,
        .from = q->from,
        .to = q->to,
    };
}

void trace_filter_of_daily(const struct daily_query *q, struct trace_filter *ret) {
    *ret = (struct trace_filter){
        .project = q->project,
        .label = q->label,
        .user = q->user,
        .name = q->trace_name,
        .version = q->version,
        .release = q->release,
        .tags = q->tags,
        .ntags = q->ntags,
        .from = q->from,
        .to = q->to,
    };
}

bool trace_filter_by_rollups(const struct trace_filter *f) {
    return !str_has(f->user) && !str_has(f->session) && !str_has(f->version) && !str_has(f->release) && f->ntags == 0 &&
           !record_keys_any(&f->keys);
}

bool trace_filter_is_plain(const struct trace_filter *f) {
    return trace_filter_by_rollups(f) && !str_has(f->label) && !str_has(f->name) && f->nenvironments == 0;
}
