/* cmd.h -- the subcommands that main's table names. argv starts after the subcommand's word. Each returns the exit
 * status and writes what the user reads: results on stdout, failures as one line on stderr. */
#pragma once
#include "base/err.h"
#include "conf/conf.h"
#include "store/store.h"

int cmd_serve(int argc, char **argv, char **envp); /* serve.c */
int cmd_check(int argc, char **argv, char **envp); /* store_cmds.c */
int cmd_migrate(int argc, char **argv, char **envp);
int cmd_backup(int argc, char **argv, char **envp);
int cmd_restore(int argc, char **argv, char **envp);
int cmd_keys(int argc, char **argv, char **envp); /* keys.c */
int cmd_docs(int argc, char **argv, char **envp); /* docs.c: tables of docs/, for the test that compares them */

/* ---- shared by the commands: common.c ---- */
/* Loads the configuration, prints warnings and failures. False: exit 1. */
bool cmd_conf(int argc, char **argv, char **envp, struct conf_source *ret, int *ret_rest);
int cmd_fail(const struct xt_err *err); /* "xtrace: message" on stderr; returns 1 */
/* The store's URL of a configuration, malloc'd. NULL: no memory. */
char *cmd_store_url(const struct conf *c);
enum store_use {
    STORE_SERVE, /* takes the data directory's lock; brings the schema up to date */
    STORE_WRITE, /* beside a server; brings the schema up to date */
    STORE_LOOK,  /* beside a server, changes nothing; an older schema is refused */
    STORE_COPY   /* the same, whatever schema it has */
};
/* Opens the store that the configuration names. */
enum xt_code cmd_open_store(const struct conf *c, enum store_use use, struct store *ret, struct xt_err *err);
