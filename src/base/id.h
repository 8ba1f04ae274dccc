/* id.h -- identity of traces and observations.
 *
 * Any string of 1 to 800 characters without NUL or CR is an id. 128-bit ids compare equal in all their spellings
 * (32 hex digits, hyphenated, braces, urn:uuid:, any case), and a 16-hex span id equals its zero-padded UUID. What is
 * compared and stored is the key; how it is printed is the spelling of its first writer.
 *   key of a 64-bit id (upper half zero):  8 bytes
 *   key of another 128-bit id:            16 bytes
 *   key of any other text:                 0x00, the text, and one more 0x00 if that made 8 or 16 bytes
 * The forms never collide, and bytewise order of keys is an order of ids. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"

enum id_spell {
    ID_UUID = 0, /* 8-4-4-4-12, lower case */
    ID_HEX32,    /* 32 lower-case hex digits */
    ID_HEX16,    /* 16 lower-case hex digits (upper half is zero) */
    ID_TEXT      /* as sent: `text` holds it */
};
struct id {
    struct str key; /* absent: no id */
    enum id_spell spell;
    struct str text; /* ID_TEXT only */
};
#define ID_NONE ((struct id){ STR_NONE, ID_UUID, STR_NONE })
#define ID_MAX 800      /* characters */
#define ID_PRINT_MAX 37 /* bytes of a non-text id, NUL included */

static inline bool id_has(const struct id *id) { return id->key.p != NULL; }
/* A UUID in any of the spellings that the native routes take, spelled ID_UUID afterwards. False: not a UUID (or no memory). */
bool id_from_uuid(struct arena *a, struct str s, struct id *ret);
/* Raw bytes of a protobuf id: n is 16 (trace) or 8 (span). */
bool id_from_bytes(struct arena *a, const uint8_t *bytes, size_t n, struct id *ret);
/* Any id as a Langfuse client sends it; spelled as sent. False: empty, too long, NUL, CR, not UTF-8, no memory. */
bool id_from_text(struct arena *a, struct str s, struct id *ret);
/* The key that a look-up by `s` compares with: as id_from_text, but only the key matters. */
bool id_key(struct arena *a, struct str s, struct str *ret_key);
/* Text of an id from its key and spelling; for ID_TEXT pass the stored text. Arena-allocated unless text. */
struct str id_print(struct arena *a, struct str key, enum id_spell spell, struct str text);
/* n random bytes from the system. False only when the system has none. */
bool random_bytes(void *out, size_t n);
