/* SPDX-License-Identifier: Apache-2.0 */
#include "server_verified.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"

#define KEY_FILE_MAX 4096u
#define SNAPSHOT_MAX (1u << 30) /* 33 million devices */

static int read_key(struct verified_file *v, const char *path, struct error *err)
{
    struct buf content;
    buf_init(&content, KEY_FILE_MAX);
    int rc = disk_read_file(disk_posix(), path, &content);
    if (rc < 0)
        error_set(err, rc, "auth.snapshot_key_file: %s: %s", path, disk_strerror(rc));
    else if (!snapshot_key_make(buf_slice(&content), &v->key))
        rc = error_set(err, -EINVAL, "auth.snapshot_key_file: %s must hold %u random bytes or more",
                       path, SNAPSHOT_KEY_LEAST);
    if (content.ptr)
        OPENSSL_cleanse(content.ptr, content.len);
    buf_fini(&content);
    return rc;
}

static void restore(struct verified_file *v)
{
    struct buf sealed;
    struct error err = {""};
    uint64_t entries = 0;
    buf_init(&sealed, SNAPSHOT_MAX);
    int rc = disk_read_file(v->disk, v->path, &sealed);
    if (rc < 0 && rc != -ENOENT)
        error_set(&err, rc, "%s", disk_strerror(rc));
    if (rc == 0)
        rc = snapshot_restore(v->shield, &v->key, v->log_id, buf_slice(&sealed), &entries, &err);
    buf_fini(&sealed);
    if (rc == 0)
        log_line(LOG_INFO, "verified.restored", "path=%s secrets=%llu", v->path,
                 (unsigned long long)entries);
    else if (rc != -ENOENT)
        log_line(LOG_WARN, "verified.not_restored", "path=%s why=\"%s\"", v->path, err.text);
    metric_set(METRIC_shield_restored, entries);
}

int verified_file_open(struct verified_file *v, const char *key_file, struct error *err)
{
    if (!key_file[0])
        return 0;
    int rc = read_key(v, key_file, err);
    if (rc < 0)
        return rc;
    v->on = true;
    restore(v);
    return 0;
}

static void add_account(struct verified_file *v, struct snapshot *n, uint64_t account)
{
    struct buf list;
    buf_init(&list, SIZE_MAX / 2);
    unsigned count = catalog_credentials(v->catalog, account, CREDENTIAL_DEVICE, &list);
    struct credential **devices = (void *)list.ptr;
    for (unsigned i = 0; i < count; i++) {
        snapshot_add(n, devices[i]);
        credential_unref(devices[i]);
    }
    buf_fini(&list);
}

static bool make(struct verified_file *v, struct buf *out, uint64_t *ret_entries)
{
    struct snapshot n;
    struct buf list;
    snapshot_begin(&n, v->shield, SNAPSHOT_MAX);
    buf_init(&list, SIZE_MAX / 2);
    unsigned count = catalog_accounts(v->catalog, &list);
    struct account **accounts = (void *)list.ptr;
    for (unsigned i = 0; i < count; i++) {
        add_account(v, &n, accounts[i]->number);
        account_unref(accounts[i]);
    }
    buf_fini(&list);
    *ret_entries = n.entries;
    return snapshot_end(&n, &v->key, v->log_id, out);
}

void verified_file_save(struct verified_file *v)
{
    uint64_t verified = v->on ? shield_verified(v->shield) : 0, entries = 0;
    if (!v->on || verified == v->saved)
        return;
    struct buf out;
    buf_init(&out, SNAPSHOT_MAX);
    int rc = make(v, &out, &entries) ? disk_replace(v->disk, v->path, out.ptr, out.len) : -ENOMEM;
    buf_fini(&out);
    if (rc == 0) {
        v->saved = verified;
        metric_set(METRIC_shield_saved, entries);
        metric_set(METRIC_shield_saved_at, (uint64_t)(clock_wall_us() / US_PER_S));
    } else if (!v->failing) {
        log_line(LOG_ERROR, "verified.save_failed", "path=%s error=%s", v->path, disk_strerror(rc));
    }
    v->failing = rc != 0;
}

void verified_file_close(struct verified_file *v)
{
    verified_file_save(v);
    snapshot_key_wipe(&v->key);
    v->on = false;
}
