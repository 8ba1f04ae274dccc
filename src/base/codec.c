/* codec.c -- hex, base64, percent-decoding, UTF-8, JSON string escapes.
 *
 *  1. Nothing is read outside s; at most the promised room of `out` is written.
 *  2. Every decoder takes the whole text or refuses it.
 *  3. Plain spans (ASCII, no escape) are the common case and are taken by the word or by memchr and memcpy. */
#include "base/codec.h"

static const char hex_digits[] = "0123456789abcdef";

/* Value of a hex digit; 0xff for any other byte. */
static inline uint8_t hex_value(char c) {
    uint8_t u = (uint8_t)c;
    uint8_t digit = (uint8_t)(u - '0'), letter = (uint8_t)((u | 0x20) - 'a');
    return digit < 10 ? digit : letter < 6 ? (uint8_t)(letter + 10) : 0xff;
}

bool hex_decode(struct str s, uint8_t *out, size_t n) {
    if (s.n / 2 != n || s.n % 2) {
        return false;
    }
    uint8_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t hi = hex_value(s.p[2 * i]), lo = hex_value(s.p[2 * i + 1]);
        bad |= hi | lo; /* a value has its upper half clear */
        out[i] = (uint8_t)(hi << 4 | (lo & 15));
    }
    return bad < 16;
}

void hex_encode(const uint8_t *in, size_t n, char *out) {
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = hex_digits[in[i] >> 4];
        out[2 * i + 1] = hex_digits[in[i] & 15];
    }
}

/* ---- base64 ---- */

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#define B64_URL 0x40u /* set on the two digits of the URL-safe alphabet */
#define B64_BAD 0x80u

static inline uint32_t base64_value(char c) {
    if (c >= 'A' && c <= 'Z') {
        return (uint32_t)(c - 'A');
    }
    if (c >= 'a' && c <= 'z') {
        return (uint32_t)(c - 'a' + 26);
    }
    if (c >= '0' && c <= '9') {
        return (uint32_t)(c - '0' + 52);
    }
    return c == '+' ? 62 : c == '/' ? 63 : c == '-' ? (62 | B64_URL) : c == '_' ? (63 | B64_URL) : B64_BAD;
}

/* Digits without padding; flags of all digits are gathered in *ret_flags, the bits that no byte took in *ret_rest. */
static size_t base64_digits_decode(struct str s, uint8_t *out, uint32_t *ret_flags, uint32_t *ret_rest) {
    uint32_t acc = 0, flags = 0;
    unsigned bits = 0;
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        uint32_t v = base64_value(s.p[i]);
        flags |= v;
        acc = acc << 6 | (v & 63);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[n++] = (uint8_t)(acc >> bits);
        }
    }
    *ret_flags = flags & (B64_URL | B64_BAD);
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
    uint32_t flags, rest;
    if (s.n % 4 != 0) {
        return false;
    }
    size_t n = base64_digits_decode(str_sub(s, 0, s.n - base64_padding(s)), out, &flags, &rest);
    if (flags || rest) { /* set bits after the last byte: not what an encoder writes */
        return false;
    }
    *ret_n = n;
    return true;
}

bool base64_decode_lenient(struct str s, uint8_t *out, size_t *ret_n) {
    uint32_t flags, rest;
    size_t pad = base64_padding(s);
    size_t digits = s.n - pad;
    if (digits % 4 == 1 || (pad > 0 && pad > (4 - digits % 4) % 4)) {
        return false;
    }
    size_t n = base64_digits_decode(str_sub(s, 0, digits), out, &flags, &rest);
    if (flags & B64_BAD) {
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
            uint8_t hi = hex_value(s.p[i + 1]), lo = hex_value(s.p[i + 2]);
            if (hi < 16 && lo < 16) {
                c = (char)(hi << 4 | lo);
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
