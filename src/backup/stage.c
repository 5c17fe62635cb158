/* SPDX-License-Identifier: Apache-2.0 */
#include "backup/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "backup/files.h"
#include "base/log.h"
#include "base/rand.h"
#include "view/audit.h"

/* In the folder: the token, which is written last and removed first. */
#define TOKEN_NAME "token"

struct staging {
    const struct backup_source *source;
    struct backup_staged *staged;
    struct error *err;
    char folder[PATH_MAX], journal[PATH_MAX];
};

/* On the catalog's thread: nothing enters the catalog meanwhile. */
static void on_catalog_whole(void *arg)
{
    struct staging *s = arg;
    s->staged->position = journal_durable(s->source->journal);
}

static int stage_catalog(struct staging *s)
{
    char path[PATH_MAX];
    int rc = path_join(path, s->folder, "catalog.db", s->err);
    return rc ? rc : catalog_image(s->source->catalog, path, on_catalog_whole, s, s->err);
}

static int stage_history(struct staging *s)
{
    char path[PATH_MAX];
    int rc = path_join(path, s->folder, "history", s->err);
    return rc ? rc : history_checkpoint(s->source->history, path, s->err);
}

static int stage_audit(struct staging *s)
{
    char from[PATH_MAX], to[PATH_MAX];
    int rc = path_join(from, s->source->data, "audit", s->err);
    if (rc == 0)
        rc = path_join(to, s->folder, "audit", s->err);
    return rc ? rc : audit_link(s->source->disk, from, to, s->err);
}

/* Snapshots are only ever replaced as a whole. There may be none yet. */
static int stage_snapshot(struct staging *s, const char *name)
{
    char from[PATH_MAX], to[PATH_MAX];
    struct disk *d = s->source->disk;
    int rc = path_join(from, s->source->data, name, s->err);
    if (rc == 0)
        rc = path_join(to, s->folder, name, s->err);
    if (rc == 0)
        rc = d->link(d, from, to);
    if (rc == -ENOENT)
        rc = 0;
    return rc ? error_set(s->err, rc, "%s cannot be linked: %s", from, disk_strerror(rc)) : 0;
}

static int stage_snapshots(struct staging *s)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && backup_files[i]; i++)
        if (strcmp(backup_files[i], "catalog.db") != 0)
            rc = stage_snapshot(s, backup_files[i]);
    return rc;
}

static int make_folders(struct staging *s)
{
    struct disk *d = s->source->disk;
    int rc = path_join(s->folder, s->source->data, BACKUP_FOLDER, s->err);
    if (rc == 0)
        rc = path_join(s->journal, s->folder, "journal", s->err);
    if (rc)
        return rc;
    rc = d->mkdir(d, s->folder);
    if (rc == 0)
        rc = d->mkdir(d, s->journal);
    return rc ? error_set(s->err, rc, "%s: %s", s->folder, disk_strerror(rc)) : 0;
}

static int write_token(struct staging *s)
{
    char path[PATH_MAX];
    struct file_digest unused;
    uint8_t random[16];
    rand_secret(random, sizeof random);
    for (unsigned i = 0; i < sizeof random; i++)
        snprintf(s->staged->token + 2 * i, 3, "%02x", random[i]);
    int rc = path_join(path, s->folder, TOKEN_NAME, s->err);
    return rc ? rc
              : file_write(s->source->disk, path, slice_str(s->staged->token), &unused, s->err);
}

static bool exists(struct disk *d, const char *path)
{
    struct disk_file *f;
    int rc = d->open(d, path, O_RDONLY, &f);
    if (rc == 0)
        d->close(d, f);
    return rc != -ENOENT;
}

int backup_stage(const struct backup_source *source, struct backup_staged *ret, struct error *err)
{
    struct backup_staged staged = {{0}};
    struct staging s = {.source = source, .staged = &staged, .err = err};
    struct journal_position p = journal_position(source->journal);
    char keyring[PATH_MAX];
    memcpy(staged.log_id, p.log_id, sizeof staged.log_id);
    int rc = path_join(keyring, source->data, "keyring", err);
    if (rc == 0)
        rc = backup_unstage(source->disk, source->data, err);
    if (rc == 0)
        rc = make_folders(&s);
    if (rc == 0)
        rc = journal_link(source->journal, s.journal, p.durable, err);
    if (rc == 0)
        rc = stage_snapshots(&s);
    if (rc == 0)
        rc = stage_history(&s);
    if (rc == 0)
        rc = stage_audit(&s);
    if (rc == 0)
        rc = stage_catalog(&s);
    if (rc == 0)
        rc = journal_link(source->journal, s.journal, staged.position, err);
    staged.sealed = rc == 0 && exists(source->disk, keyring);
    if (rc == 0)
        rc = write_token(&s);
    if (rc) {
        backup_unstage(source->disk, source->data, &(struct error){""});
        return rc;
    }
    *ret = staged;
    return 0;
}

int backup_unstage(struct disk *disk, const char *data, struct error *err)
{
    char folder[PATH_MAX], token[PATH_MAX];
    int rc = path_join(folder, data, BACKUP_FOLDER, err);
    if (rc == 0)
        rc = path_join(token, folder, TOKEN_NAME, err);
    if (rc)
        return rc;
    rc = disk->unlink(disk, token);
    if (rc == 0 || rc == -ENOENT)
        rc = disk_remove_tree(disk, folder);
    return rc ? error_set(err, rc, "%s cannot be removed: %s", folder, disk_strerror(rc)) : 0;
}

bool backup_is_staged(struct disk *disk, const char *data, const char *token)
{
    char path[PATH_MAX];
    struct buf said;
    buf_init(&said, BACKUP_TOKEN_SIZE);
    int n = snprintf(path, sizeof path, "%s/" BACKUP_FOLDER "/" TOKEN_NAME, data);
    bool same = n < PATH_MAX && disk_read_file(disk, path, &said) == 0 &&
                slice_eq(buf_slice(&said), slice_str(token));
    buf_fini(&said);
    return same;
}

int backup_lock(const char *data, struct disk_file **ret, struct error *err)
{
    struct disk *d = disk_posix();
    struct disk_file *f;
    char path[PATH_MAX];
    int rc = path_join(path, data, BACKUP_LOCK, err);
    if (rc)
        return rc;
    rc = d->open(d, path, O_RDWR | O_CREAT, &f);
    if (rc)
        return error_set(err, rc, "%s: %s", path, disk_strerror(rc));
    rc = d->lock(d, f);
    if (rc) {
        d->close(d, f);
        return error_set(
            err, rc,
            rc == -EWOULDBLOCK ? "%s: another backup is being made" : "%s: cannot be locked", path);
    }
    *ret = f;
    return 0;
}
