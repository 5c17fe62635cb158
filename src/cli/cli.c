/* SPDX-License-Identifier: Apache-2.0 */
/* The commands there are, and the help above them. */
#include "cli/cli.h"
#include "load/load.h"

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
    {"account", "Add, list, show, change, lock out and remove accounts", cmd_admin},
    {"key", "Add, list, show, change, renew and remove the keys of an account", cmd_admin},
    {"device", "Add, list, show, change, lock out and remove devices; give them new secrets",
     cmd_admin},
    {"role", "Add, list, show, change and remove roles", cmd_admin},
    {"plan", "Add, list, show, change and remove plans: limits of accounts", cmd_admin},
    {"permission", "List what roles can be made of", cmd_admin},
    {"quarantine", "List, add and release devices whose messages are refused for a while",
     cmd_admin},
    {"throttle", "Explain limits: what is used, who was refused, by what and until when",
     cmd_admin},
    {"rollup", "Show whether all rollups of the history are there; make them anew", cmd_admin},
    {"sink", "List, pause, resume and test what carries messages on; deliver once more", cmd_admin},
    {"webhook", "Post what comes of an account to URLs; see what they say", cmd_admin},
    {"rule", "Have a feed publish to another one, or to a webhook; see when it did", cmd_admin},
    {"dlq", "List messages that a sink's target refused; try them again", cmd_admin},
    {"audit", "List who changed what; check that the list is whole", cmd_admin},
    {"config", "Check, show and explain settings; have the server read them again", cmd_config},
    {"reload", "Have the running server read its settings again", cmd_reload},
    {"journal", "Look into the journal, verify it, follow it", cmd_journal},
    {"keyring", "Look after the keys that data are sealed with", cmd_keyring},
    {"cert", "Make a certificate for tests", cmd_cert},
    {"backup", "Write a backup of a running server, or of a data directory; verify it", cmd_backup},
    {"restore", "Bring a backup back into a new data directory", cmd_restore},
    {"capture", "Record a sample of the requests that arrive", cmd_capture},
    {"consume", "Run a command for each message of a consumer group", cmd_consume},
    {"load", "Simulate a fleet of devices and measure the answers", load_command},
    {"version", "Print the version", cmd_version},
    {"help", "Explain a command: sluice help device add", cmd_help},
    {0},
};

static const struct command_group top = {
    .path = "sluice",
    .text = "Sluice takes telemetry of devices: it authenticates, limits, stores and serves it.",
    .commands = commands,
    .examples = "  sluice account add acme          an account,\n"
                "  sluice key add acme main         a key for applications,\n"
                "  sluice device add acme truck-17  a device with its secret,\n"
                "  sluice serve                     and the server; all of it kept in ./data\n",
};

static void put_group(FILE *out, const struct command_group *g)
{
    fprintf(out, "%s\n\nUsage: %s COMMAND ...\n\nCommands:\n", g->text, g->path);
    for (const struct command *c = g->commands; c->name; c++)
        fprintf(out, "  %-10s %s\n", c->name, c->text);
    fprintf(out, "\nExamples:\n%s\n%s COMMAND --help says more.\n", g->examples, g->path);
}

int cli_dispatch(const struct command_group *g, int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : NULL;
    if (!word || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        put_group(word ? stdout : stderr, g);
        return word ? CLI_OK : CLI_USAGE;
    }
    for (const struct command *c = g->commands; c->name; c++)
        if (strcmp(c->name, word) == 0)
            return c->run(argc - 1, argv + 1);
    fprintf(stderr, "%s: there is no command \"%s\"\nTry: %s --help\n", g->path, word, g->path);
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
    return cli_dispatch(&top, n + 1, words);
}

int cli_main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--version") == 0)
        return cmd_version(argc, argv);
    int status = cli_dispatch(&top, argc, argv);
    /* What could not be written was not said: a full disk or a closed pipe is a failure. */
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == CLI_OK) {
        fputs("sluice: the output could not be written\n", stderr);
        status = CLI_FAILED;
    }
    return status;
}
