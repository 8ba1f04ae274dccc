/* day.c -- see day.h. */
#include "store/view/day.h"

#include <stdlib.h>

struct day_model {
    struct day_model *next;
    struct str name; /* as shown */
    int64_t traces;
    struct model_sums sums;
};

void day_models_init(struct day_models *m, struct arena *a) {
    *m = (struct day_models){ .arena = a };
    map_init(&m->by_name, a);
}

bool day_models_add(struct day_models *m, struct str model, int64_t traces, const struct model_sums *sums, int sign) {
    struct str name = model.n > 0 ? rollup_text_of(model) : STR_LIT(UNKNOWN_MODEL);
    struct day_model *d = map_get(&m->by_name, name);
    if (!d) {
        d = arena_new(m->arena, struct day_model, 1);
        name = arena_str(m->arena, name);
        if (!d || !str_has(name) || !map_put(&m->by_name, name, d))
            return false;
        *d = (struct day_model){ .next = m->first, .name = name };
        m->first = d;
        m->n++;
    }
    d->traces += sign * traces;
    model_sums_add(&d->sums, sums, sign);
    return true;
}

static int compare_usage(const void *a, const void *b) {
    const struct day_usage *x = a, *y = b;
    if (x->cost != y->cost)
        return x->cost < y->cost ? 1 : -1;
    return str_cmp(x->model, y->model);
}

bool day_models_show(const struct day_models *m, struct day_row *ret) {
    struct day_usage *list = arena_new(m->arena, struct day_usage, m->n);
    size_t n = 0;
    if (!list)
        return false;
    for (const struct day_model *d = m->first; d; d = d->next) {
        if (d->sums.n == 0)
            continue;
        list[n++] = (struct day_usage){
            .model = d->name,
            .observations = d->sums.n,
            .traces = d->traces,
            .tokens_in = sum_to_i64(d->sums.in),
            .tokens_out = sum_to_i64(d->sums.out),
            .tokens_total = sum_to_i64(d->sums.total),
            .cost = d->sums.cost,
        };
    }
    qsort(list, n, sizeof *list, compare_usage);
    ret->usage = list;
    ret->nusage = n;
    return true;
}
