/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tools look at the files alone and take no lock, so the log may be in use. What is in the
 * files of a running server may not be durable yet; `survey_proven_end` says how far it is.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "journal/journal.h"
#include "journal/record.h"
#include "journal/survey.h"
#include "journal/walk.h"

#define PATH_BYTES 4096

static int open_segment(struct walk *w, struct disk *disk, const char *dir, uint64_t base,
                        struct error *err)
{
    char name[SEGMENT_NAME_BYTES], path[PATH_BYTES];
    segment_name_format(name, base);
    *w = (struct walk){0};
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return error_set(err, -ENAMETOOLONG, "%s: the name is too long", dir);
    return walk_open(w, disk, path, err);
}

/* Reading the open segment failed. */
static int unread(const struct walk *w, int rc, struct error *err)
{
    return error_set(err, rc, "segment %020llu.slg: %s", (unsigned long long)w->head.base_offset,
                     disk_strerror(rc));
}

static void put_time(struct buf *out, int64_t us)
{
    time_t seconds = (time_t)(us / US_PER_S);
    struct tm parts;
    char text[32];
    gmtime_r(&seconds, &parts);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    buf_put_str(out, text);
}

/* What a walk over one segment found. */
struct finding {
    uint64_t end_offset, used_bytes, batches;
    int64_t first_us, last_us;
    uint64_t durable_before; /* the greatest */
    int ended;               /* WALK_END, or WALK_BAD with `why` */
    const char *why;
    uint32_t chain;
    bool follows; /* every batch had the offset and the chain value that were next */
};

/* Walks until `limit`, where the next segment takes over. `bodies`: check them too. */
static int look_at(struct walk *w, uint64_t limit, bool bodies, struct finding *ret)
{
    struct finding f = {.end_offset = w->head.base_offset,
                        .chain = w->head.chain,
                        .follows = true,
                        .ended = WALK_END};
    while (f.end_offset < limit) {
        struct batch_header h;
        struct slice body;
        int rc = walk_next(w, bodies ? 0 : OFFSET_NONE, &h, &body);
        if (rc < 0)
            return rc;
        if (rc != WALK_BATCH) {
            f.ended = rc;
            f.why = rc == WALK_BAD ? w->why : "a newer format";
            break;
        }
        if (h.base_offset != f.end_offset || h.chain != f.chain) {
            f.ended = WALK_BAD;
            f.why = "a batch that does not follow the one before";
            f.follows = false;
            w->position -= batch_bytes(h.body_len);
            break;
        }
        f.first_us = f.batches ? f.first_us : h.commit_us;
        f.last_us = h.commit_us;
        f.end_offset = h.base_offset + h.count;
        f.chain = h.header_crc;
        f.batches++;
        if (h.durable_before > f.durable_before)
            f.durable_before = h.durable_before;
    }
    f.used_bytes = w->position;
    *ret = f;
    return 0;
}

/* Where the segment's records end by what its successor says; OFFSET_NONE without one. */
static uint64_t limit_of(const struct survey *s, size_t i)
{
    if (i + 1 == s->count)
        return OFFSET_NONE;
    const struct segment_header *next = &s->segments[i + 1].head;
    return next->gap_from < next->base_offset ? next->gap_from : next->base_offset;
}

int journal_inspect(struct disk *disk, const char *dir, struct buf *out, struct error *err)
{
    struct survey s;
    int rc = survey_read(&s, disk, dir, true, err);
    if (rc)
        return rc;
    for (size_t i = 0; !rc && i < s.count; i++) {
        const struct segment_header *h = &s.segments[i].head;
        struct walk w;
        struct finding f;
        rc = open_segment(&w, disk, dir, h->base_offset, err);
        if (rc == -ENOENT) {
            rc = 0;
            continue;
        }
        if (rc)
            break;
        rc = look_at(&w, limit_of(&s, i), false, &f);
        if (rc) {
            unread(&w, rc, err);
            walk_close(&w);
            break;
        }
        buf_printf(out, "%020llu.slg records=%llu..%llu batches=%llu used=%llu size=%llu created=",
                   (unsigned long long)h->base_offset, (unsigned long long)h->base_offset,
                   (unsigned long long)f.end_offset, (unsigned long long)f.batches,
                   (unsigned long long)f.used_bytes, (unsigned long long)s.segments[i].size);
        put_time(out, h->created_us);
        buf_put_str(out, " last=");
        put_time(out, f.batches ? f.last_us : h->created_us);
        buf_printf(out, " state=%s", i + 1 == s.count ? "open" : "sealed");
        if (h->supersedes_from != OFFSET_NONE)
            buf_printf(out, " supersedes=%llu", (unsigned long long)h->supersedes_from);
        if (h->gap_from != OFFSET_NONE)
            buf_printf(out, " gap_from=%llu", (unsigned long long)h->gap_from);
        buf_put_str(out, "\n");
        walk_close(&w);
    }
    for (size_t i = 0; i < s.damaged_count; i++)
        buf_printf(out, "%020llu.slg state=damaged\n",
                   (unsigned long long)s.damaged[i].head.base_offset);
    survey_fini(&s);
    return rc;
}

/* Whether what ends the last segment is damage: the same judgement as recovery's. */
static int last_is_damaged(struct walk *w, const struct survey *s, const struct finding *f)
{
    uint64_t at, used;
    if (s->has_checkpoint && s->checkpoint.durable > f->end_offset)
        return 1;
    return walk_search(w, w->position, f->end_offset, OFFSET_NONE, &at, &used);
}

/* Walks on behind damage, to say of each place that is wrong. 0, 1: something was wrong. */
static int verify_segment(struct disk *disk, const char *dir, const struct survey *s, size_t i,
                          struct buf *out, struct error *err)
{
    uint64_t base = s->segments[i].head.base_offset, limit = limit_of(s, i);
    struct walk w;
    struct finding f;
    int rc = open_segment(&w, disk, dir, base, err), wrong = 0;
    if (rc)
        return rc == -ENOENT ? 0 : rc;
    for (rc = look_at(&w, limit, true, &f); !rc; rc = look_at(&w, limit, true, &f)) {
        uint64_t bad_at = w.position, next = OFFSET_NONE, used;
        if (f.end_offset >= limit)
            break;
        rc = i + 1 < s->count ? 1 : last_is_damaged(&w, s, &f);
        if (rc <= 0)
            break;
        wrong = 1;
        rc = walk_search(&w, bad_at + 8, OFFSET_NONE, f.end_offset, &next, &used);
        if (rc < 0)
            break;
        buf_printf(out, "%s/%020llu.slg: corrupt at %llu: %s; record %llu was expected\n", dir,
                   (unsigned long long)base, (unsigned long long)bad_at,
                   f.ended == WALK_END ? "the segment ends too early" : f.why,
                   (unsigned long long)f.end_offset);
        if (rc == 0)
            break;
        struct batch_header h = {0};
        struct slice body;
        w.position = next;
        rc = walk_next(&w, OFFSET_NONE, &h, &body);
        if (rc < 0)
            break;
        w.position = next; /* from here on the walk takes this one for the first */
        w.head.base_offset = h.base_offset;
        w.head.chain = h.chain;
    }
    walk_close(&w);
    return rc < 0 ? error_set(err, rc, "%s: %s", dir, disk_strerror(rc)) : wrong;
}

int journal_verify(struct disk *disk, const char *dir, struct buf *out, struct error *err)
{
    struct survey s;
    int rc = survey_read(&s, disk, dir, true, err);
    if (rc)
        return rc;
    int wrong = s.damaged_count != 0;
    for (size_t i = 0; i < s.damaged_count; i++)
        buf_printf(out, "%s/%020llu.slg: corrupt at 0: the segment's header is damaged\n", dir,
                   (unsigned long long)s.damaged[i].head.base_offset);
    if (s.checkpoints_damaged)
        buf_printf(out, "%s: %u of 2 checkpoints damaged\n", dir, s.checkpoints_damaged);
    for (size_t i = 0; rc >= 0 && i < s.count; i++) {
        rc = verify_segment(disk, dir, &s, i, out, err);
        wrong |= rc > 0;
    }
    wrong |= s.checkpoints_damaged != 0;
    survey_fini(&s);
    if (rc < 0)
        return rc;
    return wrong ? error_set(err, -EBADMSG, "%s: the log is damaged", dir) : 0;
}

int survey_proven_end(const struct survey *s, struct disk *disk, const char *dir, uint64_t *ret,
                      struct error *err)
{
    uint64_t end = s->has_checkpoint ? s->checkpoint.durable : 0;
    if (s->count) {
        uint64_t base = s->segments[s->count - 1].head.base_offset;
        struct walk w;
        struct finding f;
        if (base > end)
            end = base;
        int rc = open_segment(&w, disk, dir, base, err);
        if (rc)
            return rc;
        rc = look_at(&w, OFFSET_NONE, false, &f);
        if (rc)
            unread(&w, rc, err);
        walk_close(&w);
        if (rc)
            return rc;
        if (f.durable_before > end)
            end = f.durable_before;
    }
    *ret = end;
    return 0;
}

struct scan {
    int (*each)(void *arg, uint64_t offset, const struct record *r);
    void *arg;
    uint64_t next; /* to be shown */
};

/* 0; 1: the caller wants no more; negative errno. */
static int scan_batch(struct scan *s, const struct batch_header *h, struct slice body)
{
    struct journal_batch b = {.first_offset = h->base_offset, .count = h->count, .body = body};
    struct record r;
    size_t at = 0;
    for (uint64_t offset = h->base_offset; offset < h->base_offset + h->count; offset++) {
        if (journal_batch_record(&b, &at, &r) != 1)
            return -EBADMSG;
        if (offset < s->next)
            continue;
        s->next = offset + 1;
        if (s->each(s->arg, offset, &r))
            return 1;
    }
    return 0;
}

static int scan_segment(struct scan *s, struct walk *w, uint64_t limit, struct error *err)
{
    for (;;) {
        struct batch_header h;
        struct slice body;
        if (s->next >= limit)
            return 0;
        uint64_t at = w->position;
        int rc = walk_next(w, s->next, &h, &body);
        if (rc == WALK_BATCH && h.base_offset + h.count <= s->next)
            continue;
        if (rc == WALK_BATCH && h.base_offset + h.count > limit)
            return 0;
        if (rc < 0)
            return unread(w, rc, err);
        rc = rc == WALK_BATCH ? scan_batch(s, &h, body) : -EBADMSG;
        if (rc)
            return rc == -EBADMSG ? error_set(err, rc,
                                              "segment %020llu.slg: corrupt at %llu: record %llu "
                                              "should be there",
                                              (unsigned long long)w->head.base_offset,
                                              (unsigned long long)at, (unsigned long long)s->next)
                                  : rc;
    }
}

int journal_scan(struct disk *disk, const char *dir, uint64_t from,
                 int (*each)(void *arg, uint64_t offset, const struct record *r), void *arg,
                 struct error *err)
{
    struct survey s;
    struct scan scan = {.each = each, .arg = arg, .next = from};
    uint64_t end = 0;
    int rc = survey_read(&s, disk, dir, true, err);
    if (rc)
        return rc;
    rc = survey_proven_end(&s, disk, dir, &end, err);
    for (size_t i = 0; !rc && i < s.count && scan.next < end; i++) {
        uint64_t limit = limit_of(&s, i);
        struct walk w;
        if (limit <= scan.next)
            continue;
        rc = open_segment(&w, disk, dir, s.segments[i].head.base_offset, err);
        if (rc == -ENOENT) {
            rc = 0; /* removed by retention meanwhile */
            continue;
        }
        if (rc)
            break;
        if (scan.next < w.head.base_offset)
            scan.next = w.head.base_offset;
        rc = scan_segment(&scan, &w, limit < end ? limit : end, err);
        walk_close(&w);
    }
    survey_fini(&s);
    return rc == 1 ? 0 : rc;
}
