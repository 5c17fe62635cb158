/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is below `durable` is never written again and its segment's file never replaced: only a
 * segment that holds nothing durable is (segments_add). So a second name of such a file is all that
 * a copy needs, and it may be read while the writer appends to it.
 */
#include <errno.h>
#include <stdio.h>

#include "base/check.h"
#include "journal/internal.h"
#include "journal/survey.h"
#include "journal/walk.h"

bool journal_segment_name(const char *name, uint64_t *ret_base)
{
    return segment_name_parse(name, ret_base);
}

static int link_segment(struct journal *j, const char *dir, uint64_t base, struct error *err)
{
    char name[SEGMENT_NAME_BYTES], from[PATH_BYTES], to[PATH_BYTES];
    segment_name_format(name, base);
    int rc = path_format(from, j, name);
    if (!rc && snprintf(to, sizeof to, "%s/%s", dir, name) >= (int)sizeof to)
        rc = -ENAMETOOLONG;
    if (!rc)
        rc = j->disk->link(j->disk, from, to);
    return rc && rc != -EEXIST
               ? error_set(err, rc, "%s cannot be linked into %s: %s", name, dir, disk_strerror(rc))
               : 0;
}

int journal_link(struct journal *j, const char *dir, uint64_t end, struct error *err)
{
    CHECK(end <= journal_durable(j));
    int rc = 0;
    bool more = true;
    pthread_mutex_lock(
        &j->retain_lock); /* what is in the list has its file until it is given back */
    for (size_t i = 0; !rc && more; i++) {
        pthread_mutex_lock(&j->segments_lock);
        more = i < j->segments_count && j->segments[i].base < end;
        uint64_t base = more ? j->segments[i].base : 0;
        pthread_mutex_unlock(&j->segments_lock);
        if (more)
            rc = link_segment(j, dir, base, err);
    }
    pthread_mutex_unlock(&j->retain_lock);
    return rc;
}

/* Walks the last segment up to the record `end`. */
static int find_end(struct disk *disk, const char *path, uint64_t end, struct checkpoint *ret,
                    struct error *err)
{
    struct walk w = {0};
    int rc = walk_open(&w, disk, path, err);
    if (rc)
        return rc;
    uint64_t expected = w.head.base_offset;
    ret->chain = w.head.chain;
    ret->boot_epoch = w.head.boot_epoch;
    ret->position = w.position;
    while (expected < end) {
        struct batch_header h;
        struct slice body;
        rc = walk_next(&w, end, &h, &body);
        if (rc < 0) {
            error_set(err, rc, "%s: %s", path, disk_strerror(rc));
            break;
        }
        if (rc != WALK_BATCH || h.base_offset != expected || h.chain != ret->chain ||
            h.base_offset + h.count > end) {
            rc = error_set(err, -EBADMSG, "%s: corrupt at %llu: record %llu should be there", path,
                           (unsigned long long)ret->position, (unsigned long long)expected);
            break;
        }
        rc = 0;
        expected = h.base_offset + h.count;
        ret->chain = h.header_crc;
        ret->boot_epoch = h.boot_epoch;
        ret->position = w.position;
    }
    walk_close(&w);
    return rc;
}

int journal_find_cut(struct disk *disk, const char *dir, const uint8_t log_id[16], uint64_t end,
                     struct journal_cut *ret, struct error *err)
{
    struct survey s;
    struct journal_cut cut = {.oldest = end};
    struct checkpoint c = {
        .version = FORMAT_VERSION, .seq = 1, .durable = end, .segment_base = OFFSET_NONE};
    memcpy(c.log_id, log_id, sizeof c.log_id);
    int rc = survey_read(&s, disk, dir, false, err);
    if (rc)
        return rc;
    while (s.count && s.segments[s.count - 1].head.base_offset >= end)
        s.count--;
    if (s.count) {
        char name[SEGMENT_NAME_BYTES], path[PATH_BYTES];
        cut.any = true;
        cut.oldest = s.segments[0].head.base_offset;
        cut.segment = c.segment_base = s.segments[s.count - 1].head.base_offset;
        segment_name_format(name, cut.segment);
        rc = snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path
                 ? find_end(disk, path, end, &c, err)
                 : error_set(err, -ENAMETOOLONG, "%s: the name is too long", dir);
        cut.position = c.position;
    } else if (end) {
        rc = error_set(err, -EBADMSG, "%s: there is no segment below record %llu", dir,
                       (unsigned long long)end);
    }
    survey_fini(&s);
    _Static_assert(CHECKPOINT_BYTES == JOURNAL_CHECKPOINT_BYTES, "a checkpoint is one file");
    checkpoint_encode(cut.checkpoint, &c);
    if (!rc)
        *ret = cut;
    return rc;
}
