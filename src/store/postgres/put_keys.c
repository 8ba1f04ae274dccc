/* put_keys.c -- rows that find traces: tags with the trace's time, and turns, runs and steps that metadata names.
 *
 *  1. A stored trace's tags are written anew when they or its time change; a record's names when it gets new metadata.
 *  2. Values stand in short form (pg_short), each once a record. */
#include "store/fold/keys.h"
#include "store/postgres/write.h"

#define SQL_COPY_TAGS "COPY xtrace.trace_key(project, kind, v, ts, tseq) FROM STDIN (FORMAT binary)"
#define KEY_TAG 1
#define SQL_DROP_TAGS "DELETE FROM xtrace.trace_key WHERE tseq = ANY($1)"
#define SQL_COPY_NAMES "COPY xtrace.record_key(project, kind, v, tseq, oid) FROM STDIN (FORMAT binary)"
#define SQL_DROP_NAMES                                                                                                \
    "DELETE FROM xtrace.record_key WHERE ctid = ANY(ARRAY(SELECT r.ctid FROM unnest($1, $2) AS k(tseq, oid), LATERAL" \
    " (SELECT r.ctid FROM xtrace.record_key r WHERE r.tseq = k.tseq AND r.oid = k.oid OFFSET 0) r))"

/* ---- tags ---- */

/* Do the trace's keys change? */
static bool rekeyed(const struct trace_state *t) {
    if (!t->stored)
        return str_has(t->now.tags);
    return pg_new_tags(t) || (t->moved && t->before.ts != t->now.ts && str_has(t->now.tags));
}

/* The short forms of the trace's tags, each once. */
static enum xt_code short_tags(struct pg_group *g, const struct trace_state *t, struct str **ret, size_t *ret_n,
                               struct xt_err *err) {
    struct str *tags;
    struct map seen;
    size_t n, kept = 0;
    map_init(&seen, g->a);
    if (!tags_decode(g->a, t->now.tags, &tags, &n))
        return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        struct str v = pg_short_key(g->a, tags[i]);
        if (!str_has(v))
            return no_memory(err);
        if (map_get(&seen, v))
            continue;
        if (!map_put(&seen, v, tags))
            return no_memory(err);
        tags[kept++] = v;
    }
    *ret = tags;
    *ret_n = kept;
    return XT_OK;
}

static enum xt_code drop_tags(struct pg_group *g, struct xt_err *err) {
    struct pg_args *a = &g->w->args;
    const struct trace_state **list = arena_new(g->a, const struct trace_state *, g->nstored);
    size_t n = 0;
    if (!list)
        return no_memory(err);
    for (const struct trace_state *t = g->f.first; t; t = t->next)
        if (t->stored && rekeyed(t) && str_has(t->before.tags))
            list[n++] = t;
    if (n == 0)
        return XT_OK;
    pg_args_clear(a);
    COLUMN(a, PG_INT8, n, pg_item_i64(a, list[i]->now.tseq));
    g->trips++;
    return pg_query(g->c, SQL_DROP_TAGS, a, NULL, err);
}

static enum xt_code put_tags(struct pg_group *g, struct xt_err *err) {
    bool any = false;
    for (const struct trace_state *t = g->f.first; t; t = t->next)
        any = any || rekeyed(t);
    if (!any)
        return XT_OK;
    enum xt_code code = drop_tags(g, err), listed = XT_OK;
    if (code == XT_OK)
        code = pg_copy_begin(g->c, SQL_COPY_TAGS, err);
    if (code != XT_OK)
        return code;
    for (const struct trace_state *t = g->f.first; t && listed == XT_OK; t = t->next) {
        struct str *tags = NULL;
        size_t n = 0;
        if (!rekeyed(t))
            continue;
        listed = short_tags(g, t, &tags, &n, err);
        for (size_t i = 0; i < n; i++) {
            pg_copy_row(g->c, 5);
            pg_put_i64(g->c, t->now.project);
            pg_put_i16(g->c, KEY_TAG);
            pg_put_text(g->c, tags[i]);
            pg_put_i64(g->c, t->now.ts);
            pg_put_i64(g->c, t->now.tseq);
        }
    }
    g->trips += 2;
    if (listed != XT_OK)
        return listed; /* the transaction is rolled back */
    return pg_copy_end(g->c, NULL, err);
}

/* ---- turns, runs and steps ---- */

/* A record that gets new metadata. */
struct named {
    int64_t project, tseq;
    struct str oid; /* short form; '': the trace itself */
    bool stored;
    struct record_keys keys;
    bool any;
};
struct named_list {
    struct named *v;
    size_t n, stored, any;
};

/* Lists the record if its metadata is new and has names, or may have had some. */
static enum xt_code name(struct pg_group *g, struct named_list *l, const struct trace_state *t, struct str oid,
                         bool stored, struct str metadata, struct xt_err *err) {
    struct named *r = &l->v[l->n];
    if (!str_has(metadata))
        return XT_OK;
    *r = (struct named){ .project = t->now.project, .tseq = t->now.tseq, .oid = oid, .stored = stored };
    if (!record_keys_of(g->a, metadata, &r->keys))
        return no_memory(err);
    r->any = record_keys_any(&r->keys);
    if (!r->any && !stored)
        return XT_OK;
    l->stored += stored;
    l->any += r->any;
    l->n++;
    return XT_OK;
}

static enum xt_code list_names(struct pg_group *g, struct named_list *l, struct xt_err *err) {
    struct fold_text texts[PAYLOADS];
    enum xt_code code = XT_OK;
    l->v = arena_new(g->a, struct named, g->records);
    if (!l->v)
        return no_memory(err);
    for (const struct trace_state *t = g->f.first; t && code == XT_OK; t = t->next) {
        fold_trace_texts(t, texts);
        code = name(g, l, t, STR_LIT(""), t->stored, texts[PAYLOAD_METADATA].text, err);
        for (const struct obs_state *o = t->first; o && code == XT_OK; o = o->next) {
            fold_observation_texts(o, texts);
            if (!str_has(texts[PAYLOAD_METADATA].text))
                continue;
            struct str oid = pg_short_key(g->a, o->oid);
            if (!str_has(oid))
                return no_memory(err);
            code = name(g, l, t, oid, o->stored, texts[PAYLOAD_METADATA].text, err);
        }
    }
    return code;
}

static enum xt_code drop_names(struct pg_group *g, const struct named_list *l, struct xt_err *err) {
    struct pg_args *a = &g->w->args;
    pg_args_clear(a);
    pg_arg_array(a, PG_INT8, l->stored);
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].stored)
            pg_item_i64(a, l->v[i].tseq);
    pg_arg_array(a, PG_BYTEA, l->stored);
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].stored)
            pg_item_bytes(a, l->v[i].oid);
    g->trips++;
    return pg_query(g->c, SQL_DROP_NAMES, a, NULL, err);
}

static enum xt_code copy_names(struct pg_group *g, const struct named_list *l, struct xt_err *err) {
    char room[PG_SHORT_MAX];
    enum xt_code code = pg_copy_begin(g->c, SQL_COPY_NAMES, err);
    if (code != XT_OK)
        return code;
    for (size_t i = 0; i < l->n; i++)
        for (int k = 0; k < RECORD_KEYS; k++) {
            const struct named *r = &l->v[i];
            if (!str_has(r->keys.v[k]))
                continue;
            pg_copy_row(g->c, 5);
            pg_put_i64(g->c, r->project);
            pg_put_i16(g->c, (int16_t)(k + 1));
            pg_put_text(g->c, pg_short(r->keys.v[k], room));
            pg_put_i64(g->c, r->tseq);
            pg_put_bytes(g->c, r->oid);
        }
    g->trips += 2;
    return pg_copy_end(g->c, NULL, err);
}

static enum xt_code put_names(struct pg_group *g, struct xt_err *err) {
    struct named_list l = { .n = 0 };
    enum xt_code code = list_names(g, &l, err);
    if (code == XT_OK && l.stored)
        code = drop_names(g, &l, err);
    return code == XT_OK && l.any ? copy_names(g, &l, err) : code;
}

enum xt_code pg_keys_put(struct pg_group *g, struct xt_err *err) {
    enum xt_code code = put_tags(g, err);
    return code == XT_OK ? put_names(g, err) : code;
}
