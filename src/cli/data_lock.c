/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/data_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "backup/backup.h"

static int take(const char *dir, bool make, struct disk_file **ret, struct error *err)
{
    struct disk *d = disk_posix();
    struct disk_file *f;
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s/LOCK", dir) >= sizeof path)
        return error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long", dir);
    int rc = make ? d->mkdir(d, dir) : 0;
    if (rc)
        return error_set(err, rc, "%s: cannot be made: %s", dir, disk_strerror(rc));
    rc = d->open(d, path, O_RDWR | O_CREAT, &f);
    if (rc == -ENOENT)
        return error_set(err, rc, "there is no data directory %s (name it with --data or --config)",
                         dir);
    if (rc)
        return error_set(err, rc, "%s: cannot be opened: %s", path, disk_strerror(rc));
    rc = d->lock(d, f);
    if (rc) {
        d->close(d, f);
        return error_set(err, rc, "%s: cannot be locked: %s", dir,
                         rc == -EWOULDBLOCK ? "another process has it" : disk_strerror(rc));
    }
    *ret = f;
    return 0;
}

int data_lock_take(const char *dir, bool make, struct disk_file **ret, struct error *err)
{
    struct disk_file *f;
    int rc = take(dir, make, &f, err);
    if (rc)
        return rc;
    rc = backup_check_restored(disk_posix(), dir, err);
    if (rc)
        data_lock_release(f);
    else
        *ret = f;
    return rc;
}

int data_lock_take_unfinished(const char *dir, struct disk_file **ret, struct error *err)
{
    return take(dir, true, ret, err);
}

void data_lock_release(struct disk_file *lock)
{
    if (lock)
        disk_posix()->close(disk_posix(), lock);
}
