/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal/disk.h - the only way to files: one small table of operations, so that tests can put a
 * faulty, seeded disk under the same code. Any thread; a handle has one user at a time for writes.
 *
 * Implementations: disk_posix.c (the machine), disk_lossy.c (the machine, but what was not synced
 * is lost with the process, like a power cut), disk_slow.c (the machine, slower),
 * disk_within.c (the machine, but one directory alone may be changed), disk_sim.c (in
 * memory, seeded faults; tests only).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"

struct disk_file;

struct disk {
    /* All return 0 or a byte count, or a negative errno. Paths are complete paths. What is neither
     * file nor directory is not opened, and not waited for: -EMEDIUMTYPE. */
    int (*open)(struct disk *d, const char *path, int flags, struct disk_file **ret);
    int (*close)(struct disk *d, struct disk_file *f);
    /* May write or read less than asked for. */
    ssize_t (*pread)(struct disk *d, struct disk_file *f, void *to, size_t len, uint64_t at);
    ssize_t (*pwritev)(struct disk *d, struct disk_file *f, const struct iovec *v, int n,
                       uint64_t at);
    int (*fdatasync)(struct disk *d, struct disk_file *f);
    int (*truncate)(struct disk *d, struct disk_file *f, uint64_t size);
    int (*size)(struct disk *d, struct disk_file *f, uint64_t *ret);
    int (*lock)(struct disk *d, struct disk_file *f); /* exclusive, not waiting: -EWOULDBLOCK */
    int (*rename)(struct disk *d, const char *from, const char *to);
    int (*unlink)(struct disk *d, const char *path); /* a file, or an empty directory */
    int (*link)(struct disk *d, const char *from, const char *to); /* a second name: -EEXIST */
    /* Durable, if it was made. 0 also when it is there. */
    int (*mkdir)(struct disk *d, const char *path);
    int (*sync_dir)(struct disk *d, const char *path);
    /* Calls `each` with every entry's name, in no order; stops when it returns non-zero. */
    int (*list)(struct disk *d, const char *path, int (*each)(void *arg, const char *name),
                void *arg);
    /* Bytes of the file system in all, and free to us. */
    int (*space)(struct disk *d, const char *path, uint64_t *ret_total, uint64_t *ret_free);
};

/* The machine's own files. Constant. */
struct disk *disk_posix(void);
/* The machine's files, but every byte not yet synced is kept in this process's memory only (or, by
 * the seed, sometimes written early): a kill -9 is then a power cut. For tests of the binary. */
struct disk *disk_lossy(uint64_t seed);
/* The machine's files, as slow and full as files in that directory say. For tests of the binary. */
struct disk *disk_slow(const char *journal_dir);

/* The machine's files, of which those under one directory may be changed; the others: -EROFS. One
 * per process. */
struct disk *disk_within(const char *dir);

/* From now on the kernel refuses this thread, and all that it begins, to change anything outside of
 * `dir`, which is there, whatever code asks for it; files that are open stay open. 0; -EOPNOTSUPP:
 * the kernel cannot; or another negative errno: nothing was given up. */
int disk_confine(const char *dir);

/* open(2), as the disks of the machine do it. A descriptor, or a negative errno. */
int disk_open_fd(const char *path, int flags);
/* For libraries that open files themselves, and would wait: -EMEDIUMTYPE when one of the machine's
 * disks would not open what is there. 0 otherwise, also when there is nothing. */
int disk_check_kind(const char *path);
/* What a negative errno of a disk means, for a person. */
const char *disk_strerror(int rc);

/* Whole-length helpers over any disk; 0 or negative errno (-EIO for an unexpected end). */
int disk_read_full(struct disk *d, struct disk_file *f, void *to, size_t len, uint64_t at);
int disk_write_full(struct disk *d, struct disk_file *f, const struct iovec *v, int n, uint64_t at);
/* Appends the whole of a file to `out`. 0, -EFBIG when `out` has no room for it, or another
 * negative errno. */
int disk_read_file(struct disk *d, const char *path, struct buf *out);
/* Writes `path` as one: temporary file, fdatasync, rename, sync_dir. Old or new, never neither. */
int disk_replace(struct disk *d, const char *path, const void *ptr, size_t len);
/* Makes the names in the directory that `path` lies in durable. 0 or a negative errno. */
int disk_sync_parent(struct disk *d, const char *path);
/* Removes a file, durably. 0 or a negative errno; after any but -ENOENT it may be gone. */
int disk_remove(struct disk *d, const char *path);
/* Removes a directory with all that is in it, at most DISK_TREE_DEPTH deep. 0, also when it is not
 * there, or a negative errno: some of it may be gone. */
#define DISK_TREE_DEPTH 8
int disk_remove_tree(struct disk *d, const char *path);
