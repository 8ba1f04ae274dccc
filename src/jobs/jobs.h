/* jobs.h -- what happens by the clock: retention. One thread that sleeps until the next round; the work
 * itself runs in slices on the writer's thread, between groups. */
#pragma once
#include "conf/conf.h"
#include "ingest/writer.h"

struct jobs;
enum xt_code jobs_start(const struct conf *conf, struct store *s, struct ingest *in, struct jobs **ret,
                        struct xt_err *err);
/* Stops and frees; NULL is fine. No slice runs once ingest_stop was called, so stop the jobs first. */
void jobs_stop(struct jobs *j);
