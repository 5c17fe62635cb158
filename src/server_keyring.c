/* SPDX-License-Identifier: Apache-2.0 */
#include "server_keyring.h"

#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/metric.h"

#define KEY_FILE_MAX 4096u

static int from_file(const char *path, struct master_key *ret, struct error *err)
{
    struct buf content;
    buf_init(&content, KEY_FILE_MAX);
    int rc = disk_read_file(disk_posix(), path, &content);
    if (rc < 0)
        error_set(err, rc, "encryption.master_key_file: %s: %s", path, disk_strerror(rc));
    else if (!master_key_make(buf_slice(&content), ret))
        rc = error_set(err, -EINVAL,
                       "encryption.master_key_file: %s must hold %u random bytes or more", path,
                       MASTER_KEY_LEAST);
    if (content.ptr)
        OPENSSL_cleanse(content.ptr, content.len);
    buf_fini(&content);
    return rc;
}

int master_key_load(const struct config *config, struct master_key *ret, bool *ret_given,
                    struct error *err)
{
    const char *file = config->encryption.master_key_file, *env = config->encryption.master_key_env;
    *ret_given = file[0] || env[0];
    if (file[0] && env[0])
        return error_set(err, -EINVAL,
                         "encryption: give master_key_file or master_key_env, not both");
    if (file[0])
        return from_file(file, ret, err);
    const char *text = env[0] ? getenv(env) : NULL;
    if (env[0] && !text)
        return error_set(err, -EINVAL, "encryption.master_key_env: the variable %s is not set",
                         env);
    if (text && !master_key_make(slice_str(text), ret))
        return error_set(err, -EINVAL,
                         "encryption.master_key_env: %s must hold %u random characters or more",
                         env, MASTER_KEY_LEAST);
    return 0;
}

static bool is_there(struct disk *disk, const char *path)
{
    struct disk_file *f;
    if (disk->open(disk, path, 0, &f) != 0)
        return false;
    disk->close(disk, f);
    return true;
}

int server_keyring_open(const struct config *config, struct disk *disk, bool only_read,
                        struct keyring **ret, struct error *err)
{
    struct master_key key = {0};
    char path[PATH_MAX];
    bool given;
    *ret = NULL;
    int rc = master_key_load(config, &key, &given, err);
    if (rc < 0)
        return rc;
    if (snprintf(path, sizeof path, "%s/keyring", config->server.data) >= (int)sizeof path)
        return error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long",
                         config->server.data);
    bool there = is_there(disk, path);
    if (!given)
        return there ? error_set(err, -EKEYREJECTED,
                                 "%s is there, so data are sealed, and no master key is given: set "
                                 "encryption.master_key_file or encryption.master_key_env",
                                 path)
                     : 0;
    if (only_read)
        rc = there ? keyring_read(disk, path, &key, ret, err) : 0;
    else
        rc = keyring_open(disk, path, &key, ret, err);
    master_key_wipe(&key);
    if (rc == 0 && *ret && !only_read)
        log_line(LOG_INFO, "keyring.open", "path=%s keys=%llu destroyed=%llu epoch=%llu", path,
                 (unsigned long long)keyring_stats(*ret).keys,
                 (unsigned long long)keyring_stats(*ret).destroyed,
                 (unsigned long long)keyring_epoch(*ret));
    return rc;
}

int server_keyring_refresh(const struct config *config, struct keyring *k, struct error *err)
{
    struct master_key key = {0};
    bool given;
    int rc = keyring_refresh(k, NULL, err);
    if (rc != -EKEYREJECTED)
        return rc;
    rc = master_key_load(config, &key, &given, err);
    if (rc == 0 && !given)
        rc = error_set(err, -EKEYREJECTED, "encryption: no master key is named any more");
    if (rc == 0)
        rc = keyring_refresh(k, &key, err);
    master_key_wipe(&key);
    if (rc == 0)
        log_line(LOG_INFO, "keyring.master_key_changed", "keys=%llu",
                 (unsigned long long)keyring_stats(k).keys);
    return rc;
}

int server_keyring_make(struct keyring *k, struct catalog *c, struct error *err)
{
    struct buf list;
    int rc = 0;
    buf_init(&list, SIZE_MAX / 2);
    unsigned count = catalog_accounts(c, &list);
    struct account **accounts = (void *)list.ptr;
    for (unsigned i = 0; i < count; i++) {
        int made = keyring_make(k, accounts[i]->number);
        if (made < 0 && made != -EKEYREVOKED && rc == 0)
            rc = error_set(err, made, "keyring: no key could be made: %s", strerror(-made));
        account_unref(accounts[i]);
    }
    buf_fini(&list);
    metric_set(METRIC_keyring_keys, keyring_stats(k).keys);
    return rc;
}
