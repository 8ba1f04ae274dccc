/* packed.c -- one table of the fields that packed.h keeps; both directions read it. */
#include "store/fold/packed.h"

#include <string.h>

/* How the bytes of a field are to be read. Doubles and amounts are little-endian. */
enum packed_kind { PACK_TEXT, PACK_F64, PACK_MONEY, PACK_WIDE, PACK_SPELL };

struct packed_field {
    unsigned char tag; /* 1 .. 127 */
    unsigned char kind;
    size_t offset; /* in struct observation */
};

#define TAG_ID_TEXT 1
#define FIELD(tag, kind, name) \
    { tag, kind, offsetof(struct observation, name) }
static const struct packed_field fields[] = {
    FIELD(TAG_ID_TEXT, PACK_TEXT, id.text),
    FIELD(2, PACK_TEXT, parent_id.text),
    FIELD(3, PACK_SPELL, parent_id.spell), /* only when it is not that of the observation */
    FIELD(4, PACK_TEXT, environment),
    FIELD(5, PACK_TEXT, project_label),
    FIELD(6, PACK_TEXT, status_message),
    FIELD(7, PACK_TEXT, model_parameters),
    FIELD(8, PACK_TEXT, usage),
    FIELD(9, PACK_TEXT, usage_buckets),
    FIELD(10, PACK_TEXT, cost_buckets),
    FIELD(11, PACK_TEXT, unit),
    FIELD(12, PACK_TEXT, prompt_id),
    FIELD(13, PACK_TEXT, prompt_name),
    FIELD(14, PACK_TEXT, prompt_version),
    FIELD(15, PACK_TEXT, model_id),
    FIELD(16, PACK_F64, input_price),
    FIELD(17, PACK_F64, output_price),
    FIELD(18, PACK_F64, total_price),
    FIELD(19, PACK_F64, latency),
    FIELD(20, PACK_F64, time_to_first_token),
    FIELD(21, PACK_MONEY, cost_input),
    FIELD(22, PACK_TEXT, cost_input.text),
    FIELD(23, PACK_MONEY, cost_output),
    FIELD(24, PACK_TEXT, cost_output.text),
    FIELD(25, PACK_TEXT, cost_total.text), /* the amount itself has columns ... */
    FIELD(26, PACK_WIDE, cost_total),      /* ... unless it is a sum beyond their range */
    FIELD(27, PACK_TEXT, version),
};
#define NFIELDS (sizeof fields / sizeof fields[0])

static void put_head(struct buf *out, unsigned char tag, size_t n) {
    char head[12];
    size_t at = 0;
    head[at++] = (char)tag;
    for (; n >= 0x80; n >>= 7)
        head[at++] = (char)(0x80 | (n & 0x7f));
    head[at++] = (char)n;
    buf_add(out, head, at);
}

/* n low bytes of v, low first. */
static void put_le(struct buf *out, unsigned char tag, unsigned __int128 v, size_t n) {
    char bytes[16];
    for (size_t i = 0; i < n; i++, v >>= 8)
        bytes[i] = (char)(v & 0xff);
    put_head(out, tag, n);
    buf_add(out, bytes, n);
}

static unsigned __int128 get_le(struct str s) {
    unsigned __int128 v = 0;
    for (size_t i = s.n; i-- > 0;)
        v = v << 8 | (unsigned char)s.p[i];
    return v;
}

static void put_field(struct buf *out, const struct packed_field *f, const struct observation *o) {
    const void *at = (const char *)o + f->offset;
    switch ((enum packed_kind)f->kind) {
    case PACK_TEXT: {
        const struct str *s = at;
        if (!str_has(*s))
            return;
        put_head(out, f->tag, s->n);
        buf_add(out, s->p, s->n);
        return;
    }
    case PACK_F64: {
        const double *v = at;
        uint64_t bits;
        if (isnan(*v))
            return;
        memcpy(&bits, v, sizeof bits);
        put_le(out, f->tag, bits, 8);
        return;
    }
    case PACK_MONEY: {
        const struct opt_money *m = at;
        if (m->has)
            put_le(out, f->tag, (unsigned __int128)m->v, 16);
        return;
    }
    case PACK_WIDE: {
        const struct opt_money *m = at;
        int64_t nano, atto;
        if (!m->has)
            return;
        money_split(m->v, &nano, &atto);
        if (money_join(nano, atto) != m->v)
            put_le(out, f->tag, (unsigned __int128)m->v, 16);
        return;
    }
    case PACK_SPELL:
        if (id_has(&o->parent_id) && o->parent_id.spell != o->id.spell)
            put_le(out, f->tag, o->parent_id.spell, 1);
        return;
    }
}

bool packed_write(struct buf *out, const struct observation *o) {
    for (size_t i = 0; i < NFIELDS; i++)
        put_field(out, &fields[i], o);
    return !out->failed;
}

/* Takes one tag and its bytes off *rest. False: damaged. */
static bool take(struct str *rest, unsigned char *ret_tag, struct str *ret_value) {
    const unsigned char *p = (const unsigned char *)rest->p;
    size_t at = 1, n = 0;
    for (unsigned shift = 0;; shift += 7) {
        if (at >= rest->n || shift > 56)
            return false;
        unsigned char byte = p[at++];
        n |= (size_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            break;
    }
    if (n > rest->n - at)
        return false;
    *ret_tag = p[0];
    *ret_value = (struct str){ rest->p + at, n };
    *rest = (struct str){ rest->p + at + n, rest->n - at - n };
    return true;
}

static bool get_field(const struct packed_field *f, struct str value, struct observation *o) {
    void *at = (char *)o + f->offset;
    switch ((enum packed_kind)f->kind) {
    case PACK_TEXT: *(struct str *)at = value; return true;
    case PACK_F64: {
        uint64_t bits = (uint64_t)get_le(value);
        if (value.n != 8)
            return false;
        memcpy(at, &bits, sizeof bits);
        return true;
    }
    case PACK_MONEY:
    case PACK_WIDE: {
        struct opt_money *m = at;
        if (value.n != 16)
            return false;
        m->v = (money)get_le(value);
        m->has = true;
        return true;
    }
    case PACK_SPELL:
        if (value.n != 1 || (unsigned char)value.p[0] > ID_TEXT)
            return false;
        o->parent_id.spell = (enum id_spell)value.p[0];
        return true;
    }
    return false;
}

bool packed_read(struct str blob, struct observation *o) {
    unsigned char tag;
    struct str value;
    while (blob.n > 0) {
        if (!take(&blob, &tag, &value))
            return false;
        for (size_t i = 0; i < NFIELDS; i++)
            if (fields[i].tag == tag && !get_field(&fields[i], value, o))
                return false;
    }
    return true;
}

bool packed_read_id(struct str blob, struct str *ret_text) {
    unsigned char tag;
    struct str value;
    *ret_text = STR_NONE;
    while (blob.n > 0) {
        if (!take(&blob, &tag, &value))
            return false;
        if (tag == TAG_ID_TEXT)
            *ret_text = value;
    }
    return true;
}
