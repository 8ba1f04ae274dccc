/* codec.c -- hex, base64, percent-decoding, UTF-8, JSON string escapes.
 *
 *  1. Nothing is read outside s; at most the promised room of `out` is written.
 *  2. Every decoder takes the whole text or refuses it.
 *  3. Plain spans (ASCII, no escape) are the common case and are taken by the word or by memchr and memcpy. */
#include "base/codec.h"

static const char hex_digits[] = "0123456789abcdef";

/* Value of a hex digit with HEX_OK set; 0 for any other byte. */
#define HEX_OK 0x10
static const uint8_t hex_values[256] = {
    ['0'] = 0x10, ['1'] = 0x11, ['2'] = 0x12, ['3'] = 0x13, ['4'] = 0x14, ['5'] = 0x15, ['6'] = 0x16, ['7'] = 0x17,
    ['8'] = 0x18, ['9'] = 0x19, ['a'] = 0x1a, ['b'] = 0x1b, ['c'] = 0x1c, ['d'] = 0x1d, ['e'] = 0x1e, ['f'] = 0x1f,
    ['A'] = 0x1a, ['B'] = 0x1b, ['C'] = 0x1c, ['D'] = 0x1d, ['E'] = 0x1e, ['F'] = 0x1f,
};

/* The byte of two hex digits; clears HEX_OK in *ok when they are none. */
static inline uint8_t hex_byte(const char *p, uint8_t *ok) {
    uint8_t hi = hex_values[(uint8_t)p[0]], lo = hex_values[(uint8_t)p[1]];
    *ok &= hi & lo;
    return (uint8_t)(hi << 4 | (lo & 15));
}

bool hex_decode(struct str s, uint8_t *out, size_t n) {
    if (s.n / 2 != n || s.n % 2) {
        return false;
    }
    uint8_t ok = HEX_OK;
    for (size_t i = 0; i < n; i++) {
        out[i] = hex_byte(s.p + 2 * i, &ok);
    }
    return ok & HEX_OK;
}

void hex_encode(const uint8_t *in, size_t n, char *out) {
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = hex_digits[in[i] >> 4];
        out[2 * i + 1] = hex_digits[in[i] & 15];
    }
}

/* ---- base64 ---- */

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Value of a digit with B64_OK set, and B64_URL for the two of the URL-safe alphabet; 0 for any other byte. */
#define B64_OK 0x80u
#define B64_URL 0x40u
static const uint8_t base64_values[256] = {
    ['A'] = 128, ['B'] = 129, ['C'] = 130, ['D'] = 131, ['E'] = 132, ['F'] = 133, ['G'] = 134, ['H'] = 135, ['I'] = 136,
    ['J'] = 137, ['K'] = 138, ['L'] = 139, ['M'] = 140, ['N'] = 141, ['O'] = 142, ['P'] = 143, ['Q'] = 144, ['R'] = 145,
    ['S'] = 146, ['T'] = 147, ['U'] = 148, ['V'] = 149, ['W'] = 150, ['X'] = 151, ['Y'] = 152, ['Z'] = 153, ['a'] = 154,
    ['b'] = 155, ['c'] = 156, ['d'] = 157, ['e'] = 158, ['f'] = 159, ['g'] = 160, ['h'] = 161, ['i'] = 162, ['j'] = 163,
    ['k'] = 164, ['l'] = 165, ['m'] = 166, ['n'] = 167, ['o'] = 168, ['p'] = 169, ['q'] = 170, ['r'] = 171, ['s'] = 172,
    ['t'] = 173, ['u'] = 174, ['v'] = 175, ['w'] = 176, ['x'] = 177, ['y'] = 178, ['z'] = 179, ['0'] = 180, ['1'] = 181,
    ['2'] = 182, ['3'] = 183, ['4'] = 184, ['5'] = 185, ['6'] = 186, ['7'] = 187, ['8'] = 188, ['9'] = 189, ['+'] = 190,
    ['/'] = 191, ['-'] = 254, ['_'] = 255,
};

/* Digits without padding. *ret_good is false for a byte that is no digit; *ret_url tells of digits of the URL-safe
 * alphabet, *ret_rest of bits set behind the last byte. */
static size_t base64_digits_decode(struct str s, uint8_t *out, bool *ret_good, bool *ret_url, bool *ret_rest) {
    uint32_t good = B64_OK, any = 0, acc = 0;
    unsigned bits = 0;
    size_t i = 0, n = 0;
    for (; s.n - i >= 4; i += 4, n += 3) {
        uint32_t a = base64_values[(uint8_t)s.p[i]], b = base64_values[(uint8_t)s.p[i + 1]];
        uint32_t c = base64_values[(uint8_t)s.p[i + 2]], d = base64_values[(uint8_t)s.p[i + 3]];
        good &= a & b & c & d;
        any |= a | b | c | d;
        uint32_t v = (a & 63) << 18 | (b & 63) << 12 | (c & 63) << 6 | (d & 63);
        out[n] = (uint8_t)(v >> 16);
        out[n + 1] = (uint8_t)(v >> 8);
        out[n + 2] = (uint8_t)v;
    }
    for (; i < s.n; i++) {
        uint32_t v = base64_values[(uint8_t)s.p[i]];
        good &= v;
        any |= v;
        acc = acc << 6 | (v & 63);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[n++] = (uint8_t)(acc >> bits);
        }
    }
    *ret_good = good & B64_OK;
    *ret_url = any & B64_URL;
    *ret_rest = acc & ((1u << bits) - 1);
    return n;
}

static size_t base64_padding(struct str s) {
    size_t pad = 0;
    while (pad < 2 && pad < s.n && s.p[s.n - 1 - pad] == '=') {
        pad++;
    }
    return pad;
}

bool base64_decode(struct str s, uint8_t *out, size_t *ret_n) {
    bool good, url, rest;
    if (s.n % 4 != 0) {
        return false;
    }
    size_t n = base64_digits_decode(str_sub(s, 0, s.n - base64_padding(s)), out, &good, &url, &rest);
    if (!good || url || rest) { /* set bits after the last byte: not what an encoder writes */
        return false;
    }
    *ret_n = n;
    return true;
}

bool base64_decode_lenient(struct str s, uint8_t *out, size_t *ret_n) {
    bool good, url, rest;
    size_t pad = base64_padding(s);
    size_t digits = s.n - pad;
    if (digits % 4 == 1 || (pad > 0 && pad > (4 - digits % 4) % 4)) {
        return false;
    }
    size_t n = base64_digits_decode(str_sub(s, 0, digits), out, &good, &url, &rest);
    if (!good) {
        return false;
    }
    *ret_n = n;
    return true;
}

size_t base64_encode(const uint8_t *in, size_t n, char *out) {
    char *p = out;
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t v = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) | (left > 2 ? in[i + 2] : 0u);
        *p++ = base64_digits[v >> 18];
        *p++ = base64_digits[v >> 12 & 63];
        *p++ = left > 1 ? base64_digits[v >> 6 & 63] : '=';
        *p++ = left > 2 ? base64_digits[v & 63] : '=';
    }
    return (size_t)(p - out);
}

size_t percent_decode(struct str s, bool plus_is_space, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%' && s.n - i > 2) {
            uint8_t ok = HEX_OK, byte = hex_byte(s.p + i + 1, &ok);
            if (ok) {
                c = (char)byte;
                i += 2;
            }
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        out[n++] = c;
    }
    return n;
}

/* ---- UTF-8 (Unicode table 3-7: shortest form, no surrogates, at most U+10FFFF) ---- */

/* Length of the run of ASCII at p. */
static inline size_t ascii_run(const char *p, size_t n) {
    size_t i = 0;
    for (uint64_t word; n - i >= sizeof(word); i += sizeof(word)) {
        memcpy(&word, p + i, sizeof(word));
        if (word & UINT64_C(0x8080808080808080)) {
            break;
        }
    }
    while (i < n && (unsigned char)p[i] < 0x80) {
        i++;
    }
    return i;
}

/* The sequence at p (n > 0, first byte >= 0x80): its length, or 0 when malformed; then *ret_bad is the length of the
 * longest prefix that could have begun a sequence (at least 1), which is what one U+FFFD replaces. */
static inline size_t utf8_sequence(const unsigned char *p, size_t n, size_t *ret_bad) {
    unsigned char first = p[0], low = 0x80, high = 0xbf;
    size_t len;
    *ret_bad = 1;
    if (first >= 0xc2 && first <= 0xdf) {
        len = 2;
    } else if ((first & 0xf0) == 0xe0) {
        len = 3;
        low = first == 0xe0 ? 0xa0 : low;
        high = first == 0xed ? 0x9f : high;
    } else if (first >= 0xf0 && first <= 0xf4) {
        len = 4;
        low = first == 0xf0 ? 0x90 : low;
        high = first == 0xf4 ? 0x8f : high;
    } else {
        return 0;
    }
    if (n < 2 || p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if (i >= n || (p[i] & 0xc0) != 0x80) {
            *ret_bad = i;
            return 0;
        }
    }
    return len;
}

bool utf8_valid(struct str s) {
    size_t i = 0, bad;
    while (i < s.n) {
        i += ascii_run(s.p + i, s.n - i);
        while (i < s.n && (unsigned char)s.p[i] >= 0x80) {
            size_t len = utf8_sequence((const unsigned char *)s.p + i, s.n - i, &bad);
            if (len == 0) {
                return false;
            }
            i += len;
        }
    }
    return true;
}

size_t utf8_repair(struct str s, char *out) {
    size_t i = 0, n = 0;
    while (i < s.n) {
        size_t len = ascii_run(s.p + i, s.n - i), bad = 0;
        if (len == 0) {
            len = utf8_sequence((const unsigned char *)s.p + i, s.n - i, &bad);
        }
        if (len) {
            memcpy(out + n, s.p + i, len);
            n += len;
            i += len;
        } else {
            memcpy(out + n, "\xef\xbf\xbd", 3);
            n += 3;
            i += bad;
        }
    }
    return n;
}

size_t utf8_cut(struct str s, size_t n) {
    if (n >= s.n) {
        return s.n;
    }
    /* A sequence is cut when the byte behind the cut continues it; it began at most three bytes before. */
    for (size_t back = 0; back <= 3 && back <= n; back++) {
        if (((unsigned char)s.p[n - back] & 0xc0) != 0x80) {
            return n - back;
        }
    }
    return n; /* not UTF-8 */
}

static size_t utf8_put(uint32_t c, char *out) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 63));
        out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* ---- JSON escapes ---- */

/* Reads "uXXXX" at p into *ret. */
static bool unit16(const char *p, size_t n, uint32_t *ret) {
    uint8_t b[2];
    if (n < 5 || p[0] != 'u' || !hex_decode((struct str){ p + 1, 4 }, b, 2)) {
        return false;
    }
    *ret = (uint32_t)b[0] << 8 | b[1];
    return true;
}

/* The "uXXXX" at p, and the low half of a pair after it. Returns the bytes taken, 0 when malformed. */
static size_t unescape_unit(const char *p, size_t n, bool lenient, uint32_t *ret) {
    uint32_t low;
    if (!unit16(p, n, ret)) {
        return 0;
    }
    if (*ret < 0xd800 || *ret > 0xdfff) {
        return 5;
    }
    if (*ret < 0xdc00 && n > 5 && p[5] == '\\' && unit16(p + 6, n - 6, &low) && low >= 0xdc00 && low <= 0xdfff) {
        *ret = 0x10000 + ((*ret - 0xd800) << 10) + (low - 0xdc00);
        return 11;
    }
    *ret = 0xfffd;
    return lenient ? 5 : 0;
}

static char simple_escape(char c) {
    switch (c) {
    case '"':
    case '\\':
    case '/': return c;
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    default: return '\0';
    }
}

size_t json_unescape(struct str s, bool lenient, char *out) {
    size_t i = 0, n = 0;
    while (i < s.n) {
        size_t plain = str_find((struct str){ s.p + i, s.n - i }, '\\');
        memcpy(out + n, s.p + i, plain);
        n += plain;
        i += plain;
        if (i == s.n) {
            break;
        }
        if (++i == s.n) {
            return SIZE_MAX;
        }
        if (s.p[i] == 'u') {
            uint32_t c;
            size_t taken = unescape_unit(s.p + i, s.n - i, lenient, &c);
            if (taken == 0) {
                return SIZE_MAX;
            }
            n += utf8_put(c, out + n);
            i += taken;
        } else {
            char c = simple_escape(s.p[i++]);
            if (c == '\0') {
                return SIZE_MAX;
            }
            out[n++] = c;
        }
    }
    return n;
}

bool mem_eq_const_time(struct str a, struct str b) {
    if (!a.p || !b.p || a.n != b.n) { /* an absent secret equals nothing */
        return false;
    }
    volatile unsigned char diff = 0; /* volatile: no early way out that the compiler could find */
    for (size_t i = 0; i < a.n; i++) {
        diff |= (unsigned char)(a.p[i] ^ b.p[i]);
    }
    return diff == 0;
}
