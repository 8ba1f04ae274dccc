/* migrations.h -- the numbered SQL files of sql/postgres/, embedded at build time by tools/embed-sql.
 *
 * Invariants (the tool checks them, a build fails otherwise): versions start at 1 and rise by 1; a text is never empty.
 * Everything is constant for the life of the process; any thread. */
#pragma once
#include <stddef.h>

struct postgres_migration {
    int version;      /* the number in the file's name: 0001_base.sql -> 1 */
    const char *name; /* the rest of it: "base" */
    const char *sql;  /* the file's text, one or more statements */
};

extern const struct postgres_migration postgres_migrations[]; /* ascending by version */
extern const size_t postgres_migration_count;
