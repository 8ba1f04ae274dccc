/* str.h -- text from outside: a pointer and a length, never strlen. Absent (JSON null or missing) is p == NULL. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

struct str {
    const char *p;
    size_t n;
};
#define STR_NONE ((struct str){ NULL, 0 })
#define STR_LIT(s) ((struct str){ "" s, sizeof(s) - 1 })
/* printf("%.*s", STR_FMT(s)): the length is capped so that it fits an int. */
#define STR_FMT(s) (int)((s).n > 100000 ? 100000 : (s).n), ((s).p ? (s).p : "")

static inline bool str_has(struct str s) { return s.p != NULL; }
static inline struct str str_c(const char *s) { return s ? (struct str){ s, strlen(s) } : STR_NONE; }
static inline bool str_eq(struct str a, struct str b) {
    return a.p == b.p ? a.n == b.n : a.p && b.p && a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}
static inline bool str_eq_c(struct str a, const char *b) { return a.p != NULL && str_eq(a, str_c(b)); }
/* Bytewise order; absent sorts before everything. */
int str_cmp(struct str a, struct str b);
bool str_eq_nocase(struct str a, struct str b); /* ASCII letters only */
bool str_starts(struct str s, const char *prefix);
bool str_ends(struct str s, const char *suffix);
struct str str_trim(struct str s);                       /* ASCII blanks: space, tab, CR, LF */
struct str str_sub(struct str s, size_t from, size_t n); /* clamped to s */
/* Index of the first c, or s.n. */
size_t str_find(struct str s, char c);
/* Takes the part before the first `sep` off *rest (all of it when there is none). False when *rest is used up:
 * "a,b" gives "a", "b"; "" gives "" once. Start with a present string; *rest becomes absent at the end. */
bool str_split(struct str *rest, char sep, struct str *ret_part);
/* Strict decimal: optional '-', digits, nothing else, in range. */
bool str_to_i64(struct str s, int64_t *ret);
bool str_to_u64(struct str s, uint64_t *ret);
/* A JSON number's grammar or what strtod takes without hex, blanks or names; false for inf/nan/overflow. */
bool str_to_f64(struct str s, double *ret);

#ifdef __cplusplus
}
#endif
