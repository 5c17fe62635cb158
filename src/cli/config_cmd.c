/* SPDX-License-Identifier: Apache-2.0 */
/* sluice config check|show|docs */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/settings.h"
#include "server_tls.h"

#define OUTPUT_BYTES_MAX (4u << 20)

/* Parses the options of all three and loads the settings. False: it ends with *ret_status. */
static bool begin(int argc, char **argv, struct opt_syntax *syntax, struct settings_opts *settings,
                  struct config **ret, int *ret_status)
{
    const struct opt opts[] = {SETTINGS_OPTS(settings), {0}};
    const char *file = NULL;
    const struct opt_arg args[] = {{"FILE", "The same as --config FILE", &file, false}, {0}};
    syntax->opts = opts;
    syntax->args = args;
    if (!opts_parse(syntax, argc, argv, ret_status))
        return false;
    if (file && settings->config) {
        fprintf(stderr, "%s: two files: %s and %s\n", syntax->path, file, settings->config);
        *ret_status = CLI_USAGE;
        return false;
    }
    settings->config = file ? file : settings->config;
    *ret_status = CLI_FAILED;
    return settings_load(settings, ret);
}

static int print(struct buf *out)
{
    bool ok = !out->failed && fwrite(out->ptr, 1, out->len, stdout) == out->len;
    buf_fini(out);
    if (!ok)
        fputs("sluice config: the output could not be written\n", stderr);
    return ok ? CLI_OK : CLI_FAILED;
}

static int cmd_check(int argc, char **argv)
{
    struct settings_opts settings = {0};
    struct opt_syntax syntax = {
        .path = "sluice config check",
        .text =
            "Check a file of settings; a mistake is shown with its line, and the exit status is 1",
        .examples = "  sluice config check /etc/sluice.yaml\n",
    };
    struct config *config;
    int status;
    if (!begin(argc, argv, &syntax, &settings, &config, &status))
        return status;
    /* What stands behind the names too; not whether the dates are right for another day. */
    const char *name = settings.config ? settings.config : "built-in settings";
    struct server_tls tls = {0};
    struct error err = {""};
    int rc = server_tls_open(&tls, config, &err);
    if (rc)
        fprintf(stderr, "%s: %s\n", name, err.text);
    else
        printf("%s: good\n", name);
    server_tls_close(&tls);
    config_free(config);
    return rc ? CLI_FAILED : CLI_OK;
}

static int cmd_show(int argc, char **argv)
{
    struct settings_opts settings = {0};
    struct opt_syntax syntax = {
        .path = "sluice config show",
        .text = "Print every setting as it would be in force, as a file that can be read back",
        .examples = "  sluice config show > sluice.yaml\n"
                    "  sluice config show /etc/sluice.yaml --set ack.level=applied\n",
    };
    struct config *config;
    struct buf out;
    int status;
    if (!begin(argc, argv, &syntax, &settings, &config, &status))
        return status;
    buf_init(&out, OUTPUT_BYTES_MAX);
    config_format(config, &out);
    config_free(config);
    return print(&out);
}

static int cmd_docs(int argc, char **argv)
{
    const struct opt opts[] = {{0}};
    const struct opt_syntax syntax = {
        .path = "sluice config docs",
        .text = "Print what every setting means, its default and bounds, in Markdown",
        .opts = opts,
        .examples = "  sluice config docs | less\n",
    };
    struct buf out;
    int status;
    if (!opts_parse(&syntax, argc, argv, &status))
        return status;
    buf_init(&out, OUTPUT_BYTES_MAX);
    config_format_docs(&out);
    return print(&out);
}

int cmd_config(int argc, char **argv)
{
    static const struct command commands[] = {
        {"check", "Check a file of settings", cmd_check},
        {"show", "Print the settings in force", cmd_show},
        {"reload", "Have the running server read its settings again", cmd_reload},
        {"docs", "Print what every setting means", cmd_docs},
        {0},
    };
    static const struct command_group group = {
        .path = "sluice config",
        .text = "Check, show and explain settings.",
        .commands = commands,
        .examples = "  sluice config show > sluice.yaml\n"
                    "  sluice config check sluice.yaml\n",
    };
    return cli_dispatch(&group, argc, argv);
}
