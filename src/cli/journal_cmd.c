/* SPDX-License-Identifier: Apache-2.0 */
/* sluice journal inspect|verify|tail: looks at the files, whether a server runs or not. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/journal_print.h"
#include "cli/settings.h"
#include "journal/journal.h"
#include "seal/seal.h"
#include "server_keyring.h"

#define OUTPUT_BYTES_MAX ((size_t)256 << 20)
#define FOLLOW_NS        (200 * NS_PER_MS)

/* The journal's directory under the data directory; and the keyring, where that is asked for and a
 * master key is given. */
static bool dir_of(const struct settings_opts *settings, char ret[PATH_MAX],
                   struct keyring **ret_keyring)
{
    struct config *config;
    struct error err = {""};
    if (!settings_load(settings, &config))
        return false;
    int n = snprintf(ret, PATH_MAX, "%s/journal", config->server.data);
    bool keyed = config->encryption.master_key_file[0] || config->encryption.master_key_env[0];
    int rc = ret_keyring && keyed
                 ? server_keyring_open(config, disk_posix(), true, ret_keyring, &err)
                 : 0;
    if (rc < 0)
        fprintf(stderr, "sluice journal: %s\n", err.text);
    config_free(config);
    return n < PATH_MAX && rc == 0;
}

static int report(int argc, char **argv, const char *path, const char *text,
                  int (*run)(struct disk *, const char *, struct buf *, struct error *))
{
    struct settings_opts settings = {0};
    const struct opt opts[] = {SETTINGS_OPTS(&settings), {0}};
    char examples[100], dir[PATH_MAX];
    snprintf(examples, sizeof examples, "  %s --data /var/lib/sluice\n", path);
    const struct opt_syntax syntax = {
        .path = path, .text = text, .opts = opts, .examples = examples};
    struct error err = {""};
    struct buf out;
    int status;
    if (!opts_parse(&syntax, argc, argv, &status))
        return status;
    if (!dir_of(&settings, dir, NULL))
        return CLI_FAILED;
    buf_init(&out, OUTPUT_BYTES_MAX);
    int rc = run(disk_posix(), dir, &out, &err);
    printf("%.*s", SLICE_ARG(buf_slice(&out)));
    buf_fini(&out);
    if (rc)
        fprintf(stderr, "%s: %s\n", path, err.text[0] ? err.text : strerror(-rc));
    return rc ? CLI_FAILED : CLI_OK;
}

static int cmd_inspect(int argc, char **argv)
{
    return report(argc, argv, "sluice journal inspect",
                  "Print a line for every segment: file, offsets, bytes, times, state",
                  journal_inspect);
}

static int cmd_verify(int argc, char **argv)
{
    return report(
        argc, argv, "sluice journal verify",
        "Read every batch and check its checksum and its place; the exit status is 1 when "
        "something is damaged",
        journal_verify);
}

struct tail {
    bool json;
    struct sealer *sealer; /* opens records, if there is one */
    struct buf opened;
    uint64_t next; /* offset to go on at */
    uint64_t left; /* records still to print */
    bool stop;
};

static int on_record(void *arg, uint64_t offset, const struct record *r)
{
    struct tail *t = arg;
    struct record shown = *r;
    if (t->sealer && unseal_record(t->sealer, &shown, &t->opened) == SEAL_DONE)
        shown.key_id = 0;
    journal_print(stdout, t->json, offset, &shown);
    t->next = offset + 1;
    t->stop = --t->left == 0 || ferror(stdout);
    return t->stop;
}

static bool number(const char *what, const char *text, uint64_t fallback, uint64_t *ret)
{
    char *end;
    *ret = fallback;
    if (!text)
        return true;
    errno = 0;
    *ret = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && !*end && !errno)
        return true;
    fprintf(stderr, "sluice journal tail: --%s must be a number, not \"%s\"\n", what, text);
    return false;
}

static int cmd_tail(int argc, char **argv)
{
    struct settings_opts settings = {0};
    struct tail tail = {0};
    const char *from = NULL, *count = NULL;
    bool follow = false;
    const struct opt opts[] = {
        {"from", "N", "Begin at offset N; default: the oldest", &from, NULL, NULL},
        {"count", "N", "Stop after N records", &count, NULL, NULL},
        {"follow", NULL, "Wait for more, until interrupted", NULL, &follow, NULL},
        {"json", NULL, "One JSON object for each record", NULL, &tail.json, NULL},
        SETTINGS_OPTS(&settings),
        {0},
    };
    const struct opt_syntax syntax = {
        .path = "sluice journal tail",
        .text = "Print the records of the journal that are durable",
        .opts = opts,
        .examples = "  sluice journal tail --follow\n"
                    "  sluice journal tail --from 120000 --count 10 --json\n",
    };
    char dir[PATH_MAX];
    struct keyring *keyring = NULL;
    struct error err = {""};
    int status, rc;
    if (!opts_parse(&syntax, argc, argv, &status))
        return status;
    if (!number("from", from, 0, &tail.next) || !number("count", count, UINT64_MAX, &tail.left))
        return CLI_USAGE;
    if (tail.left == 0)
        return CLI_OK;
    if (!dir_of(&settings, dir, &keyring))
        return CLI_FAILED;
    tail.sealer = keyring ? sealer_new(keyring) : NULL;
    buf_init(&tail.opened, OUTPUT_BYTES_MAX);
    for (;;) {
        rc = journal_scan(disk_posix(), dir, tail.next, on_record, &tail, &err);
        if (fflush(stdout) != 0 || tail.stop || rc || !follow)
            break;
        clock_sleep_ns(FOLLOW_NS);
    }
    sealer_free(tail.sealer);
    keyring_close(keyring);
    buf_fini(&tail.opened);
    if (rc < 0 && !tail.stop)
        fprintf(stderr, "sluice journal tail: %s\n", err.text[0] ? err.text : strerror(-rc));
    return (rc < 0 && !tail.stop) || ferror(stdout) ? CLI_FAILED : CLI_OK;
}

int cmd_journal(int argc, char **argv)
{
    static const struct command commands[] = {
        {"inspect", "Print a line for every segment", cmd_inspect},
        {"verify", "Check every batch", cmd_verify},
        {"tail", "Print records, and follow", cmd_tail},
        {0},
    };
    static const struct command_group group = {
        .path = "sluice journal",
        .text = "Look at the journal's files, whether a server runs or not.",
        .commands = commands,
        .examples = "  sluice journal inspect\n"
                    "  sluice journal tail --follow\n",
    };
    return cli_dispatch(&group, argc, argv);
}
