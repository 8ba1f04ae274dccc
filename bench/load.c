/* load.c -- load generator: keeps connections busy with requests of one kind, or with several kinds of reads in turn, and
 * says how many records a second were acknowledged and how long each answer took. `bench/run` drives it; alone:
 *
 *   load --port P --token T --mode MODE[,MODE...] [--conns 32] [--seconds 8] [--warm 2] [--requests N] [--rate R]
 *        [--size BYTES] [--seed N] [--first BODY] [--start NS] [--step NS] [--samples NS] [--points N]
 *        [--stored MODE:FROM-TO]...
 *
 * Writing: bodies are numbered from --first; the answer names the first that was not sent, for the next load on the same
 * store. Trace k of the history is at --start + k * --step; points begin at --samples. Reading: --stored says which bodies
 * there are (same --seed, --start, --step); each request asks for something random among them.
 * SIGTERM ends the load early, with its report. Prints one line of JSON. Exit 1: the server went away, or an answer was no HTTP. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conns.h"

static double seconds_counted(const struct load *l) {
    int64_t ns = (l->o.requests && l->last > l->count_from ? l->last : l->end) - l->count_from;
    return (double)ns / (double)NS;
}

static void report_mode(const struct load *l, enum mode mode) {
    const struct tally *t = &l->tallies[mode];
    const struct histogram *h = &t->h;
    double good = (double)h->n;
    printf("\"%s\":{\"requests\":%llu,\"records_per_second\":%.0f,\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,"
           "\"max_ms\":%.3f,\"first_ms\":%.3f,\"answer_bytes\":%.0f,\"empty\":%llu,\"statuses\":{",
           modes[mode].name, (unsigned long long)h->n, good * modes[mode].records / seconds_counted(l),
           histogram_at(h, 0.5), histogram_at(h, 0.9), histogram_at(h, 0.99), (double)h->max / 1e6,
           (double)h->first / 1e6, h->n ? (double)t->bytes_in / good : 0, (unsigned long long)t->empty);
    const char *comma = "";
    for (int i = 0; i < STATUSES; i++)
        if (t->statuses[i]) {
            printf("%s\"%d\":%llu", comma, i, (unsigned long long)t->statuses[i]);
            comma = ",";
        }
    printf("}}");
}

/* The slowest whole second that was counted: what a stall looks like from outside. */
static uint64_t slowest_second(const struct load *l) {
    int64_t from = (l->count_from - l->start + NS - 1) / NS, to = (l->end - l->start) / NS;
    if (l->o.requests)
        to = (l->last - l->start) / NS;
    uint64_t least = UINT64_MAX;
    for (int64_t i = from; i < to && i < SECONDS_MAX; i++)
        least = l->by_second[i] < least ? l->by_second[i] : least;
    return least == UINT64_MAX ? 0 : least * modes[l->o.modes[0]].records;
}

static void report(const struct load *l) {
    printf("{\"conns\":%d,\"seconds\":%.2f,\"acked_records\":%llu,\"next\":%llu,\"body\":%llu,\"slowest_second\":%llu,"
           "\"cpu\":%.2f,\"modes\":{",
           l->o.conns, seconds_counted(l), (unsigned long long)(l->acked * modes[l->o.modes[0]].records),
           (unsigned long long)l->next_body, (unsigned long long)l->body_bytes, (unsigned long long)slowest_second(l),
           cpu_seconds() - l->cpu_before);
    for (size_t i = 0; i < l->o.nmodes; i++) {
        printf("%s", i ? "," : "");
        report_mode(l, l->o.modes[i]);
    }
    puts("}}");
}

/* ---- the command line ---- */

/* Several modes must all be reads: a body is built for one kind. */
static bool set_modes(struct options *o, const char *names) {
    bool good = true;
    o->nmodes = 0;
    while (good && *names) {
        char name[32] = "";
        size_t n = strcspn(names, ",");
        good = n < sizeof name && o->nmodes < MODES;
        if (good) {
            memcpy(name, names, n);
            enum mode mode = o->modes[o->nmodes++] = mode_of(name);
            good = mode < MODES && (o->nmodes == 1 || (mode >= READS && o->modes[0] >= READS));
        }
        names += n + (names[n] == ',');
    }
    return good;
}

struct number_row {
    const char *key;
    enum { I32, SIZE, U64, I64, F64 } type;
    void *to;
};

static bool set_number(const struct number_row *rows, const char *key, const char *value) {
    for (; rows->key; rows++) {
        if (strcmp(rows->key, key) != 0)
            continue;
        char *end;
        if (rows->type == F64)
            *(double *)rows->to = strtod(value, &end);
        else if (rows->type == I32)
            *(int *)rows->to = (int)strtol(value, &end, 10);
        else if (rows->type == I64)
            *(int64_t *)rows->to = strtoll(value, &end, 10);
        else if (rows->type == SIZE)
            *(size_t *)rows->to = strtoul(value, &end, 10);
        else
            *(uint64_t *)rows->to = strtoull(value, &end, 10);
        return end != value && *end == '\0';
    }
    return false;
}

static bool set_option(struct load *l, const char *key, const char *value) {
    const struct number_row rows[] = {
        { "--port", I32, &l->o.port },
        { "--conns", I32, &l->o.conns },
        { "--seconds", F64, &l->o.seconds },
        { "--warm", F64, &l->o.warm },
        { "--rate", F64, &l->o.rate },
        { "--requests", U64, &l->o.requests },
        { "--size", SIZE, &l->o.size },
        { "--first", U64, &l->o.first },
        { "--seed", U64, &l->reader.shape.seed },
        { "--start", I64, &l->reader.shape.start_ns },
        { "--step", I64, &l->reader.shape.step_ns },
        { "--samples", I64, &l->reader.samples_ns },
        { "--points", U64, &l->reader.points },
        { 0 },
    };
    if (strcmp(key, "--mode") == 0)
        return set_modes(&l->o, value);
    if (strcmp(key, "--stored") == 0)
        return reader_add(&l->reader, value);
    if (strcmp(key, "--token") == 0) {
        l->o.token = value;
        return true;
    }
    return set_number(rows, key, value);
}

static bool good_options(const struct load *l) {
    const struct options *o = &l->o;
    return o->nmodes > 0 && o->port > 0 && o->port < 65536 && o->conns > 0 && o->conns <= CONNS_MAX && o->seconds > 0 &&
           o->seconds < SECONDS_MAX && o->warm >= 0 && o->rate >= 0 && o->size < (1U << 20);
}

int main(int argc, char **argv) {
    static struct load l; /* large */
    l.o = (struct options){ .conns = 32, .seconds = 8, .warm = 2, .size = 600, .token = "" };
    l.reader.shape = (struct shape){ 1, INT64_C(1760000000) * NS, NS };
    l.reader.samples_ns = INT64_C(1760000000) * NS;
    bool good = argc % 2 == 1;
    for (int i = 1; good && i + 1 < argc; i += 2)
        good = set_option(&l, argv[i], argv[i + 1]);
    if (!good || !good_options(&l)) {
        fputs("usage: load --port P --token T --mode MODE[,MODE...] [options, see bench/load.c]\nmodes:", stderr);
        for (int i = 0; i < MODES; i++)
            fprintf(stderr, " %s", modes[i].name);
        fputs("\n", stderr);
        return 1;
    }
    l.reader.random = shape_mix(l.reader.shape.seed, 2000, l.o.first + l.reader.bodies);
    good = load_open(&l) && load_run(&l);
    if (good)
        report(&l);
    load_close(&l);
    return good ? 0 : 1;
}
