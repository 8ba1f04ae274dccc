/* names.h -- the names of metrics that a read has found, each shown once and in order. Knows no engine. Used by one thread. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "store/query.h"

struct name_list {
    struct arena a;
    struct str *v; /* malloc'd */
    size_t n, room;
};
void name_list_init(struct name_list *l);
void name_list_done(struct name_list *l);
/* Copies the name; `list`: a struct name_list, so that scan_names can call it. False: no memory. */
bool name_list_add(void *list, struct str name);
/* Ascending, of equal ones the first, until the visitor says false. */
void name_list_visit(struct name_list *l, name_visitor *visit, void *arg);
