/* main.c -- the table of subcommands, and what holds for all of them; nothing else. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"

extern char **environ;

static int cmd_version(int argc, char **argv, char **envp) {
    (void)envp;
    if (argc > 0) {
        fprintf(stderr, "xtrace: version takes no \"%.40s\" (see xtrace --help)\n", argv[0]);
        return 1;
    }
    puts("xtrace " XTRACE_VERSION);
    return 0;
}

static int cmd_help(int argc, char **argv, char **envp);

static const struct {
    const char *word;
    int (*run)(int argc, char **argv, char **envp);
    const char *help;
} commands[] = {
    { "serve", cmd_serve, "run the server (the default)" },
    { "check", cmd_check,
      "check configuration and store; --deep compares every index and rollup with its rows,\n"
      "            --repair (no server may run) also makes them anew from the rows" },
    { "migrate", cmd_migrate, "bring the store's schema up to date" },
    { "backup", cmd_backup, "FILE: write a consistent copy of the store, also beside a running server" },
    { "restore", cmd_restore, "FILE: put a backup in place of an empty store" },
    { "keys", cmd_keys, "create, list or revoke API keys of projects" },
    { "docs", cmd_docs, "configuration or api: print that table of the documentation" },
    { "version", cmd_version, "print the version" },
    { "help", cmd_help, "print this" },
};
#define COMMANDS (sizeof commands / sizeof commands[0])

static int cmd_help(int argc, char **argv, char **envp) {
    (void)argc, (void)argv, (void)envp;
    puts("usage: xtrace [COMMAND] [OPTIONS]\n\ncommands:");
    for (size_t i = 0; i < COMMANDS; i++)
        printf("  %-9s %s\n", commands[i].word, commands[i].help);
    puts("\noptions (flag, else environment, else file, else default):\n  --config\n      File of `key = value` lines. "
         "Environment: XTRACE_CONFIG");
    conf_print_help(stdout);
    return 0;
}

int main(int argc, char **argv) {
    signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files is then an error of the write, as a full disk is */
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return cmd_help(0, NULL, NULL);
    if (argc > 1 && strcmp(argv[1], "--version") == 0)
        return cmd_version(0, NULL, NULL);
    if (argc < 2 || argv[1][0] == '-')
        return cmd_serve(argc > 0 ? argc - 1 : 0, argv + 1, environ);
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].word) == 0)
            return commands[i].run(argc - 2, argv + 2, environ);
    fprintf(stderr, "xtrace: unknown command \"%.40s\" (see xtrace --help)\n", argv[1]);
    return 1;
}
