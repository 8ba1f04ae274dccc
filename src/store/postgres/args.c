/* args.c -- the parameters of a statement: values one behind the other in one buffer, libpq's arrays made when it is sent.
 *
 *  1. n parameters are complete; an array is complete when items_left is 0. It is an error of ours to send sooner.
 *  2. Nothing is reported here: `data.failed` and `too_big` are looked at by who sends. */
#include <assert.h>
#include <stdlib.h>

#include "store/postgres/wire.h"

void pg_args_init(struct pg_args *a) {
    *a = (struct pg_args){ .n = 0 };
    buf_init(&a->data, PG_BYTES_MAX);
}

void pg_args_done(struct pg_args *a) {
    buf_done(&a->data);
    a->n = 0;
}

void pg_args_clear(struct pg_args *a) {
    buf_clear(&a->data);
    a->n = 0;
    a->too_big = false;
    a->items_left = 0;
}

/* The buffer refuses what does not fit; why it did is remembered. */
static bool room(struct pg_args *a, size_t n) {
    if (n <= PG_BYTES_MAX - 64 && a->data.n <= PG_BYTES_MAX - 64 - n)
        return true;
    a->too_big = true;
    return false;
}

/* Ends the value that was written as a field at `from`: the length before it is not part of a parameter. */
static void arg_end(struct pg_args *a, Oid type, size_t from) {
    assert(a->n < PG_ARGS_MAX && a->items_left == 0);
    int length = -1;
    if (!a->data.failed && !a->too_big)
        length = (int)wire_get32(a->data.p + from);
    a->types[a->n] = type;
    a->at[a->n] = from + 4;
    a->lengths[a->n++] = length;
}

#define ARG(name, ctype, type, put)                   \
    void pg_arg_##name(struct pg_args *a, ctype v) {  \
        size_t from = a->data.n;                      \
        if (room(a, 64))                              \
            put(&a->data, v);                         \
        arg_end(a, type, from);                       \
    }                                                 \
    void pg_item_##name(struct pg_args *a, ctype v) { \
        assert(a->items_left > 0);                    \
        a->items_left--;                              \
        if (room(a, 64))                              \
            put(&a->data, v);                         \
    }
ARG(i64, int64_t, PG_INT8, wire_put_i64)
ARG(time, int64_t, PG_INT8, wire_put_time)
ARG(i32, int32_t, PG_INT4, wire_put_i32)
ARG(i16, int16_t, PG_INT2, wire_put_i16)
ARG(f64, double, PG_FLOAT8, wire_put_f64)
ARG(bool, bool, PG_BOOL, wire_put_bool)
ARG(num, __int128, PG_NUMERIC, wire_put_num)

void pg_arg_text(struct pg_args *a, struct str s) {
    size_t from = a->data.n;
    if (room(a, str_has(s) ? pg_escaped_size(s) : 0))
        wire_put_text(&a->data, s);
    arg_end(a, PG_TEXT, from);
}

void pg_arg_bytes(struct pg_args *a, struct str s) {
    size_t from = a->data.n;
    if (room(a, s.n))
        wire_put_bytes(&a->data, s);
    arg_end(a, PG_BYTEA, from);
}

void pg_arg_null(struct pg_args *a, Oid type) {
    size_t from = a->data.n;
    if (room(a, 0))
        wire_put_null(&a->data);
    arg_end(a, type, from);
}

static Oid array_of(Oid element) {
    static const struct {
        Oid element, array;
    } types[] = { { PG_BOOL, 1000 },          { PG_BYTEA, 1001 }, { PG_INT2, 1005 },   { PG_INT4, 1007 },
                  { PG_TEXT, PG_TEXT_ARRAY }, { PG_INT8, 1016 },  { PG_FLOAT8, 1022 }, { PG_NUMERIC, 1231 } };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].element == element)
            return types[i].array;
    assert(false && "a type without arrays");
    return 0;
}

/* The length of an array is known when the next parameter begins: args_view reckons it from there. */
void pg_arg_array(struct pg_args *a, Oid element, size_t n) {
    assert(n <= INT32_MAX && a->n < PG_ARGS_MAX && a->items_left == 0);
    size_t from = a->data.n;
    if (room(a, 64))
        wire_put_array_head(&a->data, element, n);
    a->types[a->n] = array_of(element);
    a->at[a->n] = from;
    a->lengths[a->n++] = PG_ARRAY_OPEN;
    a->items_left = n;
}

void pg_item_text(struct pg_args *a, struct str s) {
    assert(a->items_left > 0);
    a->items_left--;
    if (room(a, str_has(s) ? pg_escaped_size(s) : 0))
        wire_put_text(&a->data, s);
}

void pg_item_bytes(struct pg_args *a, struct str s) {
    assert(a->items_left > 0);
    a->items_left--;
    if (room(a, s.n))
        wire_put_bytes(&a->data, s);
}

void pg_item_null(struct pg_args *a) {
    assert(a->items_left > 0);
    a->items_left--;
    if (room(a, 0))
        wire_put_null(&a->data);
}

bool args_view(const struct pg_args *a, struct args_view *ret) {
    if (a->data.failed || a->too_big)
        return false;
    assert(a->items_left == 0);
    for (int i = 0; i < a->n; i++) {
        size_t end = i + 1 < a->n ? a->at[i + 1] - (a->lengths[i + 1] == PG_ARRAY_OPEN ? 0 : 4) : a->data.n;
        ret->formats[i] = 1;
        ret->values[i] = a->lengths[i] == -1 ? NULL : a->data.p + a->at[i];
        ret->lengths[i] = a->lengths[i] == PG_ARRAY_OPEN ? (int)(end - a->at[i]) : a->lengths[i];
    }
    return true;
}
