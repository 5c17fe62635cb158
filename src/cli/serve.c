/* SPDX-License-Identifier: Apache-2.0 */
/* sluice serve */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/settings.h"
#include "server.h"

static int read_again(void *arg, struct config **ret, struct error *err)
{
    return settings_read(arg, ret, err);
}

int cmd_serve(int argc, char **argv)
{
    struct settings_opts settings = {0};
    const struct opt opts[] = {SETTINGS_OPTS(&settings), {0}};
    const struct opt_syntax syntax = {
        .path = "sluice serve",
        .text = "Run the server in the foreground, until SIGTERM or SIGINT; SIGHUP reads the "
                "settings again",
        .opts = opts,
        .more = "Without a file of settings it listens on 127.0.0.1:8080 (HTTP) and :1883 (MQTT) "
                "for devices\n"
                "and applications, on 127.0.0.1:9080 for metrics and health, and keeps everything "
                "in ./data.\n"
                "Log lines go to standard error.\n",
        .examples = "  sluice serve\n"
                    "  sluice serve --config /etc/sluice.yaml --set server.log_level=debug\n"
                    "  sluice serve --set listen.https=0.0.0.0:8443 --set "
                    "tls.certificates=chain.pem:key.pem\n",
    };
    int status;
    struct config *config;
    struct error err = {""};
    if (!opts_parse(&syntax, argc, argv, &status))
        return status;
    if (!settings_load(&settings, &config))
        return CLI_FAILED;
    const struct server_source source = {
        .file = settings.config, .read = read_again, .arg = &settings};
    int rc = server_run(config, &source, &err);
    if (rc)
        fprintf(stderr, "sluice serve: %s\n", err.text);
    return rc ? CLI_FAILED : CLI_OK;
}
