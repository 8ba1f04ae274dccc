/* test_log.c -- lines as they reach stderr, which is a file here. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define LINE_MAX_BYTES 4096

static char captured[1 << 20];

/* Points stderr to a file of its own. */
static FILE *redirect(int *ret_saved) {
    FILE *f = tmpfile();
    assert_non_null(f);
    *ret_saved = dup(STDERR_FILENO);
    assert_true(*ret_saved >= 0);
    assert_true(dup2(fileno(f), STDERR_FILENO) >= 0);
    return f;
}

/* Undoes it; what was written is in `captured`. Returns its length. */
static size_t restore(FILE *f, int saved) {
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
    rewind(f);
    size_t n = fread(captured, 1, sizeof(captured) - 1, f);
    captured[n] = 0;
    fclose(f);
    return n;
}

/* The text behind time and level of a line; checks those. */
static const char *text_of(const char *line, const char *level) {
    int64_t ns;
    assert_int_equal(time_parse_rfc3339((struct str){ line, 24 }, &ns), TIME_OK);
    assert_int_equal(line[19], '.'); /* always milliseconds */
    assert_true(ns <= clock_now_ns() && ns > clock_now_ns() - 100 * NS_PER_SEC);
    assert_int_equal(line[24], ' ');
    size_t n = strlen(level);
    assert_memory_equal(line + 25, level, n);
    assert_int_equal(line[25 + n], ' ');
    return line + 26 + n;
}

static void test_line(void **state) {
    (void)state;
    int saved;
    FILE *f = redirect(&saved);
    errno = 4711;
    log_info("event=start addr=%s port=%d", "127.0.0.1", 8742);
    int after = errno;
    restore(f, saved);
    assert_int_equal(after, 4711);
    assert_string_equal(text_of(captured, "INFO"), "event=start addr=127.0.0.1 port=8742\n");
}

static void test_levels(void **state) {
    (void)state;
    static const char *const words[] = { "error", "warn", "info", "debug" };
    for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
        enum log_level parsed;
        assert_true(log_level_parse(words[level], &parsed));
        assert_int_equal(parsed, level);
        int saved;
        FILE *f = redirect(&saved);
        log_set_level(parsed);
        log_error("a=1");
        log_warn("a=2");
        log_info("a=3");
        log_debug("a=4");
        log_set_level(LOG_INFO);
        restore(f, saved);
        int lines = 0;
        for (const char *p = captured; (p = strchr(p, '\n')); p++) {
            lines++;
        }
        assert_int_equal(lines, level + 1);
        text_of(captured, "ERROR");
    }
    enum log_level parsed = LOG_DEBUG;
    assert_true(log_level_parse("INFO", &parsed));
    assert_int_equal(parsed, LOG_INFO);
    assert_false(log_level_parse("verbose", &parsed));
    assert_false(log_level_parse("", &parsed));
    assert_false(log_level_parse(NULL, &parsed));
}

static void test_escapes(void **state) {
    (void)state;
    static const struct {
        const char *in, *want;
    } cases[] = {
        { "", "\n" },
        { "a\nINFO event=forged", "a\\nINFO event=forged\n" },
        { "\r\t", "\\r\\t\n" },
        { "\x1b[31m\x01\x7f", "\\x1b[31m\\x01\\x7f\n" },
        { "caf\xc3\xa9", "caf\xc3\xa9\n" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int saved;
        FILE *f = redirect(&saved);
        log_warn("%s", cases[i].in);
        restore(f, saved);
        assert_string_equal(text_of(captured, "WARN"), cases[i].want);
    }
}

static void test_text(void **state) {
    (void)state;
    static const struct {
        const char *in, *want;
    } cases[] = {
        { "", "" },
        { "plain caf\xc3\xa9", "plain caf\xc3\xa9" },
        { "a\" status=200 x=\"", "a\\\" status=200 x=\\\"" },
        { "a\\", "a\\\\" },
    };
    char out[LOG_TEXT_MAX], in[2 * LOG_TEXT_MAX];
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_string_equal(log_text(out, str_c(cases[i].in)), cases[i].want);
    }
    assert_string_equal(log_text(out, STR_NONE), "");
    for (size_t shift = 0; shift < 3; shift++) { /* never half an escape, never half a character */
        memset(in, 'x', shift);
        memset(in + shift, '"', sizeof(in) - shift);
        size_t n = strlen(log_text(out, (struct str){ in, sizeof(in) }));
        assert_true(n >= LOG_TEXT_MAX - 2 && n < LOG_TEXT_MAX && (n - shift) % 2 == 0);
        for (size_t i = shift; i + 1 < sizeof(in); i += 2) {
            memcpy(in + i, "\xc3\xa9", 2);
        }
        n = strlen(log_text(out, (struct str){ in, sizeof(in) }));
        assert_true(n >= LOG_TEXT_MAX - 2 && utf8_valid((struct str){ out, n }));
    }
}

static size_t log_bytes(const char *text) {
    int saved;
    FILE *f = redirect(&saved);
    log_info("%s", text);
    size_t n = restore(f, saved);
    assert_int_equal(captured[n - 1], '\n');
    assert_ptr_equal(strchr(captured, '\n'), captured + n - 1);
    return n;
}

static void test_long(void **state) {
    (void)state;
    static const char *const units[] = { "x", "\xc3\xa9", "\xf0\x9f\x98\x80", "\n", "\x01" };
    static const size_t printed[] = { 1, 2, 4, 2, 4 }; /* bytes in the log */
    const size_t head = strlen("2026-11-22T15:00:00.123Z INFO "), room = LINE_MAX_BYTES - head - strlen("...\n");
    for (size_t u = 0; u < COUNT(units); u++) {
        for (size_t shift = 0; shift < 4; shift++) {
            for (size_t over = 0; over < 3; over++) { /* the last that fits, and what no longer does */
                size_t count = (room - shift) / printed[u] + over;
                char text[3 * LINE_MAX_BYTES] = "aaa";
                for (size_t i = 0; i < count; i++) {
                    memcpy(text + shift + i * strlen(units[u]), units[u], strlen(units[u]) + 1);
                }
                size_t n = log_bytes(text);
                assert_true(n <= LINE_MAX_BYTES);
                assert_int_equal(strcmp(captured + n - 4, "...\n") == 0, over > 0);
                assert_true(utf8_valid((struct str){ captured, n }));
                size_t kept = over ? (room - shift) / printed[u] : count;
                assert_int_equal(n, head + shift + kept * printed[u] + (over ? 4 : 1));
            }
        }
    }
    static char huge[100000];
    memset(huge, 'x', sizeof(huge) - 1);
    assert_int_equal(log_bytes(huge), LINE_MAX_BYTES);
}

enum { THREADS = 8, LINES = 200 };

static void *many_lines(void *arg) {
    for (int i = 0; i < LINES; i++) {
        log_info("thread=%d line=%d pad=%0100d end", *(const int *)arg, i, 0);
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    int numbers[THREADS], saved;
    FILE *f = redirect(&saved);
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, many_lines, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    restore(f, saved);
    int next[THREADS] = { 0 }, count = 0;
    for (char *p = captured, *end; (end = strchr(p, '\n')); p = end + 1) {
        int thread, line;
        *end = 0;
        assert_int_equal(sscanf(text_of(p, "INFO"), "thread=%d line=%d", &thread, &line), 2);
        assert_true(thread >= 0 && thread < THREADS);
        assert_int_equal(line, next[thread]++); /* whole, and in each thread's order */
        assert_string_equal(end - 4, " end");
        count++;
    }
    assert_int_equal(count, THREADS * LINES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line), cmocka_unit_test(test_levels), cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_text), cmocka_unit_test(test_long),   cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
