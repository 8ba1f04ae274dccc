/* dict.h -- trained dictionaries of zstd: short texts of one kind (prompts, JSON of one shape) compress by what they have
 * in common with those stored before, which no text says by itself.
 *
 *  1. A dictionary is a row of `dict`, never changed, never removed. Its number stands before each frame that needs it.
 *  2. It is committed before the first frame that uses it: dicts_use() comes after the commit of dict_add().
 *  3. What was loaded stays until the store closes, shared by all threads without further locks. Nothing is loaded before
 *     it is needed: an idle server holds none.
 *  4. A row is compared with its checksum before it is used: a wrong dictionary would decode to a wrong text.
 *  5. Training again: after TRAIN_FIRST_TEXTS, and eight times as many each time, a candidate is made from the newest
 *     texts. It is kept when it saves a twentieth on texts it has not seen, compared with what is in use. */
#pragma once
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

struct conn;
struct dicts;
struct sqlite_store;
struct ZSTD_CDict_s;
struct ZSTD_DDict_s;

struct dict {
    struct dict *next;
    int64_t number;
    struct ZSTD_CDict_s *c; /* NULL: loaded for reading */
    struct ZSTD_DDict_s *d;
};

struct dicts *dicts_new(void); /* NULL: no memory */
void dicts_free(struct dicts *s);

/* For encoding: the newest one, NULL: none, or not loaded yet. Never blocks. */
const struct dict *dicts_current(const struct dicts *s);
/* Loads the newest one for encoding, once a store; what goes wrong is tried again later. [any thread] */
void dicts_load_current(struct sqlite_store *e);
/* For decoding; loaded by `c` when it is new (NULL: then it is unknown). XT_ESTORE: missing or damaged. */
enum xt_code dicts_find(struct dicts *s, struct conn *c, int64_t number, const struct dict **ret, struct xt_err *err);
/* From bytes that are committed as row `number`: later texts are encoded with it. False: no memory, or no dictionary. */
bool dicts_use(struct dicts *s, int64_t number, struct str bytes);

/* Texts that were encoded: what decides when training is due. */
void dicts_count(struct dicts *s, uint64_t texts);

/* ---- train.c ---- */
/* [jobs thread] Makes a dictionary of the newest texts when that is due and worth it, else leaves *ret empty. */
enum xt_code dict_train(struct sqlite_store *e, struct buf *ret, struct xt_err *err);
/* [writer] Keeps it, durably, and uses it from then on. */
enum xt_code dict_add(struct sqlite_store *e, struct str bytes, struct xt_err *err);
/* Is training due? If so, it is due again only after eight times as many texts. */
bool dicts_take_due(struct dicts *s);
