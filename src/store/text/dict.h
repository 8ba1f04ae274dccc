/* dict.h -- trained dictionaries of zstd: short texts of one kind (prompts, JSON of one shape) compress by what they have
 * in common with those stored before, which no text says by itself.
 *
 *  1. A dictionary is a row of table `dict`, never changed, never removed. Its number stands before each frame that needs
 *     it.
 *  2. It is committed before the first frame that uses it: dicts_use() comes after the commit.
 *  3. What was loaded stays until the store closes, shared by all threads without further locks. Nothing is loaded before
 *     it is needed: an idle server holds none.
 *  4. A row is compared with its checksum before it is used: a wrong dictionary would decode to a wrong text.
 *  5. Training again: after TRAIN_FIRST_TEXTS, and eight times as many each time, a candidate is made from the newest
 *     texts. It is kept when it saves a twentieth on texts it has not seen, compared with what is in use.
 * Knows no engine: rows are read through a dict_source, texts through a text_newest. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

struct dicts;
struct ZSTD_CDict_s;
struct ZSTD_DDict_s;

struct dict {
    struct dict *next;
    int64_t number;
    struct ZSTD_CDict_s *c; /* NULL: loaded for reading */
    struct ZSTD_DDict_s *d;
};

/* A row that was looked for. */
struct dict_row {
    int64_t number; /* 0: there is none */
    bool sound;     /* its checksum is that of its bytes */
    struct buf bytes;
};
/* For a source that found the row: copies it. `sum`: SHA-256 as stored. XT_ENOMEM. */
enum xt_code dict_row_set(struct dict_row *r, int64_t number, struct str bytes, struct str sum, struct xt_err *err);

/* Where an engine keeps dictionaries. */
struct dict_source {
    void *arg;
    /* Looks for the row of that number (0: the newest one) and calls dict_row_set when it is there. Not XT_OK: nobody knows
     * whether it is. */
    enum xt_code (*row)(void *arg, int64_t number, struct dict_row *ret, struct xt_err *err);
};

struct dicts *dicts_new(void); /* NULL: no memory */
void dicts_free(struct dicts *s);

/* For encoding: the newest one, NULL: none, or not loaded yet. Never blocks. */
const struct dict *dicts_current(const struct dicts *s);
/* Loads the newest one for encoding, once a store; what goes wrong is tried again later. `from` takes a connection of its
 * own. [any thread] */
void dicts_load_current(struct dicts *s, const struct dict_source *from);
/* For decoding; loaded through `from` when it is new (no `row`: then it is unknown). XT_ESTORE: missing or damaged. */
enum xt_code dicts_find(struct dicts *s, const struct dict_source *from, int64_t number, const struct dict **ret,
                        struct xt_err *err);
/* From bytes that are committed as row `number`: later texts are encoded with it. False: no memory, or no dictionary. */
bool dicts_use(struct dicts *s, int64_t number, struct str bytes);

/* Texts that were encoded: what decides when training is due. */
void dicts_count(struct dicts *s, uint64_t texts);
/* Is training due? If so, it is due again only after eight times as many texts. */
bool dicts_take_due(struct dicts *s);

/* ---- train.c ---- */
typedef bool text_visitor(void *arg, struct str text);
/* An engine's newest texts. */
struct text_newest {
    void *arg;
    /* Visits texts from the newest row on, `rows` of them at most, until the visitor says false. Rows that can't be read
     * are passed over. Takes a connection of its own. */
    enum xt_code (*each)(void *arg, int64_t rows, text_visitor *visit, void *visit_arg, struct xt_err *err);
};
/* [one thread] Makes a dictionary of the newest texts when that is due and worth it, else leaves *ret empty. */
enum xt_code dicts_train(struct dicts *s, const struct text_newest *from, struct buf *ret, struct xt_err *err);
