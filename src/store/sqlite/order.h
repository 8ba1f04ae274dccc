/* order.h -- a page of traces in another order than time, in bounded memory: a scan keeps the best ORDER_KEEP keys; a page
 * further down costs a scan for each ORDER_KEEP before it. Ties are broken by number of arrival, in the same direction;
 * an absent value is greater than all (first descending, last ascending). */
#pragma once
#include "store/limits.h"
#include "store/sqlite/scan.h"

/* Numbers of the traces at [offset, offset + limit), into `page` (room for limit). `total` is that of filter_count, or
 * negative when it is not known: the scan finds it. */
enum xt_code order_page(struct sqlite_store *e, struct conn *c, const struct trace_query *q,
                        const struct trace_filter *f, int64_t *page, size_t *ret_n, int64_t *total, struct xt_err *err);
