/* auth.h -- credentials -> project and rights.
 *
 * Two kinds: the environment's token and pair (default project, all rights) and keys of the store's catalog. The catalog
 * is asked at most every 500 ms whether keys changed, so a new or revoked key counts within a second and a request costs
 * no query. Secrets are compared as SHA-256, in constant time. */
#pragma once
#include "http/server.h"
#include "store/store.h"

struct auth;
struct app;

struct auth_conf {
    struct str bearer_token;           /* absent or empty: no Bearer matches */
    struct str public_key, secret_key; /* absent or empty: no Basic matches */
    struct str default_project;
    int64_t default_number;
    bool open_compat;
    enum { INTERNAL_OPEN, INTERNAL_REQUIRED } internal;
};
struct auth *auth_new(struct store *s, const struct auth_conf *conf, struct xt_err *err);
void auth_free(struct auth *a);
/* The http hook: app is a struct app. */
enum xt_code auth_authorise(void *app, struct http_req *req, const struct http_route *route, struct http_auth *ret,
                            struct xt_err *err);
/* Secrets and public keys of a new API key: "sk-xt-" / "pk-xt-" and 32 hex digits. False: no randomness. */
#define AUTH_KEY_TEXT 48
bool auth_make_key(char public_key[AUTH_KEY_TEXT], char secret_key[AUTH_KEY_TEXT]);
