/* fuzz_payload.c -- any bytes as a stored text. The first byte chooses: a text to be stored and read again, alone or cut
 * into a pack, with or without a dictionary; or a stored form to be decoded as it stands. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zdict.h>

#include "store/text/codec.h"

#define CHECK(cond) ((cond) ? (void)0 : check_failed(#cond, __LINE__))
#define PARTS 5
static void check_failed(const char *cond, int line) {
    fprintf(stderr, "line %d: not so: %s\n", line, cond);
    abort();
}

/* Dictionary number 1, of words. */
static struct dicts *make_dicts(void) {
    static char samples[200000], dict[4096];
    static size_t sizes[1000];
    size_t at = 0;
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < 1000; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        sizes[i] =
            (size_t)snprintf(samples + at, 200, "{\"role\":\"user\",\"content\":\"question %u about %u\",\"n\":%u}",
                             (unsigned)(x >> 50), (unsigned)(x >> 40 & 63), (unsigned)(x >> 60));
        at += sizes[i];
    }
    size_t n = ZDICT_trainFromBuffer(dict, sizeof dict, samples, sizes, 1000);
    struct dicts *s = dicts_new();
    CHECK(s && !ZDICT_isError(n) && dicts_use(s, 1, (struct str){ dict, n }));
    return s;
}

static void round_trip(struct codec *k, struct arena *a, struct str text) {
    struct str z, back, parts[PARTS];
    uint32_t ends[PARTS];
    struct xt_err err;
    CHECK(payload_encode(k, a, text, &z));
    CHECK(payload_decode(k, a, str_has(z) ? z : text, &back, &err) == XT_OK && str_eq(back, text));
    for (size_t i = 0; i < PARTS; i++)
        parts[i] = str_sub(text, text.n * i / PARTS, text.n * (i + 1) / PARTS - text.n * i / PARTS);
    CHECK(payload_encode_pack(k, a, parts, PARTS, &z));
    CHECK(payload_decode_pack(k, a, z, PARTS, &back, ends, &err) == XT_OK && str_eq(back, text));
    for (size_t i = 0; i < PARTS; i++)
        CHECK(ends[i] == text.n * (i + 1) / PARTS);
}

static void decode(struct codec *k, struct arena *a, struct str z, uint32_t n) {
    static uint32_t ends[256];
    struct str text = STR_NONE;
    struct xt_err err = { 0 };
    enum xt_code code = payload_decode(k, a, z, &text, &err);
    CHECK(code == XT_OK || code == XT_ESTORE || code == XT_ENOMEM);
    CHECK(code == XT_OK ? text.n <= PAYLOAD_MAX_BYTES : err.msg[0] != '\0');
    code = payload_decode_pack(k, a, z, n, &text, ends, &err);
    CHECK(code == XT_OK || code == XT_ESTORE || code == XT_ENOMEM);
    for (uint32_t i = 0; code == XT_OK && i < n; i++)
        CHECK(ends[i] <= text.n && (i == 0 || ends[i - 1] <= ends[i]));
    CHECK(code != XT_OK || n == 0 || ends[n - 1] == text.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct dicts *dicts;
    if (!dicts)
        dicts = make_dicts();
    if (size < 2)
        return 0;
    struct codec k = { .dicts = data[0] & 1 ? dicts : NULL };
    struct arena a;
    struct str body = { (const char *)data + 2, size - 2 };
    arena_init(&a, (size_t)64 << 20);
    if (data[0] & 2)
        decode(&k, &a, body, data[1]);
    else
        round_trip(&k, &a, body);
    codec_done(&k);
    arena_done(&a);
    return 0;
}
