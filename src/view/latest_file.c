/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The snapshot file, little endian:
 *   8 bytes  "SLLATEST"
 *   u32 format, u32 0, 16 bytes log id, u64 cursor, u64 entries
 *   per entry: u64 feed, i64 event us, u64 offset, u64 version, u32 length | GONE, u32 key number,
 *              payload; sealed if the key number is not 0, and bound to all before its length
 * Format 1 has no key numbers.
 *   u32      CRC-32C of all before it
 * It is replaced as a whole. The projector thread is the table's only writer, so it encodes the
 * table without any lock and no reader waits.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "journal/format.h"
#include "view/latest_own.h"
#include "view/snapfile.h"

enum {
    FORMAT = 2,
    HEAD_BYTES = 48,
    ENTRY_BYTES = 40,
    ENTRY_BYTES_1 = 36, /* of format 1 */
    ENTRY_BOUND = 32,
    ENTRIES_AT = 40, /* where the head says how many */
};

#define GONE (1u << 31)

/* ---- writing --------------------------------------------------------------------------------- */

/* False: the entry's key was destroyed, so it is no more. */
static bool put_entry(struct latest *l, struct buf *b, const struct latest_entry *e)
{
    char head[ENTRY_BYTES];
    uint32_t len = e->len | (e->gone ? GONE : 0);
    struct slice payload = slice_of(latest_payload(e), e->len);
    memcpy(head, &e->feed, 8);
    memcpy(head + 8, &e->event_us, 8);
    memcpy(head + 16, &e->offset, 8);
    memcpy(head + 24, &e->version, 8);
    uint32_t key_id = l->sealer && e->len ? e->key_id : 0;
    if (key_id) {
        buf_clear(&l->opened);
        enum seal_outcome done =
            seal_bytes(l->sealer, key_id, slice_of(head, ENTRY_BOUND), payload, &l->opened);
        CHECK(done != SEAL_MEMORY);
        if (done != SEAL_DONE)
            return false;
        payload = buf_slice(&l->opened);
        len = (uint32_t)payload.len;
    }
    memcpy(head + 32, &len, 4);
    memcpy(head + 36, &key_id, 4);
    buf_put(b, head, sizeof head);
    buf_put_slice(b, payload);
    return true;
}

static struct snapfile file_of(const struct latest *l)
{
    return (struct snapfile){.disk = l->opts.disk,
                             .path = l->path,
                             .magic = "SLLATEST",
                             .format = FORMAT,
                             .head_bytes = HEAD_BYTES,
                             .log_id = l->opts.log_id};
}

int latest_snapshot(struct latest *l, uint64_t cursor)
{
    struct buf b;
    uint64_t entries = 0;
    const struct snapfile f = file_of(l);
    buf_init(&b, SNAPFILE_MAX);
    snapfile_begin(&f, cursor, &b);
    buf_put_u64(&b, 0); /* entries, when they are known */
    for (unsigned i = 0; i < LATEST_SHARDS; i++) {
        const struct latest_shard *s = &l->shards[i];
        for (uint32_t k = 0; k < s->places; k++)
            if (s->at[k].feed)
                entries += put_entry(l, &b, &s->at[k]);
    }
    if (!b.failed)
        memcpy(b.ptr + ENTRIES_AT, &entries, sizeof entries);
    int code = snapfile_write(&f, &b);
    buf_fini(&b);
    if (code == 0)
        l->saved = cursor;
    return code;
}

uint64_t latest_tick(struct latest *l, uint64_t next_offset, uint64_t bytes, uint64_t now_ns)
{
    if (next_offset > l->applied)
        l->applied = next_offset;
    if (!pace_due(&l->pace, bytes, now_ns) || l->applied == l->saved)
        return l->saved;
    uint64_t begin = clock_mono_ns();
    int code = latest_snapshot(l, l->applied);
    pace_done(&l->pace, clock_mono_ns() - begin, now_ns, code, l->path);
    return l->saved;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int damaged(const struct latest *l, struct error *err, const char *what)
{
    return snapfile_damaged(l->path, err, what);
}

static int load_entries(struct latest *l, const char *at, const char *end, uint64_t entries,
                        uint32_t format, struct error *err)
{
    const int head_bytes = format == 1 ? ENTRY_BYTES_1 : ENTRY_BYTES;
    for (uint64_t i = 0; i < entries; i++) {
        struct latest_entry e = {0};
        uint32_t len;
        if (end - at < head_bytes)
            return damaged(l, err, "it is too short");
        memcpy(&e.feed, at, 8);
        memcpy(&e.event_us, at + 8, 8);
        memcpy(&e.offset, at + 16, 8);
        memcpy(&e.version, at + 24, 8);
        memcpy(&len, at + 32, 4);
        e.gone = (len & GONE) != 0;
        len &= ~GONE;
        if (format > 1)
            memcpy(&e.key_id, at + 36, 4);
        const char *head = at;
        at += head_bytes;
        struct datum unused;
        struct slice payload = slice_of(at, len);
        int erased = len <= end - at && e.key_id
                         ? snapfile_unseal(l->path, l->sealer, e.key_id,
                                           slice_of(head, ENTRY_BOUND), &l->opened, &payload, err)
                         : 0;
        if (erased < 0)
            return erased;
        if (erased) {
            at += len;
            continue;
        }
        if (len > end - at || e.feed == 0 ||
            (e.gone ? len != 0 || e.key_id : !datum_decode(payload, &unused)))
            return damaged(l, err, "an entry is none");
        latest_put(l, &e, payload);
        at += len;
    }
    return at == end ? 0 : damaged(l, err, "it is too long");
}

int latest_open(const struct latest_opts *opts, struct latest **ret, uint64_t *ret_cursor,
                struct error *err)
{
    struct latest *l = latest_new(opts);
    const struct snapfile f = file_of(l);
    struct snapfile_found found;
    struct buf bytes;
    buf_init(&bytes, SNAPFILE_MAX);
    int code = snapfile_read(&f, &bytes, &found, err);
    if (code == 0) {
        l->applied = l->saved = found.cursor;
        code = load_entries(l, found.body.ptr, found.body.ptr + found.body.len,
                            le64_get(bytes.ptr + ENTRIES_AT), found.format, err);
    }
    buf_fini(&bytes);
    if (code < 0) {
        latest_close(l);
        return code;
    }
    *ret = l;
    *ret_cursor = l->applied;
    return 0;
}
