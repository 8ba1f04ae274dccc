/* order.c -- see order.h. */
#include "store/sqlite/order.h"

#define HEAP_BYTES (2 * ORDER_KEEP * sizeof(struct order_key))
#define ID_HALF 8   /* bytes of a key whose id has 64 bits */
#define KEY_TEXT 64 /* bytes of a text that are kept; equal beyond them, two rows are read again */

struct order_key {
    int64_t tseq;
    bool absent;
    bool cut; /* the text goes on */
    unsigned char n;
    union {
        double f;
        money m;
        char text[KEY_TEXT];
    } v;
};

struct ordering {
    struct conn *c;
    enum trace_order order;
    bool descending;
    struct order_key *heap; /* the best so far; the first of them is the one to go next */
    size_t n, room;
    struct order_key after; /* keys up to this one were on earlier passes */
    bool has_after;
    enum xt_code code; /* of a comparison that had to read */
    struct xt_err *err;
};

/* ---- keys ---- */

static struct str text_value(enum trace_order order, const struct trace_rec *r) {
    switch (order) {
    case ORDER_ID: return r->id.key;
    case ORDER_NAME: return r->name;
    case ORDER_USER: return r->user;
    case ORDER_RELEASE: return r->release;
    case ORDER_VERSION: return r->version;
    case ORDER_SESSION: return r->session;
    default: return STR_NONE;
    }
}

static bool is_text(enum trace_order order) {
    return order != ORDER_LATENCY && order != ORDER_TOTAL_COST && order != ORDER_PUBLIC && order != ORDER_BOOKMARKED;
}

static void keep_text(struct order_key *k, struct str s) {
    k->absent = !str_has(s);
    k->cut = s.n > KEY_TEXT;
    k->n = (unsigned char)(k->cut ? KEY_TEXT : s.n);
    if (k->n > 0)
        memcpy(k->v.text, s.p, k->n);
}

static void make_key(enum trace_order order, const struct trace_rec *r, struct order_key *k) {
    *k = (struct order_key){ .tseq = r->tseq };
    switch (order) {
    case ORDER_LATENCY:
        k->v.f = trace_rec_latency(r);
        k->absent = isnan(k->v.f);
        break;
    case ORDER_TOTAL_COST:
        k->v.m = trace_rec_cost(r);
        k->absent = !trace_rec_cost_known(r);
        break;
    case ORDER_PUBLIC: k->v.m = r->is_public == TRI_TRUE; break;
    case ORDER_BOOKMARKED: k->v.m = r->bookmarked == TRI_TRUE; break;
    case ORDER_ID:
        if (r->id.key.n == ID_HALF) { /* its upper half is zero and no part of the key */
            memset(k->v.text, 0, ID_HALF);
            memcpy(k->v.text + ID_HALF, r->id.key.p, ID_HALF);
            k->n = 2 * ID_HALF;
            break;
        }
        keep_text(k, r->id.key);
        break;
    default: keep_text(k, text_value(order, r)); break;
    }
}

/* Both texts go on beyond what was kept. */
static int compare_rows(struct ordering *o, int64_t a, int64_t b) {
    struct arena scratch;
    struct trace_rec ra, rb;
    bool fa, fb;
    int cmp = 0;
    if (o->code != XT_OK)
        return 0;
    arena_init(&scratch, SIZE_MAX / 2);
    o->code = trace_fetch(o->c, SQL_TRACE_PEEK, a, &scratch, &ra, &fa, o->err);
    if (o->code == XT_OK)
        o->code = trace_fetch(o->c, SQL_TRACE_PEEK, b, &scratch, &rb, &fb, o->err);
    if (o->code == XT_OK && fa && fb)
        cmp = str_cmp(text_value(o->order, &ra), text_value(o->order, &rb));
    arena_done(&scratch);
    return cmp;
}

static int compare_text(struct ordering *o, const struct order_key *a, const struct order_key *b) {
    int cmp = str_cmp((struct str){ a->v.text, a->n }, (struct str){ b->v.text, b->n });
    if (cmp != 0 || (!a->cut && !b->cut))
        return cmp;
    return a->cut && b->cut ? compare_rows(o, a->tseq, b->tseq) : a->cut - b->cut;
}

/* Ascending by value, absent last, then by number. */
static int compare_keys(struct ordering *o, const struct order_key *a, const struct order_key *b) {
    int cmp = 0;
    if (a->absent != b->absent)
        return a->absent - b->absent;
    if (a->absent)
        cmp = 0;
    else if (is_text(o->order))
        cmp = compare_text(o, a, b);
    else if (o->order == ORDER_LATENCY)
        cmp = (a->v.f > b->v.f) - (a->v.f < b->v.f);
    else
        cmp = (a->v.m > b->v.m) - (a->v.m < b->v.m);
    return cmp ? cmp : (a->tseq > b->tseq) - (a->tseq < b->tseq);
}

/* Does a come before b on the pages? */
static bool before(struct ordering *o, const struct order_key *a, const struct order_key *b) {
    int cmp = compare_keys(o, a, b);
    return o->descending ? cmp > 0 : cmp < 0;
}

/* ---- a heap whose first key is the last in order ---- */

static void sift_down(struct ordering *o, size_t i) {
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= o->n)
            return;
        if (child + 1 < o->n && before(o, &o->heap[child], &o->heap[child + 1]))
            child++;
        if (!before(o, &o->heap[i], &o->heap[child]))
            return;
        struct order_key t = o->heap[i];
        o->heap[i] = o->heap[child];
        o->heap[child] = t;
        i = child;
    }
}

static void sift_up(struct ordering *o, size_t i) {
    while (i > 0 && before(o, &o->heap[(i - 1) / 2], &o->heap[i])) {
        struct order_key t = o->heap[i];
        o->heap[i] = o->heap[(i - 1) / 2];
        o->heap[(i - 1) / 2] = t;
        i = (i - 1) / 2;
    }
}

static void offer(struct ordering *o, const struct order_key *k) {
    if (o->has_after && !before(o, &o->after, k))
        return;
    if (o->n < o->room) {
        o->heap[o->n++] = *k;
        sift_up(o, o->n - 1);
    } else if (before(o, k, &o->heap[0])) {
        o->heap[0] = *k;
        sift_down(o, 0);
    }
}

/* Turns the heap into a list in order. */
static void heap_sort(struct ordering *o) {
    size_t n = o->n;
    while (o->n > 1) {
        struct order_key t = o->heap[0];
        o->heap[0] = o->heap[--o->n];
        o->heap[o->n] = t;
        sift_down(o, 0);
    }
    o->n = n;
}

/* ---- passes ---- */

static enum xt_code pass(struct ordering *o, struct sqlite_store *e, const struct trace_filter *f, int64_t *ret_matched,
                         struct xt_err *err) {
    struct trace_scan s;
    struct trace_rec r;
    struct order_key k;
    bool found = true;
    o->n = 0;
    *ret_matched = 0;
    enum xt_code code = scan_open(&s, e, o->c, f, o->descending, err);
    while (code == XT_OK) {
        code = scan_next(&s, &r, &found, err);
        if (code != XT_OK || !found)
            break;
        make_key(o->order, &r, &k);
        offer(o, &k);
        ++*ret_matched;
        code = o->code;
    }
    scan_close(&s);
    if (code == XT_OK) {
        heap_sort(o);
        code = o->code;
    }
    return code;
}

static enum xt_code passes(struct ordering *o, struct sqlite_store *e, const struct trace_query *q,
                           const struct trace_filter *f, int64_t *page, size_t *ret_n, int64_t *total,
                           struct xt_err *err) {
    int64_t done = 0, matched;
    size_t n = 0;
    for (;;) {
        enum xt_code code = pass(o, e, f, &matched, err);
        if (code != XT_OK)
            return code;
        if (*total < 0)
            *total = matched;
        if (q->offset >= *total || o->n == 0)
            break;
        for (size_t i = 0; i < o->n && (int64_t)n < q->limit; i++)
            if (done + (int64_t)i >= q->offset)
                page[n++] = o->heap[i].tseq;
        done += (int64_t)o->n;
        if ((int64_t)n == q->limit || o->n < o->room)
            break;
        o->after = o->heap[o->n - 1];
        o->has_after = true;
    }
    *ret_n = n;
    return XT_OK;
}

enum xt_code order_page(struct sqlite_store *e, struct conn *c, const struct trace_query *q,
                        const struct trace_filter *f, int64_t *page, size_t *ret_n, int64_t *total,
                        struct xt_err *err) {
    struct ordering o = { .c = c, .order = q->order, .descending = q->descending, .err = err };
    *ret_n = 0;
    if (*total >= 0 && q->offset >= *total)
        return XT_OK;
    o.room = q->offset > ORDER_KEEP - q->limit ? ORDER_KEEP : (size_t)(q->offset + q->limit);
    struct arena a;
    arena_init(&a, HEAP_BYTES);
    o.heap = arena_new(&a, struct order_key, o.room);
    enum xt_code code = o.heap ? passes(&o, e, q, f, page, ret_n, total, err) : no_memory(err);
    arena_done(&a);
    return code;
}
