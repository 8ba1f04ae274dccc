/* test_store_catalog.c -- projects and keys, also as another process sees them. */
#include "store_fixture.h"

#include <pthread.h>

static struct store_key key_of(int64_t project, const char *public_key) {
    struct store_key k = { .project = project, .public_key = str_c(public_key), .rights = 3, .created = 77 };
    for (size_t i = 0; i < sizeof k.secret_hash; i++)
        k.secret_hash[i] = (uint8_t)(i * 7 + (uint8_t)public_key[0]);
    return k;
}

static void projects(void **state) {
    struct fixture *f = *state;
    const struct store_ops *ops = f->store.ops;
    static const char *const names[] = { "default", "", "a/b", "\xc3\xa9", "Default", "default " };
    int64_t numbers[6], again;
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(ops->project_open(&f->store, str_c(names[i]), &numbers[i], &f->err), XT_OK);
        for (size_t k = 0; k < i; k++)
            assert_int_not_equal(numbers[i], numbers[k]);
    }
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(ops->project_open(&f->store, str_c(names[i]), &again, &f->err), XT_OK);
        assert_int_equal(again, numbers[i]);
    }
    fixture_reopen(f);
    assert_int_equal(ops->project_open(&f->store, STR_LIT("a/b"), &again, &f->err), XT_OK);
    assert_int_equal(again, numbers[2]);
    assert_int_equal(fixture_rows(f, "project"), 6);
}

static uint64_t version(struct store *s) {
    uint64_t v = 0;
    struct xt_err err;
    assert_int_equal(s->ops->keys_version(s, &v, &err), XT_OK);
    return v;
}

static void keys(void **state) {
    struct fixture *f = *state;
    const struct store_ops *ops = f->store.ops;
    int64_t project, id[2];
    assert_int_equal(ops->project_open(&f->store, STR_LIT("p"), &project, &f->err), XT_OK);
    uint64_t v0 = version(&f->store);
    struct store_key a = key_of(project, "pk-a"), b = key_of(project, "pk-b");
    b.name = STR_LIT("night job");
    b.rights = 4;
    assert_int_equal(ops->key_create(&f->store, &a, &id[0], &f->err), XT_OK);
    uint64_t v1 = version(&f->store);
    assert_true(v1 != v0);
    assert_int_equal(ops->key_create(&f->store, &b, &id[1], &f->err), XT_OK);
    assert_int_not_equal(id[0], id[1]);
    /* The public part is unique; a failure changes nothing. */
    int64_t other;
    uint64_t v2 = version(&f->store);
    assert_int_equal(ops->key_create(&f->store, &a, &other, &f->err), XT_ECONFLICT);
    struct store_key lost = key_of(project + 100, "pk-c");
    assert_int_equal(ops->key_create(&f->store, &lost, &other, &f->err), XT_ENOTFOUND);
    assert_int_equal(ops->key_revoke(&f->store, 12345, &f->err), XT_ENOTFOUND);
    assert_true(version(&f->store) == v2);

    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct store_key *list = NULL;
    size_t n = 0;
    assert_int_equal(ops->keys_list(&f->store, &arena, &list, &n, &f->err), XT_OK);
    assert_int_equal(n, 2);
    assert_true(list[0].id == id[0] && list[0].project == project && list[0].rights == 3 && list[0].created == 77);
    assert_true(str_eq_c(list[0].public_key, "pk-a") && str_eq_c(list[0].project_name, "p"));
    assert_false(str_has(list[0].name));
    assert_memory_equal(list[0].secret_hash, a.secret_hash, 32);
    assert_true(list[0].revoked == TIME_NONE);
    assert_true(str_eq_c(list[1].name, "night job") && list[1].rights == 4);

    assert_int_equal(ops->key_revoke(&f->store, id[0], &f->err), XT_OK);
    assert_true(version(&f->store) != v2);
    assert_int_equal(ops->keys_list(&f->store, &arena, &list, &n, &f->err), XT_OK);
    int64_t when = list[0].revoked;
    assert_true(when != TIME_NONE && when <= clock_now_ns() && list[1].revoked == TIME_NONE);
    /* Once is enough: the time of the first stays. */
    assert_int_equal(ops->key_revoke(&f->store, id[0], &f->err), XT_OK);
    assert_int_equal(ops->keys_list(&f->store, &arena, &list, &n, &f->err), XT_OK);
    assert_true(list[0].revoked == when);
    arena_done(&arena);
}

static void many_keys(void **state) {
    struct fixture *f = *state;
    int64_t project, id;
    assert_int_equal(f->store.ops->project_open(&f->store, STR_LIT("p"), &project, &f->err), XT_OK);
    for (int i = 0; i < 100; i++) {
        char name[20];
        snprintf(name, sizeof name, "pk-%d", i);
        struct store_key k = key_of(project, name);
        assert_int_equal(f->store.ops->key_create(&f->store, &k, &id, &f->err), XT_OK);
    }
    struct arena arena;
    struct store_key *list = NULL;
    size_t n = 0;
    arena_init(&arena, 1 << 20);
    assert_int_equal(f->store.ops->keys_list(&f->store, &arena, &list, &n, &f->err), XT_OK);
    assert_int_equal(n, 100);
    assert_true(str_eq_c(list[99].public_key, "pk-99") && str_eq_c(list[15].public_key, "pk-15"));
    arena_done(&arena);
    /* Too little memory is told, not cut. */
    arena_init(&arena, 5000);
    assert_int_equal(f->store.ops->keys_list(&f->store, &arena, &list, &n, &f->err), XT_ENOMEM);
    arena_done(&arena);
}

/* What another process does shows in the version and the list of this one. */
static void beside_a_server(void **state) {
    struct fixture *f = *state;
    uint64_t v = version(&f->store);
    struct store other;
    struct store_conf conf = fixture_conf(f, false);
    struct xt_err err;
    int64_t project, id;
    assert_int_equal(store_open(&other, &conf, &err), XT_OK);
    assert_int_equal(other.ops->project_open(&other, STR_LIT("p"), &project, &err), XT_OK);
    struct store_key k = key_of(project, "pk");
    assert_int_equal(other.ops->key_create(&other, &k, &id, &err), XT_OK);
    store_close(&other);
    assert_true(version(&f->store) != v);
    struct arena arena;
    struct store_key *list = NULL;
    size_t n = 0;
    arena_init(&arena, 1 << 20);
    assert_int_equal(f->store.ops->keys_list(&f->store, &arena, &list, &n, &f->err), XT_OK);
    assert_true(n == 1 && list[0].id == id);
    arena_done(&arena);
}

struct load {
    struct fixture *f;
    _Atomic bool stop;
    _Atomic int groups;
};
static void *write_thread(void *arg) {
    struct load *l = arg;
    for (int i = 0; !l->stop; i++) {
        struct batch *b = sample_batch(1);
        for (int k = 0; k < 200; k++)
            sample_add(b, "m", "", i * 200 + k, 1);
        enum xt_code code = samples_commit(l->f, b);
        batch_free(b);
        if (code != XT_OK)
            return l;
        l->groups++;
    }
    return NULL;
}

/* A writer that never pauses must let the catalog in between two groups. */
static void under_load(void **state) {
    struct fixture *f = *state;
    struct load l = { .f = f };
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_thread, &l), 0);
    fixture_wait(&l.groups, 5);
    struct store other;
    struct store_conf conf = fixture_conf(f, false);
    struct xt_err err;
    int64_t project = 0, id;
    enum xt_code code = store_open(&other, &conf, &err);
    if (code == XT_OK)
        code = other.ops->project_open(&other, STR_LIT("p"), &project, &err);
    for (int i = 0; i < 20 && code == XT_OK; i++) {
        char name[20];
        snprintf(name, sizeof name, "pk-%d", i);
        struct store_key k = key_of(project, name);
        code = other.ops->key_create(&other, &k, &id, &err);
    }
    store_close(&other);
    l.stop = true;
    void *failed;
    pthread_join(thread, &failed);
    assert_int_equal(code, XT_OK);
    assert_null(failed);
    assert_int_equal(fixture_rows(f, "api_key"), 20);
    assert_int_equal(fixture_points(f), l.groups * 200);
}

int main(void) {
    STORE_OR_SKIP();
#define OPEN(t) cmocka_unit_test_setup_teardown(t, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        OPEN(projects), OPEN(keys), OPEN(many_keys), OPEN(beside_a_server), OPEN(under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
