/* exact.h -- keeping numbers as they were sent. jansson turns them into int64 and double, so that raw JSON would come back
 * with other digits, and a document with one integer beyond 64 bits would be refused whole. Before it reads a document,
 * each number with a fraction, an exponent or more than 18 digits becomes a string that begins with a mark; what is read as
 * a number is taken out of it, and in raw JSON it is put back.
 *
 * A mark holds a random number, so that no text of the server is taken for one. */
#pragma once
#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"

struct exact {
    char mark[24];    /* as it stands in a C string */
    char printed[32]; /* with the quote before it, as jansson prints it */
};
void exact_init(struct exact *x, uint64_t random);
/* Copies the document with its numbers marked. Anything goes: what is no JSON stays none. */
void exact_mark(const struct exact *x, struct str json, struct buf *out);
/* The text of a marked number; absent: not one. Lives as long as the value. */
struct str exact_text(const struct exact *x, const json_t *v);
/* The number, marked or not. */
bool exact_f64(const struct exact *x, const json_t *v, double *ret);
/* Copies what jansson printed with the numbers put back. */
void exact_restore(const struct exact *x, struct str printed, struct buf *out);
