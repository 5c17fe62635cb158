/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The snapshot file, little endian:
 *   8 bytes  "SLSESSNS"
 *   u32 format, u32 0, 16 bytes log id, u64 cursor, u64 last session number, u64 entries
 *   per entry: u32 kind, u32 key number, u64 account, u64 number, u32 length, bytes; sealed if the
 *              key number is not 0, and bound to all before the length
 *     kind 1: a session of that number, as session_encode writes it
 *     kind 2: a retained message; number is its offset; u64 credential, i64 received,
 *             u32 length of the topic, topic, publish
 *     kind 3: the same, behind u64 client; from format 2 on
 *     kind 4: a group of a shared subscription, behind the sessions; number is its floor; varint
 *             count, places as varint steps, the first from the floor, filter; from format 3 on
 *   u32      CRC-32C of all before it
 * It is replaced as a whole. Entries are encoded with the table's lock held for one bucket at a
 * time, and sealed without it.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "base/varint.h"
#include "flow/publish.h"
#include "journal/format.h"
#include "view/sessions_own.h"
#include "view/snapfile.h"

enum {
    FORMAT = 3,
    HEAD_BYTES = 56,
    ENTRIES_AT = 48, /* where the head says how many */
    ENTRY_BYTES = 28,
    ENTRY_BOUND = 24,
    RETAINED_HEAD = 20,
    FORGET_MS = 200, /* between two looks for what has expired */
};

enum entry_kind { ENTRY_SESSION = 1, ENTRY_RETAINED = 2, ENTRY_RETAINED_OF = 3, ENTRY_GROUP = 4 };

/* ---- writing --------------------------------------------------------------------------------- */

/* The entry's head; its length and bytes are still to come. */
static void put_head(struct buf *b, enum entry_kind kind, uint32_t key_id, uint64_t account,
                     uint64_t number)
{
    buf_put_u32(b, kind);
    buf_put_u32(b, key_id);
    buf_put_u64(b, account);
    buf_put_u64(b, number);
}

/* Moves the entries of `plain` to `b`, sealed where they have a key. Returns how many: those whose
 * key was destroyed are no more. */
static uint64_t seal_entries(struct sessions *t, struct buf *b)
{
    uint64_t count = 0;
    for (size_t head = 0; head < t->plain.len;) {
        const char *at = t->plain.ptr + head;
        struct slice about = slice_of(at, ENTRY_BOUND);
        uint32_t key_id = le32_get(at + 4), len = le32_get(at + ENTRY_BOUND);
        struct slice bytes = slice_of(at + ENTRY_BYTES, len);
        head += ENTRY_BYTES + len;
        if (key_id) {
            buf_clear(&t->sealed);
            enum seal_outcome done = seal_bytes(t->sealer, key_id, about, bytes, &t->sealed);
            CHECK(done != SEAL_MEMORY);
            if (done != SEAL_DONE)
                continue;
            bytes = buf_slice(&t->sealed);
        }
        buf_put_slice(b, about);
        buf_put_u32(b, (uint32_t)bytes.len);
        buf_put_slice(b, bytes);
        count++;
    }
    buf_clear(&t->plain);
    return count;
}

/* Writes where the entry that begins at `head` ends. */
static void end_entry(struct buf *b, size_t head)
{
    CHECK(!b->failed);
    le32_put(b->ptr + head + ENTRY_BOUND, (uint32_t)(b->len - head - ENTRY_BYTES));
}

static void put_session(struct sessions *t, const struct session *s)
{
    size_t head = t->plain.len;
    put_head(&t->plain, ENTRY_SESSION, t->sealer ? s->key_id : 0, s->account, s->number);
    buf_put_u32(&t->plain, 0);
    session_encode(&t->plain, s);
    end_entry(&t->plain, head);
}

static void put_retained(struct sessions *t, uint64_t account, const struct retained_entry *e)
{
    size_t head = t->plain.len;
    put_head(&t->plain, e->client ? ENTRY_RETAINED_OF : ENTRY_RETAINED, t->sealer ? e->key_id : 0,
             account, e->offset);
    buf_put_u32(&t->plain, 0);
    if (e->client)
        buf_put_u64(&t->plain, e->client);
    buf_put_u64(&t->plain, e->credential);
    buf_put_u64(&t->plain, (uint64_t)e->receive_us);
    buf_put_u32(&t->plain, (uint32_t)e->topic.len);
    buf_put_slice(&t->plain, e->topic);
    buf_put_slice(&t->plain, e->payload);
    end_entry(&t->plain, head);
}

static void put_group(struct sessions *t, const struct session_group *g)
{
    size_t head = t->plain.len;
    uint64_t before = session_place(g->floor, 0);
    put_head(&t->plain, ENTRY_GROUP, t->sealer ? g->key_id : 0, g->account->number, g->floor);
    buf_put_u32(&t->plain, 0);
    buf_put_varint(&t->plain, g->given.count);
    for (uint32_t i = 0; i < g->given.count; before = ascending_at(&g->given, i++))
        buf_put_varint(&t->plain, ascending_at(&g->given, i) - before);
    buf_put_slice(&t->plain, g->filter);
    end_entry(&t->plain, head);
}

static uint64_t put_groups(struct sessions *t, struct buf *b, uint64_t i)
{
    pthread_mutex_lock(&t->lock);
    for (const struct session_group *g = t->groups[i]; g; g = g->next) {
        if (g->floor || g->given.count)
            put_group(t, g);
    }
    pthread_mutex_unlock(&t->lock);
    return seal_entries(t, b);
}

static uint64_t put_bucket(struct sessions *t, struct buf *b, uint64_t i)
{
    pthread_mutex_lock(&t->lock);
    for (const struct session_entry *e = t->by_number[i]; e; e = e->next_by_number)
        put_session(t, &e->s);
    for (const struct session_account *a = t->accounts[i]; a; a = a->next)
        for (uint32_t k = 0; k < a->retained_count; k++)
            put_retained(t, a->number, a->retained[k]);
    pthread_mutex_unlock(&t->lock);
    return seal_entries(t, b);
}

static struct snapfile file_of(const struct sessions *t)
{
    return (struct snapfile){.disk = t->opts.disk,
                             .path = t->path,
                             .magic = "SLSESSNS",
                             .format = FORMAT,
                             .head_bytes = HEAD_BYTES,
                             .log_id = t->opts.log_id};
}

int sessions_snapshot(struct sessions *t, uint64_t cursor)
{
    struct buf b;
    uint64_t entries = 0;
    const struct snapfile f = file_of(t);
    buf_init(&b, SNAPFILE_MAX);
    snapfile_begin(&f, cursor, &b);
    buf_put_u64(&b, atomic_load(&t->last_number));
    buf_put_u64(&b, 0); /* entries, when they are known */
    for (uint64_t i = 0; i <= t->mask; i++)
        entries += put_bucket(t, &b, i);
    for (uint64_t i = 0; i < SESSION_GROUP_BUCKETS; i++)
        entries += put_groups(t, &b, i);
    if (!b.failed)
        le64_put(b.ptr + ENTRIES_AT, entries);
    int code = snapfile_write(&f, &b);
    buf_fini(&b);
    if (code == 0)
        t->saved = cursor;
    return code;
}

uint64_t sessions_tick(struct sessions *t, uint64_t next_offset, uint64_t bytes, uint64_t now_ns)
{
    if (next_offset > t->applied)
        t->applied = next_offset;
    if (now_ns - t->forgot_ns >= FORGET_MS * NS_PER_MS) {
        t->forgot_ns = now_ns;
        sessions_forget(t, clock_wall_us());
        struct sessions_stats now = sessions_stats(t);
        metric_set(METRIC_sessions, now.sessions);
        metric_set(METRIC_sessions_connected, now.connected);
        metric_set(METRIC_retained_messages, now.retained);
        metric_set(METRIC_session_bytes, now.bytes);
    }
    if (!pace_due(&t->pace, bytes, now_ns) || t->applied == t->saved)
        return t->saved;
    uint64_t begin = clock_mono_ns();
    int code = sessions_snapshot(t, t->applied);
    pace_done(&t->pace, clock_mono_ns() - begin, now_ns, code, t->path);
    return t->saved;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int damaged(const struct sessions *t, struct error *err, const char *what)
{
    return snapfile_damaged(t->path, err, what);
}

static bool load_session(struct sessions *t, const char *head, struct slice bytes)
{
    struct session s;
    if (!session_decode(bytes, &s))
        return false;
    s.key_id = le32_get(head + 4);
    s.account = le64_get(head + 8);
    s.number = le64_get(head + 16);
    enum sessions_insert done = SESSIONS_THERE;
    if (s.number && s.number <= t->last_number)
        done = sessions_insert(t, &s);
    if (done != SESSIONS_INSERTED)
        session_fini(&s);
    return done != SESSIONS_THERE; /* a smaller limit than when it was written is no damage */
}

static bool load_retained(struct sessions *t, const char *head, struct slice bytes)
{
    struct publish p;
    bool of_client = le32_get(head) == ENTRY_RETAINED_OF;
    if (bytes.len < RETAINED_HEAD + (of_client ? 8u : 0u))
        return false;
    uint64_t client = of_client ? le64_get(bytes.ptr) : 0;
    bytes = slice_from(bytes, of_client ? 8 : 0);
    uint32_t topic = le32_get(bytes.ptr + 16);
    struct retained_entry e = {.offset = le64_get(head + 16),
                               .credential = le64_get(bytes.ptr),
                               .client = client,
                               .receive_us = (int64_t)le64_get(bytes.ptr + 8),
                               .key_id = le32_get(head + 4)};
    bytes = slice_from(bytes, RETAINED_HEAD);
    if (topic == 0 || topic > bytes.len)
        return false;
    e.topic = slice_of(bytes.ptr, topic);
    e.payload = slice_from(bytes, topic);
    if (!publish_decode(e.payload, &p) || !p.message.len)
        return false;
    e.expires_us = publish_expires_us(&p, e.receive_us);
    if (!retained_put(t, le64_get(head + 8), &e))
        sessions_drop(t, 1); /* the limit is smaller than when it was written */
    return true;
}

static bool load_group(struct sessions *t, const char *head, struct slice bytes)
{
    uint64_t count, step, floor = le64_get(head + 16), place = session_place(floor, 0);
    if (floor > UINT64_MAX >> 4 || !varint_take(&bytes, SHARE_GIVEN_MAX, &count) ||
        count > bytes.len)
        return false;
    struct ascending given = {0};
    while (given.count < count && varint_take(&bytes, UINT64_MAX - place, &step) &&
           ascending_put(&given, place + step))
        place += step;
    bool good = given.count == count && bytes.len;
    if (good)
        groups_load(t, le64_get(head + 8), bytes, floor, &given);
    ascending_fini(&given);
    return good;
}

static int load_entries(struct sessions *t, const char *at, const char *end, uint64_t entries,
                        struct error *err)
{
    for (uint64_t i = 0; i < entries; i++) {
        if (end - at < ENTRY_BYTES)
            return damaged(t, err, "it is too short");
        const char *head = at;
        uint32_t kind = le32_get(head), len = le32_get(head + ENTRY_BOUND);
        at += ENTRY_BYTES;
        if (len > end - at)
            return damaged(t, err, "it is too short");
        struct slice bytes = slice_of(at, len);
        at += len;
        int erased = le32_get(head + 4)
                         ? snapfile_unseal(t->path, t->sealer, le32_get(head + 4),
                                           slice_of(head, ENTRY_BOUND), &t->sealed, &bytes, err)
                         : 0;
        if (erased < 0)
            return erased;
        if (erased)
            continue;
        bool good = kind == ENTRY_SESSION && load_session(t, head, bytes);
        if (kind == ENTRY_RETAINED || kind == ENTRY_RETAINED_OF)
            good = load_retained(t, head, bytes);
        if (kind == ENTRY_GROUP)
            good = load_group(t, head, bytes);
        if (!good)
            return damaged(t, err, "an entry is none");
    }
    return at == end ? 0 : damaged(t, err, "it is too long");
}

int sessions_open(const struct sessions_opts *opts, struct sessions **ret, uint64_t *ret_cursor,
                  struct error *err)
{
    struct sessions *t = sessions_new(opts);
    const struct snapfile f = file_of(t);
    struct snapfile_found found;
    struct buf bytes;
    buf_init(&bytes, SNAPFILE_MAX);
    int code = snapfile_read(&f, &bytes, &found, err);
    if (code == 0) {
        t->applied = t->saved = found.cursor;
        atomic_store(&t->last_number, le64_get(bytes.ptr + SNAPFILE_HEAD));
        code = load_entries(t, found.body.ptr, found.body.ptr + found.body.len,
                            le64_get(bytes.ptr + ENTRIES_AT), err);
    }
    buf_fini(&bytes);
    if (code < 0) {
        sessions_close(t);
        return code;
    }
    *ret = t;
    *ret_cursor = t->applied;
    return 0;
}
