/* seal.h -- makes a generation of hot parts: which names go into it, their points in order, what is left over. The same for
 * every engine; where the rows go is the engine's.
 *
 * The parts must be frozen: nobody adds to them any more. The last one gets the sets of the earlier ones added, unseen by
 * its readers. One thread. */
#pragma once
#include "store/sample/hot.h"
#include "store/sample/pack.h"

#define SEAL_PACKS_MAX (1u << 24) /* parts of one generation: engines number them in 24 bits */

/* What a generation has of one metric: parts [first, first + parts) of it. */
struct seal_dir {
    int64_t metric, project;
    struct str name; /* in the part */
    uint32_t first, parts;
    int64_t points, t0, t1;
};
struct seal {
    /* Given. */
    struct hot *parts[2]; /* in order of arrival */
    size_t nparts;        /* 1 or 2 */
    int64_t cutoff;       /* points before it fall away; TIME_MIN: none */
    bool carry_all;       /* no generation, only what is left */
    bool carry_none;      /* everything goes into the generation */
    /* Made. */
    struct seal_dir *dirs;
    size_t ndirs;
    uint32_t packs;
    int64_t points, t0, t1;
    struct filter filter;
    struct hot *carried; /* published; NULL: nothing is left over */
};
/* Can a stored row of that kind be what was made? Asked before it is used: what is stored may be damaged. `filter_rows`: of
 * the generation's filter, 0: it has none. */
bool seal_dir_sound(int64_t gen, int64_t first, int64_t parts, int64_t filter_rows);

/* Where it all goes; on the thread of seal_make. */
struct seal_engine {
    void *arg;
    /* The number of a metric in the store, now or when the generation is stored. */
    enum xt_code (*metric)(void *arg, int64_t project, struct str name, int64_t *ret, struct xt_err *err);
    enum xt_code (*pack)(void *arg, uint32_t number, const struct pack_part *p, struct xt_err *err);
};

/* What was made belongs to the seal; seal_done in any case. */
enum xt_code seal_make(struct seal *s, const struct seal_engine *engine, struct xt_err *err);
void seal_done(struct seal *s);
