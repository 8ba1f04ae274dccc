/* decoding.h -- what the decoder targets share: a batch that owns a copy of the input, and what must hold of the result.
 *
 * The body has its padding and nothing behind it, and scratch is freed before the batch is looked at: AddressSanitizer
 * sees reads beyond and slices that point to what is gone. */
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ingest/decode.h"
#include "json/json_read.h"
#include "model/normalize.h"

#define FUZZ_ARENA ((size_t)256 << 20)

static inline void require(bool holds) {
    if (!holds) {
        abort();
    }
}

static inline struct batch *fuzz_batch(const uint8_t *data, size_t n) {
    struct batch *b = batch_new(FUZZ_ARENA);
    require(b != NULL);
    b->body = malloc(n + JSON_PADDING);
    require(b->body != NULL);
    if (n > 0) {
        memcpy(b->body, data, n);
    }
    memset(b->body + n, '"', JSON_PADDING);
    b->body_bytes = n;
    return b;
}

/* Reads every byte, so that a stale slice is noticed. */
static inline void check_text(struct str s) {
    volatile char seen = 0;
    for (size_t i = 0; i < s.n; i++) {
        seen = (char)(seen ^ s.p[i]);
    }
}

static inline void check_json(struct str s) { require(!str_has(s) || json_valid(s, 1024)); }

static inline void check_id(const struct id *id, bool needed) {
    require(id_has(id) || !needed);
    check_text(id->key);
    check_text(id->text);
}

static inline void check_trace(const struct trace *t) {
    const struct str texts[] = { t->name,        t->user,        t->session,       t->release,        t->version,
                                 t->environment, t->external_id, t->project_label, t->total_cost.text };
    check_id(&t->id, true);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        check_text(texts[i]);
    }
    for (size_t i = 0; i < t->ntags; i++) {
        require(str_has(t->tags[i]));
        check_text(t->tags[i]);
    }
    check_json(t->input);
    check_json(t->output);
    check_json(t->metadata);
}

static inline void check_observation(const struct observation *o) {
    const struct str texts[] = {
        o->type,           o->name,           o->version,     o->model,           o->unit,
        o->level,          o->status_message, o->environment, o->project_label,   o->prompt_id,
        o->prompt_name,    o->prompt_version, o->model_id,    o->cost_input.text, o->cost_output.text,
        o->cost_total.text
    };
    const struct str json[] = { o->model_parameters, o->input,       o->output, o->metadata, o->usage,
                                o->usage_buckets,    o->cost_buckets };
    check_id(&o->id, true);
    check_id(&o->trace_id, true);
    check_id(&o->parent_id, false);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        check_text(texts[i]);
    }
    for (size_t i = 0; i < sizeof json / sizeof *json; i++) {
        check_json(json[i]);
    }
}

static inline void check_sample(const struct sample *s) {
    require(str_has(s->name) && isfinite(s->value) && s->timestamp != TIME_NONE);
    check_text(s->name);
    for (size_t i = 0; i < s->nlabels; i++) {
        check_text(s->labels[i].name);
        check_text(s->labels[i].value);
        require(i == 0 || str_cmp(s->labels[i - 1].name, s->labels[i].name) < 0);
    }
}

/* `code` is what the decoder said. Normalises, checks and frees. */
static inline void finish_batch(struct batch *b, enum xt_code code) {
    require(code == XT_OK || code == XT_EINVAL || code == XT_ESCHEMA || code == XT_ETOOBIG);
    if (code == XT_OK && normalize_batch(b, NULL) == XT_OK) {
        for (size_t i = 0; i < b->ntraces; i++) {
            check_trace(&b->traces[i]);
        }
        for (size_t i = 0; i < b->nobservations; i++) {
            check_observation(&b->observations[i]);
        }
        for (size_t i = 0; i < b->nsamples; i++) {
            check_sample(&b->samples[i]);
        }
    }
    batch_free(b);
}
