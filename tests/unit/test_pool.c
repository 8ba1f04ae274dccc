/* test_pool.c -- the bound of the queue, cancelling, threads made only when needed. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/pool.h"

/* Jobs hold the pool's threads until the gate opens. */
struct gate {
    pthread_mutex_t mu;
    pthread_cond_t cv;
    bool open;
    unsigned started, done;
};

struct job {
    struct pool_job link; /* first */
    unsigned runs;
};

static void run(void *arg, struct pool_job *link) {
    struct gate *g = arg;
    pthread_mutex_lock(&g->mu);
    g->started++;
    pthread_cond_broadcast(&g->cv);
    while (!g->open) {
        pthread_cond_wait(&g->cv, &g->mu);
    }
    ((struct job *)link)->runs++;
    g->done++;
    pthread_cond_broadcast(&g->cv);
    pthread_mutex_unlock(&g->mu);
}

static void wait_started(struct gate *g, unsigned n) {
    pthread_mutex_lock(&g->mu);
    while (g->started < n) {
        pthread_cond_wait(&g->cv, &g->mu);
    }
    pthread_mutex_unlock(&g->mu);
}

static void open_gate(struct gate *g, unsigned until_done) {
    pthread_mutex_lock(&g->mu);
    g->open = true;
    pthread_cond_broadcast(&g->cv);
    while (g->done < until_done) {
        pthread_cond_wait(&g->cv, &g->mu);
    }
    pthread_mutex_unlock(&g->mu);
}

static void test_bound(void **state) {
    (void)state;
    struct gate g = { .mu = PTHREAD_MUTEX_INITIALIZER, .cv = PTHREAD_COND_INITIALIZER };
    struct pool_conf conf = { .name = "t", .threads = 2, .queue = 3, .run = run, .arg = &g };
    struct pool *p = pool_new(&conf);
    struct job jobs[6] = { 0 };
    uint64_t running, waiting;
    for (size_t i = 0; i < 5; i++) {
        assert_true(pool_submit(p, &jobs[i].link));
    }
    wait_started(&g, 2);
    assert_false(pool_submit(p, &jobs[5].link)); /* 2 run, 3 wait */
    pool_counts(p, &running, &waiting);
    assert_int_equal(running, 2);
    assert_int_equal(waiting, 3);
    assert_false(pool_cancel(p, &jobs[0].link)); /* runs */
    assert_true(pool_cancel(p, &jobs[3].link));
    assert_false(pool_cancel(p, &jobs[3].link));
    assert_true(pool_submit(p, &jobs[5].link));
    struct pool_job *taken = pool_take(p);
    assert_ptr_equal(taken, &jobs[2].link);
    open_gate(&g, 4);
    assert_null(pool_take(p));
    pool_free(p);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(jobs[i].runs, i != 3 && i != 2);
    }
}

static void test_no_queue(void **state) {
    (void)state;
    struct gate g = { .mu = PTHREAD_MUTEX_INITIALIZER, .cv = PTHREAD_COND_INITIALIZER };
    struct pool_conf conf = { .name = "t", .threads = 1, .queue = 0, .run = run, .arg = &g };
    struct pool *p = pool_new(&conf);
    struct job jobs[2] = { 0 };
    assert_true(pool_submit(p, &jobs[0].link));
    wait_started(&g, 1);
    assert_false(pool_submit(p, &jobs[1].link));
    open_gate(&g, 1);
    pool_free(p);
}

static void *submit_many(void *arg) {
    struct pool *p = arg;
    static struct job jobs[4][500];
    static _Atomic unsigned next;
    struct job *mine = jobs[next++ % 4];
    unsigned ok = 0;
    for (size_t i = 0; i < 500; i++) {
        mine[i] = (struct job){ 0 };
        ok += pool_submit(p, &mine[i].link);
    }
    return (void *)(uintptr_t)ok;
}

static void test_many(void **state) {
    (void)state;
    struct gate g = { .mu = PTHREAD_MUTEX_INITIALIZER, .cv = PTHREAD_COND_INITIALIZER, .open = true };
    struct pool_conf conf = { .name = "t", .threads = 3, .queue = 100000, .run = run, .arg = &g };
    struct pool *p = pool_new(&conf);
    pthread_t t[4];
    unsigned total = 0;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&t[i], NULL, submit_many, p), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        void *n;
        pthread_join(t[i], &n);
        total += (unsigned)(uintptr_t)n;
    }
    assert_int_equal(total, 2000);
    open_gate(&g, total);
    pool_free(p);
    assert_int_equal(g.done, 2000);
}

static void test_unused(void **state) {
    (void)state;
    struct pool_conf conf = { .name = "t", .threads = 4, .queue = 1, .run = run };
    pool_free(pool_new(&conf));
    pool_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_no_queue),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_unused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
