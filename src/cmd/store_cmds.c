/* store_cmds.c -- check, migrate, backup FILE, restore FILE. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"

/* Options first, then exactly `want` arguments. */
static bool load(int argc, char **argv, char **envp, int want, const char *usage, struct conf_source *c,
                 char ***ret_args) {
    int rest = 0;
    if (!cmd_conf(argc, argv, envp, c, &rest))
        return false;
    if (argc - rest == want) {
        *ret_args = argv + rest;
        return true;
    }
    fprintf(stderr, "xtrace: usage: xtrace %s\n", usage);
    conf_done(c);
    return false;
}

/* To repair, the store must be there and no server may run: looking at it first makes no new one. */
static enum xt_code open_to_check(const struct conf *c, bool repair, struct store *s, struct xt_err *err) {
    enum xt_code rc = cmd_open_store(c, STORE_LOOK, s, err);
    if (rc != XT_OK || !repair)
        return rc;
    store_close(s);
    return cmd_open_store(c, STORE_SERVE, s, err);
}

int cmd_check(int argc, char **argv, char **envp) {
    struct conf_source c;
    struct store s;
    struct xt_err err = { 0 };
    char **args = NULL;
    bool deep = false, repair = false;
    for (; argc > 0; argc--, argv++) {
        if (strcmp(argv[0], "--deep") == 0)
            deep = true;
        else if (strcmp(argv[0], "--repair") == 0)
            repair = true;
        else
            break;
    }
    if (!load(argc, argv, envp, 0, "check [--deep] [--repair] [options]", &c, &args))
        return 1;
    enum xt_code rc = open_to_check(&c.conf, repair, &s, &err);
    if (rc == XT_OK) {
        struct buf report;
        buf_init(&report, 32 << 20);
        rc = repair ? s.ops->repair(&s, &report, &err) : s.ops->check(&s, deep, &report, &err);
        fwrite(buf_str(&report).p, 1, report.n, stdout);
        buf_done(&report);
        store_close(&s);
    }
    conf_done(&c);
    if (rc != XT_OK)
        return cmd_fail(&err);
    puts("ok");
    return 0;
}

int cmd_migrate(int argc, char **argv, char **envp) {
    struct conf_source c;
    struct store s;
    struct xt_err err = { 0 };
    char **args = NULL;
    if (!load(argc, argv, envp, 0, "migrate [options]", &c, &args))
        return 1;
    enum xt_code rc = cmd_open_store(&c.conf, STORE_WRITE, &s, &err);
    if (rc == XT_OK)
        store_close(&s);
    conf_done(&c);
    if (rc != XT_OK)
        return cmd_fail(&err);
    puts("the store is up to date");
    return 0;
}

int cmd_backup(int argc, char **argv, char **envp) {
    struct conf_source c;
    struct store s;
    struct xt_err err = { 0 };
    char **args = NULL;
    if (!load(argc, argv, envp, 1, "backup [options] FILE", &c, &args))
        return 1;
    enum xt_code rc = cmd_open_store(&c.conf, STORE_COPY, &s, &err);
    if (rc == XT_OK) {
        rc = s.ops->backup(&s, args[0], &err);
        store_close(&s);
    }
    if (rc == XT_OK)
        printf("backup written to %s\n", args[0]);
    conf_done(&c);
    return rc == XT_OK ? 0 : cmd_fail(&err);
}

int cmd_restore(int argc, char **argv, char **envp) {
    struct conf_source c;
    struct xt_err err = { 0 };
    char **args = NULL;
    if (!load(argc, argv, envp, 1, "restore [options] FILE", &c, &args))
        return 1;
    char *url = cmd_store_url(&c.conf);
    enum xt_code rc = url ? store_restore(url, args[0], &err) : xt_fail(&err, XT_ENOMEM, "out of memory");
    if (rc == XT_OK)
        printf("restored from %s\n", args[0]);
    free(url);
    conf_done(&c);
    return rc == XT_OK ? 0 : cmd_fail(&err);
}
