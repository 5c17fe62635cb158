/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as the files of a log: recovery, readers and tools must neither crash nor lie about
 * what they return, whatever they find. A log that opened must open again to the same end, and take
 * more.
 *
 * The input is a row of patches to a small good log, so that CRCs do not keep the fuzzer out:
 *   u8 what: bits 0-1 the file (segment, next segment, checkpoint a, checkpoint b), bit 2: seal the
 *   header or checkpoint again after the patch, bit 3: open with skip_corrupt
 *   u24 position, u8 length, that many bytes
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "journal/disk_sim.h"
#include "journal/internal.h"
#include "journal/record.h"

#define SEGMENT 16384u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct disk_sim *master;
static char paths[4][64];
static uint64_t salts[2];

static void on_done(struct journal_append *a)
{
    (void)a;
}

static void append(struct journal *j, size_t len)
{
    static char payload[2000];
    struct journal_append a = {.done = on_done};
    struct record r = {.kind = RECORD_DATUM, .account = 1, .payload = slice_of(payload, len)};
    buf_init(&a.body, 8192);
    CHECK(journal_put(&a, &r));
    if (journal_submit(j, &a) == REASON_ok)
        journal_step(j);
    buf_fini(&a.body);
}

static struct journal_opts opts_of(struct disk_sim *s)
{
    return (struct journal_opts){.disk = disk_sim_disk(s),
                                 .dir = "log",
                                 .segment_bytes = SEGMENT,
                                 .ring_bytes = 65536,
                                 .pending_bytes = 1 << 20};
}

static void make_master(void)
{
    struct rand rand = {.state = 1};
    struct journal *j;
    master = disk_sim_new(1);
    struct journal_opts o = opts_of(master);
    CHECK(journal_open_with(&o, &rand, &j, NULL) == 0);
    snprintf(paths[0], sizeof paths[0], "log/00000000000000000000.slg");
    for (unsigned i = 0; i < 40; i++) {
        append(j, i * 23 % 700);
        salts[j->tail.segment_base != 0] = j->tail.salt;
        snprintf(paths[1], sizeof paths[1], "log/%020llu.slg",
                 (unsigned long long)j->tail.segment_base);
    }
    journal_abandon(j);
    snprintf(paths[2], sizeof paths[2], "log/ckpt.a");
    snprintf(paths[3], sizeof paths[3], "log/ckpt.b");
}

/* Makes the CRC right again, over whatever the patch has left there. */
static void seal(struct disk_sim *s, unsigned file, uint64_t at)
{
    const char *ptr;
    size_t len;
    char crc[4];
    CHECK(disk_sim_peek(s, paths[file], &ptr, &len) == 0);
    if (file >= 2 || at < SEGMENT_HEADER_BYTES) {
        le32_put(crc, crc32c(0, ptr + 8, 4096 - 8));
        disk_sim_poke(s, paths[file], 4, crc, 4);
        return;
    }
    for (uint64_t head = at & ~7ull; head >= SEGMENT_HEADER_BYTES && at - head < 64; head -= 8) {
        if (head + 64 > len || le32_get(ptr + head) != 0x31424c53)
            continue;
        uint64_t salt = salts[file];
        le32_put(crc, crc32c((uint32_t)(salt ^ salt >> 32), ptr + head + 8, 56));
        disk_sim_poke(s, paths[file], head + 4, crc, 4);
        return;
    }
}

static bool patch(struct disk_sim *s, const uint8_t *data, size_t size)
{
    bool skip = false;
    while (size >= 5) {
        unsigned file = data[0] & 3;
        uint64_t at = (uint64_t)data[1] | (uint64_t)data[2] << 8 | (uint64_t)data[3] << 16;
        size_t len = data[4] < size - 5 ? data[4] : size - 5;
        const char *ptr;
        size_t file_len;
        CHECK(disk_sim_peek(s, paths[file], &ptr, &file_len) == 0);
        at %= file_len;
        if (len > file_len - at)
            len = (size_t)(file_len - at);
        disk_sim_poke(s, paths[file], at, data + 5, len);
        if (data[0] & 4)
            seal(s, file, at);
        skip = skip || data[0] & 8;
        data += 5 + len;
        size -= 5 + len;
    }
    return skip;
}

static void read_all(struct journal *j)
{
    struct journal_reader *r;
    struct journal_reader_opts o = {.has_start = true};
    struct journal_batch b;
    int rc;
    uint64_t at = 0;
    CHECK(journal_reader_open(j, &o, &r, NULL) == 0);
    while ((rc = journal_reader_next(r, &b)) == JOURNAL_BATCH || rc == JOURNAL_GAP) {
        CHECK(b.first_offset == at && b.count > 0);
        at += b.count;
        struct record rec;
        size_t pos = 0;
        while (rc == JOURNAL_BATCH && journal_batch_record(&b, &pos, &rec) == 1)
            continue;
        if (at > 1ull << 40)
            break; /* a gap of billions is told in pieces; enough seen */
    }
    journal_reader_close(r);
}

static int on_record(void *arg, uint64_t offset, const struct record *r)
{
    (void)arg, (void)offset, (void)r;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_set_level(LOG_ERROR + 1);
    if (!master)
        make_master();
    struct disk_sim *s = disk_sim_copy(master, 7);
    struct journal_opts o = opts_of(s);
    struct rand rand = {.state = 2};
    struct journal *j;
    struct error err;
    struct buf out;
    buf_init(&out, 1 << 20);
    o.skip_corrupt = patch(s, data, size);
    journal_verify(o.disk, o.dir, &out, &err);
    journal_inspect(o.disk, o.dir, &out, &err);
    journal_scan(o.disk, o.dir, 0, on_record, NULL, &err);
    buf_fini(&out);
    if (journal_open_with(&o, &rand, &j, &err) == 0) {
        read_all(j);
        append(j, 100);
        uint64_t durable = journal_durable(j);
        journal_abandon(j);
        disk_sim_cut(s);
        CHECK(journal_open_with(&o, &rand, &j, &err) == 0);
        CHECK(journal_durable(j) == durable);
        journal_abandon(j);
    }
    disk_sim_free(s);
    return 0;
}
