/* sqlite_fixture.h -- looking into the file of a store on SQLite, for the tests of that engine's inside. */
#pragma once
#include "store_fixture.h"

/* A number from the database by a connection that knows nothing of the engine. -1: failed. */
static inline int64_t fixture_query(const struct fixture *f, const char *sql) {
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    int64_t n = -1;
    if (sqlite3_open_v2(f->path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
        n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

/* Points in the file, by their values. */
struct fixture_same {
    double value;
    int64_t n;
};
static inline void fixture_same_one(void *arg, int64_t time, double value) {
    struct fixture_same *s = arg;
    (void)time;
    s->n += value == s->value;
}
/* Points of this value. */
static inline int64_t fixture_points_with(const struct fixture *f, double value) {
    struct fixture_same s = { value, 0 };
    fixture_each_point(f->path, fixture_same_one, &s);
    return s.n;
}
static inline void fixture_sum_one(void *arg, int64_t time, double value) {
    (void)time;
    *(double *)arg += value;
}
static inline int64_t fixture_sum(const char *path) {
    double sum = 0;
    fixture_each_point(path, fixture_sum_one, &sum);
    return (int64_t)sum;
}
