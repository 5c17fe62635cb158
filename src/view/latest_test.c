/* SPDX-License-Identifier: Apache-2.0 */
#include "view/latest.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/rand.h"
#include "base/thread.h"
#include "flow/limits.h"

/* ---- a disk of one file in memory ------------------------------------------------------------ */

static struct {
    char *bytes;
    size_t len;
    int error;
    unsigned replaced;
} file;

static int mem_open(struct disk *d, const char *path, int flags, struct disk_file **ret)
{
    assert_int_equal(flags, O_RDONLY);
    if (!file.bytes)
        return -ENOENT;
    *ret = (struct disk_file *)&file;
    return 0;
}

static struct disk mem_disk = {.open = mem_open};

int disk_read_file(struct disk *d, const char *path, struct buf *out)
{
    struct disk_file *f;
    int rc = d->open(d, path, O_RDONLY, &f);
    if (rc == 0 && file.error)
        rc = file.error;
    if (rc == 0)
        buf_put(out, file.bytes, file.len);
    return rc;
}

/* The machine's disk has this of the others; it is not used here. */
int disk_sync_parent(struct disk *d, const char *path)
{
    return -EIO;
}

/* The keyring's; neither is this. */
int disk_write_full(struct disk *d, struct disk_file *f, const struct iovec *v, int n, uint64_t at)
{
    return -EIO;
}

int disk_replace(struct disk *d, const char *path, const void *ptr, size_t len)
{
    if (file.error)
        return file.error;
    free(file.bytes);
    file.bytes = malloc(len);
    memcpy(file.bytes, ptr, len);
    file.len = len;
    file.replaced++;
    return 0;
}

static void forget_file(void)
{
    free(file.bytes);
    memset(&file, 0, sizeof file);
}

static int try_open(uint64_t log_id, struct latest **ret, uint64_t *ret_cursor, struct error *err)
{
    struct latest_opts opts = {.disk = &mem_disk, .path = "/x/latest.snap", .log_id = {log_id, 2}};
    return latest_open(&opts, ret, ret_cursor, err);
}

static struct latest *open_file(uint64_t *ret_cursor)
{
    struct latest *l;
    struct error err;
    assert_int_equal(try_open(1, &l, ret_cursor, &err), 0);
    return l;
}

/* ---- records --------------------------------------------------------------------------------- */

static void apply_payload(struct latest *l, enum record_kind kind, uint64_t feed, int64_t us,
                          uint64_t offset, const struct buf *payload)
{
    latest_apply(l,
                 &(struct record){.kind = kind,
                                  .feed = feed,
                                  .event_us = us,
                                  .receive_us = us + 5,
                                  .payload = buf_slice(payload)},
                 offset);
}

static void put(struct latest *l, uint64_t feed, int64_t us, uint64_t offset, struct slice value)
{
    struct buf b;
    buf_init(&b, VALUE_BIG_MAX + 100);
    datum_encode(&b, &(struct datum){.value = value});
    apply_payload(l, RECORD_DATUM, feed, us, offset, &b);
    buf_fini(&b);
}

static void change(struct latest *l, uint64_t feed, int64_t ms, uint64_t target, uint64_t offset,
                   const char *value)
{
    struct buf b;
    buf_init(&b, 4096);
    datum_target_encode(&b, (struct datum_target){.event_ms = ms, .offset = target});
    if (value)
        datum_encode(&b, &(struct datum){.value = slice_str(value)});
    apply_payload(l, value ? RECORD_CHANGED : RECORD_DELETED, feed, 0, offset, &b);
    buf_fini(&b);
}

static void expect(struct latest *l, uint64_t feed, enum latest_found found, const char *value)
{
    struct buf storage;
    struct latest_value v;
    buf_init(&storage, VALUE_BIG_MAX + 32);
    assert_int_equal(latest_get(l, feed, &storage, &v), found);
    if (value)
        assert_true(slice_eq(v.datum.value, slice_str(value)));
    buf_fini(&storage);
}

static void the_greatest_time_wins(void **state)
{
    uint64_t cursor;
    struct latest *l = open_file(&cursor);
    assert_int_equal(cursor, 0);
    expect(l, 1, LATEST_NONE, NULL);
    put(l, 1, 5000, 10, SLICE("a"));
    put(l, 1, 4000, 11, SLICE("late"));
    expect(l, 1, LATEST_VALUE, "a");
    put(l, 1, 5000, 12, SLICE("b")); /* the same time: the greater offset */
    expect(l, 1, LATEST_VALUE, "b");
    change(l, 1, 5, 10, 13, "no");
    change(l, 1, 6, 12, 14, "no");
    expect(l, 1, LATEST_VALUE, "b");
    change(l, 1, 5, 12, 15, "changed to something rather long");
    struct buf storage;
    struct latest_value v;
    buf_init(&storage, VALUE_BIG_MAX + 32);
    assert_int_equal(latest_get(l, 1, &storage, &v), LATEST_VALUE);
    assert_true(slice_eq(v.datum.value, SLICE("changed to something rather long")));
    assert_int_equal(v.event_us, 5000);
    assert_int_equal(v.offset, 12);
    assert_int_equal(latest_version(l, 1), 16);
    buf_fini(&storage);
    change(l, 1, 5, 10, 16, NULL); /* an older one */
    expect(l, 1, LATEST_VALUE, NULL);
    change(l, 1, 5, 12, 17, NULL);
    expect(l, 1, LATEST_ASK_HISTORY, NULL);
    change(l, 1, 5, 12, 18, "no");
    put(l, 1, 4999, 19, SLICE("older than the deleted one"));
    expect(l, 1, LATEST_ASK_HISTORY, NULL);
    put(l, 1, 5001, 20, SLICE(""));
    expect(l, 1, LATEST_VALUE, "");
    put(l, 1, 9999, 15, SLICE("applied before"));
    expect(l, 1, LATEST_VALUE, "");
    struct buf none = {0};
    apply_payload(l, RECORD_DELETED, 1, 0, 21, &none);
    expect(l, 1, LATEST_NONE, NULL);
    assert_int_equal(latest_stats(l).feeds, 0);
    put(l, 1, 3, 22, SLICE("again"));
    expect(l, 1, LATEST_VALUE, "again");
    latest_close(l);
}

static void a_snapshot_brings_all_back(void **state)
{
    enum { FEEDS = 5000 };
    uint64_t cursor;
    struct latest *l = open_file(&cursor);
    char big[VALUE_BIG_MAX];
    memset(big, 'x', sizeof big);
    for (uint64_t f = 1; f <= FEEDS; f++) {
        char text[40];
        put(l, f, (int64_t)f * 1000, f,
            slice_of(text, (size_t)sprintf(text, "%llu%.*s", (unsigned long long)f, (int)(f % 20),
                                           "aaaaaaaaaaaaaaaaaaaa")));
        if (f % 7 == 0)
            change(l, f, (int64_t)f, f, f, NULL), change(l, f, (int64_t)f, f, FEEDS + f, NULL);
    }
    put(l, 777777, 1, 3 * FEEDS, slice_of(big, sizeof big));
    file.error = -ENOSPC;
    assert_int_equal(latest_snapshot(l, 20000), -ENOSPC);
    file.error = 0;
    assert_int_equal(latest_snapshot(l, 20000), 0);
    struct latest *back = open_file(&cursor);
    assert_int_equal(cursor, 20000);
    assert_int_equal(latest_stats(back).feeds, latest_stats(l).feeds);
    struct buf a, b;
    buf_init(&a, VALUE_BIG_MAX + 32);
    buf_init(&b, VALUE_BIG_MAX + 32);
    for (uint64_t f = 1; f <= 777777; f = f == FEEDS + 9 ? 777777 : f + 1) {
        struct latest_value va = {0}, vb = {0};
        assert_int_equal(latest_get(l, f, &a, &va), latest_get(back, f, &b, &vb));
        assert_true(slice_eq(buf_slice(&a), buf_slice(&b)));
        assert_true(va.event_us == vb.event_us && va.offset == vb.offset);
        assert_int_equal(latest_version(l, f), latest_version(back, f));
    }
    buf_fini(&a), buf_fini(&b);
    latest_close(back);
    latest_close(l);
    forget_file();
}

static void bad_snapshots_are_refused(void **state)
{
    uint64_t cursor;
    struct latest *l = open_file(&cursor);
    struct error err;
    for (uint64_t f = 1; f < 20; f++)
        put(l, f, 5, f, SLICE("value"));
    assert_int_equal(latest_snapshot(l, 100), 0);
    latest_close(l);
    assert_int_equal(try_open(2, &l, &cursor, &err), -ESTALE);
    for (size_t i = 0; i < file.len; i++) {
        file.bytes[i] ^= 0x10;
        int code = try_open(1, &l, &cursor, &err);
        assert_true(code == -EBADMSG || (code == -ENOTSUP && i >= 8 && i < 12));
        assert_non_null(strstr(err.text, "/x/latest.snap"));
        file.bytes[i] ^= 0x10;
    }
    size_t whole = file.len;
    for (file.len = 0; file.len < whole; file.len++)
        assert_int_equal(try_open(1, &l, &cursor, &err), -EBADMSG);
    file.bytes[8]++;
    assert_int_equal(try_open(1, &l, &cursor, &err), -ENOTSUP);
    file.error = -EIO;
    assert_int_equal(try_open(1, &l, &cursor, &err), -EIO);
    forget_file();
}

static void ticks_write_now_and_then(void **state)
{
    uint64_t cursor, s = 1000000000;
    struct latest *l = open_file(&cursor);
    assert_int_equal(latest_tick(l, 0, 0, 0), 0);
    put(l, 1, 1, 0, SLICE("1"));
    assert_int_equal(latest_tick(l, 1, 0, 29 * s), 0);
    assert_int_equal(latest_tick(l, 2, 0, 31 * s), 2);
    assert_int_equal(latest_tick(l, 2, 0, 99 * s), 2);
    assert_int_equal(file.replaced, 1); /* nothing new: nothing written */
    file.error = -ENOSPC;
    assert_int_equal(latest_tick(l, 3, 0, 199 * s), 2);
    file.error = 0;
    assert_int_equal(latest_tick(l, 3, 0, 299 * s), 3);
    assert_int_equal(latest_tick(l, 4, REPLAY_BYTES - 1, 309 * s), 3);
    assert_int_equal(latest_tick(l, 5, 1, 310 * s), 5); /* much of the journal since */
    latest_close(l);
    forget_file();
}

/* Against a plain array, with feeds that come and go, so that entries move in the table. */
static void random_feeds(void **state)
{
    enum { FEEDS = 3000 };
    static struct {
        bool has, gone;
        int64_t us;
        uint64_t offset;
        char value[64];
    } want[FEEDS];
    struct rand r = {.state = 4};
    uint64_t cursor;
    struct latest *l = open_file(&cursor);
    for (uint64_t offset = 0; offset < 200000; offset++) {
        uint64_t f = 1 + rand_below(&r, FEEDS - 1), dice = rand_below(&r, 10);
        if (dice < 5) {
            char text[64];
            int64_t us = (int64_t)rand_below(&r, 1000) * 1000;
            size_t len = (size_t)sprintf(text, "%0*llu", (int)rand_below(&r, 50),
                                         (unsigned long long)offset);
            put(l, f, us, offset, slice_of(text, len));
            if (!want[f].has || us >= want[f].us) {
                want[f].has = true, want[f].gone = false;
                want[f].us = us, want[f].offset = offset;
                memcpy(want[f].value, text, len + 1);
            }
        } else if (dice < 7) {
            struct buf none = {0};
            apply_payload(l, RECORD_DELETED, f, 0, offset, &none);
            memset(&want[f], 0, sizeof want[f]);
        } else if (want[f].has && dice == 7) {
            change(l, f, want[f].us / 1000, want[f].offset, offset, NULL);
            want[f].gone = true;
        } else {
            expect(l, f,
                   want[f].gone  ? LATEST_ASK_HISTORY
                   : want[f].has ? LATEST_VALUE
                                 : LATEST_NONE,
                   want[f].has && !want[f].gone ? want[f].value : NULL);
        }
    }
    latest_close(l);
}

/* Readers see a value that was written as a whole. */
struct race {
    struct latest *l;
    _Atomic bool stop;
    _Atomic uint64_t reads;
};

static void read_race(void *arg)
{
    struct race *c = arg;
    struct buf storage;
    buf_init(&storage, VALUE_BIG_MAX + 32);
    struct latest_value v;
    for (uint64_t f = 1; !c->stop; f = f % 500 + 1) {
        if (latest_get(c->l, f, &storage, &v) == LATEST_VALUE) {
            for (size_t i = 1; i < v.datum.value.len; i++)
                assert_int_equal(v.datum.value.ptr[i], v.datum.value.ptr[0]);
            assert_int_equal(v.datum.value.len, v.offset % 60);
            assert_int_equal(v.event_us, v.offset);
        }
        c->reads++;
    }
    buf_fini(&storage);
}

static void readers_see_whole_values(void **state)
{
    uint64_t cursor;
    struct race c = {.l = open_file(&cursor)};
    pthread_t reader = thread_start("reader", read_race, &c);
    struct rand r = {.state = 9};
    struct buf none = {0};
    char text[64];
    for (uint64_t offset = 0; offset < 200000 || c.reads < 10000; offset++) {
        uint64_t f = 1 + rand_below(&r, 500);
        memset(text, 'a' + (int)(offset % 26), sizeof text);
        put(c.l, f, (int64_t)offset, offset, slice_of(text, offset % 60));
        if (offset % 10 == 9)
            apply_payload(c.l, RECORD_DELETED, f, 0, ++offset, &none);
    }
    c.stop = true;
    pthread_join(reader, NULL);
    latest_close(c.l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_greatest_time_wins),
        cmocka_unit_test(a_snapshot_brings_all_back),
        cmocka_unit_test(bad_snapshots_are_refused),
        cmocka_unit_test(ticks_write_now_and_then),
        cmocka_unit_test(random_feeds),
        cmocka_unit_test(readers_see_whole_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
