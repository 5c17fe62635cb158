/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mark comes first and goes last, each durably; what lies between may be cut short anywhere and
 * is then done again from the beginning. The count of restores grows before any number is used.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "backup/backup.h"
#include "backup/files.h"
#include "backup/restores.h"

struct restoring {
    const struct backup_restore_opts *opts;
    struct disk *disk;
    struct manifest manifest;
    struct pace pace;
    struct error *err;
    char mark[PATH_MAX];
    bool marked; /* an interrupted restore was here */
    bool keyring;
};

#define CATALOG_JOURNAL "catalog.db-journal"

/* Whether a restore writes that into the data directory. */
static bool is_part(const char *name)
{
    struct slice s = slice_str(name);
    return backup_has(backup_folders, s) || backup_has(backup_files, s) ||
           slice_eq(s, SLICE(CATALOG_JOURNAL));
}

/* The directory is there and locked. */
static int look(struct restoring *r)
{
    static const char *const kept[] = {"LOCK",       "keyring",    "keyring.erased",
                                       RESTORE_MARK, "lost+found", NULL};
    struct names names;
    int rc = names_list(r->disk, r->opts->to, &names, r->err);
    for (size_t i = 0; rc == 0 && i < names.count; i++) {
        r->marked |= strcmp(names.at[i], RESTORE_MARK) == 0;
        r->keyring |= strcmp(names.at[i], "keyring") == 0;
    }
    for (size_t i = 0; rc == 0 && i < names.count; i++) {
        const char *name = names.at[i];
        if (backup_has(kept, slice_str(name)) || (r->marked && is_part(name)))
            continue;
        rc = error_set(r->err, -ENOTEMPTY,
                       "%s holds \"%s\": a backup is restored into a directory that is new, or "
                       "holds nothing but keyring and keyring.erased",
                       r->opts->to, name);
    }
    names_fini(&names);
    if (rc == 0 && r->manifest.sealed && !r->keyring && !r->opts->without_keys)
        rc = error_set(r->err, -ENOKEY,
                       "the data are sealed, and there is no keyring in %s: put keyring and "
                       "keyring.erased there first (--without-keyring restores without them; then "
                       "nothing of it can be read)",
                       r->opts->to);
    return rc;
}

static int remove_part(struct restoring *r, const char *name)
{
    char path[PATH_MAX];
    int rc = path_join(path, r->opts->to, name, r->err);
    if (rc == 0 && (rc = disk_remove_tree(r->disk, path)) != 0)
        error_set(r->err, rc, "%s cannot be removed: %s", path, disk_strerror(rc));
    return rc;
}

static int begin(struct restoring *r)
{
    char path[PATH_MAX];
    int rc = path_join(r->mark, r->opts->to, RESTORE_MARK, r->err);
    if (rc)
        return rc;
    static const char text[] = "A restore is under way here, or was interrupted: run it again.\n";
    rc = disk_replace(r->disk, r->mark, text, sizeof text - 1);
    if (rc)
        return error_set(r->err, rc, "%s: %s", r->mark, disk_strerror(rc));
    for (unsigned i = 0; rc == 0 && backup_folders[i]; i++)
        rc = remove_part(r, backup_folders[i]);
    for (unsigned i = 0; rc == 0 && backup_files[i]; i++)
        rc = remove_part(r, backup_files[i]);
    if (rc == 0)
        rc = remove_part(r, CATALOG_JOURNAL);
    for (size_t i = 0; rc == 0 && backup_folders[i]; i++) {
        rc = path_join(path, r->opts->to, backup_folders[i], r->err);
        if (rc == 0 && (rc = r->disk->mkdir(r->disk, path)) != 0)
            error_set(r->err, rc, "%s cannot be made: %s", path, disk_strerror(rc));
    }
    return rc;
}

static int copy_one(struct restoring *r, const struct manifest_file *f)
{
    char from[PATH_MAX], to[PATH_MAX];
    struct file_digest found;
    int rc = path_join(from, r->opts->from, f->path, r->err);
    if (rc == 0)
        rc = path_join(to, r->opts->to, f->path, r->err);
    if (rc == 0)
        rc = file_copy(r->disk, from, to, FILE_WHOLE, &r->pace, &found, r->err);
    if (rc == 0 && !file_digest_eq(&found, &f->digest))
        rc = error_set(r->err, -EBADMSG,
                       "%s is damaged: it does not fit its checksum; nothing was restored", from);
    return rc;
}

static int sync_one(struct restoring *r, const char *folder)
{
    char path[PATH_MAX];
    int rc = path_join(path, r->opts->to, folder, r->err);
    if (rc == 0 && (rc = r->disk->sync_dir(r->disk, path)) != 0)
        error_set(r->err, rc, "%s: %s", path, disk_strerror(rc));
    return rc;
}

static int sync_all(struct restoring *r)
{
    int rc = sync_one(r, ".");
    for (size_t i = 0; rc == 0 && backup_folders[i]; i++)
        rc = sync_one(r, backup_folders[i]);
    return rc;
}

/* Numbers of the log and the catalog that nobody had. */
static int jump(struct restoring *r, struct backup_restored *ret)
{
    const struct backup_restore_opts *o = r->opts;
    char path[PATH_MAX];
    struct journal *journal;
    int rc = 0;
    ret->nth = o->nth;
    if (!ret->nth)
        rc = restores_count(r->disk, o->from, o->to, &ret->nth, r->err);
    if (rc == 0)
        rc = path_join(path, o->to, "catalog.db", r->err);
    if (rc == 0)
        rc = catalog_restored(path, ret->nth, r->err);
    if (rc == 0)
        rc = path_join(path, o->to, "journal", r->err);
    if (rc)
        return rc;
    const struct journal_opts opts = {.disk = r->disk,
                                      .dir = path,
                                      .segment_bytes = o->segment_bytes,
                                      .ring_bytes = 1u << 20,
                                      .pending_bytes = 1u << 20,
                                      .jump = ret->nth};
    rc = journal_open(&opts, &journal, r->err);
    if (rc)
        return rc;
    ret->position = journal_durable(journal);
    journal_close(journal);
    return 0;
}

static int end(struct restoring *r)
{
    int rc = sync_all(r);
    if (rc)
        return rc;
    rc = r->disk->unlink(r->disk, r->mark);
    if (rc == 0)
        rc = r->disk->sync_dir(r->disk, r->opts->to);
    return rc ? error_set(r->err, rc, "%s: %s", r->mark, disk_strerror(rc)) : 0;
}

int backup_restore(const struct backup_restore_opts *opts, struct backup_restored *ret,
                   struct error *err)
{
    struct restoring r = {
        .opts = opts, .disk = opts->disk, .pace = {.bytes_per_s = opts->bytes_per_s}, .err = err};
    int rc = backup_read_manifest(opts->disk, opts->from, &r.manifest, err);
    if (rc == 0 && !manifest_find(&r.manifest, "catalog.db"))
        rc = error_set(err, -EBADMSG, "%s lists no catalog.db", opts->from);
    if (rc == 0)
        rc = look(&r);
    if (rc == 0)
        rc = begin(&r);
    for (size_t i = 0; rc == 0 && i < r.manifest.count; i++)
        rc = copy_one(&r, &r.manifest.files[i]);
    if (rc == 0)
        rc = sync_all(&r);
    if (rc == 0)
        rc = jump(&r, ret);
    if (rc == 0)
        rc = end(&r);
    manifest_fini(&r.manifest);
    return rc;
}

int backup_check_restored(struct disk *disk, const char *data, struct error *err)
{
    char path[PATH_MAX];
    struct disk_file *f;
    int rc = path_join(path, data, RESTORE_MARK, err);
    if (rc)
        return rc;
    rc = disk->open(disk, path, O_RDONLY, &f);
    if (rc == -ENOENT)
        return 0;
    if (rc == 0)
        disk->close(disk, f);
    return error_set(err, -ENOTRECOVERABLE,
                     "%s: a restore into this directory has not come to its end; run it again, or "
                     "remove the directory",
                     path);
}
