/* checkpoint.h -- the log (WAL) goes into the file beside the writer, not in its way.
 *
 *  1. When CHECKPOINT_FRAMES frames are due, a thread with a connection of its own runs PASSES passive passes: each copies
 *     what was committed when it began, so the last ones are short. Then the writer, between two groups, copies the rest
 *     and lets the log start over: a thread alone would hardly ever meet the moment in which everything is copied.
 *  2. The thread is made when the first checkpoint is due and lives until checkpoint_stop; it sleeps on a condition. Without
 *     it (no thread to be had) the writer runs the passes.
 *  3. A pass that fails loses nothing, the log keeps everything: it is counted, logged once until one succeeds, and tried
 *     again CHECKPOINT_FRAMES later. Nothing here makes a write fail or wait for the disk but the writer's own short rest.
 *  4. Readers that hold an old snapshot keep the log from starting over. The rest waits for them, a few ms while the log is
 *     small and WAL_LONG_WAIT beyond WAL_LONG_FRAMES. A log that grew is cut when it starts over (journal_size_limit).
 *  5. `mu` guards what is marked; the rest is the writer's. */
#pragma once
#include <stdatomic.h>

#include "store/limits.h"
#include "store/sqlite/engine.h"

struct checkpoint;

/* NULL: no memory. */
struct checkpoint *checkpoint_new(struct sqlite_store *e);
/* Ends the thread, after the pass that it is in, and closes its connection; NULL is fine. The writer's connection is left
 * alone: see checkpoint_last. */
void checkpoint_free(struct checkpoint *k);
/* The log's length is told by the writer's connection: after each time that is opened. */
void checkpoint_watch(struct checkpoint *k);
/* [writer] Between groups: asks the thread when a checkpoint is due, finishes what the thread has done. Returns as the
 * store's op does. */
int64_t checkpoint_tidy(struct checkpoint *k);
/* [writer] Waits until the thread rests. For tests. */
void checkpoint_settle(struct checkpoint *k);
/* [writer] Copies everything and leaves an empty log, waiting for readers for a moment: before the store is closed. */
void checkpoint_last(struct sqlite_store *e);
/* Frames of the log after the last commit. [writer] */
int checkpoint_frames(const struct checkpoint *k);
/* Logs that started over after a checkpoint, and passes that failed. [any] */
void checkpoint_counts(const struct checkpoint *k, uint64_t *ret_done, uint64_t *ret_failed);
