/* keys.c -- xtrace keys create|list|revoke: API keys of projects, beside a running server. Only the SHA-256 of a secret
 * is kept; the secret is shown once, when it is made. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/auth.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/sha.h"
#include "cmd/cmd.h"

static const char usage[] =
    "usage: xtrace keys create [--project NAME] [--rights read,write,admin] [--name TEXT] [options]\n"
    "       xtrace keys list [options]\n"
    "       xtrace keys revoke [options] ID\n";

static const struct {
    const char *word;
    unsigned right;
} rights_words[] = { { "read", RIGHT_READ }, { "write", RIGHT_WRITE }, { "admin", RIGHT_ADMIN } };

static bool parse_rights(struct str list, unsigned *ret) {
    struct str part;
    *ret = 0;
    while (str_split(&list, ',', &part)) {
        unsigned right = 0;
        for (size_t i = 0; i < 3; i++)
            if (str_eq_c(str_trim(part), rights_words[i].word))
                right = rights_words[i].right;
        if (!right)
            return false;
        *ret |= right;
    }
    if (*ret & RIGHT_ADMIN)
        *ret |= RIGHT_READ | RIGHT_WRITE;
    return *ret != 0;
}

/* Names are printed in a table, one a line. */
static bool good_name(struct str name) {
    for (size_t i = 0; i < name.n; i++)
        if ((unsigned char)name.p[i] < 0x20 || name.p[i] == 0x7f)
            return false;
    return utf8_valid(name);
}

static void print_rights(unsigned rights) {
    bool first = true;
    for (size_t i = 0; i < 3; i++)
        if (rights & rights_words[i].right) {
            printf("%s%s", first ? "" : ",", rights_words[i].word);
            first = false;
        }
}

/* Takes --name VALUE or --name=VALUE of this command's own options out of argv. */
static const char *take_option(int *argc, char **argv, const char *name) {
    size_t n = strlen(name);
    for (int i = 0; i < *argc; i++) {
        int used = 0;
        const char *value = NULL;
        if (strcmp(argv[i], name) == 0 && i + 1 < *argc)
            value = argv[i + 1], used = 2;
        else if (strncmp(argv[i], name, n) == 0 && argv[i][n] == '=')
            value = argv[i] + n + 1, used = 1;
        if (!used)
            continue;
        memmove(argv + i, argv + i + used, (size_t)(*argc - i - used) * sizeof *argv);
        *argc -= used;
        return value;
    }
    return NULL;
}

static enum xt_code create(struct store *s, struct str project, unsigned rights, struct str name, struct xt_err *err) {
    char public_key[AUTH_KEY_TEXT], secret_key[AUTH_KEY_TEXT];
    if (!auth_make_key(public_key, secret_key))
        return xt_fail(err, XT_EUNAVAILABLE, "the system has no randomness");
    struct store_key k = {
        .public_key = str_c(public_key), .name = name, .rights = rights, .created = clock_now_ns(), .revoked = TIME_NONE
    };
    if (!sha256(str_c(secret_key), k.secret_hash))
        return xt_fail(err, XT_EUNAVAILABLE, "the system makes no SHA-256");
    int64_t id = 0;
    enum xt_code rc = s->ops->project_open(s, project, &k.project, err);
    if (rc == XT_OK)
        rc = s->ops->key_create(s, &k, &id, err);
    if (rc != XT_OK)
        return rc;
    printf("id: %" PRId64 "\nproject: %.*s\nrights: ", id, STR_FMT(project));
    print_rights(rights);
    printf("\npublic key: %s\nsecret key: %s\n", public_key, secret_key);
    return XT_OK;
}

static enum xt_code list(struct store *s, struct xt_err *err) {
    struct arena a;
    struct store_key *keys = NULL;
    size_t n = 0;
    arena_init(&a, 64 << 20);
    enum xt_code rc = s->ops->keys_list(s, &a, &keys, &n, err);
    if (rc == XT_OK)
        puts("id\tproject\trights\tpublic key\tcreated\tstate\tname");
    for (size_t i = 0; rc == XT_OK && i < n; i++) {
        char created[TIME_TEXT_MAX];
        time_format_z(keys[i].created, created);
        printf("%" PRId64 "\t%.*s\t", keys[i].id, STR_FMT(keys[i].project_name));
        print_rights(keys[i].rights);
        printf("\t%.*s\t%s\t%s\t%.*s\n", STR_FMT(keys[i].public_key), created,
               keys[i].revoked == TIME_NONE ? "valid" : "revoked", STR_FMT(keys[i].name));
    }
    arena_done(&a);
    return rc;
}

int cmd_keys(int argc, char **argv, char **envp) {
    struct conf_source c;
    struct store s;
    struct xt_err err = { 0 };
    int rest = 0;
    const char *verb = argc > 0 ? argv[0] : "";
    bool is_create = strcmp(verb, "create") == 0, is_list = strcmp(verb, "list") == 0,
         is_revoke = strcmp(verb, "revoke") == 0;
    if (!is_create && !is_list && !is_revoke) {
        fputs(usage, stderr);
        return 1;
    }
    argc--, argv++;
    const char *project = is_create ? take_option(&argc, argv, "--project") : NULL;
    const char *rights_text = is_create ? take_option(&argc, argv, "--rights") : NULL;
    const char *name = is_create ? take_option(&argc, argv, "--name") : NULL;
    if (!cmd_conf(argc, argv, envp, &c, &rest))
        return 1;
    unsigned rights = 0;
    int64_t id = 0;
    enum xt_code rc = XT_OK;
    if (argc - rest != (is_revoke ? 1 : 0))
        rc = xt_fail(&err, XT_EINVAL, "%s", usage);
    else if (is_create && !parse_rights(str_c(rights_text ? rights_text : "read,write"), &rights))
        rc = xt_fail(&err, XT_EINVAL, "--rights: must be a list of read, write, admin");
    else if (is_revoke && !str_to_i64(str_c(argv[rest]), &id))
        rc = xt_fail(&err, XT_EINVAL, "keys revoke: ID must be a number (see xtrace keys list)");
    else if (project && (!project[0] || !good_name(str_c(project))))
        rc = xt_fail(&err, XT_EINVAL, "--project: must be text without control characters, and not empty");
    else if (name && !good_name(str_c(name)))
        rc = xt_fail(&err, XT_EINVAL, "--name: must be text without control characters");
    if (rc == XT_OK)
        rc = cmd_open_store(&c.conf, STORE_WRITE, &s, &err);
    if (rc == XT_OK) {
        if (is_create)
            rc = create(&s, str_c(project ? project : c.conf.default_project), rights, str_c(name), &err);
        else
            rc = is_list ? list(&s, &err) : s.ops->key_revoke(&s, id, &err);
        store_close(&s);
        if (rc == XT_OK && is_revoke)
            printf("key %" PRId64 " is revoked\n", id);
    }
    conf_done(&c);
    return rc == XT_OK ? 0 : cmd_fail(&err);
}
