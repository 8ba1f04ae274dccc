/* pack_parse.h -- the blobs of a part taken apart; private to pack_parse.c and pack_read.c. All of it lives in the arena or
 * in the bytes given, and was checked: numbers that index something are below its size. */
#pragma once
#include <zstd.h>

#include "base/arena.h"
#include "base/err.h"
#include "model/event.h"
#include "store/sample/pack_format.h"

/* The values of a column. */
struct values {
    uint32_t n;
    unsigned form;         /* of all; FORM_MIXED: see forms */
    const uint8_t *forms;  /* of each */
    const uint8_t *ids;    /* of those that are none, all of them, in order */
    const char *texts;     /* likewise */
    const uint32_t *place; /* of each: among the ids, or of its first byte in the texts; NULL: ids alone, place i */
    const uint32_t *length;
};
struct column {
    struct str name;
    unsigned kind;        /* COL_* */
    uint32_t n, nvalues;  /* sets that have it; values */
    const uint16_t *sets; /* their numbers, ascending; NULL: all sets */
    const uint8_t *codes; /* NULL: one value, or own */
    bool wide;            /* codes of two bytes */
    bool parsed;          /* the values are there: near, or read from raw */
    struct values values;
    size_t raw_start, raw_bytes;
};
struct part {
    uint32_t nsets, npoints;
    const uint16_t *counts;  /* points of each set; NULL: one */
    const uint8_t *replaces; /* a bit a set; NULL: none */
    struct column *columns;  /* by name */
    size_t ncolumns, nlabels;
};

/* `zstd` is made on first use. XT_ESTORE: damaged. */
enum xt_code part_parse(struct arena *a, ZSTD_DCtx **zstd, struct str lab, struct part *ret, struct xt_err *err)
    __attribute__((warn_unused_result));
/* The values of a far column, unless they were read before. */
enum xt_code column_parse(struct arena *a, ZSTD_DCtx **zstd, struct str raw, struct column *c, struct xt_err *err)
    __attribute__((warn_unused_result));

/* Number of the column with this name, or part->ncolumns. */
size_t part_find(const struct part *p, struct str name);
/* Which value the i-th set of those that have the label has. */
static inline uint32_t column_code(const struct column *c, uint32_t i) {
    if (c->kind & COL_OWN)
        return i;
    if (!c->codes)
        return 0;
    return c->wide ? (uint32_t)(c->codes[2 * i] | c->codes[2 * i + 1] << 8) : c->codes[i];
}
static inline uint32_t column_set(const struct column *c, uint32_t i) { return c->sets ? c->sets[i] : i; }
static inline unsigned value_form(const struct values *v, uint32_t i) {
    return v->form == FORM_MIXED ? v->forms[i] : v->form;
}
static inline const uint8_t *value_id(const struct values *v, uint32_t i) {
    return v->ids + (size_t)(v->place ? v->place[i] : i) * ID_BYTES;
}
/* The text of a value; an id's is spelled into `room`. */
struct str value_text(const struct values *v, uint32_t i, char room[IDENT_CHARS]);
