/* record.h -- the records: defaults, checks, copies for the queue, JSON. One table of fields a kind drives all four.
 *
 *  1. A record in the queue owns all its text in one allocation, but for what a span adds while it lives (`pieces`).
 *  2. What was checked can be encoded: UTF-8 everywhere, valid JSON in the fields named _json, finite numbers. */
#pragma once
#include <stdbool.h>

#include "base/buf.h"
#include "error.h"
#include "json/json_write.h"

enum record_kind { RECORD_TRACE, RECORD_OBSERVATION, RECORD_METRIC, RECORD_KINDS };

union any_record {
    xtrace_trace trace;
    xtrace_observation observation;
    xtrace_metric metric;
};

/* Room that was added after the record was made; aligned for anything. */
struct piece {
    struct piece *next;
    size_t bytes; /* with this head */
    _Alignas(max_align_t) char room[];
};
/* One entry of a span's metadata; it and both texts are pieces. */
struct meta {
    struct meta *next;
    const char *key, *json;
};
/* Ids of a span, printed as UUIDs when the record is encoded. */
struct span_ids {
    unsigned char trace[16], span[8], parent[8];
    bool has_parent;
};

struct record {
    struct record *next;
    struct piece *pieces;
    struct meta *meta, *meta_last;
    size_t bytes; /* of everything it holds */
    enum record_kind kind;
    bool by_ids; /* `ids` instead of the id texts of v */
    struct span_ids ids;
    union any_record v; /* last: a record is allocated as long as its kind needs */
};

/* Sets every field to absent. */
void record_init(enum record_kind kind, void *v, size_t size);
/* The caller's structure, which may be shorter or longer than ours, as ours. False: its `size` makes no sense. */
bool record_take(enum record_kind kind, const void *given, union any_record *ret);

/* XTRACE_OK, or XTRACE_EINVAL naming the field behind `prefix` ("observations[3]."). max_bytes: of all its text. */
int record_check(enum record_kind kind, const union any_record *v, const char *prefix, size_t max_bytes,
                 xtrace_error *e);
bool json_text_valid(const char *json, size_t n);

/* An empty record with `extra` zeroed bytes behind it (*ret_extra, or NULL). NULL: no memory. */
struct record *record_new(enum record_kind kind, size_t extra, char **ret_extra);
/* A copy of what was taken and checked. NULL: no memory. */
struct record *record_copy(enum record_kind kind, const union any_record *v);
void record_free(struct record *r); /* NULL is fine */
/* n bytes that live as long as the record. NULL: no memory. */
void *record_room(struct record *r, size_t n);
/* Bytes of a piece that record_room or record_text gave; 0 for anything else. record_drop frees such a piece. */
size_t record_room_of(const struct record *r, const void *room);
void record_drop(struct record *r, const void *room);
/* Copies n bytes into the record and ends them with NUL. NULL: no memory. */
const char *record_text(struct record *r, const char *text, size_t n);

/* One JSON object as the native batch takes it. */
void record_encode(struct json_writer *w, enum record_kind kind, const union any_record *v, const struct record *r);
/* UUID text of 16 bytes, or of 8 behind as many zeros. */
void uuid_of_trace(const unsigned char id[16], char out[37]);
void uuid_of_span(const unsigned char id[8], char out[37]);
