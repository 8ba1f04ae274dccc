/* pack_parse.c -- see pack_parse.h; the layout is in pack_format.h. Nothing in a file is believed: each count is checked
 * against what is left of the bytes or against the count of what it belongs to, before memory is taken for it. */
#include "store/sample/pack_parse.h"

#include <string.h>

#include "store/sample/column.h"

struct parser {
    struct arena *a;
    ZSTD_DCtx **zstd;
    struct column_in in;
    struct part part;
};

static enum xt_code failed(const struct arena *a, struct xt_err *err) {
    return a->failed ? xt_fail(err, XT_ENOMEM, "out of memory") : xt_fail(err, XT_ESTORE, "stored samples are damaged");
}

/* The plain form of a blob; absent: damaged, or no memory. */
static struct str blob_plain(struct arena *a, ZSTD_DCtx **zstd, struct str blob) {
    struct column_in in = column_in(blob);
    const uint8_t *method = column_bytes(&in, 1);
    size_t n = (size_t)column_number(&in, PACK_PLAIN_MAX), left = (size_t)(in.end - in.p);
    if (in.bad || *method > PACK_ZSTD || (*method == PACK_PLAIN && left != n))
        return STR_NONE;
    if (*method == PACK_PLAIN)
        return (struct str){ (const char *)in.p, n };
    if (ZSTD_getFrameContentSize(in.p, left) != n)
        return STR_NONE;
    if (!*zstd && !alloc_should_fail())
        *zstd = ZSTD_createDCtx();
    char *p = *zstd ? arena_bytes(a, n + 1) : NULL;
    if (!p) {
        a->failed = true;
        return STR_NONE;
    }
    return ZSTD_decompressDCtx(*zstd, p, n, in.p, left) == n ? (struct str){ p, n } : STR_NONE;
}

/* n integers into memory of the arena; the list must take a byte a block at least. NULL: damaged, or no memory. */
static int64_t *ints(struct arena *a, struct column_in *in, size_t n) {
    int64_t *v = NULL;
    if (n / COLUMN_BLOCK <= (size_t)(in->end - in->p))
        v = arena_new(a, int64_t, n);
    return v && column_ints(in, v, n) ? v : NULL;
}

/* ---- values ---- */

/* Where each text starts, and each id. */
static bool values_places(struct arena *a, struct column_in *in, struct values *v, size_t ntexts, size_t *ret_bytes) {
    size_t bytes = 0, id = 0, text = 0;
    int64_t *lengths = ints(a, in, ntexts);
    uint32_t *place = arena_new(a, uint32_t, v->n), *length = arena_new(a, uint32_t, v->n);
    if (!lengths || !place || !length)
        return false;
    for (uint32_t i = 0; i < v->n; i++) {
        if (value_form(v, i) != FORM_TEXT) {
            place[i] = (uint32_t)id++;
            continue;
        }
        if (lengths[text] < 0 || (uint64_t)lengths[text] > PACK_PLAIN_MAX - bytes)
            return false;
        place[i] = (uint32_t)bytes;
        length[i] = (uint32_t)lengths[text];
        bytes += (size_t)lengths[text++];
    }
    v->place = place;
    v->length = length;
    *ret_bytes = bytes;
    return true;
}

static bool values_parse(struct arena *a, struct column_in *in, uint32_t n, struct values *ret) {
    const uint8_t *form = column_bytes(in, 1);
    struct values v = { .n = n, .form = form ? *form : 0 };
    size_t ntexts = 0, bytes = 0;
    if (!form || v.form > FORM_MIXED)
        return false;
    if (v.form == FORM_MIXED) {
        v.forms = column_bytes(in, n);
        for (uint32_t i = 0; v.forms && i < n; i++) {
            if (v.forms[i] >= FORM_MIXED)
                return false;
            ntexts += v.forms[i] == FORM_TEXT;
        }
        if (!v.forms)
            return false;
    } else {
        ntexts = v.form == FORM_TEXT ? n : 0;
    }
    if (ntexts > 0 && !values_places(a, in, &v, ntexts, &bytes))
        return false;
    v.ids = column_bytes(in, (uint64_t)(n - ntexts) * ID_BYTES);
    v.texts = (const char *)column_bytes(in, bytes);
    *ret = v;
    return !in->bad;
}

struct str value_text(const struct values *v, uint32_t i, char room[IDENT_CHARS]) {
    unsigned form = value_form(v, i);
    if (form == FORM_TEXT)
        return (struct str){ v->texts + v->place[i], v->length[i] };
    return (struct str){ room, ident_text(form, value_id(v, i), room) };
}

/* ---- columns ---- */

/* The numbers of the sets that have the label. */
static bool column_sets(struct parser *p, struct column *c) {
    uint32_t nsets = p->part.nsets;
    bool sparse = c->kind & COL_SPARSE;
    c->n = nsets;
    if (!(c->kind & COL_PARTIAL))
        return !sparse;
    uint32_t n = sparse ? (uint32_t)column_number(&p->in, nsets) : nsets;
    const uint8_t *bytes = column_bytes(&p->in, sparse ? (uint64_t)n * 2 : (nsets + 7) / 8);
    uint16_t *sets = bytes ? arena_new(p->a, uint16_t, n) : NULL;
    if (!sets)
        return false;
    uint32_t count = 0;
    for (uint32_t i = 0; i < n && sparse; i++) {
        uint32_t set = (uint32_t)(bytes[2 * i] | bytes[2 * i + 1] << 8);
        if (set >= nsets || (i > 0 && set <= sets[i - 1]))
            return false;
        sets[count++] = (uint16_t)set;
    }
    for (uint32_t s = 0; s < nsets && !sparse; s++)
        if (bytes[s / 8] >> s % 8 & 1)
            sets[count++] = (uint16_t)s;
    c->n = count;
    c->sets = sets;
    return count > 0;
}

static bool column_codes(struct parser *p, struct column *c) {
    if ((c->kind & COL_OWN) || c->nvalues == 1)
        return true;
    c->wide = c->nvalues > 256;
    c->codes = column_bytes(&p->in, (uint64_t)c->n * (c->wide ? 2 : 1));
    uint32_t most = 0;
    for (uint32_t i = 0; c->codes && i < c->n; i++) {
        uint32_t code = column_code(c, i);
        most = code > most ? code : most;
    }
    return c->codes && most < c->nvalues;
}

static bool column_read(struct parser *p, struct column *c) {
    struct column_in *in = &p->in;
    size_t n = (size_t)column_number(in, PACK_PLAIN_MAX);
    c->name = (struct str){ (const char *)column_bytes(in, n), n };
    const uint8_t *kind = column_bytes(in, 1);
    c->kind = kind ? *kind : 0;
    if (!kind || c->kind > (COL_PARTIAL | COL_FAR | COL_OWN | COL_SPARSE) ||
        ((c->kind & COL_OWN) && !(c->kind & COL_FAR)) || !column_sets(p, c))
        return false;
    c->nvalues = (uint32_t)column_number(in, c->n);
    if (c->nvalues == 0 || ((c->kind & COL_OWN) && c->nvalues != c->n))
        return false;
    if (c->kind & COL_FAR) {
        c->raw_start = (size_t)column_number(in, SIZE_MAX);
        c->raw_bytes = (size_t)column_number(in, SIZE_MAX);
    }
    if (!column_codes(p, c))
        return false;
    c->parsed = !(c->kind & COL_FAR);
    return !c->parsed || values_parse(p->a, in, c->nvalues, &c->values);
}

static bool columns_read(struct parser *p) {
    struct part *part = &p->part;
    part->ncolumns = (size_t)column_number(&p->in, (uint64_t)(p->in.end - p->in.p));
    part->columns = arena_new(p->a, struct column, part->ncolumns);
    if (p->in.bad || !part->columns)
        return false;
    for (size_t i = 0; i < part->ncolumns; i++) {
        struct column *c = &part->columns[i];
        if (!column_read(p, c) || (i > 0 && str_cmp(part->columns[i - 1].name, c->name) >= 0) ||
            c->n > PACK_LABELS_MAX - part->nlabels)
            return false;
        part->nlabels += c->n;
    }
    return p->in.p == p->in.end;
}

static bool counts_read(struct parser *p, bool single) {
    struct part *part = &p->part;
    if (single)
        return part->nsets == part->npoints;
    int64_t *v = ints(p->a, &p->in, part->nsets);
    uint16_t *counts = arena_new(p->a, uint16_t, part->nsets);
    uint32_t left = part->npoints;
    if (!v || !counts)
        return false;
    for (uint32_t s = 0; s < part->nsets; s++) {
        if (v[s] < 1 || v[s] > left)
            return false;
        counts[s] = (uint16_t)v[s];
        left -= (uint32_t)v[s];
    }
    part->counts = counts;
    return left == 0;
}

enum xt_code part_parse(struct arena *a, ZSTD_DCtx **zstd, struct str lab, struct part *ret, struct xt_err *err) {
    struct parser p = { .a = a, .zstd = zstd };
    struct str plain = blob_plain(a, zstd, lab);
    if (!str_has(plain))
        return failed(a, err);
    p.in = column_in(plain);
    const uint8_t *head = column_bytes(&p.in, 2);
    p.part.nsets = (uint32_t)column_number(&p.in, PACK_POINTS_MAX);
    p.part.npoints = (uint32_t)column_number(&p.in, PACK_POINTS_MAX);
    if (p.in.bad || head[0] != PACK_VERSION || head[1] > (LAB_SINGLE | LAB_REPLACES) || p.part.nsets == 0 ||
        !counts_read(&p, head[1] & LAB_SINGLE))
        return failed(a, err);
    if (head[1] & LAB_REPLACES)
        p.part.replaces = column_bytes(&p.in, (p.part.nsets + 7) / 8);
    if (p.in.bad || !columns_read(&p))
        return failed(a, err);
    *ret = p.part;
    return XT_OK;
}

enum xt_code column_parse(struct arena *a, ZSTD_DCtx **zstd, struct str raw, struct column *c, struct xt_err *err) {
    if (c->parsed)
        return XT_OK;
    if (c->raw_start > raw.n || c->raw_bytes > raw.n - c->raw_start)
        return failed(a, err);
    struct str plain = blob_plain(a, zstd, (struct str){ raw.p + c->raw_start, c->raw_bytes });
    if (!str_has(plain))
        return failed(a, err);
    struct column_in in = column_in(plain);
    if (!values_parse(a, &in, c->nvalues, &c->values) || in.p != in.end)
        return failed(a, err);
    c->parsed = true;
    return XT_OK;
}

size_t part_find(const struct part *p, struct str name) {
    size_t low = 0, high = p->ncolumns;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (str_cmp(p->columns[mid].name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low < p->ncolumns && str_eq(p->columns[low].name, name) ? low : p->ncolumns;
}
