/* docs.c -- prints the generated parts of docs/: `xtrace docs configuration`, `xtrace docs api`. */
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "cmd/cmd.h"

int cmd_docs(int argc, char **argv, char **envp) {
    (void)envp;
    if (argc == 1 && strcmp(argv[0], "configuration") == 0) {
        conf_print_markdown(stdout);
        return 0;
    }
    if (argc == 1 && strcmp(argv[0], "api") == 0) {
        api_print_markdown(stdout);
        return 0;
    }
    fputs("xtrace: usage: xtrace docs configuration|api\n", stderr);
    return 1;
}
