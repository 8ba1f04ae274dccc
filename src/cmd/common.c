/* common.c -- what the subcommands share. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cmd/cmd.h"

#define DB_NAME "xtrace.db"

int cmd_fail(const struct xt_err *err) {
    fprintf(stderr, "xtrace: %s\n", err->msg);
    return 1;
}

bool cmd_conf(int argc, char **argv, char **envp, struct conf_source *ret, int *ret_rest) {
    struct buf warnings;
    struct xt_err err = { 0 };
    enum log_level level = LOG_INFO;
    buf_init(&warnings, 64 * 1024);
    enum xt_code rc = conf_load(argc, argv, envp, ret, ret_rest, &warnings, &err);
    if (rc == XT_OK && !log_level_parse(ret->conf.log_level, &level)) {
        rc = xt_fail(&err, XT_EINVAL, "log: must be error, warn, info or debug, not \"%.40s\"", ret->conf.log_level);
        conf_done(ret);
    }
    log_set_level(level);
    struct str rest = buf_str(&warnings), line;
    while (warnings.n && str_split(&rest, '\n', &line))
        if (line.n)
            log_warn("event=configuration message=\"%.*s\"", STR_FMT(line));
    buf_done(&warnings);
    if (rc != XT_OK)
        cmd_fail(&err);
    return rc == XT_OK;
}

char *cmd_store_url(const struct conf *c) {
    if (c->database_url)
        return strdup(c->database_url);
    size_t n = strlen(c->data_dir) + sizeof "sqlite:/" DB_NAME;
    char *url = malloc(n);
    if (url)
        snprintf(url, n, "sqlite:%s/%s", c->data_dir, DB_NAME);
    return url;
}

enum xt_code cmd_open_store(const struct conf *c, enum store_use use, struct store *ret, struct xt_err *err) {
    char *url = cmd_store_url(c);
    if (!url)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    struct store_conf sc = { .url = url,
                             .readers = c->query_threads,
                             .cache_bytes = c->cache_bytes,
                             .write_timeout_ms = c->database_write_timeout_ms,
                             .read_only = use == STORE_LOOK,
                             .exclusive = use == STORE_SERVE };
    enum xt_code rc = store_open(ret, &sc, err);
    free(url);
    if (rc == XT_OK && use != STORE_COPY && (rc = ret->ops->migrate(ret, err)) != XT_OK)
        store_close(ret);
    return rc;
}
