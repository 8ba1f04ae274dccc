/* labels.c -- a strict reader for exactly the form that labels_json writes: no blanks, strings only. A file may be
 * damaged, so nothing is taken for granted. */
#include "store/sqlite/labels.h"

#include "base/codec.h"

#define LABELS_FIRST 8

/* Takes a quoted string off *s. */
static bool take_string(struct arena *a, struct str *s, struct str *ret) {
    if (s->n < 2 || s->p[0] != '"')
        return false;
    size_t end = 1;
    bool escaped = false;
    while (end < s->n && s->p[end] != '"') {
        bool skip = s->p[end] == '\\';
        escaped = escaped || skip;
        end += skip ? 2 : 1;
    }
    if (end >= s->n)
        return false;
    struct str inside = { s->p + 1, end - 1 };
    s->p += end + 1;
    s->n -= end + 1;
    *ret = inside;
    if (!escaped)
        return true;
    char *room = arena_bytes(a, inside.n);
    size_t n = room ? json_unescape(inside, false, room) : SIZE_MAX;
    *ret = (struct str){ room, n };
    return n != SIZE_MAX;
}

static bool take(struct str *s, char c) {
    if (s->n == 0 || s->p[0] != c)
        return false;
    s->p++;
    s->n--;
    return true;
}

static bool grow(struct arena *a, struct label **labels, size_t n, size_t *cap) {
    if (n < *cap)
        return true;
    size_t wider = *cap ? *cap * 2 : LABELS_FIRST;
    struct label *more = arena_new(a, struct label, wider);
    if (!more)
        return false;
    if (n)
        memcpy(more, *labels, n * sizeof *more);
    *labels = more;
    *cap = wider;
    return true;
}

bool labels_parse(struct arena *a, struct str text, struct label **ret, size_t *ret_n) {
    struct label *labels = NULL;
    size_t n = 0, cap = 0;
    if (!take(&text, '{'))
        return false;
    while (text.n > 0 && text.p[0] != '}') {
        if ((n > 0 && !take(&text, ',')) || !grow(a, &labels, n, &cap))
            return false;
        if (!take_string(a, &text, &labels[n].name) || !take(&text, ':') || !take_string(a, &text, &labels[n].value))
            return false;
        n++;
    }
    if (!take(&text, '}') || text.n != 0)
        return false;
    *ret = labels;
    *ret_n = n;
    return true;
}
