/* pack.c -- prepares a batch on the decoding thread: every text gets its stored form (codec.h), so that the writer only
 * copies bytes.
 *
 *  1. Texts of one trace are put together in packs: turns of a conversation repeat each other, spans repeat their
 *     resource, and one row costs the writer as much as ten of its texts. A text that is alone stays alone.
 *  2. A small trace is cut into packs of about SMALL_BYTES, equal in size: smaller ones need as many bytes and more rows. A
 *     larger one is cut at LARGE_BYTES, for what reading one of its texts may cost: 0.1 ms.
 *  3. A text above TEXT_MAX stays alone: who reads its neighbours shall not pay for it.
 *  4. Without memory to compress, a lone text is stored as it came; without memory for a pack the batch fails. */
#include <string.h>

#include "base/map.h"
#include "store/text/codec.h"
#include "store/text/text.h"

#define SMALL_TRACE_BYTES ((size_t)16 << 10)
#define SMALL_BYTES ((size_t)4800)
#define LARGE_BYTES ((size_t)256 << 10)
#define TEXT_MAX ((size_t)128 << 10)
#define SCRATCH_MAX ((size_t)1 << 30)

struct text {
    struct str text;
    struct stored *to;
    uint32_t trace; /* number in order of appearance */
};
struct packer {
    struct codec codec;
    struct arena *keep, scratch; /* results; lists */
    struct text *texts;          /* in the batch's order, then by trace */
    struct str *parts;           /* of the pack at hand */
    size_t n;
    struct map traces; /* id -> number + 1 */
    struct str last_id;
    uint32_t last, ntraces;
};

/* ---- collecting ---- */

static bool trace_number(struct packer *p, struct str id) {
    if (p->ntraces && str_eq(id, p->last_id))
        return true;
    uintptr_t known = (uintptr_t)map_get(&p->traces, id);
    if (!known) {
        known = ++p->ntraces;
        if (!map_put(&p->traces, id, (void *)known))
            return false;
    }
    p->last_id = id;
    p->last = (uint32_t)known - 1;
    return true;
}

static void add(struct packer *p, struct str text, struct stored *to) {
    if (str_has(text) && !str_has(to->z) && !to->pack)
        p->texts[p->n++] = (struct text){ text, to, p->last };
}

static bool collect(struct packer *p, struct batch *b) {
    size_t most = 3 * (b->ntraces + b->nobservations);
    p->texts = arena_new(&p->scratch, struct text, most);
    p->parts = arena_new(&p->scratch, struct str, most < PACK_MAX_TEXTS ? most : PACK_MAX_TEXTS);
    if (!p->texts || !p->parts)
        return false;
    for (size_t i = 0; i < b->ntraces; i++) {
        struct trace *t = &b->traces[i];
        if (!trace_number(p, t->id.key))
            return false;
        add(p, t->input, &t->input_z);
        add(p, t->output, &t->output_z);
        add(p, t->metadata, &t->metadata_z);
    }
    for (size_t i = 0; i < b->nobservations; i++) {
        struct observation *o = &b->observations[i];
        if (!trace_number(p, o->trace_id.key))
            return false;
        add(p, o->input, &o->input_z);
        add(p, o->output, &o->output_z);
        add(p, o->metadata, &o->metadata_z);
    }
    return true;
}

/* Brings the texts of a trace together: a counting sort, which keeps their order. */
static bool sort(struct packer *p) {
    if (p->ntraces < 2)
        return true;
    size_t *at = arena_new(&p->scratch, size_t, (size_t)p->ntraces + 1);
    struct text *sorted = arena_new(&p->scratch, struct text, p->n);
    if (!at || !sorted)
        return false;
    for (size_t i = 0; i < p->n; i++)
        at[p->texts[i].trace + 1]++;
    for (size_t i = 1; i < p->ntraces; i++)
        at[i] += at[i - 1];
    for (size_t i = 0; i < p->n; i++)
        sorted[at[p->texts[i].trace]++] = p->texts[i];
    p->texts = sorted;
    return true;
}

/* ---- packing ---- */

static bool put_alone(struct packer *p, const struct text *t) {
    return payload_encode(&p->codec, p->keep, t->text, &t->to->z);
}

static bool put_pack(struct packer *p, const struct text *t, size_t n) {
    if (n == 1)
        return put_alone(p, t);
    struct pack *pack = arena_new(p->keep, struct pack, 1);
    for (size_t i = 0; i < n; i++)
        p->parts[i] = t[i].text;
    if (!pack || !payload_encode_pack(&p->codec, p->keep, p->parts, n, &pack->z))
        return false;
    pack->n = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        t[i].to->pack = pack;
        t[i].to->part = (uint32_t)i;
    }
    return true;
}

/* Bytes after which a pack of a trace of `total` is closed. */
static size_t pack_bytes(size_t total) {
    if (total > SMALL_TRACE_BYTES)
        return LARGE_BYTES;
    size_t packs = (total + SMALL_BYTES - 1) / SMALL_BYTES;
    return packs ? total / packs : SMALL_BYTES;
}

/* The n texts of one trace. */
static bool pack_trace(struct packer *p, const struct text *t, size_t n) {
    size_t total = 0, from = 0, bytes = 0;
    bool ok = true;
    for (size_t i = 0; i < n; i++)
        total += t[i].text.n <= TEXT_MAX ? t[i].text.n : 0;
    const size_t limit = pack_bytes(total);
    for (size_t i = 0; i < n && ok; i++) {
        bool alone = t[i].text.n > TEXT_MAX;
        if (!alone)
            bytes += t[i].text.n;
        bool last = i + 1 == n || i + 1 - from == PACK_MAX_TEXTS;
        if (!alone && !last && bytes < limit)
            continue;
        size_t end = alone ? i : i + 1;
        if (end > from)
            ok = put_pack(p, t + from, end - from);
        if (ok && alone)
            ok = put_alone(p, &t[i]);
        from = i + 1;
        bytes = 0;
    }
    return ok;
}

static bool pack_all(struct packer *p) {
    bool ok = true;
    for (size_t from = 0, end; from < p->n && ok; from = end) {
        for (end = from + 1; end < p->n && p->texts[end].trace == p->texts[from].trace;)
            end++;
        ok = pack_trace(p, p->texts + from, end - from);
    }
    return ok;
}

enum xt_code texts_prepare(struct dicts *dicts, struct batch *b, struct xt_err *err) {
    struct packer p = { .codec = { .dicts = dicts }, .keep = &b->arena }; /* threads keep nothing when they idle */
    if (b->ntraces + b->nobservations == 0)
        return XT_OK;
    arena_init(&p.scratch, SCRATCH_MAX);
    map_init(&p.traces, &p.scratch);
    bool ok = collect(&p, b) && sort(&p) && pack_all(&p);
    dicts_count(dicts, p.n);
    codec_done(&p.codec);
    arena_done(&p.scratch);
    return ok ? XT_OK : xt_fail(err, XT_ENOMEM, "out of memory");
}
