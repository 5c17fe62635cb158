/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/one_file_testing.h - a disk of one file in memory, in the place of journal/disk's functions,
 * for unit tests of what keeps a snapshot. For one test program; included once.
 */
#pragma once

#include <errno.h>

#include "base/buf.h"
#include "journal/disk.h"

static struct buf file;

int disk_read_file(struct disk *d, const char *path, struct buf *out)
{
    buf_put_slice(out, buf_slice(&file));
    return file.len ? 0 : -ENOENT;
}

/* The machine's disk has this of the others; it is not used here. */
int disk_sync_parent(struct disk *d, const char *path)
{
    return -EIO;
}

int disk_write_full(struct disk *d, struct disk_file *f, const struct iovec *v, int n, uint64_t at)
{
    return -EIO;
}

int disk_replace(struct disk *d, const char *path, const void *ptr, size_t len)
{
    buf_clear(&file);
    buf_put(&file, ptr, len);
    return 0;
}
