/* names.c -- see names.h. */
#include "store/sample/names.h"

#include <stdlib.h>

#define NAMES_BYTES ((size_t)1 << 30) /* far more than a project has: a server runs out of memory before */

void name_list_init(struct name_list *l) {
    *l = (struct name_list){ .v = NULL };
    arena_init(&l->a, NAMES_BYTES);
}

void name_list_done(struct name_list *l) {
    free(l->v);
    arena_done(&l->a);
}

bool name_list_add(void *list, struct str name) {
    struct name_list *l = list;
    if (l->n == l->room) {
        size_t room = l->room ? l->room * 2 : 64;
        struct str *v = alloc_should_fail() ? NULL : realloc(l->v, room * sizeof *v);
        if (!v)
            return false;
        l->v = v;
        l->room = room;
    }
    l->v[l->n] = arena_str(&l->a, name);
    return str_has(l->v[l->n++]);
}

static int by_text(const void *a, const void *b) { return str_cmp(*(const struct str *)a, *(const struct str *)b); }

void name_list_visit(struct name_list *l, name_visitor *visit, void *arg) {
    if (l->n > 1)
        qsort(l->v, l->n, sizeof *l->v, by_text);
    for (size_t i = 0; i < l->n; i++)
        if ((i == 0 || !str_eq(l->v[i - 1], l->v[i])) && !visit(arg, l->v[i]))
            break;
}
