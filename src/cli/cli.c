/* SPDX-License-Identifier: Apache-2.0 */
/* The commands there are, and the help above them. */
#include "cli/cli.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int cmd_version(int argc, char **argv)
{
    puts("sluice " SLUICE_VERSION);
    return CLI_OK;
}

static int cmd_help(int argc, char **argv);

static const struct command commands[] = {
    {"serve", "Run the server", cmd_serve},
    {"account", "Add, list, show and remove accounts", cmd_admin},
    {"key", "Add, list, show and remove the keys of an account", cmd_admin},
    {"device", "Add, list, show, lock out and remove devices; give them new secrets", cmd_admin},
    {"config", "Check, show and explain settings", cmd_config},
    {"journal", "Look into the journal, verify it, follow it", cmd_journal},
    {"version", "Print the version", cmd_version},
    {"help", "Explain a command: sluice help device add", cmd_help},
    {0},
};

static const char about[] =
    "Sluice takes telemetry of devices: authenticates, limits, stores and serves it.";

static void put_commands(FILE *out, const char *path, const char *text, const struct command *table)
{
    fprintf(out, "%s\n\nUsage: %s COMMAND ...\n\nCommands:\n", text, path);
    for (const struct command *c = table; c->name; c++)
        fprintf(out, "  %-10s %s\n", c->name, c->text);
    fprintf(out, "\n%s COMMAND --help says more.\n", path);
}

int cli_dispatch(const char *path, const char *text, const struct command *table, int argc,
                 char **argv)
{
    const char *word = argc > 1 ? argv[1] : NULL;
    if (!word || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        put_commands(word ? stdout : stderr, path, text, table);
        return word ? CLI_OK : CLI_USAGE;
    }
    for (const struct command *c = table; c->name; c++)
        if (strcmp(c->name, word) == 0)
            return c->run(argc - 1, argv + 1);
    fprintf(stderr, "%s: there is no command \"%s\"\nTry: %s --help\n", path, word, path);
    return CLI_USAGE;
}

/* "help device add" is "device add --help". */
static int cmd_help(int argc, char **argv)
{
    static char help[] = "--help";
    char *words[8] = {argv[0]};
    int n = 1;
    for (; n < argc && n < 6; n++)
        words[n] = argv[n];
    words[n] = help;
    return cli_dispatch("sluice", about, commands, n + 1, words);
}

int cli_main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--version") == 0)
        return cmd_version(argc, argv);
    int status = cli_dispatch("sluice", about, commands, argc, argv);
    /* What could not be written was not said: a full disk or a closed pipe is a failure. */
    if (fflush(stdout) != 0 && status == CLI_OK) {
        perror("sluice: standard output");
        status = CLI_FAILED;
    }
    return status;
}
