/* auth.c -- see auth.h. `mu` guards the snapshot of keys and the times of its refresh; a look-up copies what it needs. One
 * thread refreshes, without the lock once there is a snapshot: a store that takes its time holds up nobody else. */
#include "api/auth.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/app.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/id.h"
#include "base/log.h"
#include "base/sha.h"

#define REFRESH_NS (NS_PER_SEC / 2)
#define CATALOG_ARENA (16u << 20)

struct auth {
    struct auth_conf conf;
    uint8_t bearer_hash[SHA256_BYTES], secret_hash[SHA256_BYTES];
    bool has_bearer, has_basic, pair_configured;
    struct store *store;
    pthread_mutex_t mu;
    struct arena arena; /* of the snapshot */
    struct store_key *keys;
    size_t nkeys;
    uint64_t version;
    bool loaded, unknown; /* unknown: there is no snapshot because the store did not answer */
    bool refreshing;
    int64_t checked; /* monotonic */
};

static bool hash_eq(const uint8_t a[SHA256_BYTES], const uint8_t b[SHA256_BYTES]) {
    return mem_eq_const_time((struct str){ (const char *)a, SHA256_BYTES },
                             (struct str){ (const char *)b, SHA256_BYTES });
}

struct auth *auth_new(struct store *s, const struct auth_conf *conf, struct xt_err *err) {
    struct auth *a = calloc(1, sizeof *a);
    if (!a) {
        xt_fail(err, XT_ENOMEM, "out of memory");
        return NULL;
    }
    a->conf = *conf;
    a->store = s;
    a->has_bearer = conf->bearer_token.n > 0;
    a->has_basic = conf->public_key.n > 0 && conf->secret_key.n > 0; /* empty keys never match */
    a->pair_configured = str_has(conf->public_key) || str_has(conf->secret_key);
    if (!sha256(conf->bearer_token, a->bearer_hash) || !sha256(conf->secret_key, a->secret_hash)) {
        xt_fail(err, XT_EUNAVAILABLE, "the system makes no SHA-256");
        free(a);
        return NULL;
    }
    pthread_mutex_init(&a->mu, NULL);
    arena_init(&a->arena, CATALOG_ARENA);
    a->checked = -REFRESH_NS;
    return a;
}

void auth_free(struct auth *a) {
    if (!a)
        return;
    arena_done(&a->arena);
    pthread_mutex_destroy(&a->mu);
    free(a);
}

/* Loads the keys again when they changed. A store that does not answer leaves the last snapshot, and is asked again after
 * the same pause: wrong credentials cost it nothing. mu held; let go while the store works. */
static void refresh(struct auth *a) {
    if (a->refreshing || clock_mono_ns() - a->checked < REFRESH_NS)
        return;
    bool loaded = a->loaded; /* who comes before the first snapshot waits for it */
    uint64_t known = a->version, version = 0;
    a->refreshing = true;
    if (loaded)
        pthread_mutex_unlock(&a->mu);
    struct xt_err err = { 0 };
    struct arena fresh;
    struct store_key *keys = NULL;
    size_t n = 0;
    arena_init(&fresh, CATALOG_ARENA);
    enum xt_code rc = a->store->ops->keys_version(a->store, &version, &err);
    bool same = rc == XT_OK && loaded && version == known;
    if (rc == XT_OK && !same)
        rc = a->store->ops->keys_list(a->store, &fresh, &keys, &n, &err);
    if (rc != XT_OK)
        log_warn("event=keys_not_loaded message=\"%s\"", err.msg);
    if (loaded)
        pthread_mutex_lock(&a->mu);
    a->refreshing = false;
    a->checked = clock_mono_ns();
    if (rc != XT_OK)
        a->unknown = !a->loaded;
    if (rc != XT_OK || same) {
        arena_done(&fresh);
        return;
    }
    arena_done(&a->arena);
    a->arena = fresh;
    a->keys = keys;
    a->nkeys = n;
    a->version = version;
    a->loaded = true;
    a->unknown = false;
}

/* The valid key with that secret (Bearer) or pair (Basic); fills ret. */
static bool catalog_find(struct auth *a, struct arena *arena, struct str public_key, struct str secret, bool basic,
                         struct http_auth *ret) {
    uint8_t hash[SHA256_BYTES];
    if (!sha256(secret, hash))
        return false;
    bool found = false;
    pthread_mutex_lock(&a->mu);
    refresh(a);
    for (size_t i = 0; i < a->nkeys; i++) {
        const struct store_key *k = &a->keys[i];
        if (k->revoked != TIME_NONE || !hash_eq(k->secret_hash, hash))
            continue;
        if (basic && !str_eq(k->public_key, public_key))
            continue;
        ret->project = k->project;
        ret->project_name = arena_str(arena, k->project_name);
        ret->rights = k->rights;
        ret->is_default_tenant = k->project == a->conf.default_number;
        ret->rate_key = basic ? arena_printf(arena, "basic:%.*s", STR_FMT(public_key))
                              : arena_printf(arena, "bearer:%.*s", STR_FMT(secret));
        found = !arena->failed;
        break;
    }
    pthread_mutex_unlock(&a->mu);
    return found;
}

static void default_tenant(const struct auth *a, struct http_auth *ret) {
    *ret = (struct http_auth){ .project = a->conf.default_number,
                               .project_name = a->conf.default_project,
                               .rights = RIGHT_ALL,
                               .is_default_tenant = true,
                               .rate_key = STR_LIT("open") };
}

static bool check_bearer(struct auth *a, struct arena *arena, struct str token, struct http_auth *ret) {
    uint8_t hash[SHA256_BYTES];
    if (!sha256(token, hash))
        return false;
    if (a->has_bearer && hash_eq(hash, a->bearer_hash)) {
        default_tenant(a, ret);
        ret->rate_key = arena_printf(arena, "bearer:%.*s", STR_FMT(token));
        return true;
    }
    return token.n > 0 && catalog_find(a, arena, STR_NONE, token, false, ret);
}

/* Splits at the first colon (a secret may hold more of them). False: not a readable pair. */
static bool decode_basic(struct arena *arena, struct str b64, struct str *ret_user, struct str *ret_secret) {
    size_t n = 0;
    char *out = arena_bytes(arena, b64.n + 4);
    if (!out || !base64_decode(b64, (uint8_t *)out, &n))
        return false;
    struct str pair = { out, n };
    size_t colon = str_find(pair, ':');
    if (colon == pair.n || !utf8_valid(pair))
        return false;
    *ret_user = str_sub(pair, 0, colon);
    *ret_secret = str_sub(pair, colon + 1, n);
    return true;
}

static bool check_basic(struct auth *a, struct arena *arena, struct str b64, struct http_auth *ret,
                        bool *ret_readable) {
    struct str user, secret;
    *ret_readable = decode_basic(arena, b64, &user, &secret);
    if (!*ret_readable)
        return false;
    uint8_t hash[SHA256_BYTES];
    if (!sha256(secret, hash))
        return false;
    bool user_ok = a->has_basic && mem_eq_const_time(user, a->conf.public_key);
    if (hash_eq(hash, a->secret_hash) && user_ok) {
        default_tenant(a, ret);
        ret->rate_key = arena_printf(arena, "basic:%.*s", STR_FMT(user));
        return true;
    }
    return secret.n > 0 && catalog_find(a, arena, user, secret, true, ret);
}

static bool keys_unknown(struct auth *a) {
    pthread_mutex_lock(&a->mu);
    bool unknown = a->unknown;
    pthread_mutex_unlock(&a->mu);
    return unknown;
}

static bool visible_ascii(struct str s) {
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || (unsigned char)s.p[i] > 0x7e)
            return false;
    return true;
}

enum xt_code auth_authorise(void *app, struct http_req *req, const struct http_route *route, struct http_auth *ret,
                            struct xt_err *err) {
    if (app_is_starting(app))
        return xt_fail(err, XT_EUNAVAILABLE, "Service Unavailable");
    struct auth *a = ((struct app *)app)->auth;
    struct str h = str_trim(http_header(req, "Authorization"));
    bool open = route->open_compat && a->conf.open_compat && !a->pair_configured;
    bool unreadable = !str_has(h) || !visible_ascii(h);
    if (unreadable)
        h = STR_LIT("");
    if (str_starts(h, "Bearer ") && check_bearer(a, http_arena(req), str_trim(str_sub(h, 7, h.n)), ret))
        return XT_OK;
    if (str_starts(h, "Basic ")) {
        bool readable = false;
        if (check_basic(a, http_arena(req), str_trim(str_sub(h, 6, h.n)), ret, &readable))
            return XT_OK;
        if (open && readable)
            unreadable = true; /* as in the original, any pair passes then */
    }
    if ((open && unreadable) || (route->internal && a->conf.internal == INTERNAL_OPEN)) {
        default_tenant(a, ret);
        return XT_OK;
    }
    if (!unreadable && keys_unknown(a)) /* it may be good: clients give up on 401 */
        return xt_fail(err, XT_EUNAVAILABLE, "Service Unavailable");
    return xt_fail(err, XT_EAUTH, "Unauthorized");
}

bool auth_make_key(char public_key[AUTH_KEY_TEXT], char secret_key[AUTH_KEY_TEXT]) {
    uint8_t r[32];
    char hex[64];
    if (!random_bytes(r, sizeof r))
        return false;
    hex_encode(r, sizeof r, hex);
    snprintf(public_key, AUTH_KEY_TEXT, "pk-xt-%.32s", hex);
    snprintf(secret_key, AUTH_KEY_TEXT, "sk-xt-%.32s", hex + 32);
    return true;
}
