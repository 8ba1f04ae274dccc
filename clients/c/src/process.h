/* process.h -- which process is this, and random numbers that two processes never share.
 *
 *  1. A guard is one page that the kernel wipes in a child of fork (MADV_WIPEONFORK): reading it tells a child that it is
 *     one, without pthread_atfork's global handlers and without a system call. Where the kernel cannot, the guard asks
 *     getpid() each time.
 *  2. The guard's epoch is not 0, differs between a process and its children, and never changes within a process. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct fork_guard;
struct fork_guard *fork_guard_new(void); /* NULL: no memory */
void fork_guard_free(struct fork_guard *g);
/* 0: this process is a child that has not called fork_guard_renew yet. */
uint64_t fork_guard_epoch(const struct fork_guard *g);
/* In a child: exactly one caller gets true and must put the guarded state in order, then call fork_guard_done; all
 * others wait until it has. False: the guard is valid. */
bool fork_guard_renew(struct fork_guard *g);
void fork_guard_done(struct fork_guard *g);

/* Fast random numbers of the calling thread (for ids and jitter, not for secrets); seeded by the system. `epoch` as the
 * guard gives it: a child draws a new seed. */
uint64_t random_u64(uint64_t epoch);
