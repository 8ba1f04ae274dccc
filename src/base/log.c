/* log.c -- one write(2) a line, so that lines of several threads never mix.
 * Invariant: a line has at most LINE_MAX_BYTES bytes (what a pipe takes in one piece), its newline included, and no other
 * control byte; what does not fit is cut and ends in "...". */
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/codec.h"

#define LINE_MAX_BYTES 4096 /* PIPE_BUF on Linux */
_Static_assert(LINE_MAX_BYTES <= PIPE_BUF, "a line is one atomic write to a pipe");

static const char *const words[] = {
    [LOG_ERROR] = "ERROR", [LOG_WARN] = "WARN", [LOG_INFO] = "INFO", [LOG_DEBUG] = "DEBUG"
};
#define LEVELS (sizeof(words) / sizeof(words[0]))

/* The one mutable global; relaxed, because a line more or less while it changes does not matter. */
static _Atomic int current_level = LOG_INFO;

void log_set_level(enum log_level level) { atomic_store_explicit(&current_level, (int)level, memory_order_relaxed); }

bool log_level_parse(const char *word, enum log_level *ret) {
    for (size_t i = 0; i < LEVELS; i++) {
        if (word && strcasecmp(word, words[i]) == 0) {
            *ret = (enum log_level)i;
            return true;
        }
    }
    return false;
}

/* "2026-11-22T15:00:00.123Z INFO ": always with milliseconds. */
static size_t put_head(char *out, enum log_level level) {
    char zone_text[TIME_TEXT_MAX];
    int64_t now = clock_now_ns();
    time_format_z(time_floor(now, NS_PER_SEC), zone_text);
    int ms = (int)((now - time_floor(now, NS_PER_SEC)) / NS_PER_MS);
    int n = snprintf(out, 64, "%.19s.%03dZ %s ", zone_text, ms, words[level]);
    return (size_t)n;
}

/* Copies text with control bytes as \n, \r, \t or \xNN. Returns the bytes written, at most `room`; whole escapes only. */
static size_t put_escaped(char *out, size_t room, const char *text, size_t n, bool *ret_cut) {
    static const char digits[] = "0123456789abcdef";
    size_t at = 0;
    *ret_cut = false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        char escape[4] = { text[i] };
        size_t len = 1;
        if (c == '\n' || c == '\r' || c == '\t') {
            escape[0] = '\\';
            escape[1] = c == '\n' ? 'n' : c == '\r' ? 'r' : 't';
            len = 2;
        } else if (c < 0x20 || c == 0x7f) {
            escape[0] = '\\';
            escape[1] = 'x';
            escape[2] = digits[c >> 4];
            escape[3] = digits[c & 15];
            len = 4;
        }
        if (len > room - at) {
            *ret_cut = true;
            return at - (i - utf8_cut((struct str){ text, n }, i)); /* the start of a character that did not fit */
        }
        memcpy(out + at, escape, len);
        at += len;
    }
    return at;
}

const char *log_text(char out[LOG_TEXT_MAX], struct str s) {
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        bool escape = s.p[i] == '"' || s.p[i] == '\\';
        if (n + 1 + escape >= LOG_TEXT_MAX) {
            n -= i - utf8_cut(s, i);
            break;
        }
        if (escape) {
            out[n++] = '\\';
        }
        out[n++] = s.p[i];
    }
    out[n] = '\0';
    return out;
}

static void write_all(const char *p, size_t n) {
    while (n > 0) {
        ssize_t done = write(STDERR_FILENO, p, n);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return; /* nobody to tell */
        }
        p += done;
        n -= (size_t)done;
    }
}

void log_line(enum log_level level, const char *fmt, ...) {
    if ((int)level > atomic_load_explicit(&current_level, memory_order_relaxed)) {
        return;
    }
    int saved_errno = errno;
    char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES];
    va_list args;
    va_start(args, fmt);
    int full = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    size_t n = full < 0 ? 0 : (size_t)full < sizeof(text) ? (size_t)full : sizeof(text) - 1;
    size_t at = put_head(line, level);
    bool cut;
    at += put_escaped(line + at, sizeof(line) - at - strlen("...\n"), text, n, &cut); /* `text` alone overfills that */
    if (cut) {
        memcpy(line + at, "...", 3);
        at += 3;
    }
    line[at++] = '\n';
    write_all(line, at);
    errno = saved_errno;
}
