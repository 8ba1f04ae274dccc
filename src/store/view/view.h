/* view.h -- rows as the API sees them: ids printed, payloads fetched, what was never sent derived. Knows no engine:
 * records in, rows out, texts through a text_source. An engine that fetches the texts of a whole page at once asks
 * view_trace_texts (and the records' pids) beforehand which ones will be wanted. */
#pragma once
#include "store/fold/record.h"
#include "store/query.h"
#include "store/text/text.h"

/* What one read keeps: memory of the row being shown, and where its texts are. */
struct view {
    struct text_source texts;
    struct arena arena; /* of the present row: the engine resets it between rows */
};
void view_init(struct view *v, const struct text_source *texts);
void view_done(struct view *v);

/* ---- order ---- */
/* Order of a trace's observations: start, without one last; then created, then id. */
struct obs_place {
    int64_t start, created;
    struct str oid;
};
int obs_place_cmp(const struct obs_place *a, const struct obs_place *b);

/* ---- traces ---- */
/* The root observation: the first one in order whose parent is not in the trace. It stands in for input and output. */
struct obs_root {
    bool found;
    struct obs_place place;
    int64_t pid[2]; /* input, output */
};
/* Does the trace lack what a root could give? */
bool view_wants_root(const struct trace_rec *r);
/* The present root is not before that place: it becomes the root if its parent is not in the trace. */
bool obs_root_gives_way(const struct obs_root *root, const struct obs_place *place);
/* Numbers of the texts that the trace shows. `root` NULL: none. */
void view_trace_texts(const struct trace_rec *r, const struct obs_root *root, int64_t ret_pid[PAYLOADS]);
/* Texts point into the record and the view's arena. `pid`: what view_trace_texts said; NULL: payloads are not wanted. */
enum xt_code view_trace(struct view *v, const struct trace_rec *r, const int64_t pid[PAYLOADS], struct trace_row *ret,
                        struct xt_err *err);

/* Ids of a trace's observations, printed one by one into the view's arena. */
struct id_list {
    struct str *v; /* arena */
    size_t n, room;
};
/* `rest`: the packed fields, needed when the id is an ID_TEXT; prest: where they are when they stand out of line, else 0.
 */
enum xt_code view_add_id(struct view *v, struct id_list *to, struct str key, int spell, struct str rest, int64_t prest,
                         struct xt_err *err);

/* ---- observations ---- */
enum xt_code view_observation(struct view *v, const struct obs_rec *r, struct str trace_id, struct observation_row *ret,
                              struct xt_err *err);
