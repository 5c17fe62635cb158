/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer. Lines collect in `pending`, are written and synced, and only then the file `state`
 * is replaced, so:
 *
 * 1. What `state` names is on disk: whatever of it cannot be found again was damaged.
 * 2. What the files hold beyond it may be torn, and is cut at the next start: the records of those
 *    lines are above the cursor in `state`, so the journal gives them again.
 * 3. `pending` is kept until the sync that covers it returned, and written whole again at the same
 *    place if that failed: the kernel may have thrown away what it was to sync.
 * 4. Files that retention removes leave `state` first (its oldest entry and anchor), then the disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "codec/civil.h"
#include "view/audit_own.h"

#define WRITE_NS    (100 * NS_PER_MS) /* lines of so long are synced together */
#define WRITE_BYTES (1u << 20)        /* or so many */
#define STUCK_BYTES (8u << 20)
#define SAVE_NS     (30 * NS_PER_S) /* how often the cursor is noted when nothing changes */
#define TRIM_NS     (10 * NS_PER_S)

void audit_count(struct audit *a)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < a->files_count; i++)
        bytes += a->files[i].bytes;
    atomic_store_explicit(&a->entries, a->at.next - a->at.oldest, memory_order_relaxed);
    atomic_store_explicit(&a->files_now, a->files_count, memory_order_relaxed);
    atomic_store_explicit(&a->bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&a->told, a->at.change, memory_order_relaxed);
}

void audit_add_file(struct audit *a, const struct audit_head *head, uint64_t bytes)
{
    struct audit_file *more = realloc(a->files, (a->files_count + 1) * sizeof *more);
    CHECK(more);
    a->files = more;
    a->files[a->files_count++] = (struct audit_file){.first = head->first,
                                                     .prev = head->prev,
                                                     .before_us = head->until_us,
                                                     .change = head->change,
                                                     .bytes = bytes};
}

int audit_open_file(struct audit *a, uint64_t first, int flags, struct disk_file **ret)
{
    char name[AUDIT_NAME_BYTES];
    audit_name(name, first);
    char *path = audit_path(a->dir, name);
    int code = a->opts.disk->open(a->opts.disk, path, flags, ret);
    free(path);
    return code;
}

int audit_remove_file(struct audit *a, uint64_t first)
{
    char name[AUDIT_NAME_BYTES];
    audit_name(name, first);
    char *path = audit_path(a->dir, name);
    int code = a->opts.disk->unlink(a->opts.disk, path);
    free(path);
    return code == -ENOENT ? 0 : code;
}

static void close_file(struct audit *a)
{
    if (a->open)
        a->opts.disk->close(a->opts.disk, a->open);
    a->open = NULL;
    a->current = false;
}

/* ---- making it durable ----------------------------------------------------------------------- */

int audit_save(struct audit *a)
{
    struct buf b;
    a->at.cursor = a->applied;
    buf_init(&b, AUDIT_HEAD_MAX);
    audit_put_state(&b, &a->at);
    CHECK(!b.failed);
    char *path = audit_path(a->dir, AUDIT_STATE);
    int code = disk_replace(a->opts.disk, path, b.ptr, b.len);
    free(path);
    buf_fini(&b);
    if (code == 0)
        a->saved = a->at;
    return code;
}

static int write_pending(struct audit *a)
{
    struct disk *d = a->opts.disk;
    struct audit_file *last = &a->files[a->files_count - 1];
    int code = a->open ? 0 : audit_open_file(a, last->first, O_RDWR | O_CREAT, &a->open);
    const struct iovec v = {.iov_base = a->pending.ptr, .iov_len = a->pending.len};
    if (code == 0)
        code = disk_write_full(d, a->open, &v, 1, a->written);
    if (code == 0)
        code = d->fdatasync(d, a->open);
    if (code == 0 && a->unnamed)
        code = d->sync_dir(d, a->dir);
    if (code < 0)
        return code;
    a->unnamed = false;
    a->written += a->pending.len;
    last->bytes = a->written;
    buf_clear(&a->pending);
    return 0;
}

/* Makes every line durable, and the cursor too if there were lines, or `noting`. */
static int settle(struct audit *a, bool noting)
{
    int code = a->pending.len ? write_pending(a) : 0;
    if (code == 0 && (a->saved.next != a->at.next || (noting && a->saved.cursor != a->applied)))
        code = audit_save(a);
    if (code < 0 && !a->failing)
        log_line(LOG_ERROR, "audit.write_failed", "dir=%s error=%s", a->dir, strerror(-code));
    a->failing = code < 0;
    audit_count(a);
    return code;
}

/* ---- retention ------------------------------------------------------------------------------- */

/* The newest time in the file. */
static int64_t until_of(const struct audit *a, size_t i)
{
    return i + 1 < a->files_count ? a->files[i + 1].before_us : a->at.until_us;
}

/* Removes the first files, all of whose entries are too old; with the last one the log is empty,
 * and goes on from there. */
static void trim(struct audit *a, int64_t now_us)
{
    uint64_t keep_ms = atomic_load_explicit(&a->keep_ms, memory_order_relaxed), gone = 0;
    struct audit_state before = a->at;
    size_t n = 0;
    if (!keep_ms || keep_ms > (uint64_t)(INT64_MAX / 1000) || a->pending.len)
        return;
    while (n < a->files_count && until_of(a, n) < now_us - (int64_t)keep_ms * 1000)
        n++;
    if (!n)
        return;
    a->at.oldest = n < a->files_count ? a->files[n].first : a->at.next;
    a->at.anchor = n < a->files_count ? a->files[n].prev : a->at.last;
    int code = audit_save(a);
    if (code < 0) {
        log_line(LOG_ERROR, "audit.trim_failed", "dir=%s error=%s", a->dir, strerror(-code));
        a->at.oldest = before.oldest;
        a->at.anchor = before.anchor;
        return;
    }
    if (n == a->files_count)
        close_file(a);
    for (size_t i = 0; i < n; i++)
        gone += audit_remove_file(a, a->files[i].first) == 0; /* else the next start does it */
    a->files_count -= n;
    memmove(a->files, a->files + n, a->files_count * sizeof *a->files);
    audit_count(a);
    log_line(LOG_INFO, "audit.removed", "dir=%s files=%llu entries_below=%llu", a->dir,
             (unsigned long long)gone, (unsigned long long)a->at.oldest);
}

void audit_set_keep(struct audit *a, uint64_t keep_ms)
{
    atomic_store_explicit(&a->keep_ms, keep_ms, memory_order_relaxed);
}

/* ---- taking records -------------------------------------------------------------------------- */

int audit_month(int64_t us)
{
    struct civil c = civil_at(civil_floor_div(us, DAY_S * US_PER_S));
    return (int)(c.year * 12 + c.month);
}

/* The number the catalog gave the change; 0: it says none. */
static uint64_t change_of(struct slice payload)
{
    static const char begin[] = "{\"change_id\":";
    uint64_t v = 0;
    if (!slice_starts(payload, slice_str(begin)))
        return 0;
    for (struct slice s = slice_from(payload, sizeof begin - 1);
         s.len && s.ptr[0] >= '0' && s.ptr[0] <= '9'; s = slice_from(s, 1))
        v = v * 10 + (uint64_t)(s.ptr[0] - '0');
    return v;
}

/*
 * The catalog tells its changes in the order of their numbers, and after a crash once more those it
 * cannot know to be told. A smaller number with a later time is no repetition: the catalog is
 * another one.
 */
static bool is_repeated(struct audit *a, const struct record *r, uint64_t change)
{
    bool repeated = change && change <= a->at.change && r->event_us <= a->at.until_us;
    if (repeated && !a->repeating)
        log_line(LOG_INFO, "audit.repeated", "change=%llu", (unsigned long long)change);
    a->repeating = repeated;
    return repeated;
}

static void begin_file(struct audit *a, int month)
{
    const struct audit_head head = {.log_id = {a->at.log_id[0], a->at.log_id[1]},
                                    .first = a->at.next,
                                    .prev = a->at.last,
                                    .until_us = a->at.until_us,
                                    .change = a->at.change};
    audit_add_file(a, &head, 0);
    audit_put_head(&a->pending, &head, &a->at.last);
    a->current = true;
    a->unnamed = true;
    a->month = month;
    a->written = 0;
}

/* The record's text as a line holds it: it is one line of JSON already. */
static struct slice plain_text(struct slice payload)
{
    bool good = payload.len >= 2 && payload.len <= AUDIT_PAYLOAD_MAX && payload.ptr[0] == '{' &&
                payload.ptr[payload.len - 1] == '}';
    for (size_t i = 0; i < payload.len && good; i++)
        good = (unsigned char)payload.ptr[i] >= 0x20;
    return good ? payload : SLICE("null");
}

/* The same, sealed, in base64; empty when the key was destroyed meanwhile. */
static struct slice sealed_text(struct audit *a, const struct audit_line *l, struct slice plain)
{
    struct buf bound;
    struct slice ret = {.ptr = "", .len = 0};
    buf_init(&bound, AUDIT_HEAD_MAX);
    buf_clear(&a->sealed);
    audit_put_bound(&bound, &l->entry);
    enum seal_outcome done =
        a->sealer ? seal_bytes(a->sealer, l->key_id, buf_slice(&bound), plain, &a->sealed)
                  : SEAL_UNKNOWN;
    CHECK(done != SEAL_MEMORY);
    size_t n = a->sealed.len;
    char *to = done == SEAL_DONE ? buf_reserve(&a->sealed, n / 3 * 4 + 5) : NULL;
    if (to)
        ret = slice_of(to, (size_t)EVP_EncodeBlock((unsigned char *)to,
                                                   (const unsigned char *)a->sealed.ptr, (int)n));
    buf_fini(&bound);
    return ret;
}

static void note_change(struct audit *a, uint64_t change)
{
    a->at.change = change;
    atomic_store_explicit(&a->told, change, memory_order_relaxed);
}

/* Makes the record's line; `change` 0: it is not known. */
static void put_line(struct audit *a, const struct record *r, uint64_t offset, uint64_t change,
                     bool shut)
{
    int month = audit_month(r->event_us);
    bool full = a->written + a->pending.len > a->opts.file_bytes;
    /* Written out first; if the disk refuses that, the file grows on. */
    if (a->current && (full || month > a->month) && settle(a, false) == 0)
        close_file(a);
    if (!a->current)
        begin_file(a, month);
    struct audit_line l = {.entry = {.number = a->at.next,
                                     .offset = offset,
                                     .at_us = r->event_us,
                                     .change = change,
                                     .account = r->account},
                           .key_id = r->key_id,
                           .stored = shut ? SLICE("") : plain_text(r->payload)};
    if (l.key_id && !shut)
        l.stored = sealed_text(a, &l, l.stored);
    struct audit_hash prev = a->at.last;
    audit_put_entry(&a->pending, &l, &prev, &a->at.last);
    CHECK(!a->pending.failed);
    a->at.next++;
    if (change)
        note_change(a, change);
    if (r->event_us > a->at.until_us)
        a->at.until_us = r->event_us;
    a->applied = offset + 1;
    metric_add(METRIC_view_audit_records, 1);
}

void audit_apply(struct audit *a, const struct record *r, uint64_t offset)
{
    if (offset < a->applied || (r->kind != RECORD_AUDIT && r->kind != RECORD_DICTIONARY))
        return;
    uint64_t change = change_of(r->payload);
    if (r->kind == RECORD_DICTIONARY) {
        if (change > a->at.change)
            note_change(a, change);
        a->applied = offset + 1;
    } else if (is_repeated(a, r, change))
        a->applied = offset + 1;
    else
        put_line(a, r, offset, change, false);
}

void audit_apply_shut(struct audit *a, const struct record *r, uint64_t offset)
{
    if (r->kind == RECORD_AUDIT && offset >= a->applied && r->key_id)
        put_line(a, r, offset, 0, true);
}

uint64_t audit_tick(struct audit *a, uint64_t next_offset, uint64_t now_ns)
{
    if (next_offset > a->applied)
        a->applied = next_offset;
    if (!a->clock_known) {
        a->clock_known = true;
        a->written_ns = a->saved_ns = now_ns - SAVE_NS;
        a->trimmed_ns = now_ns - TRIM_NS;
    }
    bool noting = now_ns - a->saved_ns >= SAVE_NS;
    if (noting || a->pending.len >= WRITE_BYTES || now_ns - a->written_ns >= WRITE_NS) {
        settle(a, noting);
        a->written_ns = now_ns;
        a->saved_ns = noting ? now_ns : a->saved_ns;
    }
    if (now_ns - a->trimmed_ns >= TRIM_NS) {
        trim(a, clock_wall_us());
        a->trimmed_ns = now_ns;
    }
    return a->saved.cursor;
}

bool audit_stuck(const struct audit *a)
{
    return a->pending.len >= STUCK_BYTES;
}

int audit_flush(struct audit *a, uint64_t next_offset)
{
    if (next_offset > a->applied)
        a->applied = next_offset;
    return settle(a, true);
}

struct audit_stats audit_stats(const struct audit *a)
{
    return (struct audit_stats){
        .entries = atomic_load_explicit(&a->entries, memory_order_relaxed),
        .files = atomic_load_explicit(&a->files_now, memory_order_relaxed),
        .bytes = atomic_load_explicit(&a->bytes, memory_order_relaxed),
        .told = atomic_load_explicit(&a->told, memory_order_relaxed),
    };
}
