/* ident.c -- see ident.h. */
#include "store/sample/ident.h"

#include "base/codec.h"

#define HEX_CHARS 32

static inline bool dash_before(unsigned byte) { return byte == 4 || byte == 6 || byte == 8 || byte == 10; }

static const uint8_t digit_of[256] = {
    ['0'] = 1, ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9, ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

unsigned ident_parse(struct str s, uint8_t ret[IDENT_BYTES]) {
    if (s.n != HEX_CHARS && s.n != IDENT_CHARS)
        return IDENT_TEXT;
    const unsigned char *p = (const unsigned char *)s.p;
    bool uuid = s.n == IDENT_CHARS;
    for (unsigned i = 0; i < IDENT_BYTES; i++) {
        if (uuid && dash_before(i) && *p++ != '-')
            return IDENT_TEXT;
        unsigned high = digit_of[p[0]], low = digit_of[p[1]];
        if (!high || !low)
            return IDENT_TEXT;
        ret[i] = (uint8_t)((high - 1) << 4 | (low - 1));
        p += 2;
    }
    return uuid ? IDENT_UUID : IDENT_HEX;
}

size_t ident_text(unsigned form, const uint8_t id[IDENT_BYTES], char room[IDENT_CHARS]) {
    if (form == IDENT_HEX) {
        hex_encode(id, IDENT_BYTES, room);
        return HEX_CHARS;
    }
    char *p = room;
    for (unsigned i = 0; i < IDENT_BYTES; i++) {
        if (dash_before(i))
            *p++ = '-';
        hex_encode(id + i, 1, p);
        p += 2;
    }
    return IDENT_CHARS;
}
