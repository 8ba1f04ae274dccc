/* pool.c -- see pool.h.
 *
 *  1. mu guards everything below it. No lock is held while a job runs.
 *  2. A job is in the list exactly while job->queued; it is run, taken or cancelled exactly once.
 *  3. waiting + running <= conf.queue + conf.threads; a thread is made only when more jobs wait than threads do. */
#include "http/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/arena.h"

struct pool {
    struct pool_conf conf;
    pthread_mutex_t mu;
    pthread_cond_t work;
    struct pool_job *head, *tail;
    size_t waiting, running, idle, nthreads;
    bool stopping;
    pthread_t threads[];
};

struct pool *pool_new(const struct pool_conf *conf) {
    size_t threads = conf->threads ? conf->threads : 1;
    struct pool *p = alloc_should_fail() ? NULL : calloc(1, sizeof(*p) + threads * sizeof(p->threads[0]));
    if (!p) {
        return NULL;
    }
    p->conf = *conf;
    p->conf.threads = threads;
    pthread_mutex_init(&p->mu, NULL);
    pthread_cond_init(&p->work, NULL);
    return p;
}

/* mu held. */
static void unlink_job(struct pool *p, struct pool_job *job) {
    *(job->prev ? &job->prev->next : &p->head) = job->next;
    *(job->next ? &job->next->prev : &p->tail) = job->prev;
    job->prev = job->next = NULL;
    job->queued = false;
    p->waiting--;
}

static void *run(void *arg) {
    struct pool *p = arg;
    pthread_mutex_lock(&p->mu);
    for (;;) {
        while (!p->head && !p->stopping) {
            p->idle++;
            pthread_cond_wait(&p->work, &p->mu);
            p->idle--;
        }
        if (!p->head) {
            break;
        }
        struct pool_job *job = p->head;
        unlink_job(p, job);
        p->running++;
        pthread_mutex_unlock(&p->mu);
        p->conf.run(p->conf.arg, job);
        pthread_mutex_lock(&p->mu);
        p->running--;
    }
    pthread_mutex_unlock(&p->mu);
    return NULL;
}

/* Signals are the main thread's business: this one blocks them all. mu held. */
static bool add_thread(struct pool *p) {
    pthread_attr_t attr;
    sigset_t all, old;
    if (pthread_attr_init(&attr) != 0) {
        return false;
    }
    pthread_attr_setstacksize(&attr, DECODE_STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    bool ok = pthread_create(&p->threads[p->nthreads], &attr, run, p) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (ok) {
        pthread_setname_np(p->threads[p->nthreads], p->conf.name);
        p->nthreads++;
    }
    return ok;
}

bool pool_submit(struct pool *p, struct pool_job *job) {
    pthread_mutex_lock(&p->mu);
    bool ok = !p->stopping && p->waiting < p->conf.queue + (p->conf.threads - p->running);
    if (ok && p->waiting >= p->idle && p->nthreads < p->conf.threads) {
        ok = add_thread(p) || p->nthreads > 0;
    }
    if (ok) {
        *job = (struct pool_job){ .prev = p->tail, .queued = true };
        *(p->tail ? &p->tail->next : &p->head) = job;
        p->tail = job;
        p->waiting++;
        pthread_cond_signal(&p->work);
    }
    pthread_mutex_unlock(&p->mu);
    return ok;
}

struct pool_job *pool_take(struct pool *p) {
    pthread_mutex_lock(&p->mu);
    struct pool_job *job = p->head;
    if (job) {
        unlink_job(p, job);
    }
    pthread_mutex_unlock(&p->mu);
    return job;
}

bool pool_cancel(struct pool *p, struct pool_job *job) {
    pthread_mutex_lock(&p->mu);
    bool was = job->queued;
    if (was) {
        unlink_job(p, job);
    }
    pthread_mutex_unlock(&p->mu);
    return was;
}

void pool_counts(struct pool *p, uint64_t *ret_running, uint64_t *ret_waiting) {
    pthread_mutex_lock(&p->mu);
    *ret_running = p->running;
    *ret_waiting = p->waiting;
    pthread_mutex_unlock(&p->mu);
}

void pool_free(struct pool *p) {
    if (!p) {
        return;
    }
    pthread_mutex_lock(&p->mu);
    p->stopping = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->mu);
    for (size_t i = 0; i < p->nthreads; i++) {
        pthread_join(p->threads[i], NULL);
    }
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->mu);
    free(p);
}
