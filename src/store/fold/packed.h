/* packed.h -- the rare fields of an observation in one blob: tag byte, length (varint, 7 bits a byte, low first), bytes.
 *
 *  1. Tags are for ever: a number is never given another meaning. Readers skip tags they do not know.
 *  2. Absent fields take no room; a present empty text is a tag of length 0.
 *  3. Reading trusts nothing: any bytes end in fields or in false, never beyond the blob. */
#pragma once
#include <stdbool.h>

#include "base/buf.h"
#include "base/str.h"
#include "model/event.h"

/* Appends the packed fields of `o`. False: no memory (out->failed). */
bool packed_write(struct buf *out, const struct observation *o);
/* Sets the fields that the blob holds; texts point into it. An absent blob is an empty one. False: damaged. */
bool packed_read(struct str blob, struct observation *o);
/* Only the text of an ID_TEXT id; absent when the blob has none. False: damaged. */
bool packed_read_id(struct str blob, struct str *ret_text);
