/* payload.h -- rows of `payload` and `dict`: texts out of line (input, output, metadata, long `rest`) by number. Their
 * stored forms: store/text/codec.h. */
#pragma once
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "store/sqlite/engine.h"
#include "store/text/codec.h"

/* Reads text `pid` (0: absent text) into the arena. A row that is missing is damage. */
enum xt_code payload_get(struct conn *c, struct codec *k, struct arena *a, int64_t pid, struct str *ret,
                         struct xt_err *err);
/* Appends a row of one text with a number of the caller's. `z` absent: the text itself. */
enum xt_code payload_add(struct conn *c, int64_t pid, struct str text, struct str z, struct xt_err *err);
enum xt_code payload_add_pack(struct conn *c, int64_t pid, const struct pack *p, struct xt_err *err);
/* Is text `pid` exactly this one? A missing or damaged one is not. */
enum xt_code payload_same(struct conn *c, struct codec *k, struct arena *a, int64_t pid, struct str text, bool *ret,
                          struct xt_err *err);
/* Visits texts from the newest row on, `rows` of them at most, until the visitor says false. Rows that can't be read are
 * passed over. */
enum xt_code payload_newest(struct conn *c, int64_t rows, text_visitor *visit, void *arg, struct xt_err *err);

/* Decodes every row and looks at every dictionary; a line into the report for each of the first `most` that can't be read.
 */
enum xt_code payload_check(struct conn *c, struct buf *report, size_t most, struct xt_err *err);

/* Dictionary rows, for dict_source: number 0 is the newest one. [dictionary.c] */
enum xt_code payload_dict(struct conn *c, int64_t number, struct dict_row *ret, struct xt_err *err);

/* ---- removal ---- */

/* Texts to remove, counted by row: packs lose theirs one by one in no order, but many of one pack at a time. */
#define DROP_RUNS 8
struct payload_drops {
    struct {
        int64_t first, n, gone; /* n 0: free */
    } run[DROP_RUNS];
    size_t next; /* the run that makes room */
};
/* Removes text `pid` (0: nothing to do), at the latest with payload_drops_end. */
enum xt_code payload_drop_in(struct conn *c, struct payload_drops *d, int64_t pid, struct xt_err *err);
enum xt_code payload_drops_end(struct conn *c, struct payload_drops *d, struct xt_err *err);
enum xt_code payload_drop(struct conn *c, int64_t pid, struct xt_err *err); /* at once */
/* `gone` more texts of the pack in row `first` have no one who points to them. */
enum xt_code payload_lose(struct conn *c, int64_t first, int64_t n, int64_t gone, struct xt_err *err);
