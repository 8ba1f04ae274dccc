/* event.c -- batches, their growing lists, and label sets.
 *
 * Lists double inside the batch's arena, so the memory left behind by growth is less than what the list itself holds;
 * a decoder that knows the count reserves it first. Threads and ownership: see event.h. */
#include "model/event.h"

#include <assert.h>
#include <stdlib.h>

#include "base/buf.h"
#include "json/json_write.h"

#define FIRST_RECORDS 8
#define INSERTION_RUN 16 /* labels: below this, insertion sort beats merging */

struct batch *batch_new(size_t arena_limit) {
    struct batch *b = alloc_should_fail() ? NULL : calloc(1, sizeof *b);
    if (!b)
        return NULL;
    arena_init(&b->arena, arena_limit);
    b->received = clock_now_ns();
    return b;
}

void batch_free(struct batch *b) {
    if (!b)
        return;
    arena_done(&b->arena);
    free(b->body);
    free(b);
}

/* Room for `want` elements in a list of the arena; false and unchanged when memory is short. */
static bool grow(struct arena *a, void **list, size_t n, size_t *cap, size_t want, size_t size) {
    size_t room = *cap ? *cap : FIRST_RECORDS;
    void *bigger;

    if (want <= *cap)
        return true;
    while (room < want) {
        if (room > SIZE_MAX / 2)
            return false;
        room *= 2;
    }
    if (*cap == 0 && want > FIRST_RECORDS)
        room = want;                                          /* a reserved list is exact */
    bigger = arena_raw(a, room, size, _Alignof(max_align_t)); /* each record is cleared when it is added */
    if (!bigger)
        return false;
    if (n > 0)
        memcpy(bigger, *list, n * size);
    *list = bigger;
    *cap = room;
    return true;
}

static bool grow_traces(struct batch *b, size_t want) {
    void *list = b->traces;
    bool ok = grow(&b->arena, &list, b->ntraces, &b->cap_traces, want, sizeof *b->traces);
    b->traces = list;
    return ok;
}

static bool grow_observations(struct batch *b, size_t want) {
    void *list = b->observations;
    bool ok = grow(&b->arena, &list, b->nobservations, &b->cap_observations, want, sizeof *b->observations);
    b->observations = list;
    return ok;
}

static bool grow_samples(struct batch *b, size_t want) {
    void *list = b->samples;
    bool ok = grow(&b->arena, &list, b->nsamples, &b->cap_samples, want, sizeof *b->samples);
    b->samples = list;
    return ok;
}

bool batch_reserve(struct batch *b, size_t traces, size_t observations, size_t samples) {
    if (traces > SIZE_MAX - b->ntraces || observations > SIZE_MAX - b->nobservations ||
        samples > SIZE_MAX - b->nsamples) {
        return false;
    }
    return (traces == 0 || grow_traces(b, b->ntraces + traces)) &&
           (observations == 0 || grow_observations(b, b->nobservations + observations)) &&
           (samples == 0 || grow_samples(b, b->nsamples + samples));
}

struct trace *batch_add_trace(struct batch *b) {
    struct trace *t;

    if (!grow_traces(b, b->ntraces + 1))
        return NULL;
    t = &b->traces[b->ntraces++];
    *t = (struct trace){ .id = ID_NONE,
                         .timestamp = TIME_NONE,
                         .created = TIME_NONE,
                         .updated = TIME_NONE,
                         .latency = (double)NAN,
                         .index = SIZE_MAX };
    return t;
}

struct observation *batch_add_observation(struct batch *b) {
    const double none = (double)NAN;
    struct observation *o;

    if (!grow_observations(b, b->nobservations + 1))
        return NULL;
    o = &b->observations[b->nobservations++];
    memset(o, 0, sizeof *o);
    o->start = o->end = o->completion_start = o->created = o->updated = TIME_NONE;
    o->input_price = o->output_price = o->total_price = none;
    o->latency = o->time_to_first_token = none;
    return o;
}

struct sample *batch_add_sample(struct batch *b) {
    struct sample *s;

    if (!grow_samples(b, b->nsamples + 1))
        return NULL;
    s = &b->samples[b->nsamples++];
    *s = (struct sample){ .timestamp = TIME_NONE };
    return s;
}

size_t batch_records(const struct batch *b) { return b->ntraces + b->nobservations + b->nsamples; }

size_t batch_bytes(const struct batch *b) { return sizeof *b + b->body_bytes + b->arena.used; }

/* ---- labels: a stable sort in place, because there is nobody to report missing memory to ---- */

static bool label_before(const struct label *a, const struct label *b) { return str_cmp(a->name, b->name) < 0; }

static void label_swap(struct label *a, struct label *b) {
    struct label t = *a;
    *a = *b;
    *b = t;
}

static void insertion_sort(struct label *v, size_t n) {
    for (size_t i = 1; i < n; i++) {
        struct label moving = v[i];
        size_t j = i;
        for (; j > 0 && label_before(&moving, &v[j - 1]); j--)
            v[j] = v[j - 1];
        v[j] = moving;
    }
}

static void reverse(struct label *v, size_t from, size_t to) {
    while (from + 1 < to)
        label_swap(&v[from++], &v[--to]);
}

/* Exchanges the neighbours [from, mid) and [mid, to), each keeping its order. */
static void rotate(struct label *v, size_t from, size_t mid, size_t to) {
    reverse(v, from, mid);
    reverse(v, mid, to);
    reverse(v, from, to);
}

/* Merges the sorted neighbours [from, mid) and [mid, to) stably and in place (symmetric merge: find by bisection how
 * many of both halves change sides, rotate them, merge the two remaining pairs). Depth log2(to - from), work
 * O(n log n) a merge. */
static void merge_in_place(struct label *v, size_t from, size_t mid, size_t to) {
    size_t half, sum, low, high, end;

    if (from >= mid || mid >= to)
        return;
    if (!label_before(&v[mid], &v[mid - 1]))
        return; /* already in order */
    if (to - from == 2) {
        label_swap(&v[from], &v[mid]);
        return;
    }
    half = from + (to - from) / 2;
    sum = half + mid;
    low = mid > half ? sum - to : from;
    high = mid > half ? half : mid;
    while (low < high) {
        size_t probe = low + (high - low) / 2;
        if (label_before(&v[sum - 1 - probe], &v[probe]))
            high = probe;
        else
            low = probe + 1;
    }
    end = sum - low;
    if (low < mid && mid < end)
        rotate(v, low, mid, end);
    merge_in_place(v, from, low, half);
    merge_in_place(v, half, end, to);
}

size_t labels_sort(struct label *labels, size_t n) {
    size_t kept = 0, sorted = 1;

    while (sorted < n && label_before(&labels[sorted - 1], &labels[sorted]))
        sorted++;
    if (sorted >= n)
        return n; /* the common case: one client writes its labels in one order */
    for (size_t i = 0; i < n; i += INSERTION_RUN) {
        insertion_sort(labels + i, n - i < INSERTION_RUN ? n - i : INSERTION_RUN);
    }
    for (size_t run = INSERTION_RUN; run < n; run *= 2) {
        for (size_t i = 0; i + run < n; i += 2 * run) {
            merge_in_place(labels, i, i + run, n - i < 2 * run ? n : i + 2 * run);
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (kept > 0 && str_eq(labels[kept - 1].name, labels[i].name))
            kept--;
        labels[kept++] = labels[i];
    }
    return kept;
}

struct str labels_json(struct arena *a, const struct label *labels, size_t n) {
    struct buf out;
    struct json_writer w;
    struct str text = STR_NONE;

    buf_init(&out, SIZE_MAX / 2);
    jw_init(&w, &out);
    jw_obj(&w);
    for (size_t i = 0; i < n; i++) {
        jw_key_str(&w, labels[i].name);
        jw_str(&w, labels[i].value);
    }
    jw_end(&w);
    if (jw_done(&w))
        text = arena_str(a, buf_str(&out));
    buf_done(&out);
    return text;
}
