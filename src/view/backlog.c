/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The places form a ring: when it is full, or its payloads are too many bytes, the oldest goes. The
 * second pass begins a new reader wherever the next place is far away, since a reader skips what
 * lies before its start by batch headers alone.
 */
#include "view/backlog.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/metric.h"
#include "flow/limits.h"
#include "flow/session_record.h"

#define FAR 4096u /* records that are cheaper to jump over than to read */

struct place {
    uint64_t offset;
    uint32_t bytes; /* of all its messages */
    uint16_t parts;
};

struct backlog {
    struct backlog_opts opts;
    struct journal_reader *reader;
    uint64_t next; /* record to look at next */
    struct place *ring;
    uint32_t room, first, count; /* of the ring */
    uint32_t messages;           /* in it */
    uint64_t bytes;              /* of all payloads in it */
    struct journal_batch batch;
    size_t batch_at;
    uint64_t batch_offset; /* of the record at batch_at */
    bool in_batch, collected;
    struct sealer *sealer;
    struct buf opened;
    struct backlog_dropped dropped;
};

static void drop(uint64_t *why, uint64_t count)
{
    *why += count;
    metric_add(METRIC_session_backlog_dropped, count);
}

/* ---- collecting ------------------------------------------------------------------------------ */

static unsigned messages_of(const struct place *p)
{
    return (unsigned)__builtin_popcount(p->parts);
}

static void pop(struct backlog *b)
{
    const struct place *p = &b->ring[b->first];
    b->bytes -= p->bytes;
    b->messages -= messages_of(p);
    b->first = (b->first + 1) % b->room;
    b->count--;
}

static void drop_oldest(struct backlog *b, uint64_t *why)
{
    unsigned count = messages_of(&b->ring[b->first]);
    pop(b);
    drop(why, count);
}

static void keep(struct backlog *b, const struct place *p)
{
    unsigned count = messages_of(p);
    if (p->bytes > b->opts.bytes_max || count > b->opts.messages_max) {
        drop(&b->dropped.too_large, count);
        return;
    }
    while (b->messages + count > b->opts.messages_max)
        drop_oldest(b, &b->dropped.too_many);
    while (b->bytes + p->bytes > b->opts.bytes_max)
        drop_oldest(b, &b->dropped.too_large);
    b->ring[(b->first + b->count++) % b->room] = *p;
    b->bytes += p->bytes;
    b->messages += count;
}

static void look_at(struct backlog *b, struct record *r, uint64_t offset)
{
    if (r->account != b->opts.account || (r->kind != RECORD_DATUM && r->kind != RECORD_PUBLISH))
        return;
    struct place p = {.offset = offset, .parts = b->opts.match(b->opts.arg, r, offset)};
    p.bytes = (uint32_t)(r->payload.len * messages_of(&p)); /* of a batch, 16 at most */
    if (p.parts && r->receive_us < b->opts.oldest_us)
        drop(&b->dropped.too_old, messages_of(&p));
    else if (p.parts)
        keep(b, &p);
}

static int open_reader(struct backlog *b, uint64_t offset, struct error *err)
{
    struct journal_reader_opts opts = {.has_start = true, .start = offset};
    journal_reader_close(b->reader);
    b->reader = NULL;
    b->in_batch = false;
    return journal_reader_open(b->opts.journal, &opts, &b->reader, err);
}

/* The next batch below `to`: 1, or 0 when there is none, or a negative errno. A gap is counted. */
static int next_batch(struct backlog *b, uint64_t *left)
{
    while (journal_reader_offset(b->reader) < b->opts.to) {
        int next = journal_reader_next(b->reader, &b->batch);
        if (next < 0)
            return next;
        if (next == JOURNAL_WAIT)
            return 0;
        if (next == JOURNAL_GAP) {
            uint64_t end = b->batch.first_offset + b->batch.count;
            if (!b->collected)
                drop(&b->dropped.unread,
                     (end < b->opts.to ? end : b->opts.to) - b->batch.first_offset);
            continue;
        }
        *left -= b->batch.body.len < *left ? b->batch.body.len : *left;
        b->in_batch = true;
        b->batch_at = 0;
        b->batch_offset = b->batch.first_offset;
        return 1;
    }
    return 0;
}

int backlog_collect(struct backlog *b, uint64_t bytes)
{
    struct record r;
    if (b->collected)
        return BACKLOG_DONE;
    do {
        int rc = next_batch(b, &bytes);
        if (rc < 0)
            return rc;
        if (rc == 0) {
            b->collected = true;
            b->in_batch = false;
            return BACKLOG_DONE;
        }
        while (b->batch_offset < b->opts.to &&
               journal_batch_record(&b->batch, &b->batch_at, &r) > 0)
            look_at(b, &r, b->batch_offset++);
    } while (bytes);
    return BACKLOG_MORE;
}

/* ---- handing out ----------------------------------------------------------------------------- */

/* The record at `offset`, if the batch at hand has it. */
static bool find_in_batch(struct backlog *b, uint64_t offset, struct record *ret)
{
    if (!b->in_batch || offset < b->batch_offset ||
        offset >= b->batch.first_offset + b->batch.count)
        return false;
    while (journal_batch_record(&b->batch, &b->batch_at, ret) > 0)
        if (b->batch_offset++ == offset)
            return true;
    b->in_batch = false;
    return false;
}

/* Has the reader stand before the record. */
static int go_to(struct backlog *b, uint64_t offset)
{
    uint64_t at = b->reader ? journal_reader_offset(b->reader) : UINT64_MAX;
    return at > offset || offset - at > FAR ? open_reader(b, offset, NULL) : 0;
}

/* False: it does not open, which was counted. */
static bool open_record(struct backlog *b, struct record *r, unsigned messages)
{
    if (!r->key_id)
        return true;
    enum seal_outcome found = b->sealer ? unseal_record(b->sealer, r, &b->opened) : SEAL_UNKNOWN;
    CHECK(found != SEAL_MEMORY);
    if (found == SEAL_DONE)
        return true;
    drop(&b->dropped.erased, messages);
    return false;
}

int backlog_next(struct backlog *b, uint64_t bytes, struct record *ret, uint64_t *ret_offset)
{
    CHECK(b->collected);
    while (b->count) {
        uint64_t offset = b->ring[b->first].offset;
        if (find_in_batch(b, offset, ret)) {
            unsigned messages = messages_of(&b->ring[b->first]);
            pop(b);
            if (!open_record(b, ret, messages))
                continue;
            *ret_offset = offset;
            return BACKLOG_MESSAGE;
        }
        if (!bytes)
            return BACKLOG_MORE;
        int rc = go_to(b, offset);
        if (rc == 0)
            rc = next_batch(b, &bytes);
        if (rc < 0)
            return rc;
        if (rc == 0 || offset < b->batch.first_offset) /* retention was faster */
            drop_oldest(b, &b->dropped.unread);
    }
    return BACKLOG_DONE;
}

uint32_t backlog_left(const struct backlog *b)
{
    return b->messages;
}

void backlog_places(const struct backlog *b, uint64_t *ret)
{
    for (uint32_t i = 0; i < b->count; i++) {
        const struct place *p = &b->ring[(b->first + i) % b->room];
        for (unsigned part = 0; part < SESSION_PARTS; part++) {
            if (p->parts >> part & 1)
                *ret++ = session_place(p->offset, part);
        }
    }
}

struct backlog_dropped backlog_dropped(const struct backlog *b)
{
    return b->dropped;
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Moves the start to where about `scan_bytes` of the journal are left, by its records' mean size.
 */
static void bound_scan(struct backlog *b)
{
    struct journal_position position = journal_position(b->opts.journal);
    uint64_t held = position.durable - position.oldest;
    uint64_t mean = held ? journal_stats(b->opts.journal).disk_bytes / held + 1 : 1;
    uint64_t records = b->opts.scan_bytes / mean + 1;
    if (b->opts.to - b->opts.from <= records)
        return;
    drop(&b->dropped.unread, b->opts.to - records - b->opts.from);
    b->opts.from = b->opts.to - records;
}

/* The ring is what somebody collected before. */
static void take_places(struct backlog *b)
{
    struct place *last = NULL;
    for (uint32_t i = 0; i < b->opts.places_count; i++) {
        uint64_t offset = b->opts.places[i] / SESSION_PARTS;
        if (!last || last->offset != offset)
            last = &b->ring[b->count++];
        last->offset = offset;
        last->parts |= (uint16_t)(1u << b->opts.places[i] % SESSION_PARTS);
    }
    b->messages = b->opts.places_count;
    b->collected = true;
}

int backlog_open(const struct backlog_opts *opts, struct backlog **ret, struct error *err)
{
    CHECK(opts->places || opts->messages_max);
    CHECK(opts->to <= journal_durable(opts->journal));
    struct backlog *b = calloc(1, sizeof *b);
    CHECK(b);
    b->opts = *opts;
    if (b->opts.from > b->opts.to)
        b->opts.from = b->opts.to;
    b->room = opts->places ? opts->places_count + 1 : opts->messages_max;
    b->ring = calloc(b->room, sizeof *b->ring);
    CHECK(b->ring);
    b->sealer = opts->keyring ? sealer_new(opts->keyring) : NULL;
    buf_init(&b->opened, BATCH_BYTES_MAX);
    if (opts->places)
        take_places(b);
    else
        bound_scan(b);
    int rc = opts->places ? 0 : open_reader(b, b->opts.from, err);
    if (rc < 0) {
        backlog_close(b);
        return rc;
    }
    *ret = b;
    return 0;
}

void backlog_look_for(struct backlog *b, void *arg)
{
    b->opts.arg = arg;
}

void backlog_close(struct backlog *b)
{
    if (!b)
        return;
    journal_reader_close(b->reader);
    sealer_free(b->sealer);
    buf_fini(&b->opened);
    free(b->ring);
    free(b);
}
