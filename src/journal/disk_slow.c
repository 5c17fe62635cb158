/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TEST ONLY. The machine's disk, but as slow and as full as two files in the journal's directory
 * say, read at each call, so that a test can change its mind: "slow_ms" is how long an fdatasync
 * takes, "fill_percent" what space claims. Absent files change nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "journal/disk.h"

static char dir[4096];

/* The number in the file, or -1. */
static int64_t number_in(const char *name)
{
    char path[4200], text[24] = "";
    struct disk *d = disk_posix();
    struct disk_file *f;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (d->open(d, path, O_RDONLY, &f) != 0)
        return -1;
    ssize_t n = d->pread(d, f, text, sizeof text - 1, 0);
    d->close(d, f);
    return n > 0 ? strtoll(text, NULL, 10) : -1;
}

static int slow_fdatasync(struct disk *d, struct disk_file *f)
{
    (void)d;
    int64_t ms = number_in("slow_ms");
    if (ms > 0)
        clock_sleep_ns((uint64_t)ms * NS_PER_MS);
    return disk_posix()->fdatasync(disk_posix(), f);
}

static int slow_space(struct disk *d, const char *path, uint64_t *ret_total, uint64_t *ret_free)
{
    (void)d;
    int64_t percent = number_in("fill_percent");
    int rc = disk_posix()->space(disk_posix(), path, ret_total, ret_free);
    if (rc == 0 && percent >= 0 && percent <= 100)
        *ret_free = *ret_total / 100 * (uint64_t)(100 - percent);
    return rc;
}

struct disk *disk_slow(const char *journal_dir)
{
    static struct disk slow;
    slow = *disk_posix();
    slow.fdatasync = slow_fdatasync;
    slow.space = slow_space;
    snprintf(dir, sizeof dir, "%s", journal_dir);
    return &slow;
}
