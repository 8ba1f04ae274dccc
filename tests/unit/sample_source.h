/* sample_source.h -- label sets and points in plain arrays, packed into parts: what the tests and the fuzz target of
 * store/sample share. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/sample/ident.h"
#include "store/sample/pack.h"

#define SOURCE_MUST(cond) ((cond) ? (void)0 : source_failed(#cond, __LINE__))
static inline void source_failed(const char *cond, int line) {
    fprintf(stderr, "sample_source.h:%d: not so: %s\n", line, cond);
    abort();
}

struct source_set {
    struct label *labels; /* sorted */
    size_t nlabels;
    bool replaces;
};
struct source_point {
    uint32_t set;
    int64_t time;
    double value;
};
/* Filled by the test; the rest is made by source_pack. */
struct source {
    struct source_set *sets;
    size_t nsets;
    struct source_point *points; /* in order of arrival */
    size_t npoints;
    struct str *texts;
    size_t ntexts, cap_texts;
    uint8_t (*ids)[IDENT_BYTES];
    size_t nids, cap_ids;
    size_t *slots; /* hash table of the texts */
    size_t nslots;
};
struct source_part {
    struct str lab, pts, raw; /* malloc'd, exactly as long as said */
    uint32_t points;
    int64_t t0, t1;
};
struct source_parts {
    struct source_part *part;
    size_t n, cap;
};

static inline void *source_grow(void *p, size_t n, size_t *cap, size_t size) {
    if (n < *cap)
        return p;
    *cap = *cap ? *cap * 2 : 64;
    p = realloc(p, *cap * size);
    SOURCE_MUST(p);
    return p;
}

static inline uint32_t source_text(struct source *s, struct str text) {
    if (s->ntexts * 2 >= s->nslots) {
        free(s->slots);
        s->nslots = s->nslots ? s->nslots * 4 : 1024;
        s->slots = calloc(s->nslots, sizeof *s->slots);
        SOURCE_MUST(s->slots);
        size_t n = s->ntexts;
        for (size_t i = 0; i < n; i++) {
            size_t h = 5381;
            for (size_t k = 0; k < s->texts[i].n; k++)
                h = h * 33 + (unsigned char)s->texts[i].p[k];
            for (h %= s->nslots; s->slots[h]; h = (h + 1) % s->nslots)
                continue;
            s->slots[h] = i + 1;
        }
    }
    size_t h = 5381;
    for (size_t k = 0; k < text.n; k++)
        h = h * 33 + (unsigned char)text.p[k];
    for (h %= s->nslots; s->slots[h]; h = (h + 1) % s->nslots)
        if (str_eq(s->texts[s->slots[h] - 1], text))
            return (uint32_t)s->slots[h] - 1;
    s->texts = source_grow(s->texts, s->ntexts, &s->cap_texts, sizeof *s->texts);
    s->texts[s->ntexts] = text;
    s->slots[h] = ++s->ntexts;
    return (uint32_t)s->ntexts - 1;
}

static inline uint32_t source_value(struct source *s, struct str text) {
    uint8_t id[IDENT_BYTES];
    if (ident_parse(text, id) != IDENT_HEX)
        return source_text(s, text);
    s->ids = source_grow(s->ids, s->nids, &s->cap_ids, sizeof *s->ids);
    memcpy(s->ids[s->nids], id, IDENT_BYTES);
    return (uint32_t)s->nids++ | PACK_ID;
}

static inline struct str source_get_text(const void *arg, uint32_t number) {
    return ((const struct source *)arg)->texts[number];
}
static inline const uint8_t *source_get_id(const void *arg, uint32_t number) {
    return ((const struct source *)arg)->ids[number];
}
static inline void source_get_points(const void *arg, const uint32_t *numbers, size_t n, int64_t *times,
                                     double *values) {
    for (size_t i = 0; i < n; i++) {
        times[i] = ((const struct source *)arg)->points[numbers[i]].time;
        values[i] = ((const struct source *)arg)->points[numbers[i]].value;
    }
}

static const struct source *source_sorting;
static inline int source_by_set_and_time(const void *a, const void *b) {
    uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
    const struct source_point *x = &source_sorting->points[i], *y = &source_sorting->points[k];
    if (x->set != y->set)
        return x->set < y->set ? -1 : 1;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    return (i > k) - (i < k);
}

static inline struct str source_copy(struct str s) {
    char *p = malloc(s.n ? s.n : 1);
    SOURCE_MUST(p);
    if (s.n)
        memcpy(p, s.p, s.n);
    return (struct str){ p, s.n };
}

static inline enum xt_code source_keep(void *arg, const struct pack_part *part, struct xt_err *err) {
    struct source_parts *parts = arg;
    (void)err;
    parts->part = source_grow(parts->part, parts->n, &parts->cap, sizeof *parts->part);
    parts->part[parts->n++] = (struct source_part){
        source_copy(part->lab), source_copy(part->pts), source_copy(part->raw), part->points, part->t0, part->t1
    };
    return XT_OK;
}

/* Packs everything as one metric; appends to parts. */
static inline enum xt_code source_build(struct source *s, struct pack_builder *b, int64_t metric, pack_writer *write,
                                        void *arg, struct xt_err *err) {
    struct pack_set *sets = calloc(s->nsets + 1, sizeof *sets);
    uint32_t *order = calloc(s->npoints + 1, sizeof *order);
    SOURCE_MUST(sets && order);
    for (size_t i = 0; i < s->nsets; i++) {
        struct pack_label *labels = calloc(s->sets[i].nlabels + 1, sizeof *labels);
        SOURCE_MUST(labels);
        for (size_t k = 0; k < s->sets[i].nlabels; k++) {
            labels[k].key = source_text(s, s->sets[i].labels[k].name);
            labels[k].value = source_value(s, s->sets[i].labels[k].value);
        }
        sets[i] = (struct pack_set){ labels, (uint32_t)s->sets[i].nlabels, 0, s->sets[i].replaces };
    }
    for (size_t i = 0; i < s->npoints; i++) {
        sets[s->points[i].set].npoints++;
        order[i] = (uint32_t)i;
    }
    source_sorting = s;
    qsort(order, s->npoints, sizeof *order, source_by_set_and_time);
    struct pack_source src = { s, source_get_text, source_get_id, source_get_points };
    enum xt_code code = pack_build(b, &src, metric, sets, s->nsets, order, write, arg, err);
    for (size_t i = 0; i < s->nsets; i++)
        free((void *)(uintptr_t)sets[i].labels);
    free(sets);
    free(order);
    return code;
}

/* What source_build made; the sets and points are the test's. */
static inline void source_done(struct source *s) {
    free(s->texts);
    free(s->ids);
    free(s->slots);
    s->texts = NULL, s->ids = NULL, s->slots = NULL;
    s->ntexts = s->cap_texts = s->nids = s->cap_ids = s->nslots = 0;
}
static inline void parts_done(struct source_parts *p) {
    for (size_t i = 0; i < p->n; i++) {
        free((char *)(uintptr_t)p->part[i].lab.p);
        free((char *)(uintptr_t)p->part[i].pts.p);
        free((char *)(uintptr_t)p->part[i].raw.p);
    }
    free(p->part);
    *p = (struct source_parts){ 0 };
}

/* A query over the parts, as an engine does it. */
static inline enum xt_code parts_query(const struct source_parts *p, const struct series_query *q, int64_t gen,
                                       struct series_sink *sink, struct xt_err *err) {
    struct pack_reader *r = pack_reader_new(q, sink);
    SOURCE_MUST(r);
    enum xt_code code = XT_OK;
    bool full = false;
    do {
        for (size_t i = 0; i < p->n && code == XT_OK && !full; i++) {
            enum pack_want want = PACK_NOTHING;
            code = pack_open(r, p->part[i].lab, &want, err);
            struct str raw = want == PACK_RAW ? p->part[i].raw : (struct str){ "", 0 };
            if (code == XT_OK && want != PACK_NOTHING)
                code = pack_read(r, p->part[i].pts, raw, gen, (uint32_t)i, &full, err);
        }
    } while (code == XT_OK && series_sink_again(sink));
    pack_reader_free(r);
    return code;
}
