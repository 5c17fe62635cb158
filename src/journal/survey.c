/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/survey.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "journal/cursor.h"
#include "journal/walk.h"

#define PATH_BYTES 4096

static int on_name(void *arg, const char *name)
{
    struct survey_names *n = arg;
    uint64_t base;
    if (!segment_name_parse(name, &base))
        return 0;
    if (n->count == n->cap) {
        size_t cap = n->cap ? n->cap * 2 : 64;
        uint64_t *grown = realloc(n->bases, cap * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        n->bases = grown;
        n->cap = cap;
    }
    n->bases[n->count++] = base;
    return 0;
}

static int by_base(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int survey_list(struct survey_names *n, struct disk *disk, const char *dir)
{
    int rc = disk->list(disk, dir, on_name, n);
    if (!rc && n->count)
        qsort(n->bases, n->count, sizeof *n->bases, by_base);
    return rc;
}

/* All files of a directory must be of one log. */
static int claim(struct survey *s, const uint8_t id[16], const char *path, struct error *err)
{
    if (!s->has_log_id) {
        memcpy(s->log_id, id, sizeof s->log_id);
        s->has_log_id = true;
        return 0;
    }
    if (memcmp(s->log_id, id, sizeof s->log_id) != 0)
        return error_set(err, -EBADMSG, "%s: this file belongs to another log", path);
    return 0;
}

static uint64_t file_size(struct disk *disk, const char *path)
{
    struct disk_file *f;
    uint64_t size = 0;
    if (disk->open(disk, path, O_RDONLY, &f) != 0)
        return 0;
    if (disk->size(disk, f, &size) != 0)
        size = 0;
    disk->close(disk, f);
    return size;
}

static int read_segment(struct survey *s, struct disk *disk, const char *dir, uint64_t base,
                        bool skip_damaged, struct error *err)
{
    char name[SEGMENT_NAME_BYTES], path[PATH_BYTES];
    struct walk w;
    segment_name_format(name, base);
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return -ENAMETOOLONG;
    int rc = walk_open(&w, disk, path, err);
    if (rc == -ENOENT)
        return 0; /* removed by retention while a tool looks */
    if (!rc && w.head.base_offset != base) {
        walk_close(&w);
        rc = error_set(err, -EBADMSG,
                       "%s: corrupt at 0: by its header it begins at %llu (was it renamed?)", path,
                       (unsigned long long)w.head.base_offset);
    }
    if (rc == -EBADMSG && skip_damaged) {
        log_line(LOG_ERROR, "journal.segment_skipped", "path=%s", path);
        s->damaged[s->damaged_count++] =
            (struct survey_segment){.head.base_offset = base, .size = file_size(disk, path)};
        return 0;
    }
    if (rc)
        return rc;
    rc = claim(s, w.head.log_id, path, err);
    s->segments[s->count++] = (struct survey_segment){.head = w.head, .size = w.size};
    walk_close(&w);
    return rc;
}

static int read_checkpoint(struct survey *s, struct disk *disk, const char *dir, const char *name,
                           struct error *err)
{
    char path[PATH_BYTES], raw[CHECKPOINT_BYTES];
    struct disk_file *f;
    struct checkpoint c;
    uint64_t size = 0;
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return -ENAMETOOLONG;
    int rc = disk->open(disk, path, O_RDONLY, &f);
    if (rc == -ENOENT)
        return 0;
    if (rc)
        return error_set(err, rc, "%s: %s", path, disk_strerror(rc));
    rc = disk->size(disk, f, &size);
    if (!rc && size >= sizeof raw)
        rc = disk_read_full(disk, f, raw, sizeof raw, 0);
    disk->close(disk, f);
    if (rc)
        return error_set(err, rc, "%s: %s", path, disk_strerror(rc));
    switch (size >= sizeof raw ? checkpoint_decode(raw, &c) : FORMAT_BAD) {
    case FORMAT_OK:
        break;
    case FORMAT_NEWER:
        return error_set(
            err, -EPROTONOSUPPORT,
            "%s: format version %u is newer than this program's %u; nothing was changed", path,
            le16_get(raw + 8), FORMAT_VERSION);
    default:
        s->checkpoints_damaged++; /* the other one serves; a torn write leaves one like this */
        return 0;
    }
    if (!s->has_checkpoint || c.seq > s->checkpoint.seq) {
        s->has_checkpoint = true;
        s->checkpoint = c;
    }
    return claim(s, c.log_id, path, err);
}

int survey_read(struct survey *s, struct disk *disk, const char *dir, bool skip_damaged,
                struct error *err)
{
    struct survey_names n = {0};
    char path[PATH_BYTES];
    *s = (struct survey){0};
    int rc = survey_list(&n, disk, dir);
    if (rc)
        error_set(err, rc, "%s: %s", dir, disk_strerror(rc));
    if (!rc && n.count) {
        s->segments = calloc(n.count, sizeof *s->segments);
        s->damaged = calloc(n.count, sizeof *s->damaged);
        rc = s->segments && s->damaged ? 0 : -ENOMEM;
    }
    if (!rc)
        rc = read_checkpoint(s, disk, dir, "ckpt.a", err);
    if (!rc)
        rc = read_checkpoint(s, disk, dir, "ckpt.b", err);
    if (!rc && snprintf(path, sizeof path, "%s/cursors", dir) >= (int)sizeof path)
        rc = -ENAMETOOLONG;
    if (!rc)
        rc = cursors_check(disk, path, err);
    for (size_t i = 0; !rc && i < n.count; i++)
        rc = read_segment(s, disk, dir, n.bases[i], skip_damaged, err);
    free(n.bases);
    if (rc)
        survey_fini(s);
    return rc;
}

void survey_fini(struct survey *s)
{
    free(s->segments);
    free(s->damaged);
    *s = (struct survey){0};
}
