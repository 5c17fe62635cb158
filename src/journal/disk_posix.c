/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct disk_file {
    int fd;
};

static int result(int rc)
{
    return rc < 0 ? -errno : 0;
}

const char *disk_strerror(int rc)
{
    return rc == -EMEDIUMTYPE ? "it is no file, but a pipe, a socket or a device" : strerror(-rc);
}

static int check_kind(const struct stat *st)
{
    return S_ISREG(st->st_mode) || S_ISDIR(st->st_mode) ? 0 : -EMEDIUMTYPE;
}

int disk_check_kind(const char *path)
{
    struct stat st;
    return stat(path, &st) < 0 ? 0 : check_kind(&st);
}

int disk_open_fd(const char *path, int flags)
{
    struct stat st;
    /* A pipe would wait for its other end. Nothing changes for files. */
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
    if (fd < 0) /* so says a socket */
        return errno == ENXIO ? -EMEDIUMTYPE : -errno;
    int rc = result(fstat(fd, &st));
    if (!rc)
        rc = check_kind(&st);
    if (rc)
        close(fd);
    return rc ? rc : fd;
}

static int posix_open(struct disk *d, const char *path, int flags, struct disk_file **ret)
{
    struct disk_file *f = malloc(sizeof *f);
    if (!f)
        return -ENOMEM;
    f->fd = disk_open_fd(path, flags);
    if (f->fd < 0) {
        int rc = f->fd;
        free(f);
        return rc;
    }
    *ret = f;
    return 0;
}

static int posix_close(struct disk *d, struct disk_file *f)
{
    int rc = result(close(f->fd));
    free(f);
    return rc;
}

static ssize_t posix_pread(struct disk *d, struct disk_file *f, void *to, size_t len, uint64_t at)
{
    ssize_t n = pread(f->fd, to, len, (off_t)at);
    return n < 0 ? -errno : n;
}

static ssize_t posix_pwritev(struct disk *d, struct disk_file *f, const struct iovec *v, int n,
                             uint64_t at)
{
    ssize_t done = pwritev(f->fd, v, n, (off_t)at);
    return done < 0 ? -errno : done;
}

static int posix_fdatasync(struct disk *d, struct disk_file *f)
{
    return result(fdatasync(f->fd));
}

static int posix_truncate(struct disk *d, struct disk_file *f, uint64_t size)
{
    return result(ftruncate(f->fd, (off_t)size));
}

static int posix_size(struct disk *d, struct disk_file *f, uint64_t *ret)
{
    struct stat st;
    if (fstat(f->fd, &st) < 0)
        return -errno;
    *ret = (uint64_t)st.st_size;
    return 0;
}

static int posix_lock(struct disk *d, struct disk_file *f)
{
    return result(flock(f->fd, LOCK_EX | LOCK_NB));
}

static int posix_rename(struct disk *d, const char *from, const char *to)
{
    return result(rename(from, to));
}

static int posix_unlink(struct disk *d, const char *path)
{
    int rc = result(unlink(path));
    return rc == -EISDIR ? result(rmdir(path)) : rc;
}

static int posix_link(struct disk *d, const char *from, const char *to)
{
    return result(link(from, to));
}

static int posix_sync_dir(struct disk *d, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = result(fsync(fd));
    close(fd);
    return rc;
}

/* What is in it is as durable as its name. One that may not be read cannot be synced. */
static int posix_mkdir(struct disk *d, const char *path)
{
    if (mkdir(path, 0700) < 0)
        return errno == EEXIST ? 0 : -errno;
    int rc = disk_sync_parent(disk_posix(), path);
    return rc == -EACCES ? 0 : rc;
}

static int posix_list(struct disk *d, const char *path, int (*each)(void *arg, const char *name),
                      void *arg)
{
    DIR *dir = opendir(path);
    if (!dir)
        return -errno;
    int rc = 0;
    struct dirent *entry;
    while (!rc && (errno = 0, entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = each(arg, entry->d_name);
    if (!rc && errno)
        rc = -errno;
    closedir(dir);
    return rc;
}

static int posix_space(struct disk *d, const char *path, uint64_t *ret_total, uint64_t *ret_free)
{
    struct statvfs st;
    if (statvfs(path, &st) < 0)
        return -errno;
    /* What is kept back for root is as good as used. */
    *ret_total = (uint64_t)(st.f_blocks - st.f_bfree + st.f_bavail) * st.f_frsize;
    *ret_free = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

struct disk *disk_posix(void)
{
    static struct disk d = {
        .open = posix_open,
        .close = posix_close,
        .pread = posix_pread,
        .pwritev = posix_pwritev,
        .fdatasync = posix_fdatasync,
        .truncate = posix_truncate,
        .size = posix_size,
        .lock = posix_lock,
        .rename = posix_rename,
        .unlink = posix_unlink,
        .link = posix_link,
        .mkdir = posix_mkdir,
        .sync_dir = posix_sync_dir,
        .list = posix_list,
        .space = posix_space,
    };
    return &d;
}
