/* fuzz_pack.c -- any bytes as the three blobs of a part of samples: read whole, and by queries. The first 6 bytes say how
 * long lab and pts are (3 bytes each, little-endian) and the seventh what is asked; the blobs have memory of their own,
 * exactly as long as they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/sample/pack.h"

#define CHECK(cond) ((cond) ? (void)0 : check_failed(#cond, __LINE__))
static void check_failed(const char *cond, int line) {
    fprintf(stderr, "line %d: not so: %s\n", line, cond);
    abort();
}

static struct str blob(const uint8_t **p, size_t *left, size_t n) {
    n = n < *left ? n : *left;
    char *copy = malloc(n ? n : 1);
    CHECK(copy);
    memcpy(copy, *p, n);
    *p += n;
    *left -= n;
    return (struct str){ copy, n };
}

static bool count_run(void *arg, const struct pack_run *run) {
    volatile char seen = 0;
    for (size_t i = 0; i < run->nlabels; i++) {
        CHECK(i == 0 || str_cmp(run->labels[i - 1].name, run->labels[i].name) < 0);
        for (size_t k = 0; k < run->labels[i].value.n; k++)
            seen = (char)(seen ^ run->labels[i].value.p[k]);
    }
    CHECK(run->n > 0);
    *(size_t *)arg += run->n;
    return true;
}

static void query(const struct series_query *q, struct str lab, struct str pts, struct str raw) {
    struct xt_err err;
    struct series_sink *sink = series_sink_new(q, (size_t)64 << 20);
    struct pack_reader *r = sink ? pack_reader_new(q, sink) : NULL;
    CHECK(sink && r);
    enum xt_code code = XT_OK;
    bool full = false;
    do {
        enum pack_want want = PACK_NOTHING;
        code = pack_open(r, lab, &want, &err);
        if (code == XT_OK && want != PACK_NOTHING)
            code = pack_read(r, pts, want == PACK_RAW ? raw : (struct str){ "", 0 }, 1, 0, &full, &err);
    } while (code == XT_OK && !full && series_sink_again(sink));
    const struct series_result *results;
    size_t n;
    int64_t latest;
    bool cut;
    (void)series_sink_finish(sink, &results, &n, &latest, &cut, &err);
    pack_reader_free(r);
    series_sink_free(sink);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 7)
        return 0;
    size_t nlab = data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16;
    size_t npts = data[3] | (size_t)data[4] << 8 | (size_t)data[5] << 16;
    unsigned asked = data[6];
    const uint8_t *p = data + 7;
    size -= 7;
    struct str lab = blob(&p, &size, nlab), pts = blob(&p, &size, npts), raw = blob(&p, &size, size);
    struct xt_err err;
    size_t points = 0;
    (void)pack_each(lab, pts, raw, count_run, &points, &err);
    const struct label filter = { STR_LIT("model"), STR_LIT("m1") };
    struct series_query q = { .labels = &filter,
                              .nlabels = asked & 1,
                              .from = asked & 2 ? TIME_MIN : 0,
                              .to = TIME_MAX,
                              .step = 60 * NS_PER_SEC,
                              .agg = (enum series_agg)(asked >> 5),
                              .grouped = asked & 4,
                              .group_by = asked & 8 ? STR_LIT("trace_id") : STR_LIT("span_name"),
                              .deadline = TIME_NONE,
                              .max_points = 1000,
                              .max_series = 50 };
    query(&q, lab, pts, raw);
    free((char *)(uintptr_t)lab.p);
    free((char *)(uintptr_t)pts.p);
    free((char *)(uintptr_t)raw.p);
    return 0;
}
