/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader is in one of two places: in a slab of the ring (bytes that the writer made, not checked
 * again, no lock taken per batch) or in a segment file (every batch checked). It leaves a slab at
 * its end, and then knows where in which file to go on if the ring has lapped it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "journal/internal.h"
#include "journal/record.h"
#include "journal/walk.h"

struct journal_reader {
    struct journal *j;
    int slot; /* of the cursor; -1: nameless */
    uint64_t next;
    struct slab *slab;
    size_t slab_at;
    struct walk walk; /* open when .file is set */
    uint64_t walk_base;
    uint64_t epoch;                    /* of the writer, when the walk was opened */
    uint64_t hint_base, hint_position; /* where `next` begins, if hint_base is its segment */
    _Atomic bool woken;
};

int journal_reader_open(struct journal *j, const struct journal_reader_opts *opts,
                        struct journal_reader **ret, struct error *err)
{
    OBJ_CHECK(j, JOURNAL_MAGIC);
    struct journal_reader *r = calloc(1, sizeof *r);
    if (!r)
        return error_set(err, -ENOMEM, "no memory for a reader");
    uint64_t start = opts->has_start ? opts->start : atomic_load(&j->oldest);
    *r = (struct journal_reader){.j = j, .slot = -1, .next = start, .hint_base = OFFSET_NONE};
    if (opts->name) {
        uint64_t offset = start;
        if (start > journal_durable(j)) {
            free(r);
            return error_set(err, -EINVAL, "reader \"%s\": record %llu is beyond the log",
                             opts->name, (unsigned long long)start);
        }
        r->slot = cursors_slot(&j->cursors, opts->name, start, &offset);
        if (r->slot < 0) {
            int rc = r->slot;
            free(r);
            return error_set(err, rc, "reader \"%s\": %s", opts->name,
                             rc == -EINVAL   ? "the name must have 1 to 63 bytes"
                             : rc == -ENOSPC ? "there are too many named readers"
                                             : disk_strerror(rc));
        }
        if (!opts->has_start)
            r->next = offset;
        if (offset > journal_durable(j)) {
            free(r);
            return error_set(
                err, -EINVAL,
                "reader \"%s\" has read up to record %llu, but the log ends before: it "
                "is not the log this reader has read",
                opts->name, (unsigned long long)offset);
        }
    }
    atomic_fetch_add(&j->readers, 1);
    *ret = r;
    return 0;
}

void journal_reader_close(struct journal_reader *r)
{
    if (!r)
        return;
    ring_unref(&r->j->ring, r->slab);
    walk_close(&r->walk);
    atomic_fetch_sub(&r->j->readers, 1);
    free(r);
}

/* Hands out the batch, which is in *ret, without the records before `next`. False: these bytes are
 * no records. */
static bool deliver(struct journal_reader *r, struct journal_batch *ret)
{
    uint64_t base = ret->first_offset, count = ret->count;
    struct slice body = ret->body;
    for (; base < r->next; base++, count--) {
        size_t n = record_skip(body);
        if (n == 0)
            return false;
        body = slice_from(body, n);
    }
    ret->first_offset = base;
    ret->count = count;
    ret->body = body;
    r->next = base + count;
    return true;
}

static int gap(struct journal_reader *r, uint64_t next, struct journal_batch *ret)
{
    CHECK(next > r->next);
    *ret = (struct journal_batch){.first_offset = r->next, .count = next - r->next};
    r->next = next;
    return JOURNAL_GAP;
}

static void slab_leave(struct journal_reader *r)
{
    r->hint_base = r->slab->segment_base;
    r->hint_position = r->slab->file_position + r->slab_at;
    ring_unref(&r->j->ring, r->slab);
    r->slab = NULL;
}

/* The next batch of the slab; 0 at its end. */
static int next_from_slab(struct journal_reader *r, struct journal_batch *ret)
{
    size_t end = atomic_load_explicit(&r->slab->committed, memory_order_acquire);
    while (r->slab_at < end) {
        const char *p = r->slab->data + r->slab_at;
        uint64_t base = le64_get(p + 8);
        uint32_t len = le32_get(p + 16), count = le32_get(p + 24);
        r->slab_at += (size_t)batch_bytes(len);
        if (count == 0 || base + count <= r->next)
            continue;
        *ret = (struct journal_batch){.first_offset = base,
                                      .count = count,
                                      .body = slice_of(p + BATCH_HEADER_BYTES, len),
                                      .commit_us = (int64_t)le64_get(p + 32),
                                      .data = le16_get(p + 28) & BATCH_F_DATA};
        bool ok = deliver(r, ret);
        CHECK(ok); /* we encoded these ourselves */
        return JOURNAL_BATCH;
    }
    return 0;
}

static bool enter_ring(struct journal_reader *r)
{
    r->slab = ring_find(&r->j->ring, r->next);
    r->slab_at = 0;
    if (r->slab)
        walk_close(&r->walk);
    return r->slab != NULL;
}

/* Has the walk stand in the segment that holds `next`, at or before its batch. */
static int enter_file(struct journal_reader *r, const struct segment *s)
{
    if (r->walk.file && r->walk_base == s->base)
        return 0;
    char name[SEGMENT_NAME_BYTES], path[PATH_BYTES];
    struct error err;
    segment_name_format(name, s->base);
    int rc = path_format(path, r->j, name);
    walk_close(&r->walk);
    if (!rc)
        rc = walk_open(&r->walk, r->j->disk, path, &err);
    if (rc)
        return rc;
    r->walk_base = s->base;
    if (r->hint_base == s->base)
        r->walk.position = r->hint_position;
    r->hint_base = OFFSET_NONE;
    return 0;
}

/* No batch at the walk's place: says what is missing, and goes on behind it. */
static int report_damage(struct journal_reader *r, uint64_t limit, const char *what,
                         struct journal_batch *ret)
{
    uint64_t at, used, from = r->walk.position, next = limit;
    struct batch_header h;
    struct slice body;
    int rc = walk_search(&r->walk, from + 8, OFFSET_NONE, r->next + 1, &at, &used);
    if (rc < 0)
        return rc;
    if (rc) {
        r->walk.position = at;
        rc = walk_next(&r->walk, OFFSET_NONE, &h,
                       &body); /* its body is judged when its turn comes */
        if (rc < 0)
            return rc;
        r->walk.position = at;
        if (h.base_offset < next)
            next = h.base_offset;
    }
    log_line(LOG_ERROR, "journal.corrupt",
             "dir=%s segment=%llu position=%llu first=%llu next=%llu why=\"%s\"", r->j->dir,
             (unsigned long long)r->walk_base, (unsigned long long)from,
             (unsigned long long)r->next, (unsigned long long)next, what);
    return gap(r, next, ret);
}

/* The whole batch was read but its body is wrong: the header tells what it was. */
static int report_body(struct journal_reader *r, const struct batch_header *h,
                       struct journal_batch *ret)
{
    log_line(LOG_ERROR, "journal.corrupt",
             "dir=%s segment=%llu position=%llu first=%llu next=%llu why=\"body\"", r->j->dir,
             (unsigned long long)r->walk_base, (unsigned long long)r->walk.position,
             (unsigned long long)h->base_offset, (unsigned long long)(h->base_offset + h->count));
    r->walk.position += batch_bytes(h->body_len);
    return gap(r, h->base_offset + h->count, ret);
}

/* Walks the open segment to the batch that holds `next`; records end at `limit`. */
static int next_in_file(struct journal_reader *r, uint64_t limit, struct journal_batch *ret)
{
    for (;;) {
        struct batch_header h = {0};
        struct slice body;
        int rc = walk_next(&r->walk, r->next, &h, &body);
        if (rc < 0)
            return rc;
        if (rc == WALK_BAD && r->walk.why == walk_bad_body && h.count && h.base_offset <= r->next &&
            h.base_offset + h.count > r->next)
            return report_body(r, &h, ret);
        if (rc != WALK_BATCH)
            return report_damage(r, limit, rc == WALK_BAD ? r->walk.why : "no batch", ret);
        if (h.base_offset + h.count <= r->next)
            continue;
        if (h.base_offset > r->next || h.base_offset >= limit) {
            r->walk.position -= batch_bytes(h.body_len);
            return gap(r, h.base_offset < limit ? h.base_offset : limit, ret);
        }
        *ret = (struct journal_batch){.first_offset = h.base_offset,
                                      .count = h.count,
                                      .body = body,
                                      .commit_us = h.commit_us,
                                      .data = h.flags & BATCH_F_DATA};
        if (deliver(r, ret))
            return JOURNAL_BATCH;
        r->walk.position -= batch_bytes(h.body_len);
        return report_body(r, &h, ret);
    }
}

static int next_from_files(struct journal_reader *r, uint64_t durable, struct journal_batch *ret)
{
    for (unsigned tries = 0;; tries++) {
        struct segment s;
        uint64_t limit, next, oldest = atomic_load(&r->j->oldest);
        uint64_t epoch = atomic_load(&r->j->epoch);
        if (epoch != r->epoch) /* what was read ahead may have been cut off and written anew */
            walk_close(&r->walk);
        r->epoch = epoch;
        if (r->next < oldest) /* a follower may learn of that before it learns what is durable */
            return gap(r, oldest < durable ? oldest : durable, ret);
        if (!segments_find(r->j, r->next, &s, &limit, &next)) { /* gone since `oldest` was read */
            oldest = atomic_load(&r->j->oldest);
            return gap(r, oldest > r->next && oldest < durable ? oldest : durable, ret);
        }
        if (r->next >= limit) /* a gap that the next segment knows of */
            return gap(r, next < durable ? next : durable, ret);
        int rc = enter_file(r, &s);
        if (rc == -ENOENT && tries < 8) { /* retention was faster; `oldest` has moved */
            if (r->j->follows && (rc = follow_refresh(r->j)) < 0)
                return rc;
            continue;
        }
        if (rc == -EBADMSG)
            return gap(r, limit < durable ? limit : durable, ret);
        if (rc)
            return rc;
        return next_in_file(r, limit < durable ? limit : durable, ret);
    }
}

int journal_reader_next(struct journal_reader *r, struct journal_batch *ret)
{
    uint64_t durable = journal_durable(r->j);
    if (r->next >= durable)
        return JOURNAL_WAIT;
    for (;;) {
        if (r->slab) {
            int rc = next_from_slab(r, ret);
            if (rc)
                return rc;
            slab_leave(r);
        }
        if (!enter_ring(r))
            return next_from_files(r, durable, ret);
    }
}

void journal_reader_wait(struct journal_reader *r, uint64_t ns)
{
    uint32_t key = sleeper_key(&r->j->news);
    if (journal_durable(r->j) <= r->next && !atomic_load(&r->woken))
        sleeper_wait(&r->j->news, key, ns);
    atomic_store(&r->woken, false);
}

void journal_reader_wake(struct journal_reader *r)
{
    atomic_store(&r->woken, true);
    sleeper_signal(&r->j->news);
}

int journal_reader_commit(struct journal_reader *r, uint64_t offset)
{
    CHECK(r->slot >= 0 && offset <= r->next);
    return cursors_commit(&r->j->cursors, r->slot, offset);
}

int journal_forget_reader(struct journal *j, const char *name)
{
    return cursors_forget(&j->cursors, name);
}

uint64_t journal_reader_offset(struct journal_reader *r)
{
    return r->next;
}

int journal_batch_record(const struct journal_batch *b, size_t *at, struct record *ret)
{
    if (*at >= b->body.len)
        return 0;
    size_t n = record_decode(slice_from(b->body, *at), ret);
    if (n == 0)
        return -EBADMSG;
    *at += n;
    return 1;
}

bool journal_batch_skip_datum(const struct journal_batch *b, size_t *at)
{
    size_t n = record_skip_datum(slice_from(b->body, *at));
    *at += n;
    return n > 0;
}
