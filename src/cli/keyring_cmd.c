/* SPDX-License-Identifier: Apache-2.0 */
/* sluice keyring show|rotate: the file data/keyring, while no server runs. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/data_lock.h"
#include "cli/settings.h"
#include "server_keyring.h"

/* Opens the keyring under the data lock, with the master key that the settings name. */
static int begin(const struct config *config, struct disk_file **ret_lock, struct keyring **ret,
                 struct error *err)
{
    int rc = data_lock_take(config->server.data, false, ret_lock, err);
    if (rc == 0)
        rc = server_keyring_open(config, disk_posix(), true, ret, err);
    if (rc == 0 && !*ret)
        rc = error_set(err, -ENOENT, "there is no keyring in %s, or no master key is given",
                       config->server.data);
    return rc;
}

static int show(const struct config *config, struct keyring *k, struct error *err)
{
    struct keyring_stats s = keyring_stats(k);
    printf("keys       %llu\ndestroyed  %llu\n", (unsigned long long)s.keys,
           (unsigned long long)s.destroyed);
    return 0;
}

static const char *new_file; /* of rotate: a command line is one process */

static int rotate(const struct config *config, struct keyring *k, struct error *err)
{
    struct config to = *config;
    struct master_key key = {0};
    bool given;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", new_file);
    to.encryption.master_key_file = path;
    to.encryption.master_key_env = "";
    int rc = master_key_load(&to, &key, &given, err);
    if (rc == 0)
        rc = keyring_rotate(k, &key);
    if (rc < 0 && !err->text[0])
        error_set(err, rc, "the keyring cannot be written: %s", strerror(-rc));
    master_key_wipe(&key);
    if (rc == 0)
        printf("The keyring is wrapped by the key in %s now: name that in the settings.\n", path);
    return rc;
}

static int run(int argc, char **argv, struct opt_syntax *syntax,
               int (*does)(const struct config *, struct keyring *, struct error *))
{
    struct settings_opts settings = {0};
    const struct opt opts[] = {SETTINGS_OPTS(&settings), {0}};
    struct config *config;
    struct keyring *keyring = NULL;
    struct disk_file *lock = NULL;
    struct error err = {""};
    int status;
    syntax->opts = opts;
    if (!opts_parse(syntax, argc, argv, &status))
        return status;
    if (!settings_load(&settings, &config))
        return CLI_FAILED;
    int rc = begin(config, &lock, &keyring, &err);
    if (rc == 0)
        rc = does(config, keyring, &err);
    if (rc < 0)
        fprintf(stderr, "%s: %s\n", syntax->path, err.text);
    keyring_close(keyring);
    data_lock_release(lock);
    config_free(config);
    return rc < 0 ? CLI_FAILED : CLI_OK;
}

static int cmd_show(int argc, char **argv)
{
    struct opt_syntax syntax = {
        .path = "sluice keyring show",
        .text = "Open the keyring and say how many keys it holds",
        .examples = "  sluice keyring show --config /etc/sluice.yaml\n",
    };
    return run(argc, argv, &syntax, show);
}

static int cmd_rotate(int argc, char **argv)
{
    const struct opt_arg args[] = {
        {"FILE", "The new master key: 32 random bytes or more", &new_file, true}, {0}};
    struct opt_syntax syntax = {
        .path = "sluice keyring rotate",
        .text = "Wrap all data keys by another master key; what is stored stays as it is",
        .args = args,
        .examples = "  sluice keyring rotate /etc/sluice/master.new --config /etc/sluice.yaml\n",
    };
    return run(argc, argv, &syntax, rotate);
}

int cmd_keyring(int argc, char **argv)
{
    static const struct command commands[] = {
        {"show", "Say how many keys there are", cmd_show},
        {"rotate", "Change the master key", cmd_rotate},
        {0},
    };
    static const struct command_group group = {
        .path = "sluice keyring",
        .text = "Look after the keys that data are sealed with, while no server runs.",
        .commands = commands,
        .examples = "  sluice keyring rotate /etc/sluice/master.new\n",
    };
    return cli_dispatch(&group, argc, argv);
}
