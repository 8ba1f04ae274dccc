/* filter.h -- which (metric, label name, label value) a generation holds: a blocked bloom filter in rows of a page.
 *
 * A look-up reads one row and one line of 64 bytes in it. "Maybe" is wrong about once in 300; "no" is always right, so
 * a damaged row says maybe. Hashes are part of the file format: the same in every process and for ever. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define FILTER_LINE 64      /* bytes of one line */
#define FILTER_ROW_LINES 63 /* lines of one row: with its key it fits a page of 4 KB */
#define FILTER_ROW (FILTER_LINE * FILTER_ROW_LINES)

struct filter {
    uint8_t *bytes; /* rows * FILTER_ROW, malloc'd */
    size_t rows;
};

/* Hash of one label of a metric, by the number that the metric has in the store. */
uint64_t filter_hash(int64_t metric, struct str key, struct str value);
/* The same in two steps, for many values of one label; an id stands for its 32 lower-case hex digits. */
uint64_t filter_label(int64_t metric, struct str key);
uint64_t filter_text(uint64_t label, struct str value);
uint64_t filter_id(uint64_t label, const uint8_t id[16]);
/* A filter of n hashes (doubles do no harm but take room); at least one row. False: no memory. */
bool filter_make(const uint64_t *hashes, size_t n, struct filter *ret) __attribute__((warn_unused_result));
void filter_done(struct filter *f);
/* The row (below `rows`, which is at least 1) that knows about a hash. */
size_t filter_row(uint64_t hash, size_t rows);
/* May the generation hold it? */
bool filter_maybe(struct str row, size_t rows, uint64_t hash);
