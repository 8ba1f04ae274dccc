/* rollup_fold.c -- see rollup_fold.h. */
#include "store/fold/rollup_fold.h"

#include <string.h>

/* Project, level, start, four lengths, the mark before a name. */
#define KEY_FIXED_BYTES (3 * sizeof(int64_t) + 4 * sizeof(uint64_t) + 1)

/* ---- intervals ---- */

int64_t rollup_end(int64_t start, int64_t span) {
    int64_t next = time_floor(time_add(start, span), span);
    return next > start ? next - 1 : TIME_MAX;
}

bool rollup_whole(int64_t from, int64_t to, int64_t span, int64_t *ret_first, int64_t *ret_last) {
    int64_t first = time_floor(from, span), last = time_floor(to, span);
    if (first < from) {
        if (rollup_end(first, span) == TIME_MAX)
            return false;
        first = rollup_end(first, span) + 1;
    }
    if (rollup_end(last, span) > to) {
        if (last == TIME_MIN)
            return false;
        last = time_floor(last - 1, span);
    }
    *ret_first = first;
    *ret_last = last;
    return first <= last;
}

/* ---- sums ---- */

void model_sums_add(struct model_sums *to, const struct model_sums *more, int sign) {
    to->n += sign * more->n;
    to->in += sign * more->in;
    to->out += sign * more->out;
    to->total += sign * more->total;
    to->cost += sign * more->cost;
}

bool model_sums_equal(const struct model_sums *a, const struct model_sums *b) {
    return a->n == b->n && a->in == b->in && a->out == b->out && a->total == b->total && a->cost == b->cost;
}

int64_t sum_to_i64(__int128 v) {
    if (v > INT64_MAX)
        return INT64_MAX;
    return v < INT64_MIN ? INT64_MIN : (int64_t)v;
}

struct str rollup_text(struct arena *a, struct str text) {
    if (!str_has(text))
        return STR_LIT("");
    char *p = arena_bytes(a, text.n + 1);
    if (!p)
        return STR_NONE;
    p[0] = '=';
    if (text.n > 0)
        memcpy(p + 1, text.p, text.n);
    return (struct str){ p, text.n + 1 };
}

/* ---- folding ---- */

void rollup_init(struct rollup_fold *f, struct arena *a) {
    *f = (struct rollup_fold){ .arena = a };
    map_init(&f->map, a);
    map_init(&f->count_map, a);
}

/* A key is all its parts in one string: project, level, start, then each text with its length in front (0 for an absent one, else
 * 1 more than it has). The texts of a delta are slices of its key. */
static char *put_bytes(char *at, const void *p, size_t n) {
    if (n > 0)
        memcpy(at, p, n);
    return at + n;
}

/* `mark`: a byte before the text, or 0. */
static char *put_part(char *at, struct str s, char mark) {
    size_t more = mark != 0;
    uint64_t n = str_has(s) ? s.n + more + 1 : 0;
    at = put_bytes(at, &n, sizeof n);
    return put_bytes(put_bytes(at, &mark, more), s.p, s.n);
}

static const char *take_part(const char *at, struct str *ret) {
    uint64_t n;
    memcpy(&n, at, sizeof n);
    *ret = n > 0 ? (struct str){ at + sizeof n, (size_t)n - 1 } : STR_NONE;
    return at + sizeof n + ret->n;
}

/* Where a share stands. */
struct place {
    int64_t project, level, start;
    struct str label, env;
    struct str name;  /* absent: none */
    char mark;        /* before the name in its stored form; 0: it is in that form */
    struct str model; /* absent: the trace's own share */
};

static struct place place_of(const struct trace_rec *t, struct str model) {
    return (struct place){ .project = t->project,
                           .level = ROLLUP_NAMED_HOUR,
                           .start = time_floor(t->ts, ROLLUP_HOUR),
                           .label = t->label,
                           .env = t->env,
                           .name = str_has(t->name) ? t->name : STR_LIT(""),
                           .mark = str_has(t->name) ? '=' : 0,
                           .model = model };
}

/* The key of a place, in `room` when it fits. Absent: no memory. */
static struct str place_key(struct arena *a, const struct place *p, char *room, size_t room_bytes) {
    size_t n = KEY_FIXED_BYTES + p->label.n + p->env.n + p->name.n + p->model.n;
    char *key = n <= room_bytes ? room : arena_bytes(a, n);
    if (!key)
        return STR_NONE;
    char *at = put_bytes(key, &p->project, sizeof p->project);
    at = put_bytes(at, &p->level, sizeof p->level);
    at = put_bytes(at, &p->start, sizeof p->start);
    at = put_part(at, p->label, 0);
    at = put_part(at, p->env, 0);
    at = put_part(at, p->name, p->mark);
    at = put_part(at, p->model, 0);
    return (struct str){ key, (size_t)(at - key) };
}

/* The delta with that key, made if need be. NULL: no memory. */
static struct rollup_delta *delta_of(struct rollup_fold *f, const struct place *p) {
    char room[512];
    struct str key = place_key(f->arena, p, room, sizeof room);
    if (!str_has(key))
        return NULL;
    struct rollup_delta *d = map_get(&f->map, key);
    if (d)
        return d;
    key = arena_str(f->arena, key);
    d = arena_new(f->arena, struct rollup_delta, 1);
    if (!d || !str_has(key) || !map_put(&f->map, key, d))
        return NULL;
    d->project = p->project;
    d->level = p->level;
    d->start = p->start;
    const char *at = take_part(key.p + 3 * sizeof(int64_t), &d->label);
    at = take_part(at, &d->env);
    at = take_part(at, &d->name);
    take_part(at, &d->model);
    if (f->last)
        f->last->next = d;
    else
        f->first = d;
    f->last = d;
    return d;
}

/* Counts n traces in the interval of that span. False: no memory. */
static bool count(struct rollup_fold *f, int64_t project, int64_t span, int64_t ts, int64_t n) {
    const int64_t parts[3] = { project, span, time_floor(ts, span) };
    struct str key = { (const char *)parts, sizeof parts };
    struct rollup_count *c = map_get(&f->count_map, key);
    if (!c) {
        c = arena_new(f->arena, struct rollup_count, 1);
        key = arena_str(f->arena, key);
        if (!c || !str_has(key) || !map_put(&f->count_map, key, c))
            return false;
        *c = (struct rollup_count){ .next = f->counts, .project = project, .span = span, .start = parts[2] };
        f->counts = c;
    }
    c->n += n;
    return true;
}

bool rollup_trace(struct rollup_fold *f, const struct trace_rec *t, int sign) {
    const struct place p = place_of(t, STR_NONE);
    struct rollup_delta *d = delta_of(f, &p);
    if (!d || !count(f, t->project, ROLLUP_TICK, t->ts, sign))
        return false;
    d->ntrace += sign;
    d->nobs += sign * t->nobs;
    d->cost += sign * trace_rec_cost(t);
    return true;
}

bool rollup_model(struct rollup_fold *f, const struct trace_rec *t, struct str model, const struct model_sums *m,
                  int sign) {
    if (m->n == 0)
        return true; /* no observation, no share */
    const struct place p = place_of(t, model);
    struct rollup_delta *d = delta_of(f, &p);
    if (!d)
        return false;
    d->ntrace += sign;
    model_sums_add(&d->sums, m, sign);
    return true;
}

/* Adds a share to the same hour or day without the name. */
static bool add_up(struct rollup_fold *f, const struct rollup_delta *d, enum rollup_level level, int64_t span) {
    const struct place p = { .project = d->project,
                             .level = (int64_t)level,
                             .start = time_floor(d->start, span),
                             .label = d->label,
                             .env = d->env,
                             .name = STR_LIT(""),
                             .model = d->model };
    struct rollup_delta *to = delta_of(f, &p);
    if (!to)
        return false;
    to->ntrace += d->ntrace;
    to->nobs += d->nobs;
    to->cost += d->cost;
    model_sums_add(&to->sums, &d->sums, 1);
    return true;
}

bool rollup_is_nothing(const struct rollup_delta *d) {
    const struct model_sums none = { 0 };
    return d->ntrace == 0 && d->nobs == 0 && d->cost == 0 && model_sums_equal(&d->sums, &none);
}

bool rollup_derive(struct rollup_fold *f) {
    const struct rollup_delta *last = f->last;
    bool ok = true;
    for (const struct rollup_delta *d = f->first; d && ok; d = d == last ? NULL : d->next)
        ok = rollup_is_nothing(d) ||
             (add_up(f, d, ROLLUP_ALL_HOUR, ROLLUP_HOUR) && add_up(f, d, ROLLUP_ALL_DAY, NS_PER_DAY));
    for (const struct rollup_count *c = f->counts; c && ok; c = c->next) /* new ones stand before the first */
        ok = c->n == 0 ||
             (count(f, c->project, ROLLUP_HOUR, c->start, c->n) && count(f, c->project, NS_PER_DAY, c->start, c->n));
    return ok;
}
