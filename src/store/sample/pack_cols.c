/* pack_cols.c -- see pack_cols.h; the layout is in pack_format.h.
 *
 *  1. Labels are sorted into columns by counting: entries of one column stand together, by set. Work and memory follow the
 *     number of labels, however they are spread over names.
 *  2. A column's values are numbered in order of their first set. Texts are equal when their numbers are; ids are compared.
 *  3. The filter gets each value of a column once a part, an id of its own once. */
#include "store/sample/pack_cols.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/codec.h"
#include "store/sample/column.h"
#include "store/sample/ident.h"
#include "store/sample/pack_format.h"

#define ZSTD_LEVEL 1
#define ZSTD_LEAST 64 /* bytes: shorter ones stay plain */
#define NO_SLOT UINT32_MAX

/* One label of one set. Once its column is numbered, `code` is the place of the value in the column's list. */
struct entry {
    uint32_t set, value, code;
};
struct column {
    uint32_t key;
    struct str name;
    uint32_t n, first;  /* entries of it: entries[first .. first + n) */
    uint32_t filled;    /* while sorting */
    uint32_t nvalues;   /* different ones */
    size_t value_bytes; /* of their texts */
};

void cols_init(struct cols *c) {
    memset(c, 0, sizeof *c);
    buf_init(&c->lab, PACK_PLAIN_MAX);
    buf_init(&c->raw, PACK_PLAIN_MAX);
    buf_init(&c->plain, PACK_PLAIN_MAX);
    buf_init(&c->values, PACK_PLAIN_MAX);
}

void cols_done(struct cols *c) {
    buf_done(&c->lab);
    buf_done(&c->raw);
    buf_done(&c->plain);
    buf_done(&c->values);
    ZSTD_freeCCtx(c->zstd);
    free(c->hashes);
    free(c->entries);
    free(c->column_of);
    free(c->columns);
    free(c->slots);
    free(c->ints);
}

/* Room for n elements in a list that is filled anew, or goes on growing. */
static bool room_for(void **list, size_t *cap, size_t n, size_t size) {
    if (n <= *cap)
        return true;
    size_t wider = *cap ? *cap : 64;
    while (wider < n)
        wider *= 2;
    void *more = alloc_should_fail() ? NULL : realloc(*list, wider * size);
    if (!more)
        return false;
    *list = more;
    *cap = wider;
    return true;
}
#define ROOM(list, cap, n) room_for((void **)&(list), &(cap), (n), sizeof *(list))

/* An empty table for n entries; *ret_mask is its size less one. */
static bool table_make(struct cols *c, size_t n, size_t *ret_mask) {
    size_t cap = 16;
    while (cap < n * 2)
        cap *= 2;
    if (!ROOM(c->slots, c->cap_slots, cap))
        return false;
    memset(c->slots, 0xff, cap * sizeof *c->slots);
    *ret_mask = cap - 1;
    return true;
}

/* ---- columns ---- */

/* The column of a key; a new one if there is none. */
static uint32_t column_find(struct cols *c, uint32_t key, size_t mask) {
    size_t at = key * UINT32_C(0x9e3779b1) & mask;
    while (c->slots[at] != NO_SLOT && c->columns[c->slots[at]].key != key)
        at = (at + 1) & mask;
    if (c->slots[at] == NO_SLOT) {
        c->slots[at] = (uint32_t)c->ncolumns;
        c->columns[c->ncolumns++] = (struct column){ .key = key };
    }
    return c->slots[at];
}

/* Which column each label belongs to, and how many labels each has. */
static bool columns_count(struct cols *c, const struct pack_set *sets, size_t nsets, size_t nlabels) {
    size_t at = 0, mask;
    c->ncolumns = 0;
    if (!ROOM(c->columns, c->cap_columns, nlabels) || !table_make(c, nlabels, &mask))
        return false;
    for (size_t s = 0; s < nsets; s++) {
        for (size_t i = 0; i < sets[s].nlabels; i++) {
            uint32_t key = sets[s].labels[i].key;
            /* Mostly the sets have the same names. */
            uint32_t col = i < c->ncolumns && c->columns[i].key == key ? (uint32_t)i : column_find(c, key, mask);
            c->column_of[at++] = col;
            c->columns[col].n++;
        }
    }
    return true;
}

static bool columns_fill(struct cols *c, const struct pack_set *sets, size_t nsets) {
    size_t nlabels = 0, at = 0, cap_entries = c->cap_labels;
    for (size_t s = 0; s < nsets; s++)
        nlabels += sets[s].nlabels;
    if (nlabels > PACK_LABELS_MAX || !ROOM(c->entries, cap_entries, nlabels) ||
        !ROOM(c->column_of, c->cap_labels, nlabels) || !columns_count(c, sets, nsets, nlabels))
        return false;
    uint32_t first = 0;
    for (size_t i = 0; i < c->ncolumns; i++) {
        c->columns[i].first = first;
        first += c->columns[i].n;
    }
    for (size_t s = 0; s < nsets; s++) {
        for (size_t i = 0; i < sets[s].nlabels; i++) {
            struct column *col = &c->columns[c->column_of[at++]];
            c->entries[col->first + col->filled++] = (struct entry){ (uint32_t)s, sets[s].labels[i].value, 0 };
        }
    }
    return true;
}

static int by_name(const void *a, const void *b) {
    return str_cmp(((const struct column *)a)->name, ((const struct column *)b)->name);
}

static bool columns_sorted(const struct cols *c) {
    for (size_t i = 1; i < c->ncolumns; i++)
        if (str_cmp(c->columns[i - 1].name, c->columns[i].name) > 0)
            return false;
    return true;
}

/* ---- values of a column ---- */

static inline bool is_id(uint32_t value) { return value & PACK_ID; }
static inline const uint8_t *id_of(const struct pack_source *src, uint32_t value) {
    return src->id(src->arg, value & ~PACK_ID);
}
static inline struct str text_of(const struct pack_source *src, uint32_t value) { return src->text(src->arg, value); }

static inline uint32_t value_hash(const struct pack_source *src, uint32_t value) {
    uint64_t low = value, high = 0;
    if (is_id(value)) {
        const uint8_t *id = id_of(src, value);
        memcpy(&low, id, 8);
        memcpy(&high, id + 8, 8);
    }
    low = (low ^ high << 1) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(low >> 32);
}

static inline bool value_same(const struct pack_source *src, uint32_t a, uint32_t b) {
    return a == b || (is_id(a) && is_id(b) && memcmp(id_of(src, a), id_of(src, b), ID_BYTES) == 0);
}

/* Numbers the different values of a column (invariant 2): entry.code; slots hold the first entry of each value. Then the
 * list of values is the entries in order whose code is new. Ids of a hostile sender may collide: after a few steps a value
 * counts as a new one, which costs room alone. */
#define STEPS_MAX 64
static bool values_number(struct cols *c, const struct pack_source *src, struct column *col) {
    struct entry *e = c->entries + col->first;
    size_t mask;
    if (!table_make(c, col->n, &mask))
        return false;
    for (uint32_t i = 0; i < col->n; i++) {
        size_t at = value_hash(src, e[i].value) & mask;
        unsigned steps = 0;
        while (c->slots[at] != NO_SLOT && !value_same(src, e[c->slots[at]].value, e[i].value) && steps++ < STEPS_MAX)
            at = (at + 1) & mask;
        if (c->slots[at] == NO_SLOT || steps > STEPS_MAX) {
            if (c->slots[at] == NO_SLOT)
                c->slots[at] = i;
            e[i].code = col->nvalues++;
            col->value_bytes += is_id(e[i].value) ? ID_BYTES : text_of(src, e[i].value).n;
        } else {
            e[i].code = e[c->slots[at]].code;
        }
    }
    return true;
}

static bool filter_add(struct cols *c, const struct pack_source *src, const struct column *col) {
    uint64_t label = filter_label(c->metric, col->name);
    const struct entry *e = c->entries + col->first;
    uint32_t next = 0;
    if (!ROOM(c->hashes, c->cap_hashes, c->nhashes + col->nvalues))
        return false;
    for (uint32_t i = 0; i < col->n && next < col->nvalues; i++) {
        if (e[i].code != next)
            continue;
        next++;
        c->hashes[c->nhashes++] =
            is_id(e[i].value) ? filter_id(label, id_of(src, e[i].value)) : filter_text(label, text_of(src, e[i].value));
    }
    return true;
}

/* A value as it is written: ids of 16 bytes, or text. */
struct written {
    unsigned form;
    uint8_t id[ID_BYTES];
    struct str text;
};
static inline struct written value_written(const struct pack_source *src, uint32_t value) {
    struct written w = { .form = FORM_HEX };
    if (is_id(value)) {
        memcpy(w.id, id_of(src, value), ID_BYTES);
    } else {
        w.text = text_of(src, value);
        w.form = ident_parse(w.text, w.id);
    }
    return w;
}

/* The values of a column, each once, or (own) one for each entry. */
static void values_put(struct cols *c, const struct pack_source *src, const struct column *col, bool own,
                       struct buf *out) {
    const struct entry *e = c->entries + col->first;
    uint32_t n = own ? col->n : col->nvalues, forms = 0, last = 0, next = 0, texts = 0;
    size_t at = out->n;
    buf_add_char(out, FORM_MIXED);
    if (!buf_reserve(out, n))
        return;
    for (uint32_t i = 0; i < col->n && next < n; i++) {
        if (!own && e[i].code != next)
            continue;
        struct written w = value_written(src, e[i].value);
        out->p[out->n + next++] = (char)w.form;
        forms |= 1u << w.form;
        last = w.form;
        if (w.form == FORM_TEXT)
            c->ints[texts++] = (int64_t)w.text.n;
    }
    if (forms & (forms - 1))
        out->n += n;
    else
        out->p[at] = (char)last;
    out->p[out->n] = '\0';
    column_put_ints(out, c->ints, texts);
    /* First the ids, then the texts. */
    for (int texts_now = 0; texts_now < 2; texts_now++) {
        next = 0;
        for (uint32_t i = 0; i < col->n && next < n; i++) {
            if (!own && e[i].code != next)
                continue;
            next++;
            struct written w = value_written(src, e[i].value);
            if (w.form == FORM_TEXT && texts_now)
                buf_add_str(out, w.text);
            else if (w.form != FORM_TEXT && !texts_now)
                buf_add(out, w.id, ID_BYTES);
        }
    }
}

/* ---- blobs ---- */

/* Appends the method, the plain length and the bytes, packed when that is shorter by an eighth. */
static bool blob_put(struct cols *c, struct buf *out, struct str plain) {
    size_t bound = ZSTD_compressBound(plain.n), head = out->n;
    if (!c->zstd && !alloc_should_fail())
        c->zstd = ZSTD_createCCtx();
    if (!c->zstd || !buf_reserve(out, bound + 12))
        return false;
    buf_add_char(out, PACK_ZSTD);
    column_put_varint(out, plain.n);
    size_t n = plain.n < ZSTD_LEAST ? plain.n
                                    : ZSTD_compressCCtx(c->zstd, out->p + out->n, bound, plain.p, plain.n, ZSTD_LEVEL);
    if (!ZSTD_isError(n) && n < plain.n - plain.n / 8) {
        out->n += n;
        out->p[out->n] = '\0';
    } else {
        out->p[head] = PACK_PLAIN;
        buf_add_str(out, plain);
    }
    return !out->failed;
}

static void bitmap_put(struct buf *out, size_t nsets, const struct entry *e, uint32_t n) {
    size_t bytes = (nsets + 7) / 8;
    if (!buf_reserve(out, bytes))
        return;
    memset(out->p + out->n, 0, bytes);
    for (uint32_t i = 0; i < n; i++)
        out->p[out->n + e[i].set / 8] |= (char)(1u << e[i].set % 8);
    out->n += bytes;
    out->p[out->n] = '\0';
}

static void sparse_put(struct buf *out, const struct entry *e, uint32_t n) {
    column_put_varint(out, n);
    for (uint32_t i = 0; i < n; i++) {
        char room[2] = { (char)e[i].set, (char)(e[i].set >> 8) };
        buf_add(out, room, sizeof room);
    }
}

static void codes_put(struct buf *out, const struct entry *e, uint32_t n, bool wide) {
    if (!buf_reserve(out, (size_t)n * 2))
        return;
    for (uint32_t i = 0; i < n; i++) {
        out->p[out->n++] = (char)e[i].code;
        if (wide)
            out->p[out->n++] = (char)(e[i].code >> 8);
    }
    out->p[out->n] = '\0';
}

/* Appends a column to `plain`, and its values to `raw` if they are far. */
static bool column_put(struct cols *c, const struct pack_source *src, struct column *col, size_t nsets) {
    struct buf *out = &c->plain;
    if (!ROOM(c->ints, c->cap_ints, col->n) || !values_number(c, src, col) || !filter_add(c, src, col))
        return false;
    bool far = col->nvalues > PACK_NEAR_VALUES || col->value_bytes > PACK_NEAR_BYTES;
    bool own = far && col->nvalues > col->n / 2, partial = col->n < nsets, sparse = partial && col->n < nsets / 16;
    const struct entry *e = c->entries + col->first;
    column_put_varint(out, col->name.n);
    buf_add_str(out, col->name);
    buf_add_char(out, (char)((partial ? COL_PARTIAL : 0) | (far ? COL_FAR : 0) | (own ? COL_OWN : 0) |
                             (sparse ? COL_SPARSE : 0)));
    if (sparse)
        sparse_put(out, e, col->n);
    else if (partial)
        bitmap_put(out, nsets, e, col->n);
    column_put_varint(out, own ? col->n : col->nvalues);
    if (far) {
        size_t start = c->raw.n;
        buf_clear(&c->values);
        values_put(c, src, col, own, &c->values);
        if (c->values.failed || !blob_put(c, &c->raw, buf_str(&c->values)))
            return false;
        column_put_varint(out, start);
        column_put_varint(out, c->raw.n - start);
    }
    if (!own && col->nvalues > 1)
        codes_put(out, e, col->n, col->nvalues > 256);
    if (!far)
        values_put(c, src, col, false, out);
    return true;
}

/* Points of each set, and which are replacing. */
static bool sets_put(struct cols *c, const struct pack_set *sets, size_t nsets, size_t npoints) {
    struct buf *out = &c->plain;
    bool replaces = false;
    if (!ROOM(c->ints, c->cap_ints, nsets))
        return false;
    for (size_t s = 0; s < nsets; s++) {
        replaces = replaces || sets[s].replaces;
        c->ints[s] = sets[s].npoints;
    }
    buf_add_char(out, PACK_VERSION);
    buf_add_char(out, (char)((nsets == npoints ? LAB_SINGLE : 0) | (replaces ? LAB_REPLACES : 0)));
    column_put_varint(out, nsets);
    column_put_varint(out, npoints);
    if (nsets != npoints)
        column_put_ints(out, c->ints, nsets);
    uint8_t byte = 0;
    for (size_t s = 0; s < nsets && replaces; s++) {
        byte = (uint8_t)(byte | (unsigned)sets[s].replaces << s % 8);
        if (s % 8 == 7 || s + 1 == nsets) {
            buf_add_char(out, (char)byte);
            byte = 0;
        }
    }
    return true;
}

bool cols_build(struct cols *c, const struct pack_source *src, const struct pack_set *sets, size_t nsets,
                size_t npoints) {
    buf_clear(&c->lab);
    buf_clear(&c->raw);
    buf_clear(&c->plain);
    if (!sets_put(c, sets, nsets, npoints) || !columns_fill(c, sets, nsets))
        return false;
    for (size_t i = 0; i < c->ncolumns; i++)
        c->columns[i].name = text_of(src, c->columns[i].key);
    if (!columns_sorted(c))
        qsort(c->columns, c->ncolumns, sizeof *c->columns, by_name);
    column_put_varint(&c->plain, c->ncolumns);
    for (size_t i = 0; i < c->ncolumns; i++)
        if (!column_put(c, src, &c->columns[i], nsets))
            return false;
    return !c->plain.failed && !c->raw.failed && blob_put(c, &c->lab, buf_str(&c->plain));
}
