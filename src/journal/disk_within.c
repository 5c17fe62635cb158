/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's disk for a process that may change one directory only: everywhere else it reads,
 * and whatever would change something is refused with -EROFS. It guards against our own mistakes;
 * against those of a library disk_confine does.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "journal/disk.h"

static char root[4096];

static bool is_within(const char *path)
{
    size_t len = strlen(root);
    return strncmp(path, root, len) == 0 && (path[len] == '/' || path[len] == 0) &&
           !strstr(path, "/../");
}

static int within_open(struct disk *d, const char *path, int flags, struct disk_file **ret)
{
    (void)d;
    bool changes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
    return changes && !is_within(path) ? -EROFS
                                       : disk_posix()->open(disk_posix(), path, flags, ret);
}

static int within_rename(struct disk *d, const char *from, const char *to)
{
    (void)d;
    return is_within(from) && is_within(to) ? disk_posix()->rename(disk_posix(), from, to) : -EROFS;
}

static int within_link(struct disk *d, const char *from, const char *to)
{
    (void)d;
    return is_within(from) && is_within(to) ? disk_posix()->link(disk_posix(), from, to) : -EROFS;
}

static int within_unlink(struct disk *d, const char *path)
{
    (void)d;
    return is_within(path) ? disk_posix()->unlink(disk_posix(), path) : -EROFS;
}

static int within_mkdir(struct disk *d, const char *path)
{
    (void)d;
    return is_within(path) ? disk_posix()->mkdir(disk_posix(), path) : -EROFS;
}

struct disk *disk_within(const char *dir)
{
    static struct disk within;
    within = *disk_posix();
    within.open = within_open;
    within.rename = within_rename;
    within.link = within_link;
    within.unlink = within_unlink;
    within.mkdir = within_mkdir;
    CHECK((size_t)snprintf(root, sizeof root, "%s", dir) < sizeof root);
    return &within;
}
