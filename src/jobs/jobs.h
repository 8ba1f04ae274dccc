/* jobs.h -- what happens by the clock: retention and dictionaries for texts. One thread that sleeps until
 * the next round of retention or look at what a dictionary could be trained from; what it finds to do runs in slices on the
 * writer's thread, between groups. */
#pragma once
#include "conf/conf.h"
#include "ingest/writer.h"

struct jobs;
enum xt_code jobs_start(const struct conf *conf, struct store *s, struct ingest *in, struct jobs **ret,
                        struct xt_err *err);
/* Stops and frees; NULL is fine. No slice runs once ingest_stop was called, so stop the jobs first. */
void jobs_stop(struct jobs *j);
