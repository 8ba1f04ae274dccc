/* test_writer.c -- the ingest queue and its writer against a store that refuses, goes away or hangs on command. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "ingest/writer.h"

/* ---- a store in memory: remembers the names of committed traces in order ---- */

struct fake {
    pthread_mutex_t mu;
    pthread_cond_t cv;
    bool hold;         /* writes wait while set */
    bool hold_tidy;    /* housekeeping does */
    bool waiting;      /* a write waits */
    enum xt_code away; /* every write and probe fails so */
    unsigned writes, probes, groups_ok, tidies;
    unsigned tidies_due; /* so many more */
    int64_t tidy_pause;  /* ns between them */
    int64_t tidy_at;     /* before that a call is too early, unless a group or task came */
    bool too_early;
    char committed[4000]; /* "a b c " */
};
static struct fake fake;

/* One record of a write; "bad..." and "+bad..." are refused. */
static enum xt_code fake_record(struct str name, char *names, size_t room, struct xt_err *err) {
    size_t used = strlen(names);
    snprintf(names + used, room - used, "%.*s ", STR_FMT(name));
    bool bad = str_starts(name, "bad") || str_starts(name, "+bad");
    return bad ? xt_fail(err, XT_EREFUSED, "%.*s is bad", STR_FMT(name)) : XT_OK;
}

static enum xt_code fake_write(struct store *s, const struct batch_part *parts, size_t n, struct xt_err *err) {
    (void)s;
    char names[4000] = "";
    pthread_mutex_lock(&fake.mu);
    fake.writes++;
    fake.waiting = true;
    pthread_cond_broadcast(&fake.cv);
    while (fake.hold)
        pthread_cond_wait(&fake.cv, &fake.mu);
    fake.waiting = false;
    enum xt_code rc = fake.away != XT_OK ? xt_fail(err, fake.away, "away") : XT_OK;
    for (size_t i = 0; rc == XT_OK && i < n; i++) {
        for (size_t t = parts[i].trace_from; rc == XT_OK && t < parts[i].trace_to; t++)
            rc = fake_record(parts[i].b->traces[t].name, names, sizeof names, err);
        for (size_t p = parts[i].sample_from; rc == XT_OK && p < parts[i].sample_to; p++)
            rc = fake_record(parts[i].b->samples[p].name, names, sizeof names, err);
    }
    if (rc == XT_OK) {
        fake.groups_ok++;
        size_t used = strlen(fake.committed);
        snprintf(fake.committed + used, sizeof fake.committed - used, "%s", names);
    }
    pthread_mutex_unlock(&fake.mu);
    return rc;
}
static enum xt_code fake_probe(struct store *s, struct xt_err *err) {
    (void)s;
    pthread_mutex_lock(&fake.mu);
    fake.probes++;
    enum xt_code rc = fake.away;
    pthread_mutex_unlock(&fake.mu);
    return rc == XT_OK ? XT_OK : xt_fail(err, rc, "away");
}
static int64_t fake_tidy(struct store *s) {
    (void)s;
    pthread_mutex_lock(&fake.mu);
    int64_t now = clock_mono_ns();
    while (fake.hold_tidy)
        pthread_cond_wait(&fake.cv, &fake.mu);
    fake.too_early = fake.too_early || now < fake.tidy_at;
    fake.tidies++;
    fake.tidy_at = fake.tidies_due > 0 ? now + fake.tidy_pause : TIDY_NOTHING;
    fake.tidies_due -= fake.tidies_due > 0;
    pthread_cond_broadcast(&fake.cv);
    int64_t due = fake.tidy_at;
    pthread_mutex_unlock(&fake.mu);
    return due;
}
static const struct store_ops fake_ops = {
    .scheme = "fake", .write = fake_write, .probe = fake_probe, .tidy = fake_tidy
};
static struct store fake_store = { .ops = &fake_ops };

static void set_tidy(bool hold) {
    pthread_mutex_lock(&fake.mu);
    fake.hold_tidy = hold;
    pthread_cond_broadcast(&fake.cv);
    pthread_mutex_unlock(&fake.mu);
}
static void set(enum xt_code away, bool hold) {
    pthread_mutex_lock(&fake.mu);
    fake.away = away;
    fake.hold = hold;
    pthread_cond_broadcast(&fake.cv);
    pthread_mutex_unlock(&fake.mu);
}
static void wait_until_writing(void) {
    pthread_mutex_lock(&fake.mu);
    while (!fake.waiting)
        pthread_cond_wait(&fake.cv, &fake.mu);
    pthread_mutex_unlock(&fake.mu);
}

static bool wait_for_tidies(unsigned n) {
    int64_t until = clock_now_ns() + 10 * NS_PER_SEC;
    struct timespec ts = { until / NS_PER_SEC, until % NS_PER_SEC };
    int rc = 0;
    pthread_mutex_lock(&fake.mu);
    while (fake.tidies < n && rc == 0)
        rc = pthread_cond_timedwait(&fake.cv, &fake.mu, &ts);
    bool ok = fake.tidies >= n;
    pthread_mutex_unlock(&fake.mu);
    return ok;
}

/* ---- callers ---- */

struct caller {
    pthread_mutex_t mu;
    pthread_cond_t cv;
    unsigned calls;
    enum xt_code code;
    size_t refused, first_refused;
    char reason[240];
    struct ticket *ticket;
};
static void on_done(void *arg, const struct ingest_outcome *o) {
    struct caller *c = arg;
    pthread_mutex_lock(&c->mu);
    c->calls++;
    c->code = o->code;
    c->refused = o->refused_total;
    if (o->nrefusals) {
        c->first_refused = o->refusals[0].index;
        snprintf(c->reason, sizeof c->reason, "%s", o->refusals[0].err.msg);
    }
    pthread_cond_signal(&c->cv);
    pthread_mutex_unlock(&c->mu);
}
static bool wait_done(struct caller *c) {
    int64_t until = clock_now_ns() + 10 * NS_PER_SEC;
    struct timespec ts = { until / NS_PER_SEC, until % NS_PER_SEC };
    int rc = 0;
    pthread_mutex_lock(&c->mu);
    while (c->calls == 0 && rc == 0)
        rc = pthread_cond_timedwait(&c->cv, &c->mu, &ts);
    bool ok = c->calls == 1;
    pthread_mutex_unlock(&c->mu);
    return ok;
}

/* A batch of traces named by the words of `names`; "+x": a sample. */
static struct batch *batch_of(const char *names) {
    struct batch *b = batch_new(1 << 20);
    struct str rest = str_c(names), word;
    while (str_split(&rest, ' ', &word)) {
        if (str_starts(word, "+")) {
            struct sample *p = batch_add_sample(b);
            assert_non_null(p);
            *p = (struct sample){ .name = arena_str(&b->arena, word) };
            continue;
        }
        struct trace *t = batch_add_trace(b);
        assert_non_null(t);
        t->name = arena_str(&b->arena, word);
        assert_true(id_from_text(&b->arena, word, &t->id));
    }
    return b;
}
static enum xt_code submit(struct ingest *in, const char *names, struct caller *c) {
    struct xt_err err = { 0 };
    memset(c, 0, sizeof *c);
    pthread_mutex_init(&c->mu, NULL);
    pthread_cond_init(&c->cv, NULL);
    c->ticket = ticket_new(in, batch_of(names), on_done, c);
    assert_non_null(c->ticket);
    enum xt_code rc = ingest_submit(in, c->ticket, &err);
    return rc;
}

static struct ingest *start(uint64_t max_bytes) {
    struct ingest_conf conf = { .queue_max_bytes = max_bytes, .group_max_records = 100 };
    struct ingest *in = NULL;
    struct xt_err err = { 0 };
    memset(&fake, 0, sizeof fake);
    pthread_mutex_init(&fake.mu, NULL);
    pthread_cond_init(&fake.cv, NULL);
    assert_int_equal(ingest_start(&fake_store, &conf, &in, &err), XT_OK);
    return in;
}
static void stop(struct ingest *in) {
    assert_true(ingest_stop(in, clock_mono_ns() + 10 * NS_PER_SEC));
    ingest_free(in);
}

/* ---- cases ---- */

static void test_lone_batch_commits_at_once(void **state) {
    (void)state;
    struct ingest *in = start(1 << 20);
    struct caller c;
    assert_int_equal(submit(in, "a b", &c), XT_OK);
    assert_true(wait_done(&c));
    assert_int_equal(c.code, XT_OK);
    assert_string_equal(fake.committed, "a b ");
    ticket_unref(c.ticket);
    stop(in);
}

static void test_groups_form_under_load(void **state) {
    (void)state;
    struct ingest *in = start(1 << 20);
    struct caller first, rest[20];
    set(XT_OK, true);
    assert_int_equal(submit(in, "first", &first), XT_OK);
    wait_until_writing();
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(submit(in, "x", &rest[i]), XT_OK);
    set(XT_OK, false);
    for (size_t i = 0; i < 20; i++) {
        assert_true(wait_done(&rest[i]));
        ticket_unref(rest[i].ticket);
    }
    assert_true(wait_done(&first));
    ticket_unref(first.ticket);
    assert_int_equal(fake.groups_ok, 2); /* the first, then everybody who came meanwhile */
    stop(in);
}

static void test_bad_record_fails_alone(void **state) {
    (void)state;
    struct ingest *in = start(1 << 20);
    struct caller blocker, good, mixed, after;
    set(XT_OK, true);
    assert_int_equal(submit(in, "z", &blocker), XT_OK);
    wait_until_writing();
    assert_int_equal(submit(in, "a b", &good), XT_OK);
    assert_int_equal(submit(in, "c d e bad1 f g", &mixed), XT_OK);
    assert_int_equal(submit(in, "h", &after), XT_OK);
    set(XT_OK, false);
    assert_true(wait_done(&blocker) && wait_done(&good) && wait_done(&mixed) && wait_done(&after));
    assert_int_equal(good.code, XT_OK);
    assert_int_equal(good.refused, 0);
    assert_int_equal(mixed.code, XT_OK);
    assert_int_equal(mixed.refused, 1);
    assert_int_equal(mixed.first_refused, 3);
    assert_string_equal(mixed.reason, "bad1 is bad");
    assert_int_equal(after.refused, 0);
    assert_string_equal(fake.committed, "z a b c d e f g h ");
    struct ingest_stats st;
    ingest_stats_get(in, &st);
    assert_int_equal(st.refused_records, 1);
    assert_int_equal(st.splits, 1);
    ticket_unref(blocker.ticket), ticket_unref(good.ticket), ticket_unref(mixed.ticket), ticket_unref(after.ticket);
    stop(in);
}

static bool wait_for_health(const struct ingest *in, bool healthy) {
    int64_t until = clock_mono_ns() + 10 * NS_PER_SEC;
    while (ingest_healthy(in) != healthy && clock_mono_ns() < until) {
        struct timespec ts = { 0, 1000000 };
        nanosleep(&ts, NULL);
    }
    return ingest_healthy(in) == healthy;
}

/* Whoever is told to send again sends samples twice: those of a batch are written together or not at all. */
static void test_samples_go_in_one_piece(void **state) {
    (void)state;
    struct ingest *in = start(1 << 20);
    struct caller bad, good;
    assert_int_equal(submit(in, "a +x +y bad1 +bad2 +z", &bad), XT_OK);
    assert_true(wait_done(&bad));
    assert_int_equal(bad.code, XT_OK);
    assert_int_equal(bad.refused, 5);
    assert_string_equal(bad.reason, "bad1 is bad");
    assert_int_equal(submit(in, "c +p bad3 +q", &good), XT_OK);
    assert_true(wait_done(&good));
    assert_int_equal(good.refused, 1);
    assert_string_equal(fake.committed, "a c +p +q ");
    struct ingest_stats st;
    ingest_stats_get(in, &st);
    assert_int_equal(st.refused_records, 6);
    ticket_unref(bad.ticket), ticket_unref(good.ticket);
    stop(in);
}

static void test_store_away_refuses_nothing_and_recovers(void **state) {
    (void)state;
    struct ingest *in = start(1 << 20);
    struct caller c;
    set(XT_EUNAVAILABLE, false);
    assert_int_equal(submit(in, "a bad b", &c), XT_OK);
    assert_true(wait_done(&c));
    assert_int_equal(c.code, XT_EUNAVAILABLE);
    assert_int_equal(c.refused, 0);
    assert_int_equal(fake.writes, 1); /* not split: the store is away, the data is not at fault */
    assert_false(ingest_healthy(in));
    ticket_unref(c.ticket);
    set(XT_OK, false);
    assert_true(wait_for_health(in, true)); /* by its own probe */
    stop(in);
    assert_true(fake.probes >= 1);
}

static void test_full_queue(void **state) {
    (void)state;
    struct ingest *in = start(1); /* a lone batch always fits, a second one never */
    struct caller writing, queued, refused;
    set(XT_OK, true);
    assert_int_equal(submit(in, "a", &writing), XT_OK);
    wait_until_writing();
    assert_int_equal(submit(in, "b", &queued), XT_OK);
    assert_int_equal(submit(in, "c", &refused), XT_EBUSY);
    ticket_unref(refused.ticket);
    set(XT_OK, false);
    assert_true(wait_done(&writing) && wait_done(&queued));
    assert_int_equal(refused.calls, 0);
    assert_string_equal(fake.committed, "a b ");
    ticket_unref(writing.ticket), ticket_unref(queued.ticket);
    stop(in);
}

/* What is being written is in memory too. */
static void test_full_while_writing(void **state) {
    (void)state;
    struct batch *b = batch_of("a");
    const size_t one = batch_bytes(b);
    batch_free(b);
    struct ingest *in = start(3 * one);
    struct caller c[3], refused, later;
    set(XT_OK, true);
    assert_int_equal(submit(in, "a", &c[0]), XT_OK);
    wait_until_writing();
    assert_int_equal(submit(in, "b", &c[1]), XT_OK);
    assert_int_equal(submit(in, "c", &c[2]), XT_OK);
    assert_int_equal(submit(in, "d", &refused), XT_EBUSY);
    ticket_unref(refused.ticket);
    set(XT_OK, false);
    for (size_t i = 0; i < 3; i++) {
        assert_true(wait_done(&c[i]));
        ticket_unref(c[i].ticket);
    }
    for (size_t i = 0; i < 4; i++) { /* and no longer when it is done */
        assert_int_equal(submit(in, "e", &later), XT_OK);
        assert_true(wait_done(&later));
        ticket_unref(later.ticket);
    }
    stop(in);
    assert_string_equal(fake.committed, "a b c e e e e ");
}

static void test_abandoned_is_not_written(void **state) {
    (void)state;
    struct ingest *in = start(1 << 20);
    struct caller writing, gone;
    set(XT_OK, true);
    assert_int_equal(submit(in, "a", &writing), XT_OK);
    wait_until_writing();
    assert_int_equal(submit(in, "gone", &gone), XT_OK);
    assert_false(ticket_abandon(writing.ticket)); /* too late: it is in a transaction */
    assert_true(ticket_abandon(gone.ticket));
    ticket_unref(gone.ticket);
    set(XT_OK, false);
    assert_true(wait_done(&writing));
    assert_int_equal(writing.code, XT_OK);
    ticket_unref(writing.ticket);
    stop(in);
    assert_int_equal(gone.calls, 0);
    assert_string_equal(fake.committed, "a ");
}

static void test_stop_drains(void **state) {
    (void)state;
    struct ingest *in = start(1 << 20);
    struct caller c[50], late;
    set(XT_OK, true);
    for (size_t i = 0; i < 50; i++)
        assert_int_equal(submit(in, "n", &c[i]), XT_OK);
    set(XT_OK, false);
    assert_true(ingest_stop(in, clock_mono_ns() + 10 * NS_PER_SEC));
    for (size_t i = 0; i < 50; i++) {
        assert_int_equal(c[i].calls, 1);
        assert_int_equal(c[i].code, XT_OK);
        ticket_unref(c[i].ticket);
    }
    assert_int_equal(submit(in, "late", &late), XT_EUNAVAILABLE);
    ticket_unref(late.ticket);
    ingest_free(in);
}

static void test_stop_with_a_store_that_hangs(void **state) {
    (void)state;
    struct ingest *in = start(1 << 20);
    struct caller writing, queued;
    set(XT_OK, true);
    assert_int_equal(submit(in, "a", &writing), XT_OK);
    wait_until_writing();
    assert_int_equal(submit(in, "b", &queued), XT_OK);
    assert_false(ingest_stop(in, clock_mono_ns() + NS_PER_SEC / 20));
    assert_int_equal(queued.calls, 0); /* nothing was promised */
    set(XT_OK, false);
    assert_true(ingest_stop(in, clock_mono_ns() + 10 * NS_PER_SEC));
    assert_int_equal(writing.code, XT_OK);
    assert_int_equal(queued.code,
                     XT_EUNAVAILABLE); /* it was told to send again instead of written after the deadline */
    assert_string_equal(fake.committed, "a ");
    ticket_unref(writing.ticket), ticket_unref(queued.ticket);
    ingest_free(in);
}

/* Nobody's write gets through meanwhile: that is what readiness is about. */
static void test_housekeeping_that_hangs(void **state) {
    (void)state;
    struct ingest *in = start(1 << 20);
    struct caller c;
    set_tidy(true);
    assert_int_equal(submit(in, "a", &c), XT_OK);
    assert_true(wait_done(&c));
    assert_true(wait_for_health(in, false));
    set_tidy(false);
    assert_true(wait_for_health(in, true));
    ticket_unref(c.ticket);
    stop(in);
}

static void task(struct store *s, bool writable, void *arg) {
    (void)s;
    pthread_mutex_lock(&fake.mu);
    strncat(fake.committed, writable ? "task " : "unwell ", 10);
    pthread_mutex_unlock(&fake.mu);
    *(_Atomic int *)arg = 1;
}

static void test_tasks_run_between_groups(void **state) {
    (void)state;
    struct ingest *in = start(1 << 20);
    struct xt_err err = { 0 };
    static _Atomic int ran;
    struct caller a;
    set(XT_OK, true);
    assert_int_equal(submit(in, "a", &a), XT_OK);
    wait_until_writing();
    assert_int_equal(ingest_run(in, task, (void *)&ran, &err), XT_OK);
    set(XT_OK, false);
    assert_true(wait_done(&a));
    ticket_unref(a.ticket);
    stop(in);
    assert_int_equal(ran, 1);
    assert_string_equal(fake.committed, "a task ");
}

/* What is due is done without a group, when it is due, and then the thread rests. */
static void test_housekeeping_goes_on_while_idle(void **state) {
    (void)state;
    struct ingest *in = start(1 << 20);
    struct caller c;
    assert_true(wait_for_tidies(1)); /* what the process before may have left */
    pthread_mutex_lock(&fake.mu);
    fake.tidies_due = 20;
    fake.tidy_pause = NS_PER_SEC / 500;
    fake.tidy_at = 0;
    pthread_mutex_unlock(&fake.mu);
    assert_int_equal(submit(in, "a", &c), XT_OK);
    assert_true(wait_for_tidies(22));
    assert_true(wait_done(&c));
    ticket_unref(c.ticket);
    stop(in);
    assert_int_equal(fake.tidies, 22);
    assert_false(fake.too_early);
}

/* However much there is to do, a group waits for one step at most, and so does the end. */
static void test_groups_go_before_housekeeping(void **state) {
    (void)state;
    struct ingest *in = start(1 << 20);
    struct caller c;
    assert_true(wait_for_tidies(1));
    pthread_mutex_lock(&fake.mu);
    fake.tidies_due = UINT32_MAX;
    pthread_mutex_unlock(&fake.mu);
    assert_int_equal(submit(in, "a", &c), XT_OK);
    assert_true(wait_done(&c));
    ticket_unref(c.ticket);
    assert_true(wait_for_tidies(1000));
    assert_int_equal(submit(in, "b", &c), XT_OK);
    assert_true(wait_done(&c));
    ticket_unref(c.ticket);
    stop(in);
    assert_string_equal(fake.committed, "a b ");
}

/* Housekeeping that is due soon all the time does not keep the writer from asking a store that is away. */
static void test_housekeeping_and_probes(void **state) {
    (void)state;
    struct ingest *in = start(1 << 20);
    struct caller c;
    assert_true(wait_for_tidies(1));
    pthread_mutex_lock(&fake.mu);
    fake.tidies_due = UINT32_MAX;
    fake.tidy_pause = NS_PER_SEC / 100;
    fake.away = XT_EUNAVAILABLE;
    pthread_mutex_unlock(&fake.mu);
    assert_int_equal(submit(in, "a", &c), XT_OK);
    assert_true(wait_done(&c));
    ticket_unref(c.ticket);
    set(XT_OK, false);
    int64_t until = clock_mono_ns() + 10 * NS_PER_SEC;
    for (unsigned n = 2; !ingest_healthy(in) && clock_mono_ns() < until; n++)
        assert_true(wait_for_tidies(n));
    assert_true(ingest_healthy(in));
    stop(in);
    assert_int_equal(fake.probes, 1);
}

struct proof {
    struct ingest *in;
    int64_t fresh_ns;
    bool ok;
    _Atomic bool done;
};
static void prove(struct store *s, bool writable, void *arg) {
    (void)s, (void)writable;
    struct proof *p = arg;
    p->ok = ingest_prove(p->in, p->fresh_ns);
    atomic_store(&p->done, true);
}
static bool proved(struct ingest *in, int64_t fresh_ns) {
    struct proof p = { .in = in, .fresh_ns = fresh_ns };
    struct xt_err err = { 0 };
    assert_int_equal(ingest_run(in, prove, &p, &err), XT_OK);
    while (!atomic_load(&p.done))
        sched_yield();
    return p.ok;
}

/* Each success counts for all who ask soon after; a store that is away is left to the writer's own probes. */
static void test_proofs_are_shared(void **state) {
    (void)state;
    struct ingest *in = start(1 << 20);
    const int64_t long_ns = 3600 * NS_PER_SEC;
    assert_true(proved(in, long_ns)); /* the start counts as a proof */
    assert_int_equal(fake.probes, 0);
    int64_t before = clock_mono_ns();
    assert_true(proved(in, 0));
    assert_int_equal(fake.probes, 1);
    assert_true(ingest_last_good(in) >= before);
    assert_true(proved(in, long_ns));
    assert_int_equal(fake.probes, 1);
    set(XT_EUNAVAILABLE, false);
    assert_false(proved(in, 0));
    assert_false(ingest_healthy(in));
    assert_false(proved(in, long_ns));
    stop(in);
}

int main(void) {
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lone_batch_commits_at_once),
        cmocka_unit_test(test_groups_form_under_load),
        cmocka_unit_test(test_bad_record_fails_alone),
        cmocka_unit_test(test_samples_go_in_one_piece),
        cmocka_unit_test(test_store_away_refuses_nothing_and_recovers),
        cmocka_unit_test(test_full_queue),
        cmocka_unit_test(test_full_while_writing),
        cmocka_unit_test(test_abandoned_is_not_written),
        cmocka_unit_test(test_stop_drains),
        cmocka_unit_test(test_stop_with_a_store_that_hangs),
        cmocka_unit_test(test_housekeeping_that_hangs),
        cmocka_unit_test(test_tasks_run_between_groups),
        cmocka_unit_test(test_housekeeping_goes_on_while_idle),
        cmocka_unit_test(test_groups_go_before_housekeeping),
        cmocka_unit_test(test_housekeeping_and_probes),
        cmocka_unit_test(test_proofs_are_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
