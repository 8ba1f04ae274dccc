/* takeover.h -- private: the rows of the original's tables (traces, observations, metrics of schema public) as batches.
 *
 *  1. Their tables are read, never written; no right but SELECT on them is needed.
 *  2. Which columns there are is looked up once: what an older version of the original lacks reads as NULL.
 *  3. A piece is bounded in rows and in bytes of text, but holds one record at least, however large.
 *  4. Texts of records point into the results and the batch's arena: tk_piece_done() frees both. */
#pragma once
#include "store/postgres/engine.h"

#define TK_RESULTS 2
#define TK_BATCHES 8 /* of one piece: one, and one for each further project of metrics */
#define TK_UUID_MAX 40

enum tk_phase { TK_TRACES, TK_POINTS, TK_DONE };

/* How far it went: a row of xtrace.takeover. */
struct tk_place {
    int64_t step;
    int phase;                     /* enum tk_phase */
    char trace[TK_UUID_MAX];       /* "": before the first; all before it are done ... */
    char observation[TK_UUID_MAX]; /* "": and this one is; else its observations up to this one are */
    int64_t point;                 /* points up to this id are done */
    int64_t traces, observations, points, skipped;
};

/* The statements, made for the columns that are there. */
struct tk_source {
    bool found;  /* there are tables of the original */
    bool points; /* a table of metrics too */
    struct buf traces, observations, metrics;
};
void tk_source_init(struct tk_source *s);
void tk_source_done(struct tk_source *s);
/* In a read transaction. XT_EFORBIDDEN: the tables are there but may not be read. */
enum xt_code tk_look(struct pg_conn *c, struct tk_source *s, struct xt_err *err);

struct tk_limits {
    int32_t rows;
    int64_t bytes;
};
struct tk_piece {
    struct batch *batches[TK_BATCHES];
    size_t n;
    PGresult *results[TK_RESULTS];
    struct tk_place next; /* the place behind it */
    uint64_t dropped;     /* points that are no numbers */
};
/* Numbers of projects: of the name, made if need be. */
struct tk_projects {
    void *arg;
    enum xt_code (*number)(void *arg, struct str name, int64_t *ret, struct xt_err *err);
    int64_t project; /* the default one ... */
    struct str name; /* ... and its name */
};
/* In a read transaction: what comes at the place. An empty piece: the place alone moves on. */
enum xt_code tk_read(struct pg_conn *c, const struct tk_source *s, const struct tk_projects *p,
                     const struct tk_place *at, const struct tk_limits *limits, struct tk_piece *ret,
                     struct xt_err *err);
void tk_piece_done(struct tk_piece *p); /* also a zeroed one */

/* ---- values of the original's, for tests ---- */
/* timestamptz (us since 2000, or the infinities: the ends of time). */
int64_t tk_time(int64_t us);
/* Text of a jsonb as the original answers it: whole numbers beyond 64 bits are doubles. `null` is absent. */
struct str tk_json(struct arena *a, struct str text);
/* A float8 amount: its shortest decimal. NaN and the infinities: none. False: no memory. */
bool tk_money(struct arena *a, double v, struct opt_money *ret);
/* Elements of a text[] of any dimensions, NULL ones left out. False: damaged or no memory. */
bool tk_tags(struct arena *a, struct str array, struct str **ret, size_t *ret_n);
