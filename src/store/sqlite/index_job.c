/* index_job.c -- where the entries of a new run come from: a frozen hot part that is sorted (a seal), or older runs that
 * are merged. Both come in three stages, trace ids, observation ids, postings; a posting and its IX_UNPOST that meet in one
 * run cancel each other.
 *
 * A job holds what it reads from by reference. It stands between two transactions as it was after the last; when one
 * fails, the job is dropped whole and begun again with another run number. */
#include <stdlib.h>

#include "store/sqlite/index.h"

#define STAGE_POSTS 2
#define STAGES 3
#define ENTRIES_A_ROW 400 /* so many are looked at for each row that may be written */

static enum xt_code out_of_memory(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }

static void close_stage(struct ix_job *j) {
    for (int i = 0; i < 2; i++) {
        free(j->sorted[i]);
        j->sorted[i] = NULL;
        j->count[i] = j->at[i] = 0;
    }
    free(j->cursors);
    j->cursors = NULL;
    j->ncursors = 0;
    j->opened = false;
}

void job_drop(struct ix_job *j) {
    if (!j || !j->active)
        return;
    close_stage(j);
    build_drop(&j->b);
    hot_unref(j->hot);
    for (size_t i = 0; i < j->nin; i++)
        run_unref(j->in[i]);
    *j = (struct ix_job){ 0 };
}

void seal_begin(struct ix_job *j, struct ix_hot *frozen) {
    *j = (struct ix_job){ .active = true, .hot = hot_ref(frozen) };
}

void merge_begin(struct ix_job *j, struct ix_run *const *runs, size_t n, int64_t floor) {
    *j = (struct ix_job){ .active = true, .floor = floor };
    for (; j->nin < n; j->nin++)
        j->in[j->nin] = run_ref(runs[j->nin]);
}

/* ---- a seal's entries ---- */

static bool sort_kind(struct ix_job *j, int slot, enum ix_kind kind) {
    j->count[slot] = j->hot->published.n[kind];
    if (j->count[slot] == 0)
        return true;
    j->sorted[slot] = hot_sorted(j->hot, kind, j->count[slot]);
    return j->sorted[slot] != NULL;
}

static bool next_sorted(struct ix_job *j, struct ix_entry *ret, enum ix_kind *ret_kind) {
    bool a = j->at[0] < j->count[0], b = j->at[1] < j->count[1];
    int slot = a && b ? ix_cmp(&j->sorted[0][j->at[0]], &j->sorted[1][j->at[1]]) > 0 : !a;
    if (!a && !b)
        return false;
    *ret = j->sorted[slot][j->at[slot]++];
    *ret_kind = j->stage == STAGE_POSTS ? (slot ? IX_UNPOST : IX_POST) : (enum ix_kind)j->stage;
    return true;
}

/* ---- a merge's entries: a heap of cursors, the first in order on top ---- */

static bool cursor_less(const struct ix_cursor *a, const struct ix_cursor *b) { return ix_cmp(&a->e, &b->e) < 0; }

static void swap_cursors(struct ix_cursor **v, size_t a, size_t b) {
    struct ix_cursor *t = v[a];
    v[a] = v[b];
    v[b] = t;
}

static void sift_down(struct ix_cursor **v, size_t n, size_t i) {
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && cursor_less(v[child + 1], v[child]))
            child++;
        if (!cursor_less(v[child], v[i]))
            return;
        swap_cursors(v, i, child);
    }
}

static enum xt_code cursor_read(struct ix_job *j, struct ix_cursor *cur, struct xt_err *err) {
    return run_entry(j->b.c, cur->run, cur->kind, cur->at, &cur->part, &cur->e, err);
}

static enum xt_code open_cursors(struct ix_job *j, struct xt_err *err) {
    size_t kinds = j->stage == STAGE_POSTS ? 2 : 1;
    j->cursors = alloc_should_fail() ? NULL : malloc(kinds * j->nin * sizeof *j->cursors);
    if (!j->cursors)
        return out_of_memory(err);
    for (size_t i = 0; i < j->nin; i++)
        for (size_t k = 0; k < kinds; k++) {
            struct ix_cursor *cur = &j->cursors[j->ncursors];
            cur->run = j->in[i];
            cur->kind = (enum ix_kind)((size_t)j->stage + k);
            cur->at = 0;
            cur->part.number = -1;
            if (cur->run->n[cur->kind] == 0)
                continue;
            enum xt_code code = cursor_read(j, cur, err);
            if (code != XT_OK)
                return code;
            j->heap[j->ncursors] = cur;
            j->ncursors++;
        }
    for (size_t i = j->ncursors; i-- > 0;)
        sift_down(j->heap, j->ncursors, i);
    return XT_OK;
}

static enum xt_code next_merged(struct ix_job *j, struct ix_entry *ret, enum ix_kind *ret_kind, bool *ret_end,
                                struct xt_err *err) {
    *ret_end = j->ncursors == 0;
    if (*ret_end)
        return XT_OK;
    struct ix_cursor *top = j->heap[0];
    enum xt_code code = XT_OK;
    *ret = top->e;
    *ret_kind = top->kind;
    if (++top->at == top->run->n[top->kind])
        j->heap[0] = j->heap[--j->ncursors];
    else
        code = cursor_read(j, top, err);
    sift_down(j->heap, j->ncursors, 0);
    return code;
}

/* ---- both ---- */

static enum xt_code open_stage(struct ix_job *j, struct xt_err *err) {
    j->opened = true;
    if (!j->hot)
        return open_cursors(j, err);
    bool ok = sort_kind(j, 0, (enum ix_kind)j->stage);
    if (ok && j->stage == STAGE_POSTS)
        ok = sort_kind(j, 1, IX_UNPOST);
    return ok ? XT_OK : out_of_memory(err);
}

static enum xt_code put_pending(struct ix_job *j, struct xt_err *err) {
    enum xt_code code = XT_OK;
    enum ix_kind kind = j->net > 0 ? IX_POST : IX_UNPOST;
    for (int64_t n = j->net > 0 ? j->net : -j->net; n > 0 && code == XT_OK; n--)
        code = build_put(&j->b, kind, &j->pending, err);
    j->net = 0;
    return code;
}

static enum xt_code take(struct ix_job *j, const struct ix_entry *e, enum ix_kind kind, struct xt_err *err) {
    enum xt_code code = XT_OK;
    if (e->tseq < j->floor)
        return XT_OK;
    if (!ix_timed(kind))
        return build_put(&j->b, kind, e, err);
    if (j->net != 0 && ix_cmp(e, &j->pending) != 0)
        code = put_pending(j, err);
    j->pending = *e;
    j->net += kind == IX_POST ? 1 : -1;
    return code;
}

static enum xt_code begin(struct ix_job *j, struct index *ix, struct xt_err *err) {
    int64_t traces = j->hot ? (int64_t)j->hot->published.n[IX_TRACE] : 0;
    int level = 0;
    for (size_t i = 0; i < j->nin; i++) {
        traces += j->in[i]->n[IX_TRACE];
        if (j->in[i]->level >= level)
            level = j->in[i]->level + 1;
    }
    j->begun = true;
    return build_begin(&j->b, ix, level, traces, err);
}

enum xt_code job_step(struct ix_job *j, struct index *ix, size_t rows, bool *ret_done, struct xt_err *err) {
    enum xt_code code = j->begun ? XT_OK : begin(j, ix, err);
    size_t taken = 0, most = rows * ENTRIES_A_ROW;
    *ret_done = false;
    j->b.rows = 0;
    while (code == XT_OK && j->stage < STAGES && j->b.rows < rows && taken++ < most) {
        struct ix_entry e = { 0 };
        enum ix_kind kind = IX_TRACE;
        bool end = false;
        if (!j->opened)
            code = open_stage(j, err);
        if (code == XT_OK && j->hot)
            end = !next_sorted(j, &e, &kind);
        else if (code == XT_OK)
            code = next_merged(j, &e, &kind, &end, err);
        if (code == XT_OK && !end)
            code = take(j, &e, kind, err);
        if (code == XT_OK && end) {
            if (j->net != 0)
                code = put_pending(j, err);
            close_stage(j);
            j->stage++;
        }
    }
    if (code == XT_OK && j->stage == STAGES) {
        code = build_end(&j->b, err);
        *ret_done = true;
    }
    return code;
}
