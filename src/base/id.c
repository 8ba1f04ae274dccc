/* id.c -- spellings of ids to keys and back; the forms of a key are described in id.h. */
#include "base/id.h"

#include <errno.h>
#include <sys/random.h>

#include "base/codec.h"

#define UUID_TEXT 36

/* "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx" without its hyphens. */
static bool hyphenated_decode(const char *p, uint8_t out[16]) {
    if (p[8] != '-' || p[13] != '-' || p[18] != '-' || p[23] != '-') {
        return false;
    }
    return hex_decode((struct str){ p, 8 }, out, 4) && hex_decode((struct str){ p + 9, 4 }, out + 4, 2) &&
           hex_decode((struct str){ p + 14, 4 }, out + 6, 2) && hex_decode((struct str){ p + 19, 4 }, out + 8, 2) &&
           hex_decode((struct str){ p + 24, 12 }, out + 10, 6);
}

static void hyphenated_encode(const uint8_t in[16], char out[UUID_TEXT]) {
    hex_encode(in, 4, out);
    hex_encode(in + 4, 2, out + 9);
    hex_encode(in + 6, 2, out + 14);
    hex_encode(in + 8, 2, out + 19);
    hex_encode(in + 10, 6, out + 24);
    out[8] = out[13] = out[18] = out[23] = '-';
}

static bool uuid_decode(struct str s, uint8_t out[16]) {
    switch (s.n) {
    case 32: return hex_decode(s, out, 16);
    case UUID_TEXT: return hyphenated_decode(s.p, out);
    case UUID_TEXT + 2: return s.p[0] == '{' && s.p[37] == '}' && hyphenated_decode(s.p + 1, out);
    case UUID_TEXT + 9: return str_eq_nocase(str_sub(s, 0, 9), STR_LIT("urn:uuid:")) && hyphenated_decode(s.p + 9, out);
    default: return false;
    }
}

/* The key of a 128-bit id: without its upper half where that is zero. Absent when there is no memory. */
static struct str binary_key(struct arena *a, const uint8_t bytes[16]) {
    static const uint8_t zero[8];
    size_t skip = memcmp(bytes, zero, sizeof(zero)) == 0 ? 8 : 0;
    char *key = arena_bytes(a, 16 - skip);
    if (!key) {
        return STR_NONE;
    }
    memcpy(key, bytes + skip, 16 - skip);
    return (struct str){ key, 16 - skip };
}

static struct str text_key(struct arena *a, struct str s) {
    size_t n = s.n + 1;
    bool pad = n == 8 || n == 16;
    char *key = arena_bytes(a, n + pad);
    if (!key) {
        return STR_NONE;
    }
    key[0] = '\0';
    memcpy(key + 1, s.p, s.n);
    if (pad) {
        key[n] = '\0';
    }
    return (struct str){ key, n + pad };
}

bool id_from_uuid(struct arena *a, struct str s, struct id *ret) {
    uint8_t bytes[16];
    if (!uuid_decode(s, bytes)) {
        return false;
    }
    struct str key = binary_key(a, bytes);
    if (!key.p) {
        return false;
    }
    *ret = (struct id){ key, ID_UUID, STR_NONE };
    return true;
}

bool id_from_bytes(struct arena *a, const uint8_t *bytes, size_t n, struct id *ret) {
    uint8_t full[16] = { 0 };
    if (n != 16 && n != 8) {
        return false;
    }
    memcpy(full + 16 - n, bytes, n);
    struct str key = binary_key(a, full);
    if (!key.p) {
        return false;
    }
    *ret = (struct id){ key, n == 16 ? ID_HEX32 : ID_HEX16, STR_NONE };
    return true;
}

/* A text that is no 128-bit id: 1 to ID_MAX characters of UTF-8, no NUL, no CR. */
static bool text_ok(struct str s) {
    if (s.n == 0 || s.n > (size_t)4 * ID_MAX || memchr(s.p, '\0', s.n) || memchr(s.p, '\r', s.n) || !utf8_valid(s)) {
        return false;
    }
    size_t characters = 0;
    for (size_t i = 0; i < s.n; i++) {
        characters += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    }
    return characters <= ID_MAX;
}

/* 16 hex digits are a 64-bit id: its zero-padded 128-bit form. */
static bool any_binary_decode(struct str s, uint8_t out[16]) {
    if (s.n == 16) {
        memset(out, 0, 8);
        return hex_decode(s, out + 8, 8);
    }
    return uuid_decode(s, out);
}

bool id_key(struct arena *a, struct str s, struct str *ret_key) {
    uint8_t bytes[16];
    struct str key = STR_NONE;
    if (any_binary_decode(s, bytes)) {
        key = binary_key(a, bytes);
    } else if (text_ok(s)) {
        key = text_key(a, s);
    }
    if (!key.p) {
        return false;
    }
    *ret_key = key;
    return true;
}

/* How a 128-bit id was spelled: ID_TEXT when printing its key would not give the same text. */
static enum id_spell spelling_of(struct str s, struct str key) {
    enum id_spell spell = s.n == 16 ? ID_HEX16 : s.n == 32 ? ID_HEX32 : s.n == UUID_TEXT ? ID_UUID : ID_TEXT;
    if (key.n != 8 && key.n != 16) { /* no 128-bit id */
        return ID_TEXT;
    }
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] >= 'A' && s.p[i] <= 'Z') {
            return ID_TEXT;
        }
    }
    return spell;
}

bool id_from_text(struct arena *a, struct str s, struct id *ret) {
    struct id id = ID_NONE;
    if (!id_key(a, s, &id.key)) {
        return false;
    }
    id.spell = spelling_of(s, id.key);
    if (id.spell == ID_TEXT) {
        id.text = arena_str(a, s);
        if (!id.text.p) {
            return false;
        }
    }
    *ret = id;
    return true;
}

struct str id_print(struct arena *a, struct str key, enum id_spell spell, struct str text) {
    if (spell == ID_TEXT) {
        return text;
    }
    if (key.n != 8 && key.n != 16) {
        return STR_NONE;
    }
    uint8_t bytes[16] = { 0 };
    memcpy(bytes + 16 - key.n, key.p, key.n);
    char out[ID_PRINT_MAX];
    size_t n = 32;
    if (spell == ID_UUID) {
        hyphenated_encode(bytes, out);
        n = UUID_TEXT;
    } else if (spell == ID_HEX16 && key.n == 8) {
        hex_encode(bytes + 8, 8, out);
        n = 16;
    } else {
        hex_encode(bytes, 16, out);
    }
    return arena_str(a, (struct str){ out, n });
}

bool random_bytes(void *out, size_t n) {
    char *p = out;
    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        p += got;
        n -= (size_t)got;
    }
    return true;
}
