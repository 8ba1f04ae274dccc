/* log.h -- a row of the log of a hot part: what one group added to it. The same bytes for every engine.
 *
 * A row says from which numbers on it adds strings, names, sets and points, so that rows after a damaged one can still be
 * read: what it would have added is then lost, and so is what refers to that. A checksum tells a damaged row; whatever
 * passes it is yet taken for hostile. */
#pragma once
#include "base/buf.h"
#include "store/sample/hot.h"

/* Appends the row of all that came after the mark. False: no memory (or past out->max). */
bool sample_log_encode(const struct hot *h, const struct hot_mark *from, struct buf *out);
/* How far a row of about so many bytes gets that starts at `from`. False: nothing is left. */
bool sample_log_next(const struct hot *h, const struct hot_count *from, size_t bytes, struct hot_count *ret);
/* The row of what lies between two such places. */
bool sample_log_encode_to(const struct hot *h, const struct hot_count *from, const struct hot_count *to,
                          struct buf *out);
/* Adds a row's content to the part; nothing is published. XT_ESTORE: damaged, nothing was added; XT_ENOMEM.
 * *ret_lost counts points that fell out because an earlier row is missing. */
enum xt_code sample_log_replay(struct hot *h, struct str row, uint64_t *ret_lost, struct xt_err *err);
