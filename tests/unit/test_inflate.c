/* test_inflate.c -- what comes out of damaged, cut, joined and hostile streams, and the cap to the byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>
#include <zstd.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/inflate.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define CODEC_MEMORY ((size_t)128 * 1024) /* one zstd block */

static const enum coding all_codings[] = { CODING_IDENTITY, CODING_GZIP, CODING_DEFLATE, CODING_ZSTD };

static void test_names(void **state) {
    (void)state;
    static const struct {
        const char *in;
        enum coding want;
    } cases[] = {
        { "gzip", CODING_GZIP },          { "GZip", CODING_GZIP },         { "x-gzip", CODING_GZIP },
        { "deflate", CODING_DEFLATE },    { "zstd", CODING_ZSTD },         { " zstd ", CODING_ZSTD },
        { "", CODING_IDENTITY },          { "identity", CODING_IDENTITY }, { "br", CODING_UNKNOWN },
        { "gzip, gzip", CODING_UNKNOWN }, { "gzi", CODING_UNKNOWN },       { "gzipp", CODING_UNKNOWN },
        { "snappy", CODING_UNKNOWN },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(coding_parse(str_c(cases[i].in)), cases[i].want);
    }
    assert_int_equal(coding_parse(STR_NONE), CODING_IDENTITY);
    for (size_t i = 0; i < COUNT(all_codings); i++) {
        assert_int_equal(coding_parse(str_c(coding_name(all_codings[i]))), all_codings[i]);
    }
    assert_string_equal(coding_name((enum coding)99), "unknown");
}

/* n bytes that compress about two to one. free() them. */
static struct str sample(size_t n) {
    char *p = malloc(n ? n : 1);
    assert_non_null(p);
    uint32_t x = 7;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        p[i] = (char)("{\"0123456789abcd"[x >> 28]);
    }
    return (struct str){ p, n };
}

static void drop(struct str s) { free((void *)(uintptr_t)s.p); }

/* s in memory of its exact size. */
static struct str exact(struct str s) {
    char *p = malloc(s.n ? s.n : 1);
    assert_non_null(p);
    memcpy(p, s.p, s.n);
    return (struct str){ p, s.n };
}

static struct str packed(enum coding c, struct str in) {
    struct buf b;
    struct xt_err err;
    buf_init(&b, in.n * 2 + 1000);
    assert_int_equal(deflate_body(c, in, &b, &err), XT_OK);
    struct str ret = exact(buf_str(&b));
    buf_done(&b);
    return ret;
}

/* deflate without zlib's or gzip's frame, or one of them: window_bits as zlib takes it. */
static struct str packed_bits(int window_bits, struct str in) {
    z_stream z = { 0 };
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size_t room = deflateBound(&z, in.n);
    char *out = malloc(room);
    assert_non_null(out);
    z.next_in = (z_const Bytef *)in.p;
    z.avail_in = (uInt)in.n;
    z.next_out = (Bytef *)out;
    z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    struct str ret = exact((struct str){ out, room - z.avail_out });
    deflateEnd(&z);
    free(out);
    return ret;
}

/* A zstd frame that does not state its size, as streaming compressors write it; flushed every `flush` bytes. */
static struct str packed_stream(struct str in, int window_log, size_t flush) {
    ZSTD_CCtx *ctx = ZSTD_createCCtx();
    assert_non_null(ctx);
    ZSTD_CCtx_setParameter(ctx, ZSTD_c_windowLog, window_log);
    ZSTD_CCtx_setParameter(ctx, ZSTD_c_checksumFlag, 1);
    size_t room = ZSTD_compressBound(in.n) + 1000 + in.n / flush * 20;
    char *out = malloc(room);
    assert_non_null(out);
    ZSTD_outBuffer o = { out, room, 0 };
    for (size_t at = 0; at < in.n || at == 0; at += flush) {
        struct str part = str_sub(in, at, flush);
        ZSTD_inBuffer i = { part.p, part.n, 0 };
        bool last = at + flush >= in.n;
        assert_int_equal(ZSTD_compressStream2(ctx, &o, &i, last ? ZSTD_e_end : ZSTD_e_flush), 0);
    }
    ZSTD_freeCCtx(ctx);
    struct str ret = exact((struct str){ out, o.pos });
    free(out);
    return ret;
}

static struct str joined(struct str a, struct str b) {
    char *p = malloc(a.n + b.n);
    assert_non_null(p);
    memcpy(p, a.p, a.n);
    memcpy(p + a.n, b.p, b.n);
    return (struct str){ p, a.n + b.n };
}

static enum xt_code try_inflate(enum coding c, struct str in, size_t max, struct str want) {
    struct buf out;
    struct xt_err err = { 0 };
    buf_init(&out, max);
    enum xt_code code = inflate_body(c, in, &out, &err);
    assert_int_equal(out.max, max);
    assert_true(out.n <= max);
    assert_true(out.cap <= max + 1 + CODEC_MEMORY);
    if (code == XT_OK) {
        assert_true(str_eq(buf_str(&out), want));
        assert_true(!out.p || out.p[out.n] == 0);
    } else {
        assert_int_equal(err.code, code);
        assert_true(err.msg[0] != 0);
    }
    buf_done(&out);
    return code;
}

static void check_cap(enum coding c, struct str in, struct str text) {
    if (text.n > 0) {
        assert_int_equal(try_inflate(c, in, text.n - 1, text), XT_ETOOBIG);
        assert_int_equal(try_inflate(c, in, text.n / 2, text), XT_ETOOBIG);
        assert_int_equal(try_inflate(c, in, 0, text), XT_ETOOBIG);
    }
    assert_int_equal(try_inflate(c, in, text.n, text), XT_OK);
    assert_int_equal(try_inflate(c, in, text.n + 1, text), XT_OK);
    assert_int_equal(try_inflate(c, in, text.n * 3 + 100, text), XT_OK);
}

static const size_t sizes[] = { 0, 1, 2, 100, 255, 256, 257, 65535, 65536, 131071, 131072, 131073, 400000, 3000000 };

static void test_cap(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct str text = sample(sizes[i]);
        for (size_t k = 0; k < COUNT(all_codings); k++) {
            struct str in = packed(all_codings[k], text);
            check_cap(all_codings[k], in, text);
            drop(in);
        }
        struct str raw = packed_bits(-15, text), small_window = packed_bits(9, text);
        check_cap(CODING_DEFLATE, raw, text);
        check_cap(CODING_DEFLATE, small_window, text);
        check_cap(CODING_GZIP, small_window, text); /* some clients say gzip and send zlib's format */
        drop(raw);
        drop(small_window);
        struct str streamed = packed_stream(text, 10, 100000), one_go = packed_stream(text, 27, SIZE_MAX / 4);
        check_cap(CODING_ZSTD, streamed, text);
        check_cap(CODING_ZSTD, one_go, text);
        drop(streamed);
        drop(one_go);
        drop(text);
    }
}

static void test_many_flushes(void **state) {
    (void)state;
    struct str text = sample(50000), in = packed_stream(text, 20, 10); /* 5,000 blocks that each could hold 128 KB */
    check_cap(CODING_ZSTD, in, text);
    drop(in);
    drop(text);
}

static void test_members(void **state) {
    (void)state;
    struct str a = sample(70000), b = sample(3), none = sample(0);
    struct str ab = joined(a, b);
    static const enum coding multi[] = { CODING_GZIP, CODING_ZSTD };
    for (size_t i = 0; i < COUNT(multi); i++) {
        struct str pa = packed(multi[i], a), pb = packed(multi[i], b), pn = packed(multi[i], none);
        struct str pab = joined(pa, pb), pan = joined(pa, pn), pna = joined(pn, pa);
        check_cap(multi[i], pab, ab);
        check_cap(multi[i], pan, a);
        check_cap(multi[i], pna, a);
        assert_int_equal(try_inflate(multi[i], (struct str){ pab.p, pab.n - 1 }, 1 << 20, ab), XT_EINVAL);
        drop(pa), drop(pb), drop(pn), drop(pab), drop(pan), drop(pna);
    }
    struct str pa = packed(CODING_DEFLATE, a), paa = joined(pa, pa);
    assert_int_equal(try_inflate(CODING_DEFLATE, paa, 1 << 20, a), XT_EINVAL); /* a zlib stream is one */
    drop(pa), drop(paa);
    pa = packed(CODING_ZSTD, a);
    struct str skip = STR_LIT("\x5f\x2a\x4d\x18\x03\0\0\0abc");
    struct str with_skip = joined(skip, pa), skip_behind = joined(pa, skip);
    check_cap(CODING_ZSTD, with_skip, a);
    check_cap(CODING_ZSTD, skip_behind, a);
    assert_int_equal(try_inflate(CODING_ZSTD, skip, 0, none), XT_OK);
    assert_int_equal(try_inflate(CODING_ZSTD, (struct str){ skip.p, skip.n - 1 }, 100, none), XT_EINVAL);
    drop(pa), drop(with_skip), drop(skip_behind);
    drop(a), drop(b), drop(none), drop(ab);
}

static void test_garbage_behind(void **state) {
    (void)state;
    static const struct str tails[] = { STR_LIT("x"),
                                        STR_LIT("\0"),
                                        STR_LIT("\x1f"),
                                        STR_LIT("\x1f\x8b"),
                                        STR_LIT("\x28\xb5\x2f\xfd"),
                                        STR_LIT("garbage behind the end") };
    struct str text = sample(1000);
    for (size_t k = 1; k < COUNT(all_codings); k++) {
        struct str in = packed(all_codings[k], text);
        for (size_t i = 0; i < COUNT(tails); i++) {
            struct str bad = joined(in, tails[i]);
            assert_int_equal(try_inflate(all_codings[k], bad, 1 << 20, text), XT_EINVAL);
            assert_int_equal(try_inflate(all_codings[k], bad, text.n, text), XT_EINVAL);
            drop(bad);
        }
        drop(in);
    }
    drop(text);
}

static void test_cut_off(void **state) {
    (void)state;
    struct str text = sample(2000), empty = STR_LIT("");
    for (size_t k = 1; k < COUNT(all_codings); k++) {
        struct str in = packed(all_codings[k], text);
        for (size_t n = 0; n < in.n; n++) {
            struct str cut = exact(str_sub(in, 0, n));
            assert_int_equal(try_inflate(all_codings[k], cut, 1 << 20, text), XT_EINVAL);
            drop(cut);
        }
        drop(in);
        assert_int_equal(try_inflate(all_codings[k], STR_NONE, 10, empty), XT_EINVAL);
    }
    struct str in = packed_stream(text, 10, 500), raw = packed_bits(-15, text);
    for (size_t n = 0; n < in.n; n++) {
        struct str cut = exact(str_sub(in, 0, n));
        assert_int_equal(try_inflate(CODING_ZSTD, cut, 1 << 20, text), XT_EINVAL);
        drop(cut);
    }
    for (size_t n = 0; n < raw.n; n++) {
        struct str cut = exact(str_sub(raw, 0, n));
        assert_int_equal(try_inflate(CODING_DEFLATE, cut, 1 << 20, text), XT_EINVAL);
        drop(cut);
    }
    drop(in), drop(raw), drop(text);
    assert_int_equal(try_inflate(CODING_IDENTITY, STR_NONE, 0, empty), XT_OK);
}

/* Every bit flipped once: refused, or (in gzip's and zstd's unchecked headers) the same text; never a crash. */
static void test_flipped(void **state) {
    (void)state;
    struct str text = sample(600);
    struct str ins[] = { packed(CODING_GZIP, text), packed(CODING_DEFLATE, text), packed_stream(text, 10, 100) };
    static const enum coding codings[] = { CODING_GZIP, CODING_DEFLATE, CODING_ZSTD };
    for (size_t k = 0; k < COUNT(ins); k++) {
        char *p = (char *)(uintptr_t)ins[k].p;
        size_t refused = 0;
        for (size_t bit = 0; bit < ins[k].n * 8; bit++) {
            p[bit / 8] = (char)(p[bit / 8] ^ 1 << bit % 8);
            struct buf out;
            struct xt_err err;
            buf_init(&out, 5000);
            enum xt_code code = inflate_body(codings[k], ins[k], &out, &err);
            assert_true(code == XT_OK || code == XT_EINVAL || code == XT_ETOOBIG);
            /* without zlib's header what follows is read as a raw stream, which has no check of its own */
            assert_true(code != XT_OK || codings[k] == CODING_DEFLATE || str_eq(buf_str(&out), text));
            refused += code != XT_OK;
            buf_done(&out);
            p[bit / 8] = (char)(p[bit / 8] ^ 1 << bit % 8);
        }
        assert_true(refused > ins[k].n * 8 * 9 / 10);
        drop(ins[k]);
    }
    drop(text);
}

static void test_not_that(void **state) {
    (void)state;
    static const struct {
        enum coding coding;
        struct str in;
        enum xt_code want;
    } cases[] = {
        { CODING_GZIP, STR_LIT("{\"trace\":null}"), XT_EINVAL },
        { CODING_DEFLATE, STR_LIT("{\"trace\":null}"), XT_EINVAL },
        { CODING_ZSTD, STR_LIT("{\"trace\":null}"), XT_EINVAL },
        { CODING_ZSTD, STR_LIT("{}"), XT_EINVAL },
        { CODING_UNKNOWN, STR_LIT("{}"), XT_EMEDIA },
        { (enum coding)77, STR_LIT("{}"), XT_EMEDIA },
        /* zlib header that asks for a dictionary */
        { CODING_DEFLATE, STR_LIT("\x78\xbb\x00\x00\x00\x01\x03\x00"), XT_EINVAL },
        /* zstd: a dictionary by id, a reserved block type, a version before 1 */
        { CODING_ZSTD, STR_LIT("\x28\xb5\x2f\xfd\x21\x07\x01\x09\x00\x00x"), XT_EINVAL },
        { CODING_ZSTD, STR_LIT("\x28\xb5\x2f\xfd\x20\x01\x0f\x00\x00x"), XT_EINVAL },
        { CODING_ZSTD, STR_LIT("\x27\xb5\x2f\xfd\x20\x01\x09\x00\x00x"), XT_EINVAL },
        /* zstd: states 1 byte, gives 2; states 2, gives 1 */
        { CODING_ZSTD, STR_LIT("\x28\xb5\x2f\xfd\x20\x01\x11\x00\x00xx"), XT_EINVAL },
        { CODING_ZSTD, STR_LIT("\x28\xb5\x2f\xfd\x20\x02\x09\x00\x00x"), XT_EINVAL },
        { CODING_ZSTD, STR_LIT("\x28\xb5\x2f\xfd\x20\x01\x09\x00\x00x"), XT_OK },
        /* zstd: a window of 2^27, of 2^27 and an eighth, and of 2^41 */
        { CODING_ZSTD, STR_LIT("\x28\xb5\x2f\xfd\x00\x88\x09\x00\x00x"), XT_OK },
        { CODING_ZSTD, STR_LIT("\x28\xb5\x2f\xfd\x00\x89\x09\x00\x00x"), XT_EINVAL },
        { CODING_ZSTD, STR_LIT("\x28\xb5\x2f\xfd\x00\xff\x09\x00\x00x"), XT_EINVAL },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        enum xt_code got = try_inflate(cases[i].coding, cases[i].in, 1000, STR_LIT("x"));
        if (got != cases[i].want) {
            fail_msg("case %zu gave %d", i, (int)got);
        }
    }
}

static void test_messages(void **state) {
    (void)state;
    struct buf out;
    struct xt_err err;
    buf_init(&out, 5);
    assert_int_equal(inflate_body(CODING_GZIP, STR_LIT("no gzip"), &out, &err), XT_EINVAL);
    assert_int_equal(strncmp(err.msg, "gzip decode failed: ", 20), 0);
    assert_int_equal(inflate_body(CODING_IDENTITY, STR_LIT("123456"), &out, &err), XT_ETOOBIG);
    assert_string_equal(err.msg, "the decompressed body is larger than 5 bytes");
    buf_done(&out);
}

/* A gigabyte of zeros against a cap of 1 MB: the answer comes early, and the buffer stays near the cap. */
static void test_bomb(void **state) {
    (void)state;
    enum { PIECE = 1 << 20, PIECES = 256 };
    char *zeros = calloc(1, PIECE);
    assert_non_null(zeros);
    struct str piece = { zeros, PIECE };
    static const enum coding codings[] = { CODING_GZIP, CODING_ZSTD };
    for (size_t k = 0; k < COUNT(codings); k++) {
        struct str member = packed(codings[k], piece);
        char *bomb = malloc(member.n * PIECES);
        assert_non_null(bomb);
        for (size_t i = 0; i < PIECES; i++) {
            memcpy(bomb + i * member.n, member.p, member.n);
        }
        struct str in = { bomb, member.n * PIECES };
        assert_int_equal(try_inflate(codings[k], in, PIECE, piece), XT_ETOOBIG);
        assert_int_equal(try_inflate(codings[k], in, PIECE - 1, piece), XT_ETOOBIG);
        drop(member);
        free(bomb);
    }
    /* zstd: blocks of one byte repeated, 4 bytes for 128 KB, and a frame that states 2^62 bytes */
    char frame[4 * 10000 + 16] = "\x28\xb5\x2f\xfd\x00\x38"; /* window 128 KB */
    size_t n = 6;
    for (size_t i = 0; i < 10000; i++) {
        memcpy(frame + n, i < 9999 ? "\x02\x00\x10\x00" : "\x03\x00\x10\x00", 4);
        n += 4;
    }
    assert_int_equal(try_inflate(CODING_ZSTD, (struct str){ frame, n }, PIECE, piece), XT_ETOOBIG);
    assert_int_equal(
        try_inflate(CODING_ZSTD, STR_LIT("\x28\xb5\x2f\xfd\xe0\0\0\0\0\0\0\0\x40\x09\x00\x00x"), PIECE, piece),
        XT_EINVAL);
    free(zeros);
}

static void test_reuse(void **state) {
    (void)state;
    struct str text = sample(5000);
    struct buf out;
    struct xt_err err;
    buf_init(&out, 5000);
    for (size_t k = 0; k < COUNT(all_codings); k++) {
        struct str in = packed(all_codings[k], text);
        assert_int_equal(inflate_body(all_codings[k], in, &out, &err), XT_OK);
        assert_true(str_eq(buf_str(&out), text));
        assert_int_equal(inflate_body(CODING_GZIP, STR_LIT("bad"), &out, &err), XT_EINVAL);
        buf_add_char(&out, 'x'); /* it starts anew in any state */
        drop(in);
    }
    buf_done(&out);
    drop(text);
}

static void test_deflate(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct str text = sample(sizes[i]);
        for (size_t k = 0; k < COUNT(all_codings); k++) {
            struct str in = packed(all_codings[k], text);
            assert_true(sizes[i] < 1000 || all_codings[k] == CODING_IDENTITY || in.n < sizes[i]);
            struct buf out;
            struct xt_err err;
            for (size_t max = in.n ? in.n - 1 : 0; max <= in.n + 1; max++) {
                buf_init(&out, max);
                enum xt_code code = deflate_body(all_codings[k], text, &out, &err);
                /* with exactly the room that is needed a codec may give up; with less it must */
                assert_true(max >= in.n ? code == XT_OK || max == in.n || all_codings[k] == CODING_ZSTD
                                        : code == XT_ENOMEM);
                assert_true(out.n <= max);
                if (code == XT_OK) {
                    assert_int_equal(try_inflate(all_codings[k], buf_str(&out), text.n, text), XT_OK);
                }
                buf_done(&out);
            }
            drop(in);
        }
        drop(text);
    }
    struct buf out;
    struct xt_err err;
    buf_init(&out, 100);
    assert_int_equal(deflate_body(CODING_UNKNOWN, STR_LIT("x"), &out, &err), XT_EMEDIA);
    buf_done(&out);
}

static void test_fail_nth(void **state) {
    (void)state;
    struct str text = sample(100000);
    for (size_t k = 0; k < COUNT(all_codings); k++) {
        struct str in = packed(all_codings[k], text);
        for (int inflating = 0; inflating <= 1; inflating++) {
            for (uint64_t n = 1;; n++) {
                struct buf out;
                struct xt_err err;
                buf_init(&out, 1 << 20);
                alloc_fail_at(n);
                enum xt_code code = inflating ? inflate_body(all_codings[k], in, &out, &err)
                                              : deflate_body(all_codings[k], text, &out, &err);
                alloc_fail_at(0);
                buf_done(&out);
                if (code == XT_OK) {
                    assert_true(n > (all_codings[k] == CODING_IDENTITY ? 1 : 2));
                    break;
                }
                assert_int_equal(code, XT_ENOMEM);
            }
        }
        drop(in);
    }
    drop(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),          cmocka_unit_test(test_cap),
        cmocka_unit_test(test_many_flushes),   cmocka_unit_test(test_members),
        cmocka_unit_test(test_garbage_behind), cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_flipped),        cmocka_unit_test(test_not_that),
        cmocka_unit_test(test_messages),       cmocka_unit_test(test_bomb),
        cmocka_unit_test(test_reuse),          cmocka_unit_test(test_deflate),
        cmocka_unit_test(test_fail_nth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
