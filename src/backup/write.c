/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "backup/backup.h"
#include "backup/files.h"
#include "base/clock.h"
#include "codec/text.h"
#include "view/audit.h"

struct writing {
    const struct backup_write_opts *opts;
    struct disk *disk;
    char staged[PATH_MAX]; /* the folder that is copied */
    struct pace pace;
    struct manifest *manifest;
    struct error *err;
};

static int list(struct writing *w, const char *path, const struct file_digest *digest)
{
    return manifest_add(w->manifest, path, digest)
               ? 0
               : error_set(w->err, -EINVAL, "%s: no backup has a file of that name", path);
}

/* `name` is the same in both directories. */
static int copy(struct writing *w, const char *name, uint64_t bytes)
{
    char from[PATH_MAX], to[PATH_MAX];
    struct file_digest digest;
    int rc = path_join(from, w->staged, name, w->err);
    if (rc == 0)
        rc = path_join(to, w->opts->to, name, w->err);
    if (rc == 0)
        rc = file_copy(w->disk, from, to, bytes, &w->pace, &digest, w->err);
    return rc ? rc : list(w, name, &digest);
}

static int make_folder(struct writing *w, const char *name)
{
    char path[PATH_MAX];
    int rc = path_join(path, w->opts->to, name, w->err);
    if (rc)
        return rc;
    rc = w->disk->mkdir(w->disk, path);
    return rc ? error_set(w->err, rc, "%s: %s", path, disk_strerror(rc)) : 0;
}

static int sync_folder(struct writing *w, const char *name)
{
    char path[PATH_MAX];
    int rc = path_join(path, w->opts->to, name, w->err);
    if (rc)
        return rc;
    rc = w->disk->sync_dir(w->disk, path);
    return rc ? error_set(w->err, rc, "%s: %s", path, disk_strerror(rc)) : 0;
}

static int copy_segments(struct writing *w, const char *dir, const struct journal_cut *cut)
{
    struct names names;
    int rc = names_list(w->disk, dir, &names, w->err);
    for (size_t i = 0; rc == 0 && i < names.count; i++) {
        char path[PATH_MAX];
        uint64_t base;
        if (!journal_segment_name(names.at[i], &base) || !cut->any || base > cut->segment)
            continue;
        rc = path_join(path, "journal", names.at[i], w->err);
        if (rc == 0)
            rc = copy(w, path, base == cut->segment ? cut->position : FILE_WHOLE);
    }
    names_fini(&names);
    return rc;
}

static int copy_journal(struct writing *w)
{
    const struct backup_staged *s = w->opts->staged;
    static const char name[] = "journal/" JOURNAL_CHECKPOINT;
    char dir[PATH_MAX], to[PATH_MAX];
    struct journal_cut cut;
    struct file_digest digest;
    int rc = path_join(dir, w->staged, "journal", w->err);
    if (rc == 0)
        rc = path_join(to, w->opts->to, name, w->err);
    if (rc == 0)
        rc = journal_find_cut(w->disk, dir, s->log_id, s->position, &cut, w->err);
    if (rc == 0)
        rc = make_folder(w, "journal");
    if (rc == 0)
        rc = copy_segments(w, dir, &cut);
    if (rc == 0)
        rc = file_write(w->disk, to, slice_of(cut.checkpoint, sizeof cut.checkpoint), &digest,
                        w->err);
    if (rc == 0)
        rc = list(w, name, &digest);
    if (rc == 0)
        rc = sync_folder(w, "journal");
    w->manifest->oldest = rc == 0 ? cut.oldest : 0;
    return rc;
}

static int copy_audit(struct writing *w)
{
    char dir[PATH_MAX], path[PATH_MAX];
    struct names names = {0};
    struct audit_cut cut;
    int rc = path_join(dir, w->staged, "audit", w->err);
    if (rc == 0)
        rc = make_folder(w, "audit");
    if (rc == 0)
        rc = audit_find_cut(w->disk, dir, &cut, w->err);
    if (rc == 0)
        rc = names_list(w->disk, dir, &names, w->err);
    for (size_t i = 0; rc == 0 && i < names.count; i++) {
        uint64_t bytes;
        if (!audit_cut_has(&cut, names.at[i], &bytes))
            continue;
        rc = path_join(path, "audit", names.at[i], w->err);
        if (rc == 0)
            rc = copy(w, path, bytes);
    }
    names_fini(&names);
    return rc ? rc : sync_folder(w, "audit");
}

/* All that is in it. */
static int copy_folder(struct writing *w, const char *folder)
{
    char dir[PATH_MAX], path[PATH_MAX];
    struct names names = {0};
    int rc = path_join(dir, w->staged, folder, w->err);
    if (rc == 0)
        rc = make_folder(w, folder);
    if (rc == 0)
        rc = names_list(w->disk, dir, &names, w->err);
    for (size_t i = 0; rc == 0 && i < names.count; i++) {
        rc = path_join(path, folder, names.at[i], w->err);
        if (rc == 0)
            rc = copy(w, path, FILE_WHOLE);
    }
    names_fini(&names);
    return rc ? rc : sync_folder(w, folder);
}

static int copy_files(struct writing *w)
{
    struct names names;
    int rc = names_list(w->disk, w->staged, &names, w->err);
    for (size_t i = 0; rc == 0 && i < names.count; i++)
        if (backup_has(backup_files, slice_str(names.at[i])))
            rc = copy(w, names.at[i], FILE_WHOLE);
    names_fini(&names);
    if (rc == 0 && !manifest_find(w->manifest, "catalog.db"))
        rc = error_set(w->err, -ENOENT, "%s holds no catalog.db", w->staged);
    return rc;
}

static int write_manifest(struct writing *w)
{
    char path[PATH_MAX];
    struct buf text;
    int rc = path_join(path, w->opts->to, MANIFEST_NAME, w->err);
    if (rc)
        return rc;
    buf_init(&text, MANIFEST_BYTES_MAX);
    manifest_format(w->manifest, &text);
    rc = text.failed ? -EFBIG : disk_replace(w->disk, path, text.ptr, text.len);
    buf_fini(&text);
    return rc ? error_set(w->err, rc, "%s: %s", path, disk_strerror(rc)) : 0;
}

static void fill_head(struct writing *w)
{
    struct manifest *m = w->manifest;
    const struct backup_staged *s = w->opts->staged;
    struct buf made;
    buf_init(&made, sizeof m->made - 1);
    time_format_s(&made, clock_wall_us());
    snprintf(m->made, sizeof m->made, "%.*s", SLICE_ARG(buf_slice(&made)));
    buf_fini(&made);
    snprintf(m->version, sizeof m->version, "%s", w->opts->version);
    memcpy(m->log_id, s->log_id, sizeof m->log_id);
    m->position = s->position;
    m->sealed = s->sealed;
}

static int write_all(struct writing *w)
{
    fill_head(w);
    int rc = copy_journal(w);
    if (rc == 0)
        rc = copy_folder(w, "history");
    if (rc == 0)
        rc = copy_audit(w);
    if (rc == 0)
        rc = copy_files(w);
    if (rc == 0)
        rc = sync_folder(w, ".");
    /* What was copied is whole only if it lay there all the time. */
    if (!backup_is_staged(w->disk, w->opts->data, w->opts->staged->token))
        rc = error_set(w->err, -ECANCELED,
                       "what was copied was taken away: meanwhile something was erased, or the "
                       "server was started again; make the backup again");
    return rc ? rc : write_manifest(w);
}

/* A new directory, or an empty one. */
static int begin(struct writing *w)
{
    const char *to = w->opts->to;
    struct names names = {0};
    int rc = w->disk->mkdir(w->disk, to);
    if (rc)
        return error_set(w->err, rc, "%s: cannot be made: %s", to, disk_strerror(rc));
    rc = names_list(w->disk, to, &names, w->err);
    if (rc == 0 && names.count)
        rc = error_set(w->err, -ENOTEMPTY,
                       "%s holds \"%s\": a backup is written into a new directory, or an empty one",
                       to, names.at[0]);
    names_fini(&names);
    return rc;
}

static void remove_written(struct writing *w)
{
    const char *const *const lists[] = {backup_folders, backup_files};
    char path[PATH_MAX];
    if (path_join(path, w->opts->to, MANIFEST_NAME, &(struct error){""}) == 0)
        w->disk->unlink(w->disk, path); /* it may be there and not durable; first: it vouches */
    for (unsigned k = 0; k < 2; k++)
        for (unsigned i = 0; lists[k][i]; i++)
            if (path_join(path, w->opts->to, lists[k][i], &(struct error){""}) == 0)
                disk_remove_tree(w->disk, path);
}

int backup_write(const struct backup_write_opts *opts, struct manifest *ret, struct error *err)
{
    struct writing w = {.opts = opts,
                        .disk = opts->disk,
                        .pace = {.bytes_per_s = opts->bytes_per_s},
                        .manifest = ret,
                        .err = err};
    *ret = (struct manifest){0};
    int rc = path_join(w.staged, opts->data, BACKUP_FOLDER, err);
    if (rc == 0)
        rc = begin(&w);
    if (rc)
        return rc;
    rc = write_all(&w);
    if (rc) {
        remove_written(&w);
        manifest_fini(ret);
    }
    return rc;
}
