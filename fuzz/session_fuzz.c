/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MQTT sessions from any bytes. The first byte of an input chooses:
 *   0  payloads of records, each behind a byte that says how long it is and one that says whose:
 * what is understood is the same when it is written again, and what it makes of the table comes
 * back from a snapshot 1  entries of a snapshot, in a good frame: refused, or the same when they
 * are written again 2  a whole snapshot file
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "flow/publish.h"
#include "journal/format.h"
#include "view/sessions.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ITEMS_MAX 1024u

/* ---- a disk of one file in memory ------------------------------------------------------------ */

static struct buf file;
static bool exists;

static int on_open(struct disk *d, const char *path, int flags, struct disk_file **ret)
{
    (void)d, (void)path;
    if (flags & O_CREAT)
        buf_clear(&file);
    else if (!exists)
        return -ENOENT;
    exists = true;
    *ret = (struct disk_file *)&file;
    return 0;
}

static int on_close(struct disk *d, struct disk_file *f)
{
    (void)d, (void)f;
    return 0;
}

static ssize_t on_pread(struct disk *d, struct disk_file *f, void *to, size_t len, uint64_t at)
{
    (void)d, (void)f;
    struct slice rest = slice_from(buf_slice(&file), (size_t)at);
    size_t n = len < rest.len ? len : rest.len;
    if (n)
        memcpy(to, rest.ptr, n);
    return (ssize_t)n;
}

static ssize_t on_pwritev(struct disk *d, struct disk_file *f, const struct iovec *v, int n,
                          uint64_t at)
{
    (void)d, (void)f;
    size_t before = file.len;
    CHECK(at == file.len);
    for (int i = 0; i < n; i++)
        buf_put(&file, v[i].iov_base, v[i].iov_len);
    return (ssize_t)(file.len - before);
}

static int on_size(struct disk *d, struct disk_file *f, uint64_t *ret)
{
    (void)d, (void)f;
    *ret = file.len;
    return 0;
}

static int on_sync(struct disk *d, struct disk_file *f)
{
    (void)d, (void)f;
    return 0;
}

static int on_truncate(struct disk *d, struct disk_file *f, uint64_t size)
{
    (void)d, (void)f;
    CHECK(size <= file.len);
    file.len = (size_t)size;
    return 0;
}

static int on_rename(struct disk *d, const char *from, const char *to)
{
    (void)d, (void)from, (void)to;
    return 0;
}

static int on_path(struct disk *d, const char *path)
{
    (void)d, (void)path;
    return 0;
}

static struct disk disk = {.open = on_open,
                           .close = on_close,
                           .pread = on_pread,
                           .pwritev = on_pwritev,
                           .fdatasync = on_sync,
                           .truncate = on_truncate,
                           .size = on_size,
                           .rename = on_rename,
                           .unlink = on_path,
                           .sync_dir = on_path};

static struct sessions *open_table(uint64_t *ret_cursor)
{
    struct sessions_opts opts = {.disk = &disk,
                                 .path = "s",
                                 .log_id = {0x2020202020202020, 0x2020202020202020},
                                 .sessions_max = 64,
                                 .sessions_per_account_max = 48,
                                 .retained_max = 64,
                                 .retained_per_account_max = 48,
                                 .memory_max = 1 << 20,
                                 .memory_per_account_max = 1 << 19};
    struct sessions *t = NULL;
    struct error err;
    int rc = sessions_open(&opts, &t, ret_cursor, &err);
    CHECK(rc == 0 || rc == -EBADMSG || rc == -ENOTSUP || rc == -ESTALE);
    return rc == 0 ? t : NULL;
}

/* What the table is after a restart is what it was; writing it again writes the same bytes, but
 * perhaps in another order. */
static void expect_same_again(struct sessions *t, uint64_t cursor)
{
    struct sessions_stats before = sessions_stats(t), after;
    CHECK(sessions_snapshot(t, cursor) == 0);
    size_t len = file.len;
    uint64_t again;
    struct sessions *back = open_table(&again);
    CHECK(back && again == cursor);
    after = sessions_stats(back);
    CHECK(before.sessions == after.sessions && before.retained == after.retained);
    CHECK(before.bytes == after.bytes && before.connected == after.connected);
    CHECK(sessions_snapshot(back, cursor) == 0 && file.len == len);
    sessions_close(back);
}

/* ---- records --------------------------------------------------------------------------------- */

static void write_again(const struct session_record *r, struct buf *out)
{
    static struct session_item items[ITEMS_MAX];
    struct session_record copy = *r;
    struct session_item item = {0};
    struct slice list = r->list;
    copy.count = 0;
    while (copy.count < ITEMS_MAX && session_next_item(r, &list, &item))
        items[copy.count++] = item;
    CHECK(copy.count == r->count);
    copy.items = items;
    session_record_encode(out, &copy);
    CHECK(!out->failed);
}

static void try_record(struct slice payload)
{
    struct session_record r, again;
    struct publish p, p_again;
    struct buf first, second;
    buf_init(&first, 1 << 16);
    buf_init(&second, 1 << 16);
    if (session_record_decode(payload, &r)) {
        write_again(&r, &first);
        CHECK(first.len <= payload.len);
        CHECK(session_record_decode(buf_slice(&first), &again));
        write_again(&again, &second);
        CHECK(slice_eq(buf_slice(&first), buf_slice(&second)));
    }
    buf_clear(&first);
    if (publish_decode(payload, &p)) {
        publish_encode(&first, &p);
        CHECK(publish_decode(buf_slice(&first), &p_again));
        CHECK(slice_eq(p.message, p_again.message) && slice_eq(p.properties, p_again.properties));
    }
    buf_fini(&first);
    buf_fini(&second);
}

/* Bits 0-1 of `whose`: the account, 2-4: the session, 5: a message, 6: retained, 7: a will. */
static void apply(struct sessions *t, uint8_t whose, struct slice payload, uint64_t offset)
{
    struct record r = {.kind = whose & 32 ? RECORD_PUBLISH : RECORD_SESSION,
                       .account = whose & 3,
                       .receive_us = (int64_t)offset,
                       .flags =
                           (whose & 64 ? RECORD_F_RETAIN : 0) | (whose & 128 ? RECORD_F_WILL : 0),
                       .topic = SLICE("a/b"),
                       .payload = payload};
    r.producer.session = whose >> 2 & 7;
    r.producer.sequence = r.kind == RECORD_PUBLISH ? payload.len : 0;
    sessions_apply(t, &r, offset);
}

static void try_records(const uint8_t *data, size_t size)
{
    uint64_t cursor, offset = 0;
    exists = false;
    struct sessions *t = open_table(&cursor);
    CHECK(t && cursor == 0);
    while (size >= 2) {
        size_t len = data[0] < size - 2 ? data[0] : size - 2;
        struct slice payload = slice_of(data + 2, len);
        try_record(payload);
        apply(t, data[1], payload, offset++);
        data += 2 + len;
        size -= 2 + len;
    }
    expect_same_again(t, offset);
    sessions_close(t);
}

/* ---- snapshots ------------------------------------------------------------------------------- */

static void try_snapshot(void)
{
    uint64_t cursor;
    exists = true;
    struct sessions *t = open_table(&cursor);
    if (t && sessions_stats(t).dropped == 0)
        expect_same_again(t, cursor);
    sessions_close(t);
}

static void try_entries(const uint8_t *data, size_t size)
{
    if (size < 1)
        return;
    buf_clear(&file);
    buf_put(&file, "SLSESSNS\1\0\0\0\0\0\0\0", 16);
    buf_put(&file, "                ", 16); /* log id */
    buf_put_u64(&file, 7);
    buf_put_u64(&file, 1000);
    buf_put_u64(&file, data[0]); /* entries */
    buf_put(&file, data + 1, size - 1);
    buf_put_u32(&file, crc32c(0, file.ptr, file.len));
    try_snapshot();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_set_level(LOG_ERROR + 1);
    if (!file.max)
        buf_init(&file, 16 << 20);
    if (size < 1)
        return 0;
    if (data[0] == 0) {
        try_records(data + 1, size - 1);
    } else if (data[0] == 1) {
        try_entries(data + 1, size - 1);
    } else {
        buf_clear(&file);
        buf_put(&file, data + 1, size - 1);
        try_snapshot();
    }
    return 0;
}
