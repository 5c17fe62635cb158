/* SPDX-License-Identifier: Apache-2.0 */
/* journal/fixture.h - what the journal's tests share: a stepped journal on a simulated disk. */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "journal/disk_sim.h"
#include "journal/internal.h"
#include "journal/record.h"

struct fixture {
    struct disk_sim *sim;
    struct rand rand;
    struct journal_opts opts;
    struct journal *j;
    struct error err;
    enum reason last_reason;
    uint64_t last_offset;
    unsigned answers;
};

static inline struct fixture *fixture_new(uint64_t segment_bytes)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->sim = disk_sim_new(1);
    f->rand.state = 42;
    f->opts = (struct journal_opts){.disk = disk_sim_disk(f->sim),
                                    .dir = "log",
                                    .segment_bytes = segment_bytes,
                                    .ring_bytes = 65536,
                                    .pending_bytes = 8 << 20,
                                    .refuse_percent = 95};
    return f;
}

static inline int fixture_open(struct fixture *f)
{
    int rc = journal_open_with(&f->opts, &f->rand, &f->j, &f->err);
    if (rc)
        f->j = NULL;
    return rc;
}

/* Ends the process: `cut` is a power cut, else kill -9. */
static inline void fixture_die(struct fixture *f, bool cut)
{
    if (f->j)
        journal_abandon(f->j);
    f->j = NULL;
    cut ? disk_sim_cut(f->sim) : disk_sim_kill(f->sim);
}

static inline void fixture_free(struct fixture *f)
{
    if (f->j)
        journal_close(f->j);
    disk_sim_free(f->sim);
    free(f);
}

static inline void fixture_done(struct journal_append *a)
{
    struct fixture *f = a->owner;
    f->last_reason = a->reason;
    f->last_offset = a->first_offset;
    f->answers++;
}

/* Record number n is told by its account; its payload is `len` bytes of that number. */
static inline void fixture_put(struct journal_append *a, uint64_t n, size_t len)
{
    static char payload[1 << 20];
    memset(payload, (int)(n & 255), len);
    struct record r = {.kind = RECORD_DATUM,
                       .account = n + 1,
                       .feed = 9,
                       .receive_us = 5,
                       .event_us = 5,
                       .payload = slice_of(payload, len)};
    assert_true(journal_put(a, &r));
}

/* Appends records n.. and commits them; what came of it. */
static inline enum reason fixture_append(struct fixture *f, uint64_t n, unsigned records,
                                         size_t len)
{
    struct journal_append a = {.done = fixture_done, .owner = f};
    buf_init(&a.body, BATCH_BYTES_MAX);
    for (unsigned i = 0; i < records; i++)
        fixture_put(&a, n + i, len);
    enum reason rc = journal_submit(f->j, &a);
    if (rc == REASON_ok) {
        f->last_reason = REASON_COUNT;
        assert_true(journal_step(f->j));
        rc = f->last_reason;
    }
    buf_fini(&a.body);
    return rc;
}

/* Reads everything from `from`; checks that record n is at offset n. Returns how many were read;
 * *ret_gaps counts the records reported as missing. */
static inline uint64_t fixture_read(struct fixture *f, uint64_t from, uint64_t *ret_gaps)
{
    struct journal_reader *r;
    struct journal_reader_opts o = {.has_start = true, .start = from};
    struct journal_batch b;
    uint64_t count = 0, gaps = 0;
    int rc;
    assert_int_equal(journal_reader_open(f->j, &o, &r, &f->err), 0);
    while ((rc = journal_reader_next(r, &b)) != JOURNAL_WAIT) {
        struct record rec;
        size_t at = 0;
        assert_true(rc == JOURNAL_BATCH || rc == JOURNAL_GAP);
        if (rc == JOURNAL_GAP) {
            gaps += b.count;
            continue;
        }
        for (uint64_t i = 0; i < b.count; i++) {
            assert_int_equal(journal_batch_record(&b, &at, &rec), 1);
            if (rec.kind == RECORD_GAP)
                continue;
            assert_int_equal(rec.account, b.first_offset + i + 1);
            for (size_t k = 0; k < rec.payload.len; k++)
                assert_int_equal((uint8_t)rec.payload.ptr[k], (b.first_offset + i) & 255);
            count++;
        }
        assert_int_equal(journal_batch_record(&b, &at, &rec), 0);
    }
    assert_int_equal(journal_reader_offset(r),
                     journal_durable(f->j) > from ? journal_durable(f->j) : from);
    journal_reader_close(r);
    if (ret_gaps)
        *ret_gaps = gaps;
    return count;
}
