/* keys.h -- the turn, run and step that a record's metadata names, for look-ups by them (struct record_keys of query.h).
 *
 * A member of metadata's top level counts when its value is a string or a number; a number by its text. Of equal names the
 * last one counts. */
#pragma once
#include "base/arena.h"
#include "store/query.h"

/* Texts live in the arena. False: no memory. */
bool record_keys_of(struct arena *a, struct str metadata, struct record_keys *ret);
bool record_keys_any(const struct record_keys *k);
