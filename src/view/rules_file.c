/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The snapshot file, little endian:
 *   8 bytes  "SLRULES1"
 *   u32 format, u32 0, 16 bytes log id, u64 cursor, u64 last rule's number, u64 entries
 *   per entry: u32 key number, u64 account, u64 number, u32 length, bytes; sealed if the key number
 *              is not 0, and bound to all before the length
 *     bytes: u32 length, rule_record of RULE_ADDED, then what it has seen (put_state) and owes
 *   u32      CRC-32C of all before it
 * It is replaced as a whole.
 */
#include <endian.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "base/varint.h"
#include "journal/format.h"
#include "view/rules_own.h"
#include "view/snapfile.h"

enum {
    FORMAT = 1,
    HEAD_BYTES = 56,
    ENTRIES_AT = 48, /* where the head says how many */
    ENTRY_BYTES = 24,
    ENTRY_BOUND = 20,
    LOOK_MS = 100, /* between two looks for silence */
};

enum { TRIPPED = 1, HAS_LAST = 2, HAS_TOLD = 4, HAS_CAUSED = 8, STATE_FLAGS = 15 };
enum { TRIED = 1, OF_SILENCE = 2, OWED_FLAGS = 3 };

/* ---- writing --------------------------------------------------------------------------------- */

static void put_double(struct buf *b, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    buf_put_u64(b, bits);
}

static void put_state(struct buf *b, const struct rule_entry *e)
{
    buf_put_u8(b, (uint8_t)((e->tripped ? TRIPPED : 0) | (e->has_last ? HAS_LAST : 0) |
                            (e->has_told ? HAS_TOLD : 0) | (e->has_caused ? HAS_CAUSED : 0)));
    buf_put_u64(b, e->last_hash);
    put_double(b, e->told);
    buf_put_u64(b, e->last_offset);
    buf_put_u64(b, e->last_depth);
    buf_put_u64(b, (uint64_t)e->last_us);
    buf_put_u64(b, (uint64_t)e->caused_us);
    buf_put_u64(b, e->fired);
    buf_put_u64(b, e->suppressed);
    buf_put_u64(b, e->dropped);
    buf_put_u64(b, (uint64_t)e->fired_us);
    buf_put_u64(b, (uint64_t)e->error_us);
    buf_put_text(b, slice_str(e->error));
    buf_put_varint(b, e->owed_count);
    for (unsigned i = 0; i < e->owed_count; i++) {
        const struct owed *o = &e->owed[i];
        buf_put_u8(b, (uint8_t)((o->tried ? TRIED : 0) | (o->silence ? OF_SILENCE : 0)));
        buf_put_u64(b, o->offset);
        buf_put_varint(b, o->depth);
        buf_put_u64(b, (uint64_t)o->caused_us);
        buf_put_text(b, o->came);
    }
}

/* The entry's bytes, plain. */
static void put_plain(struct buf *b, const struct rule_entry *e)
{
    const struct rule_record added = {.event = RULE_ADDED, .rule = e->rule};
    buf_clear(b);
    buf_put_u32(b, 0);
    rule_record_encode(b, &added);
    CHECK(!b->failed);
    le32_put(b->ptr, (uint32_t)(b->len - 4));
    put_state(b, e);
    CHECK(!b->failed);
}

/* False: the entry's key was destroyed, so it is no more. */
static bool put_entry(struct rules *t, struct buf *b, const struct rule_entry *e)
{
    uint32_t key_id = t->sealer ? e->key_id : 0;
    size_t head = b->len;
    put_plain(&t->plain, e);
    struct slice bytes = buf_slice(&t->plain);
    buf_put_u32(b, key_id);
    buf_put_u64(b, e->rule.account);
    buf_put_u64(b, e->rule.id);
    if (key_id && !b->failed) {
        buf_clear(&t->sealed);
        enum seal_outcome done =
            seal_bytes(t->sealer, key_id, slice_of(b->ptr + head, ENTRY_BOUND), bytes, &t->sealed);
        CHECK(done != SEAL_MEMORY);
        if (done != SEAL_DONE) {
            b->len = head;
            return false;
        }
        bytes = buf_slice(&t->sealed);
    }
    buf_put_u32(b, (uint32_t)bytes.len);
    buf_put_slice(b, bytes);
    return true;
}

static struct snapfile file_of(const struct rules *t)
{
    return (struct snapfile){.disk = t->opts.disk,
                             .path = t->path,
                             .magic = "SLRULES1",
                             .format = FORMAT,
                             .head_bytes = HEAD_BYTES,
                             .log_id = t->opts.log_id};
}

int rules_snapshot(struct rules *t, uint64_t cursor)
{
    struct buf b;
    uint64_t entries = 0;
    const struct snapfile f = file_of(t);
    buf_init(&b, SNAPFILE_MAX);
    pthread_mutex_lock(&t->lock); /* of a few hundred entries as a rule */
    snapfile_begin(&f, cursor, &b);
    buf_put_u64(&b, t->last_id);
    buf_put_u64(&b, 0); /* entries, when they are known */
    for (const struct rule_entry *e = t->all; e; e = e->next)
        entries += put_entry(t, &b, e);
    pthread_mutex_unlock(&t->lock);
    if (!b.failed)
        le64_put(b.ptr + ENTRIES_AT, entries);
    int code = snapfile_write(&f, &b);
    buf_fini(&b);
    if (code == 0)
        t->saved = cursor;
    return code;
}

uint64_t rules_tick(struct rules *t, uint64_t next_offset, uint64_t bytes, uint64_t now_ns)
{
    if (next_offset > t->applied)
        t->applied = next_offset;
    if (t->applied >= t->ready_at)
        atomic_store(&t->ready, true);
    bool seen_all = !t->opts.journal || journal_durable(t->opts.journal) <= t->applied;
    if (t->count && seen_all && now_ns - t->looked_ns >= LOOK_MS * NS_PER_MS) {
        t->looked_ns = now_ns;
        rules_look(t, clock_wall_us());
    }
    if (!pace_due(&t->pace, bytes, now_ns) || t->applied == t->saved)
        return t->saved;
    uint64_t begin = clock_mono_ns();
    int code = rules_snapshot(t, t->applied);
    pace_done(&t->pace, clock_mono_ns() - begin, now_ns, code, t->path);
    return t->saved;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int damaged(const struct rules *t, struct error *err, const char *what)
{
    return snapfile_damaged(t->path, err, what);
}

static bool get_u8(struct slice *in, uint8_t max, uint8_t *ret)
{
    if (!in->len || (uint8_t)in->ptr[0] > max)
        return false;
    *ret = (uint8_t)in->ptr[0];
    *in = slice_from(*in, 1);
    return true;
}

static bool get_u64(struct slice *in, void *ret)
{
    if (in->len < 8)
        return false;
    uint64_t v = le64_get(in->ptr);
    memcpy(ret, &v, sizeof v);
    *in = slice_from(*in, 8);
    return true;
}

static bool get_text(struct slice *in, size_t max, struct slice *ret)
{
    uint64_t len;
    if (!varint_take(in, max, &len) || len > in->len)
        return false;
    *ret = slice_of(in->ptr, (size_t)len);
    *in = slice_from(*in, (size_t)len);
    return true;
}

static bool get_owed(struct rules *t, struct rule_entry *e, struct slice *in)
{
    struct owed o = {0};
    uint8_t flags;
    uint64_t depth;
    if (!get_u8(in, OWED_FLAGS, &flags) || !get_u64(in, &o.offset) ||
        !varint_take(in, RULE_DEPTH_MAX, &depth) || !get_u64(in, &o.caused_us) ||
        !get_text(in, RULE_VALUE_MAX, &o.came))
        return false;
    o.depth = (unsigned)depth;
    o.tried = flags & TRIED;
    o.silence = flags & OF_SILENCE;
    if (o.silence)
        o.came = (struct slice){0};
    return rules_owe_one(t, e, &o);
}

static bool get_state(struct rules *t, struct rule_entry *e, struct slice in)
{
    uint8_t flags;
    uint64_t count, depth;
    struct slice error;
    if (!get_u8(&in, STATE_FLAGS, &flags) || !get_u64(&in, &e->last_hash) ||
        !get_u64(&in, &e->told) || !isfinite(e->told) || !get_u64(&in, &e->last_offset) ||
        !get_u64(&in, &depth) || depth > UINT32_MAX || !get_u64(&in, &e->last_us) ||
        !get_u64(&in, &e->caused_us) || !get_u64(&in, &e->fired) || !get_u64(&in, &e->suppressed) ||
        !get_u64(&in, &e->dropped) || !get_u64(&in, &e->fired_us) || !get_u64(&in, &e->error_us) ||
        !get_text(&in, sizeof e->error - 1, &error) || !varint_take(&in, RULE_PENDING_MAX, &count))
        return false;
    e->tripped = flags & TRIPPED;
    e->has_last = flags & HAS_LAST;
    e->has_told = flags & HAS_TOLD;
    e->has_caused = flags & HAS_CAUSED;
    e->last_depth = (unsigned)depth;
    memcpy(e->error, error.ptr, error.len);
    for (uint64_t i = 0; i < count; i++)
        if (!get_owed(t, e, &in))
            return false;
    return in.len == 0;
}

static bool load_entry(struct rules *t, const char *head, struct slice bytes)
{
    struct rule_record added;
    uint32_t len = bytes.len >= 4 ? le32_get(bytes.ptr) : UINT32_MAX;
    if (len > bytes.len - 4 || bytes.len < 4 ||
        !rule_record_decode(slice_of(bytes.ptr + 4, len), &added) || added.event != RULE_ADDED ||
        added.rule.id != le64_get(head + 12) || added.rule.id > t->last_id ||
        rules_find(t, added.rule.id))
        return false;
    struct rule_entry *e = rules_put(t, &added.rule);
    e->key_id = le32_get(head);
    return get_state(t, e, slice_from(bytes, 4 + (size_t)len));
}

static int load_entries(struct rules *t, const char *at, const char *end, uint64_t entries,
                        struct error *err)
{
    for (uint64_t i = 0; i < entries; i++) {
        const char *head = at;
        if (end - at < ENTRY_BYTES || le32_get(at + ENTRY_BOUND) > end - at - ENTRY_BYTES)
            return damaged(t, err, "it is too short");
        struct slice bytes = slice_of(at + ENTRY_BYTES, le32_get(at + ENTRY_BOUND));
        at += ENTRY_BYTES + bytes.len;
        int erased = le32_get(head)
                         ? snapfile_unseal(t->path, t->sealer, le32_get(head),
                                           slice_of(head, ENTRY_BOUND), &t->sealed, &bytes, err)
                         : 0;
        if (erased < 0)
            return erased;
        if (!erased && !load_entry(t, head, bytes))
            return damaged(t, err, "an entry is none");
    }
    return at == end ? 0 : damaged(t, err, "it is too long");
}

int rules_open(const struct rules_opts *opts, struct rules **ret, uint64_t *ret_cursor,
               struct error *err)
{
    struct rules *t = rules_new(opts);
    const struct snapfile f = file_of(t);
    struct snapfile_found found;
    struct buf bytes;
    buf_init(&bytes, SNAPFILE_MAX);
    int code = snapfile_read(&f, &bytes, &found, err);
    if (code == 0) {
        t->applied = t->saved = found.cursor;
        t->last_id = le64_get(bytes.ptr + SNAPFILE_HEAD);
        code = load_entries(t, found.body.ptr, found.body.ptr + found.body.len,
                            le64_get(bytes.ptr + ENTRIES_AT), err);
    }
    t->ready_at = opts->journal ? journal_durable(opts->journal) : 0;
    t->ready = t->ready_at <= t->applied;
    buf_fini(&bytes);
    if (code < 0) {
        rules_close(t);
        return code;
    }
    *ret = t;
    *ret_cursor = t->applied;
    return 0;
}
