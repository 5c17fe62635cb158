/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "backup/backup.h"
#include "backup/files.h"
#include "backup/restores.h"

int backup_read_manifest(struct disk *disk, const char *dir, struct manifest *ret,
                         struct error *err)
{
    char path[PATH_MAX];
    struct buf text;
    struct error why = {""};
    *ret = (struct manifest){0};
    int rc = path_join(path, dir, MANIFEST_NAME, err);
    if (rc)
        return rc;
    buf_init(&text, MANIFEST_BYTES_MAX);
    rc = disk_read_file(disk, path, &text);
    if (rc == -ENOENT)
        error_set(err, rc, "%s: there is none: this is no backup, or one that was not finished",
                  path);
    else if (rc)
        error_set(err, rc, "%s: %s", path, disk_strerror(rc));
    else if ((rc = manifest_parse(buf_slice(&text), ret, &why)) != 0)
        error_set(err, rc, rc == -EBADMSG ? "%s is damaged: %s" : "%s: %s", path, why.text);
    buf_fini(&text);
    return rc;
}

struct verifying {
    struct disk *disk;
    const char *dir;
    const struct manifest *manifest;
    struct buf *out;
    struct error *err;
    bool wrong;
};

static void note(struct verifying *v, const char *name, const char *what)
{
    buf_printf(v->out, "%s/%s: %s\n", v->dir, name, what);
    v->wrong = true;
}

static int check_file(struct verifying *v, const struct manifest_file *f)
{
    char path[PATH_MAX];
    struct file_digest found;
    struct error why = {""};
    int rc = path_join(path, v->dir, f->path, v->err);
    if (rc)
        return rc;
    rc = file_digest(v->disk, path, &found, &why);
    if (rc == -ENOENT)
        note(v, f->path, "it is missing");
    else if (rc)
        return error_set(v->err, rc, "%s", why.text);
    else if (found.bytes != f->digest.bytes)
        note(v, f->path, found.bytes < f->digest.bytes ? "it is too short" : "it is too long");
    else if (!file_digest_eq(&found, &f->digest))
        note(v, f->path, "damaged: it does not fit its checksum");
    return 0;
}

/* What the list does not know. `folder` is "", or one of backup_folders. */
static int check_names(struct verifying *v, const char *folder)
{
    char dir[PATH_MAX], path[PATH_MAX];
    struct names names;
    int rc = path_join(dir, v->dir, folder, v->err);
    if (rc == 0)
        rc = names_list(v->disk, dir, &names, v->err);
    if (rc == -ENOENT) /* a folder: its files were reported one by one */
        return 0;
    for (size_t i = 0; rc == 0 && i < names.count; i++) {
        const char *name = names.at[i];
        bool own = !folder[0] && (!strcmp(name, MANIFEST_NAME) || !strcmp(name, RESTORES_NAME) ||
                                  backup_has(backup_folders, slice_str(name)));
        snprintf(path, sizeof path, "%s%s%s", folder, folder[0] ? "/" : "", name);
        if (!own && !manifest_find(v->manifest, path))
            note(v, path, "it is no part of this backup");
    }
    names_fini(&names);
    return rc;
}

static int check_journal(struct verifying *v)
{
    char dir[PATH_MAX];
    struct error why = {""};
    int rc = path_join(dir, v->dir, "journal", v->err);
    if (rc)
        return rc;
    rc = journal_verify(v->disk, dir, v->out, &why);
    v->wrong |= rc == -EBADMSG;
    return rc == 0 || rc == -EBADMSG ? 0 : error_set(v->err, rc, "%s", why.text);
}

int backup_verify(struct disk *disk, const char *dir, struct manifest *ret, struct buf *out,
                  struct error *err)
{
    struct verifying v = {.disk = disk, .dir = dir, .manifest = ret, .out = out, .err = err};
    int rc = backup_read_manifest(disk, dir, ret, err);
    for (size_t i = 0; rc == 0 && i < ret->count; i++)
        rc = check_file(&v, &ret->files[i]);
    if (rc == 0)
        rc = check_names(&v, "");
    for (unsigned i = 0; rc == 0 && backup_folders[i]; i++)
        rc = check_names(&v, backup_folders[i]);
    if (rc == 0 && !v.wrong) /* the files are as they were written; were they right then? */
        rc = check_journal(&v);
    if (rc == 0 && v.wrong)
        rc = error_set(err, -EBADMSG, "%s: this backup is damaged", dir);
    return rc;
}
