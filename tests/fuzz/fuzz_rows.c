/* fuzz_rows.c -- any bytes as rows that the store reads back at its start and in queries: the first byte chooses the packed
 * fields of an observation, rows of the look-ups' log, or rows of the samples' log.
 *
 * The samples' log has checksums; they are made right here, so that what lies behind them is reached: what was replayed is
 * queried, sealed to a generation, and read from that. Rows are cut by a length of two bytes (little-endian) each, and have
 * memory of their own, exactly as long as they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "store/fold/packed.h"
#include "store/sample/log.h"
#include "store/sample/scan.h"
#include "store/sample/seal.h"
#include "store/sqlite/index.h"

#define CHECK(cond) ((cond) ? (void)0 : check_failed(#cond, __LINE__))
#define CRC_BYTES 4
static void check_failed(const char *cond, int line) {
    fprintf(stderr, "line %d: not so: %s\n", line, cond);
    abort();
}

/* The next row, after `room` bytes that the caller fills; free it. False: there is none. */
static bool next_row(struct str *rest, size_t room, struct str *ret) {
    if (rest->n < 2)
        return false;
    const unsigned char *head = (const unsigned char *)rest->p;
    size_t want = head[0] | (size_t)head[1] << 8, left = rest->n - 2, n = want < left ? want : left;
    char *copy = malloc(room + n ? room + n : 1);
    CHECK(copy);
    memcpy(copy + room, rest->p + 2, n);
    *ret = (struct str){ copy, room + n };
    *rest = str_sub(*rest, 2 + n, rest->n);
    return true;
}

static void drop(struct str row) { free((char *)(uintptr_t)row.p); }

/* ---- packed fields ---- */

static void packed_fields(struct str rest) {
    struct str row, id;
    while (next_row(&rest, 0, &row)) {
        struct observation o = { .start = TIME_NONE }, again = { .start = TIME_NONE };
        bool ok = packed_read(row, &o), ok_id = packed_read_id(row, &id);
        CHECK(!ok || ok_id); /* the other way round not: fields have more ways to be wrong */
        CHECK(!ok || !str_has(id) || str_eq(id, o.id.text));
        struct buf out;
        buf_init(&out, (size_t)1 << 20);
        CHECK(!ok || (packed_write(&out, &o) && packed_read(buf_str(&out), &again)));
        CHECK(!ok || str_eq(o.environment, again.environment));
        buf_done(&out);
        drop(row);
    }
}

/* ---- the look-ups' log ---- */

static void lookup_log(struct str rest) {
    struct ix_hot *h = hot_new(0);
    struct str row;
    CHECK(h);
    while (next_row(&rest, 0, &row)) {
        struct xt_err err = { 0 };
        enum xt_code code = hot_reserve(h) ? log_decode(h, 40, row, &err) : XT_ENOMEM;
        CHECK(code == XT_OK || err.msg[0]);
        if (code == XT_OK) {
            struct buf out;
            buf_init(&out, (size_t)1 << 20);
            CHECK(log_encode(h, &out));
            hot_publish(h);
            struct ix_hot *copy = hot_new(0);
            CHECK(copy && hot_reserve(copy) && log_decode(copy, 40, buf_str(&out), &err) == XT_OK);
            hot_unref(copy);
            buf_done(&out);
        }
        drop(row);
    }
    hot_unref(h);
}

/* ---- the samples' log ---- */

static void set_checksum(struct str row) {
    char *p = (char *)(uintptr_t)row.p;
    uLong crc = crc32_z(0, (const Bytef *)p + CRC_BYTES, row.n - CRC_BYTES);
    for (int k = 0; k < CRC_BYTES; k++)
        p[k] = (char)(crc >> (8 * k));
}

static bool count_run(void *arg, const struct pack_run *run) {
    for (size_t i = 1; i < run->nlabels; i++)
        CHECK(str_cmp(run->labels[i - 1].name, run->labels[i].name) < 0);
    *(int64_t *)arg += (int64_t)run->n;
    return true;
}

static enum xt_code number_metric(void *arg, int64_t project, struct str name, int64_t *ret, struct xt_err *err) {
    (void)arg;
    (void)err;
    *ret = 1 + (int64_t)(name.n * 1000) + (project & 7);
    return XT_OK;
}

/* What was sealed is read again whole. */
static enum xt_code read_pack(void *arg, uint32_t number, const struct pack_part *p, struct xt_err *err) {
    int64_t points = 0;
    (void)arg;
    (void)number;
    CHECK(pack_each(p->lab, p->pts, p->raw, count_run, &points, err) == XT_OK);
    CHECK(points == p->points);
    return XT_OK;
}

static void query(const struct hot *h, int64_t project, struct str name) {
    struct xt_err err;
    struct series_query q = { .project = project,
                              .name = name,
                              .from = TIME_MIN,
                              .to = TIME_MAX,
                              .step = 60 * NS_PER_SEC,
                              .agg = AGG_AVG,
                              .deadline = TIME_NONE,
                              .max_points = 1000,
                              .max_series = 50 };
    struct series_sink *sink = series_sink_new(&q, (size_t)64 << 20);
    struct hot_count n = hot_seen(h);
    bool full = false;
    CHECK(sink);
    do
        (void)scan_hot(h, &n, 0, &q, sink, &full, &err);
    while (!full && series_sink_again(sink));
    const struct series_result *results;
    size_t nresults;
    int64_t latest;
    bool cut;
    (void)series_sink_finish(sink, &results, &nresults, &latest, &cut, &err);
    series_sink_free(sink);
}

static void seal(struct hot *h, bool everything) {
    static const struct seal_engine engine = { NULL, number_metric, read_pack };
    struct seal s = { .parts = { h }, .nparts = 1, .cutoff = TIME_MIN, .carry_none = everything };
    struct xt_err err = { 0 };
    CHECK(seal_make(&s, &engine, &err) == XT_OK || err.msg[0]);
    seal_done(&s);
}

static void sample_log(struct str rest) {
    struct hot *h = hot_part_new();
    struct str row;
    uint64_t lost = 0;
    CHECK(h);
    while (next_row(&rest, CRC_BYTES, &row)) {
        struct xt_err err = { 0 };
        set_checksum(row);
        enum xt_code code = sample_log_replay(h, row, &lost, &err);
        CHECK(code == XT_OK || err.msg[0]);
        if (code == XT_OK)
            hot_publish_points(h);
        drop(row);
    }
    for (uint32_t i = 0; i < h->n.names && i < 4; i++)
        if (hot_name(h, i)->text != HOT_NONE)
            query(h, hot_name(h, i)->project, hot_text(h, hot_name(h, i)->text));
    seal(h, false);
    seal(h, true);
    hot_part_unref(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const kinds[])(struct str rest) = { packed_fields, lookup_log, sample_log };
    if (size > 0)
        kinds[data[0] % 3]((struct str){ (const char *)data + 1, size - 1 });
    return 0;
}
