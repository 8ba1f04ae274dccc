/* text.h -- texts of rows as reads need them: all of a page in one statement; and dictionaries as rows.
 *
 *  1. A text lies in the week of its trace. Its row is the last one of that week at or below its number (codec.h).
 *  2. A reader says which texts it will show (pg_texts_want), loads them (one round trip) and then shows its rows: the
 *     texts come out of the answer, decoded one by one when they are asked for.
 *  3. A load brings TEXTS_LOAD_BYTES of stored forms at most. What is beyond is fetched one by one when it is asked for: a
 *     page of huge texts costs round trips, not memory.
 *  4. Dictionaries are read on the connection that decodes, in its transaction: who sees a frame sees its dictionary. So
 *     texts are decoded outside of pipelines and COPY. */
#pragma once
#include "store/postgres/conn.h"
#include "store/text/codec.h"
#include "store/text/text.h"

#define TEXTS_LOAD_BYTES ((int64_t)48 << 20)

struct wanted_text {
    int32_t week;
    int64_t pid;
};
struct pg_texts {
    struct pg_conn *c;
    struct codec codec;
    struct pg_args args;
    struct arena arena;       /* of the list */
    struct wanted_text *want; /* since the last load */
    size_t nwant, room;
    PGresult *rows; /* of the last load, by number; NULL: none */
    int64_t most;   /* TEXTS_LOAD_BYTES; tests make it smaller */
};
/* `c` is in a transaction whenever texts are loaded or got. Must not move: sources refer to it. */
void pg_texts_init(struct pg_texts *t, struct pg_conn *c, struct dicts *dicts);
void pg_texts_done(struct pg_texts *t);
/* pid 0: nothing to do. Each may be said more than once. False: no memory. */
bool pg_texts_want(struct pg_texts *t, int32_t week, int64_t pid);
/* Fetches what is wanted since the last load, whose texts are forgotten. Nothing wanted: no round trip. */
enum xt_code pg_texts_load(struct pg_texts *t, struct xt_err *err);
/* For view_init: texts of the last load. One that was not wanted counts as missing: XT_ESTORE. */
struct text_source pg_texts_source(struct pg_texts *t);

/* Reads dictionaries on that connection. */
struct dict_source pg_dict_source(struct pg_conn *c);
