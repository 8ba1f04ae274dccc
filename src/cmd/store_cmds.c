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

int cmd_check(int argc, char **argv, char **envp) {
    struct conf_source c;
    struct store s;
    struct xt_err err = { 0 };
    char **args = NULL;
    bool deep = argc > 0 && strcmp(argv[0], "--deep") == 0;
    if (deep)
        argc--, argv++;
    if (!load(argc, argv, envp, 0, "check [--deep] [options]", &c, &args))
        return 1;
    enum xt_code rc = cmd_open_store(&c.conf, STORE_LOOK, &s, &err);
    if (rc == XT_OK) {
        struct buf report;
        buf_init(&report, 16 << 20);
        rc = s.ops->check(&s, deep, &report, &err);
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
