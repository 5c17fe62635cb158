/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Zones by name in a table of fixed size, open addressing: an entry never goes, its file's bytes
 * are replaced when they are read again. When the table is full, further zones are read each time:
 * the database has some 600 names, and only those whose file is good come in.
 */
#include "api/zones.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/error.h"

#define PLACES     2048 /* a power of two */
#define ZONES_MAX  1024 /* in them */
#define FRESH_NS   (UINT64_C(3600) * NS_PER_S)
#define DIR_MAX    4096
#define PATH_BYTES (DIR_MAX + ZONE_NAME_MAX + 2)

struct entry {
    char name[ZONE_NAME_MAX + 1]; /* empty: free */
    uint64_t read_ns;
    char *bytes; /* owned; `zone` borrows from it */
    struct zone zone;
};

struct zones {
    pthread_mutex_t lock;
    struct disk *disk;
    unsigned count;
    char dir[DIR_MAX + 1];
    struct entry entries[PLACES];
};

struct zones *zones_new(struct disk *disk, const char *dir)
{
    struct zones *z = calloc(1, sizeof *z);
    if (!z)
        return NULL;
    pthread_mutex_init(&z->lock, NULL);
    z->disk = disk;
    snprintf(z->dir, sizeof z->dir, "%s", dir);
    return z;
}

void zones_free(struct zones *z)
{
    if (!z)
        return;
    for (unsigned i = 0; i < PLACES; i++)
        free(z->entries[i].bytes);
    pthread_mutex_destroy(&z->lock);
    free(z);
}

/* FNV-1a (Fowler, Noll, Vo), 32 bits. */
static unsigned place_of(struct slice name)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < name.len; i++)
        h = (h ^ (uint8_t)name.ptr[i]) * 16777619u;
    return (h ^ h >> 16) & (PLACES - 1);
}

/* The zone's entry, or the free one where it would be. */
static struct entry *entry_of(struct zones *z, struct slice name)
{
    unsigned i = place_of(name);
    while (z->entries[i].name[0] && !slice_eq(slice_str(z->entries[i].name), name))
        i = (i + 1) & (PLACES - 1);
    return &z->entries[i];
}

/* Takes `bytes` over. */
static void keep(struct zones *z, struct slice name, char *bytes, const struct zone *zone,
                 uint64_t now_ns)
{
    char *old = bytes;
    pthread_mutex_lock(&z->lock);
    struct entry *e = entry_of(z, name);
    if (e->name[0] || z->count < ZONES_MAX) {
        if (!e->name[0]) {
            memcpy(e->name, name.ptr, name.len);
            z->count++;
        }
        old = e->bytes;
        e->bytes = bytes;
        e->zone = *zone;
        e->read_ns = now_ns;
    }
    pthread_mutex_unlock(&z->lock);
    free(old);
}

static bool has_dir(struct zones *z)
{
    struct disk_file *f;
    int rc = z->disk->open(z->disk, z->dir, O_RDONLY, &f);
    if (rc == 0)
        z->disk->close(z->disk, f);
    return rc == 0;
}

/* The database's copies of all zones in other counts of seconds are no zones, nor are the tables
 * that lie beside them. */
static bool is_zone(struct slice name, struct slice file)
{
    return slice_starts(file, SLICE("TZif")) && !slice_starts(name, SLICE("right/")) &&
           !slice_starts(name, SLICE("posix/"));
}

static enum zones_found read_zone(struct zones *z, struct slice name, int64_t time_s,
                                  uint64_t now_ns, struct zone_time *ret, struct error *why)
{
    char path[PATH_BYTES];
    struct buf file;
    struct zone zone;
    snprintf(path, sizeof path, "%s/%.*s", z->dir, SLICE_ARG(name));
    buf_init(&file, ZONE_FILE_MAX);
    int rc = disk_read_file(z->disk, path, &file);
    bool none = rc == -ENOENT || rc == -ENOTDIR || rc == -EISDIR || rc == -EFBIG ||
                (rc == 0 && !is_zone(name, buf_slice(&file)));
    const char *problem = rc == 0 && !none ? zone_parse(buf_slice(&file), &zone) : NULL;
    enum zones_found found = ZONES_FOUND;
    if (none) {
        found = ZONES_NONE;
        error_set(why, 0, "%s \"%.*s\"",
                  has_dir(z) ? "not found - there is no time zone"
                             : "not found - this server has no time zones (time.zones), so not",
                  SLICE_ARG(name));
    } else if (rc != 0 || problem) {
        found = ZONES_FAILED;
        error_set(why, 0, "the time zone \"%.*s\" cannot be used: %s", SLICE_ARG(name),
                  problem ? problem : disk_strerror(rc));
    }
    if (found == ZONES_FOUND) {
        *ret = zone_at(&zone, time_s);
        keep(z, name, file.ptr, &zone, now_ns);
    } else {
        buf_fini(&file);
    }
    return found;
}

enum zones_found zones_at(struct zones *z, struct slice name, int64_t time_s, uint64_t now_ns,
                          bool may_block, struct zone_time *ret, struct error *why)
{
    CHECK(zone_name_is_valid(name));
    if (slice_eq(name, SLICE("UTC"))) {
        *ret = zone_utc();
        return ZONES_FOUND;
    }
    pthread_mutex_lock(&z->lock);
    const struct entry *e = entry_of(z, name);
    bool fresh = e->name[0] && now_ns - e->read_ns < FRESH_NS;
    if (fresh)
        *ret = zone_at(&e->zone, time_s);
    pthread_mutex_unlock(&z->lock);
    if (fresh)
        return ZONES_FOUND;
    if (!may_block)
        return ZONES_INCOMPLETE;
    return read_zone(z, name, time_s, now_ns, ret, why);
}
