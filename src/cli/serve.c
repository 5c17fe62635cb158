/* SPDX-License-Identifier: Apache-2.0 */
/* sluice serve */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/settings.h"
#include "server.h"
#include "server_alone.h"

static int read_again(void *arg, struct config **ret, struct error *err)
{
    return settings_read(arg, ret, err);
}

/* The roles are a setting too, which the flag overrides. */
static bool add_roles(struct settings_opts *settings, const char *roles, char *set, size_t size)
{
    static const char *const known[] = {"ingest,sink", "sink,ingest", "ingest", "sink"};
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(roles, known[i]) != 0)
            continue;
        snprintf(set, size, "server.roles=%s", i == 1 ? known[0] : roles);
        if (settings->set.count < OPT_LIST_MAX)
            settings->set.values[settings->set.count++] = set;
        return true;
    }
    fprintf(
        stderr,
        "sluice serve: --roles %s: there are ingest, sink and ingest,sink (views and the API go "
        "with ingest)\n",
        roles);
    return false;
}

int cmd_serve(int argc, char **argv)
{
    struct settings_opts settings = {0};
    const char *roles = NULL;
    char set[64];
    const struct opt opts[] = {
        SETTINGS_OPTS(&settings),
        {"roles", "LIST", "What this process does: ingest,sink (the default), ingest, or sink",
         &roles, NULL, NULL},
        {0}};
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
                    "  sluice serve --roles ingest\n"
                    "  sluice serve --roles sink --set listen.operator=127.0.0.1:9081\n"
                    "  sluice serve --set listen.https=0.0.0.0:8443 --set "
                    "tls.certificates=chain.pem:key.pem\n",
    };
    int status;
    struct config *config;
    struct error err = {""};
    if (!opts_parse(&syntax, argc, argv, &status))
        return status;
    if (roles && !add_roles(&settings, roles, set, sizeof set))
        return CLI_USAGE;
    if (!settings_load(&settings, &config))
        return CLI_FAILED;
    const struct server_source source = {
        .file = settings.config, .read = read_again, .arg = &settings};
    int rc = (server_runs_alone(config) ? server_run_alone : server_run)(config, &source, &err);
    if (rc)
        fprintf(stderr, "sluice serve: %s\n", err.text);
    return rc ? CLI_FAILED : CLI_OK;
}
