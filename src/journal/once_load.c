/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of journal/once.h from the log: the batches of the last `once_window_ms` are walked
 * again, of the others only the headers, and of those the bodies only where BATCH_F_NAMED says that
 * there is something to learn. Ages are told by the wall clock, which is all that survives a boot.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "journal/internal.h"
#include "journal/record.h"
#include "journal/walk.h"

struct loading {
    struct journal *j;
    struct walk walk;
    int64_t since_us;       /* wall clock: what is older is not remembered */
    int64_t now_us, now_ns; /* the same moment on both clocks */
    int64_t last_ns;        /* of the batch before: what once_decide is told does not go back */
    uint64_t records;
};

static void learn(struct loading *l, const struct batch_header *h, struct slice body)
{
    int64_t age_us = h->commit_us < l->now_us ? l->now_us - h->commit_us : 0;
    int64_t at_ns = l->now_ns - age_us * (int64_t)NS_PER_US;
    if (at_ns > l->last_ns)
        l->last_ns = at_ns;
    for (uint32_t i = 0; i < h->count; i++) {
        struct record r;
        struct once_found found;
        size_t n = record_decode(body, &r);
        if (n == 0)
            return; /* the CRC was right: written by something that is not us */
        body = slice_from(body, n);
        if (!once_named(&r))
            continue;
        once_decide(l->j->once, &r, h->base_offset + i, l->last_ns, &found);
        l->records++;
    }
}

/* Batches of the open segment below `end`. */
static int walk_segment(struct loading *l, uint64_t end)
{
    for (;;) {
        struct batch_header h = {0};
        struct slice body;
        uint64_t at = l->walk.position;
        int rc = walk_next(&l->walk, OFFSET_NONE, &h, &body); /* only the header */
        if (rc < 0)
            return rc;
        /* Anything but a batch: the end, or a damaged place that recovery has dealt with. */
        if (rc != WALK_BATCH || h.base_offset >= end)
            return 0;
        if (!(h.flags & BATCH_F_NAMED) || h.commit_us < l->since_us)
            continue;
        l->walk.position = at;
        rc = walk_next(&l->walk, 0, &h, &body);
        if (rc < 0)
            return rc;
        if (rc != WALK_BATCH)
            return 0;
        learn(l, &h, body);
    }
}

static int load_segments(struct loading *l, struct error *err)
{
    struct journal *j = l->j;
    size_t first = 0;
    /* All of a segment is older than the one behind it. */
    while (first + 1 < j->segments_count && j->segments[first + 1].created_us < l->since_us)
        first++;
    for (size_t i = first; i < j->segments_count; i++) {
        uint64_t end = j->tail.offset;
        if (i + 1 < j->segments_count) {
            const struct segment *next = &j->segments[i + 1];
            end = next->gap_from < next->base ? next->gap_from : next->base;
        }
        char name[SEGMENT_NAME_BYTES], path[PATH_BYTES];
        segment_name_format(name, j->segments[i].base);
        int rc = path_format(path, j, name);
        if (!rc)
            rc = walk_open(&l->walk, j->disk, path, err);
        if (!rc) {
            rc = walk_segment(l, end);
            walk_close(&l->walk);
        }
        if (rc)
            return rc;
    }
    return 0;
}

int once_load(struct journal *j, struct error *err)
{
    if (!j->opts.once_window_ms)
        return 0;
    struct once_opts opts = {.window_ns = j->opts.once_window_ms * NS_PER_MS,
                             .memory_max = j->opts.once_bytes,
                             .devices_max = j->opts.once_devices,
                             .seed = salt_new(j)};
    j->once = once_new(&opts);
    struct loading l = {.j = j, .now_us = clock_wall_us(), .now_ns = (int64_t)clock_mono_ns()};
    l.since_us = l.now_us - (int64_t)(j->opts.once_window_ms * (NS_PER_MS / NS_PER_US));
    l.last_ns = INT64_MIN;
    int rc = load_segments(&l, err);
    if (rc && err && !err->text[0])
        error_set(err, rc, "%s: recent messages could not be read again: %s", j->dir,
                  disk_strerror(rc));
    if (!rc && l.records)
        log_line(LOG_INFO, "journal.names_loaded", "records=%llu us=%llu",
                 (unsigned long long)l.records,
                 (unsigned long long)(((int64_t)clock_mono_ns() - l.now_ns) / 1000));
    return rc;
}
