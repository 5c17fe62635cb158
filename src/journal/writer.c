/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer: takes everything that queued while the last fdatasync ran and makes it durable with
 * one write and one fdatasync.
 *
 * Appends are copied once, into the ring (journal/ring.h), which is at the same time what is
 * written and what readers at the tip read. The copy costs less than a vector per append would cost
 * the kernel, gives each batch one CRC run, and gives the bodies back at once.
 *
 * Invariants
 * 1. `durable` moves only after fdatasync returned 0 for everything below it.
 * 2. Within a commit all batches are in one segment and carry the same durable_before, which is the
 *    base of the first of them.
 * 3. `done` is called in the order of submission, each exactly once.
 * 4. An error of write or fdatasync: the file is left for good, the commit is written again to a
 * new segment. If that fails too: REFUSE_FAILED, for ever.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/thread.h"
#include "journal/internal.h"
#include "journal/record.h"
#include "journal/sync.h"

/* Put into the queue for ever when the writer stops: nothing can be pushed on it. */
static struct journal_append closed;

/* Bytes of one slab that belong to the commit. */
struct piece {
    struct slab *slab;
    size_t at, len;
    uint64_t end_offset;
};

struct commit {
    struct piece pieces[COMMIT_PIECES];
    unsigned count;
    uint64_t bytes; /* of all batches, with headers */
    uint64_t next_offset;
    uint32_t chain;
    struct journal_append *first, *last;
    struct journal_append *rest; /* not in this commit */
    bool named, data;            /* the batch in hand has units; is BATCH_F_DATA */
};

bool journal_put(struct journal_append *a, const struct record *r)
{
    if (a->count == BATCH_RECORDS_MAX)
        return false;
    size_t before = a->body.len;
    if (!record_encode(&a->body, r))
        return false;
    if (a->body.len > BATCH_BYTES_MAX) {
        a->body.len = before;
        return false;
    }
    a->mixed = (a->count && a->mixed) || !record_is_plain_datum(r);
    a->count++;
    return true;
}

enum reason journal_accepts(struct journal *j)
{
    uint32_t bits = atomic_load_explicit(&j->refuse, memory_order_relaxed);
    if (__builtin_expect(bits == 0, 1))
        return REASON_ok;
    return bits & REFUSE_FAILED     ? REASON_journal_failed
           : bits & REFUSE_STOPPING ? REASON_stopping
                                    : REASON_disk_full;
}

void refuse_set(struct journal *j, uint32_t bit, bool on)
{
    if (on)
        atomic_fetch_or(&j->refuse, bit);
    else if (atomic_load_explicit(&j->refuse, memory_order_relaxed) & bit)
        atomic_fetch_and(&j->refuse, ~bit);
}

static enum reason refused(enum reason why, uint32_t records)
{
    metric_add(METRIC_journal_refused, records);
    return why;
}

enum reason journal_submit(struct journal *j, struct journal_append *a)
{
    OBJ_CHECK(j, JOURNAL_MAGIC);
    CHECK(a->count > 0 && a->body.len > 0 && a->body.len <= BATCH_BYTES_MAX && a->done);
    enum reason why = journal_accepts(j);
    if (why != REASON_ok)
        return refused(why, a->count);
    uint32_t records = a->count;
    uint64_t bytes = a->body.len;
    uint64_t was = atomic_fetch_add_explicit(&j->pending, bytes, memory_order_relaxed);
    if (was + bytes > j->opts.pending_bytes) {
        atomic_fetch_sub_explicit(&j->pending, bytes, memory_order_relaxed);
        return refused(REASON_busy, records);
    }
    struct journal_append *head = atomic_load_explicit(&j->queue, memory_order_relaxed);
    do {
        if (head == &closed) {
            atomic_fetch_sub_explicit(&j->pending, bytes, memory_order_relaxed);
            return refused(REASON_stopping, records);
        }
        a->next = head;
    } while (!atomic_compare_exchange_weak(&j->queue, &head, a));
    /* Who found the queue empty wakes the writer; others only if it sleeps in spite of that. */
    if (!head || atomic_load_explicit(&j->work.waiting, memory_order_relaxed))
        sleeper_signal(&j->work);
    return REASON_ok;
}

/* Everything queued, oldest first. `leave` is what the queue holds afterwards. */
static struct journal_append *take_queue(struct journal *j, struct journal_append *leave)
{
    struct journal_append *a = atomic_exchange(&j->queue, leave), *list = NULL;
    if (a == &closed)
        return NULL;
    while (a) {
        struct journal_append *next = a->next;
        a->next = list;
        list = a;
        a = next;
    }
    return list;
}

/* Calls `done` for the list up to and including `last` (NULL: all of it). */
static void answer(struct journal *j, struct journal_append *list, struct journal_append *last,
                   enum reason reason)
{
    uint64_t bytes = 0, records = 0;
    for (struct journal_append *a = list; a; a = a->next) {
        bytes += a->body.len;
        records += a->count;
        if (a == last)
            break;
    }
    uint64_t left = atomic_fetch_sub_explicit(&j->pending, bytes, memory_order_relaxed) - bytes;
    metric_set(METRIC_journal_unsynced_bytes, left);
    if (reason != REASON_ok)
        metric_add(METRIC_journal_refused, records);
    while (list) {
        struct journal_append *a = list;
        list = a == last ? NULL : a->next;
        a->next = NULL;
        a->reason = reason;
        a->done(a);
    }
}

static uint64_t segment_room(const struct journal *j, const struct commit *c)
{
    return j->tail.segment_bytes - j->tail.position - c->bytes;
}

/* Where the next batch of the commit is built: `need` bytes at the end of a slab. */
static char *place_reserve(struct journal *j, struct commit *c, uint64_t need, struct slab **ret)
{
    if (c->count == COMMIT_PIECES)
        return NULL;
    struct slab *s = ring_reserve(&j->ring, (size_t)need, c->next_offset, j->tail.segment_base,
                                  j->tail.position + c->bytes);
    *ret = s;
    return s ? s->data + s->used : NULL;
}

/* Fills in the header before the body at `at`, and counts the batch into the commit. */
static void batch_seal(struct journal *j, struct commit *c, struct slab *s, char *at,
                       size_t body_len, uint32_t count, int64_t now_us)
{
    size_t bytes = (size_t)batch_bytes(body_len);
    memset(at + BATCH_HEADER_BYTES + body_len, 0, bytes - BATCH_HEADER_BYTES - body_len);
    struct batch_header h = {
        .base_offset = c->next_offset,
        .body_len = (uint32_t)body_len,
        .body_crc = crc32c(0, at + BATCH_HEADER_BYTES, body_len),
        .count = count,
        .flags = !count     ? BATCH_F_CONTROL
                 : c->named ? BATCH_F_NAMED
                 : c->data  ? BATCH_F_DATA
                            : 0,
        .version = FORMAT_VERSION,
        .commit_us = now_us,
        .chain = c->chain,
        .durable_before = j->tail.offset,
        .boot_epoch = j->boot_epoch,
    };
    batch_header_encode(at, &h, j->tail.salt);
    struct piece *p = c->count ? &c->pieces[c->count - 1] : NULL;
    if (!p || p->slab != s) {
        p = &c->pieces[c->count++];
        *p = (struct piece){.slab = s, .at = s->used};
    }
    p->len += bytes;
    s->used += bytes;
    c->bytes += bytes;
    c->chain = h.header_crc;
    c->next_offset += count;
    p->end_offset = c->next_offset;
}

/* One batch from the front of c->rest. False: the commit is full (or there is no memory). */
static bool batch_build(struct journal *j, struct commit *c, int64_t now_us)
{
    uint64_t need = batch_bytes(c->rest->body.len), room = segment_room(j, c);
    if (need > room || (c->bytes && c->bytes + need > COMMIT_BYTES_MAX))
        return false;
    struct slab *s;
    char *at = place_reserve(j, c, need, &s);
    if (!at)
        return false;
    size_t limit = s->cap - s->used;
    if (limit > room)
        limit = (size_t)room;
    limit = (limit & ~(size_t)7) - BATCH_HEADER_BYTES;
    if (limit > BATCH_BYTES_MAX)
        limit = BATCH_BYTES_MAX;

    char *body = at + BATCH_HEADER_BYTES;
    size_t len = 0;
    uint32_t count = 0;
    struct journal_append *a = c->rest;
    c->named = false;
    c->data = true;
    for (; a && len + a->body.len <= limit && count + a->count <= BATCH_RECORDS_MAX; a = a->next) {
        a->first_offset = c->next_offset + count;
        c->last = a;
        c->data &= !a->mixed;
        if (__builtin_expect(a->units.len > 0, 0)) {
            uint32_t stored;
            len += units_copy(j, a, a->first_offset, body + len, &stored);
            count += stored;
            c->named = true;
            continue;
        }
        memcpy(body + len, a->body.ptr, a->body.len);
        len += a->body.len;
        count += a->count;
    }
    c->rest = a;
    if (count) /* else all of them were in the log already */
        batch_seal(j, c, s, at, len, count, now_us);
    return true;
}

static int commit_write(struct journal *j, const struct commit *c)
{
    struct iovec v[COMMIT_PIECES];
    for (unsigned i = 0; i < c->count; i++)
        v[i] = (struct iovec){.iov_base = c->pieces[i].slab->data + c->pieces[i].at,
                              .iov_len = c->pieces[i].len};
    int rc = disk_write_full(j->disk, j->tail.file, v, (int)c->count, j->tail.position);
    return rc ? rc : journal_sync_data(j->disk, j->tail.file);
}

/* The same batches for another segment: other salt, so other CRCs, so another chain. */
static void commit_reseal(struct journal *j, struct commit *c, uint64_t old_salt)
{
    uint32_t chain = j->tail.chain;
    for (unsigned i = 0; i < c->count; i++) {
        char *at = c->pieces[i].slab->data + c->pieces[i].at, *end = at + c->pieces[i].len;
        while (at < end) {
            struct batch_header h;
            CHECK(batch_header_decode(at, old_salt, &h) == FORMAT_OK);
            h.chain = chain;
            batch_header_encode(at, &h, j->tail.salt);
            chain = h.header_crc;
            at += batch_bytes(h.body_len);
        }
    }
    c->chain = chain;
}

/* 0, or why nothing of the commit is durable. */
static int commit_durable(struct journal *j, struct commit *c)
{
    int rc = commit_write(j, c);
    if (!rc)
        return 0;
    atomic_fetch_add_explicit(&j->sync_failures, 1, memory_order_relaxed);
    metric_add(METRIC_journal_sync_failures, 1);
    log_line(LOG_ERROR, "journal.sync_failed", "dir=%s segment=%llu position=%llu error=%d", j->dir,
             (unsigned long long)j->tail.segment_base, (unsigned long long)j->tail.position, -rc);
    uint64_t old_salt = j->tail.salt;
    j->disk->close(j->disk, j->tail.file);
    j->tail.file = NULL;
    /* A file without a durable batch is replaced under its own name; nothing to supersede. */
    j->tail.supersede = j->tail.superseding || j->tail.offset != j->tail.segment_base;
    rc = tail_roll(j, c->bytes);
    if (rc)
        return rc;
    commit_reseal(j, c, old_salt);
    rc = commit_write(j, c);
    return rc ? -EIO : 0;
}

static void commit_publish(struct journal *j, struct commit *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        struct piece *p = &c->pieces[i];
        atomic_store_explicit(&p->slab->committed, p->at + p->len, memory_order_release);
        atomic_store_explicit(&p->slab->end_offset, p->end_offset, memory_order_release);
    }
    uint64_t records = c->next_offset - j->tail.offset;
    j->tail.position += c->bytes;
    j->tail.since_checkpoint += c->bytes;
    j->tail.offset = c->next_offset;
    j->tail.chain = c->chain;
    j->tail.control_due = records != 0;
    atomic_store_explicit(&j->durable, c->next_offset, memory_order_release);
    atomic_fetch_add_explicit(&j->commits, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&j->records, records, memory_order_relaxed);
    metric_add(METRIC_journal_commits, 1);
    metric_add(METRIC_journal_records, records);
    metric_add(METRIC_journal_bytes, c->bytes);
}

/* What the failure means for those who wait, and for those to come. */
static enum reason fail(struct journal *j, int rc)
{
    if (rc == -ENOSPC || rc == -EDQUOT) {
        uint32_t bit = rc == -EDQUOT ? REFUSE_CAP : REFUSE_SEGMENT;
        if (!(atomic_load(&j->refuse) & bit))
            log_line(LOG_ERROR, "journal.full", "dir=%s why=%s", j->dir,
                     rc == -EDQUOT ? "cap" : "no-space");
        refuse_set(j, bit, true);
        keeper_wake(j);
        return REASON_disk_full;
    }
    if (rc != -ENOMEM) {
        if (!(atomic_load(&j->refuse) & REFUSE_FAILED))
            log_line(LOG_ERROR, "journal.failed", "dir=%s error=%d durable=%llu", j->dir, -rc,
                     (unsigned long long)j->tail.offset);
        refuse_set(j, REFUSE_FAILED, true);
    }
    return REASON_journal_failed;
}

static void commit_begin(struct journal *j, struct commit *c, struct journal_append *list)
{
    c->count = 0;
    c->bytes = 0;
    c->next_offset = j->tail.offset;
    c->chain = j->tail.chain;
    c->first = c->rest = list;
    c->last = NULL;
}

static int commit_run(struct journal *j, struct commit *c)
{
    atomic_store_explicit(&j->appended, c->next_offset, memory_order_relaxed);
    uint64_t began = clock_mono_ns();
    int rc = commit_durable(j, c);
    metric_observe(METRIC_journal_commit_latency, clock_mono_ns() - began);
    if (rc) {
        ring_rollback(&j->ring);
        if (j->once)
            once_rollback(j->once, j->tail.offset);
        atomic_store_explicit(&j->appended, j->tail.offset, memory_order_relaxed);
        return rc;
    }
    commit_publish(j, c);
    return 0;
}

/* Commits as much of the list as goes into one commit; returns what is left. */
static struct journal_append *commit_some(struct journal *j, struct journal_append *list)
{
    struct commit c;
    int rc = 0;
    if (atomic_load_explicit(&j->refuse, memory_order_relaxed) & REFUSE_FAILED) {
        answer(j, list, NULL, REASON_journal_failed);
        return NULL;
    }
    commit_begin(j, &c, list);
    uint64_t need = batch_bytes(list->body.len);
    if (!j->tail.file || segment_room(j, &c) < need)
        rc = tail_roll(j, need);
    if (!rc) {
        int64_t now_us = clock_wall_us();
        while (c.rest && batch_build(j, &c, now_us))
            continue;
        if (c.count)
            rc = commit_run(j, &c);
        else if (!c.last)
            rc = -ENOMEM;
    }
    if (rc) {
        answer(j, list, NULL, fail(j, rc));
        return NULL;
    }
    answer(j, c.first, c.last, REASON_ok);
    sleeper_signal(&j->news);
    if (j->tail.since_checkpoint >= CHECKPOINT_EVERY)
        checkpoint_write(j, false);
    return c.rest;
}

bool journal_step(struct journal *j)
{
    struct journal_append *list = take_queue(j, NULL);
    if (!list)
        return false;
    while (list)
        list = commit_some(j, list);
    return true;
}

void journal_idle(struct journal *j)
{
    struct commit c;
    if (!j->tail.control_due || !j->tail.file ||
        atomic_load_explicit(&j->refuse, memory_order_relaxed) & REFUSE_FAILED)
        return;
    commit_begin(j, &c, NULL);
    if (segment_room(j, &c) < BATCH_HEADER_BYTES) {
        checkpoint_write(j, false); /* says the same */
        j->tail.control_due = false;
        return;
    }
    struct slab *s;
    char *at = place_reserve(j, &c, BATCH_HEADER_BYTES, &s);
    if (!at)
        return;
    batch_seal(j, &c, s, at, 0, 0, clock_wall_us());
    int rc = commit_run(j, &c);
    j->tail.control_due = false;
    if (rc)
        fail(j, rc);
}

void writer_run(void *arg)
{
    struct journal *j = arg;
    thread_be_prompt(); /* whose commit it is waits for every wake-up of it */
    for (;;) {
        uint32_t key = sleeper_key(&j->work);
        if (journal_step(j))
            continue;
        if (atomic_load(&j->writer_stop))
            break;
        sleeper_wait(&j->work, key, j->tail.control_due ? IDLE_NS : SLEEPER_FOREVER);
        if (j->tail.control_due && sleeper_key(&j->work) == key)
            journal_idle(j);
    }
    writer_finish(j);
}

void writer_finish(struct journal *j)
{
    struct journal_append *list = take_queue(j, &closed);
    while (list)
        list = commit_some(j, list);
}

static void on_gap_done(struct journal_append *a)
{
    (void)a; /* its reason is read where it was queued */
}

int writer_record_gaps(struct journal *j)
{
    for (unsigned i = 0; i < j->gaps_count; i++) {
        const struct gap *g = &j->gaps[i];
        struct buf payload;
        struct journal_append a = {.done = on_gap_done};
        buf_init(&payload, 1024);
        buf_init(&a.body, 4096);
        buf_put_u64(&payload, g->first);
        buf_put_u64(&payload, g->next);
        buf_put_str(&payload, "{\"why\":");
        buf_put_json(&payload, slice_str(g->why));
        buf_put_str(&payload, "}");
        int64_t now = clock_wall_us();
        struct record r = {
            .kind = RECORD_GAP, .event_us = now, .receive_us = now, .payload = buf_slice(&payload)};
        bool put = !payload.failed && journal_put(&a, &r);
        if (put) {
            atomic_fetch_add(&j->pending, a.body.len);
            commit_some(j, &a);
        }
        buf_fini(&payload);
        buf_fini(&a.body);
        if (!put || a.reason != REASON_ok)
            return !put ? -ENOMEM : a.reason == REASON_disk_full ? -ENOSPC : -EIO;
    }
    j->gaps_count = 0;
    return 0;
}
