/* process.c -- fork detection by a page that does not survive, and the threads' random numbers. */
#include "process.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/id.h"

enum { PAGE = 4096 };
/* What the page says. 0 is what a wiped page says. */
enum { WIPED = 0, RENEWING = 1 };

struct fork_guard {
    _Atomic uint64_t *page; /* WIPED, RENEWING or the epoch */
    _Atomic pid_t pid;      /* asked where the kernel does not wipe */
    bool wipes;
};

static uint64_t new_epoch(void) {
    uint64_t e;

    if (!random_bytes(&e, sizeof e))
        e = (uint64_t)clock_now_ns() ^ ((uint64_t)getpid() << 40);
    return e | 2; /* neither WIPED nor RENEWING */
}

struct fork_guard *fork_guard_new(void) {
    struct fork_guard *g = calloc(1, sizeof *g);
    void *page;

    if (!g)
        return NULL;
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        free(g);
        return NULL;
    }
    g->page = page;
    g->wipes = madvise(page, PAGE, MADV_WIPEONFORK) == 0;
    atomic_store(&g->pid, getpid());
    atomic_store(g->page, new_epoch());
    return g;
}

void fork_guard_free(struct fork_guard *g) {
    if (!g)
        return;
    munmap((void *)g->page, PAGE);
    free(g);
}

uint64_t fork_guard_epoch(const struct fork_guard *g) {
    uint64_t e = atomic_load_explicit(g->page, memory_order_acquire);

    if (!g->wipes && atomic_load_explicit(&g->pid, memory_order_relaxed) != getpid())
        return 0;
    return e > RENEWING ? e : 0;
}

bool fork_guard_renew(struct fork_guard *g) {
    /* Where the kernel does not wipe: the page is read first, so that what is wiped is the parent's epoch for certain. */
    uint64_t was = atomic_load(g->page);
    if (!g->wipes && atomic_load(&g->pid) != getpid() && was > RENEWING)
        (void)atomic_compare_exchange_strong(g->page, &was, WIPED);
    for (;;) {
        uint64_t seen = WIPED;
        if (atomic_compare_exchange_strong(g->page, &seen, RENEWING))
            return true;
        if (seen != RENEWING)
            return false;
        sched_yield();
    }
}

void fork_guard_done(struct fork_guard *g) {
    atomic_store(&g->pid, getpid()); /* before the epoch: whoever sees the one sees the other */
    atomic_store(g->page, new_epoch());
}

/* xorshift128+ (Vigna, 2014): two words of state a thread. */
uint64_t random_u64(uint64_t epoch) {
    static _Thread_local uint64_t state[2], seeded_for;
    uint64_t a, b;

    if (seeded_for != epoch || (state[0] | state[1]) == 0) {
        if (!random_bytes(state, sizeof state)) {
            state[0] = (uint64_t)clock_now_ns() * UINT64_C(0x9e3779b97f4a7c15);
            state[1] = (uint64_t)(uintptr_t)&state ^ (uint64_t)clock_mono_ns();
        }
        state[0] |= 1;
        seeded_for = epoch;
    }
    a = state[0];
    b = state[1];
    state[0] = b;
    a ^= a << 23;
    state[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
    return state[1] + b;
}
