/* index_read.h -- looking up in the index: what lookup.c builds its answers from. Any connection; the view is pinned until
 * its transaction ends. Private to index*.c and lookup.c. */
#pragma once
#include "store/sqlite/index.h"

/* Gets the trace of an entry; a hint, to be compared with the row. Clears *go_on to end. May use the connection. */
typedef enum xt_code ix_visitor(void *arg, struct conn *c, int64_t tseq, bool *go_on, struct xt_err *err);
/* Every entry of that hash, the newest part first. */
enum xt_code ix_find(struct conn *c, enum ix_kind kind, uint64_t h, ix_visitor *visit, void *arg, struct xt_err *err);
/* Entries with from <= ts <= to, by their places in the runs: two parts a run are read. */
enum xt_code ix_count(struct conn *c, enum ix_kind kind, uint64_t h, uint64_t from, uint64_t to, int64_t *ret,
                      struct xt_err *err);
/* Entries that are just this one; a few parts a run are read, however many entries share its hash and time. */
enum xt_code ix_count_entry(struct conn *c, enum ix_kind kind, const struct ix_entry *e, int64_t *ret,
                            struct xt_err *err);

/* A walk over postings in order of (ts, tseq), each once: hot parts and runs are merged. */
struct ix_walk;
enum xt_code ix_walk_open(struct conn *c, uint64_t h, uint64_t from, uint64_t to, bool descending, struct ix_walk **ret,
                          struct xt_err *err);
/* *ret_end: there is no more. */
enum xt_code ix_walk_next(struct ix_walk *w, struct ix_entry *ret, bool *ret_end, struct xt_err *err);
void ix_walk_close(struct ix_walk *w); /* also NULL */
