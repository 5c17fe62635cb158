/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/fixture.h"
#include "journal/follow.h"

#define SEGMENT 131072u

/* Fills the log with batches of one record each; returns how many records. */
static uint64_t fill(struct fixture *f, uint64_t from, uint64_t records, size_t len)
{
    for (uint64_t n = from; n < from + records; n++)
        assert_int_equal(fixture_append(f, n, 1, len), REASON_ok);
    return from + records;
}

static void path_of(char out[64], uint64_t base)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name_format(name, base);
    snprintf(out, 64, "log/%s", name);
}

/* The file as it would be had the power gone when it was `cut` bytes long: recovery cuts the torn
 * batch, keeps all before it, refuses nothing, and goes on. */
static void torn_at_every_byte(void **state)
{
    struct fixture *f = fixture_new(SEGMENT);
    assert_int_equal(fixture_open(f), 0);
    uint64_t ends[600], n = 0;
    while (f->j->tail.position < 70000 || !f->j->tail.file) {
        assert_int_equal(fixture_append(f, n, 1, 100 + n % 500), REASON_ok);
        ends[n++] = f->j->tail.position;
    }
    uint64_t end = f->j->tail.position;
    fixture_die(f, false);
    struct disk_sim *master = f->sim;
    for (uint64_t cut = end; cut > end - 65536; cut -= cut > end - 3000 ? 1 : 37) {
        char path[64], zeros[1024] = {0};
        uint64_t whole = 0, gaps;
        f->sim = disk_sim_copy(master, cut);
        f->opts.disk = disk_sim_disk(f->sim);
        path_of(path, 0);
        for (uint64_t at = cut; at < end; at += sizeof zeros)
            disk_sim_poke(f->sim, path, at, zeros, end - at < 1024 ? end - at : 1024);
        while (whole < n && ends[whole] <= cut)
            whole++;
        /* The last byte of a batch may be padding or a zero anyway: then it is whole after all. */
        assert_int_equal(fixture_open(f), 0);
        uint64_t got = journal_durable(f->j);
        assert_true(got == whole || (got == whole + 1 && ends[whole] - cut <= 8));
        assert_int_equal(fixture_append(f, got, 3, 50), REASON_ok);
        assert_int_equal(fixture_read(f, 0, &gaps), got + 3);
        assert_int_equal(gaps, 0);
        fixture_die(f, true);
        assert_int_equal(fixture_open(f), 0);
        assert_int_equal(journal_durable(f->j), got + 3);
        fixture_die(f, false);
        disk_sim_free(f->sim);
    }
    f->sim = master;
    fixture_free(f);
}

/* One wrong bit anywhere after an orderly close: either the journal refuses and says where, or a
 * reader is told what is missing, or the bit did not matter. Never silence. */
static void no_flipped_bit_is_silent(void **state)
{
    struct fixture *f = fixture_new(SEGMENT);
    assert_int_equal(fixture_open(f), 0);
    uint64_t n = fill(f, 0, 900, 300), refused = 0, told = 0;
    journal_close(f->j);
    f->j = NULL;
    struct disk_sim *master = f->sim;
    struct rand r = {.state = 11};
    for (int i = 0; i < 1500; i++) {
        static const char *const others[] = {"log/ckpt.a", "log/ckpt.b"};
        char path[64];
        const char *ptr;
        size_t len;
        f->sim = disk_sim_copy(master, 1);
        f->opts.disk = disk_sim_disk(f->sim);
        uint64_t which = rand_below(&r, 8);
        path_of(path, which == 0 ? f->opts.segment_bytes : 0);
        if (which < 2)
            snprintf(path, sizeof path, "%s", others[which]);
        else
            while (disk_sim_peek(f->sim, path, &ptr, &len) != 0 || rand_below(&r, 2))
                path_of(path, rand_below(&r, n));
        assert_int_equal(disk_sim_peek(f->sim, path, &ptr, &len), 0);
        uint64_t at = rand_below(&r, len);
        char byte = (char)(ptr[at] ^ (1 << rand_below(&r, 8)));
        disk_sim_poke(f->sim, path, at, &byte, 1);
        if (fixture_open(f) != 0) {
            assert_non_null(strstr(f->err.text, "corrupt at"));
            assert_non_null(strstr(f->err.text, "log/"));
            refused++;
        } else {
            uint64_t gaps, count = fixture_read(f, 0, &gaps);
            assert_int_equal(count + gaps, n);
            told += gaps != 0;
            fixture_die(f, false);
        }
        disk_sim_free(f->sim);
    }
    assert_true(refused > 0 && told > 100);
    f->sim = master;
    fixture_free(f);
}

/* A batch in the middle is damaged, a later one says it was durable. */
static void corruption_is_told_from_a_torn_tail(void **state)
{
    struct fixture *f = fixture_new(SEGMENT);
    assert_int_equal(fixture_open(f), 0);
    fill(f, 0, 20, 100);
    uint64_t damaged_at = f->j->tail.position + 70;
    fill(f, 20, 20, 100);
    fixture_die(f, false);
    char path[64], junk = 0x55;
    path_of(path, 0);
    disk_sim_poke(f->sim, path, damaged_at, &junk, 1);
    char before[SEGMENT];
    const char *ptr;
    size_t len;
    disk_sim_peek(f->sim, path, &ptr, &len);
    memcpy(before, ptr, SEGMENT);

    assert_int_equal(fixture_open(f), -EBADMSG);
    char place[160];
    snprintf(place, sizeof place, "%s: corrupt at %llu", path,
             (unsigned long long)(damaged_at - 70));
    assert_non_null(strstr(f->err.text, place));
    disk_sim_peek(f->sim, path, &ptr, &len);
    assert_memory_equal(before, ptr, SEGMENT); /* nothing was touched */

    f->opts.skip_corrupt = true;
    assert_int_equal(fixture_open(f), 0);
    uint64_t gaps;
    assert_int_equal(journal_durable(f->j), 41); /* 40, and the record of the gap */
    assert_int_equal(fixture_read(f, 0, &gaps), 39);
    assert_int_equal(gaps, 1);
    f->opts.skip_corrupt = false;
    fixture_die(f, true);
    assert_int_equal(fixture_open(f), 0); /* it is known now */
    fixture_free(f);
}

/* The last batch is damaged. Only the empty batch behind it, or the checkpoint of a close, can tell
 * that it was acknowledged. */
static void idle_batch_proves_the_last_one(void **state)
{
    for (int idle = 0; idle < 2; idle++) {
        struct fixture *f = fixture_new(SEGMENT);
        assert_int_equal(fixture_open(f), 0);
        fill(f, 0, 5, 100);
        uint64_t at = f->j->tail.position - 20;
        if (idle)
            journal_idle(f->j);
        fixture_die(f, true);
        char path[64], junk = 0x55;
        path_of(path, 0);
        disk_sim_poke(f->sim, path, at, &junk, 1);
        assert_int_equal(fixture_open(f), idle ? -EBADMSG : 0);
        fixture_free(f);
    }
}

/* Everything from a byte on is gone, though the checkpoint knows better. */
static void lost_end_is_refused_or_skipped(void **state)
{
    struct fixture *f = fixture_new(SEGMENT);
    char path[64];
    assert_int_equal(fixture_open(f), 0);
    fill(f, 0, 50, 100);
    journal_close(f->j);
    f->j = NULL;
    path_of(path, 0);
    disk_sim_resize(f->sim, path, 6000);
    assert_int_equal(fixture_open(f), -EBADMSG);
    assert_non_null(strstr(f->err.text, path));
    f->opts.skip_corrupt = true;
    assert_int_equal(fixture_open(f), 0);
    assert_true(journal_durable(f->j) > 50);
    uint64_t first = journal_durable(f->j), gaps;
    assert_int_equal(fixture_append(f, first, 1, 10), REASON_ok);
    assert_int_equal(f->last_offset, first); /* no offset is used twice */
    uint64_t seen = fixture_read(f, 0, &gaps);
    assert_true(seen < 50 && gaps > 0);
    f->opts.skip_corrupt = false;
    fixture_die(f, true);
    assert_int_equal(fixture_open(f), 0);
    assert_int_equal(fixture_read(f, 0, &gaps), seen);
    fixture_free(f);
}

/* A file that was longer once. How many records the rest held is not known: none of their offsets
 * is used again. Where it ends in zeros, it held none. */
static void a_segment_cut_short(void **state)
{
    enum { BETWEEN, WITHIN, IN_ZEROS, CUTS };
    for (int cut = 0; cut < CUTS; cut++) {
        struct fixture *f = fixture_new(SEGMENT);
        char path[64];
        uint64_t gaps, at, n;
        assert_int_equal(fixture_open(f), 0);
        fill(f, 0, 30, 100);
        at = f->j->tail.position;
        n = fill(f, 30, 40, 100);
        uint64_t end = f->j->tail.position;
        fixture_die(f, true);
        path_of(path, 0);
        disk_sim_resize(f->sim, path, cut == IN_ZEROS ? end + 4096 : at + (cut == WITHIN ? 40 : 0));
        assert_int_equal(fixture_open(f), cut == IN_ZEROS ? 0 : -EBADMSG);
        if (cut == IN_ZEROS) {
            assert_int_equal(journal_durable(f->j), n);
            n = fill(f, n, 60, 100); /* more than it has room for */
            fixture_die(f, true);
            assert_int_equal(fixture_open(f), 0);
            assert_int_equal(fixture_read(f, 0, &gaps), n);
            assert_int_equal(gaps, 0);
            fixture_free(f);
            continue;
        }
        assert_non_null(strstr(f->err.text, "shorter than it was made"));
        assert_non_null(strstr(f->err.text, "record 30 was expected there and may have been"));
        f->opts.skip_corrupt = true;
        assert_int_equal(fixture_open(f), 0);
        assert_true(journal_durable(f->j) > SEGMENT);
        assert_int_equal(fixture_read(f, 0, &gaps), 30);
        f->opts.skip_corrupt = false;
        fixture_die(f, true);
        assert_int_equal(fixture_open(f), 0); /* it is known now */
        fixture_free(f);
    }
}

/* The batches of one commit, of which the first is damaged: nothing in the log says that the others
 * were durable, but a reader does. They are whole, and stay. */
static void whole_batches_behind_the_damage_stay(void **state)
{
    struct fixture *f = fixture_new(SEGMENT);
    struct journal_append a[3] = {0};
    char path[64], junk = 0x55;
    uint64_t gaps;
    assert_int_equal(fixture_open(f), 0);
    fill(f, 0, 10, 100);
    uint64_t at = f->j->tail.position, commits = journal_stats(f->j).commits;
    for (unsigned i = 0; i < 3; i++) {
        a[i].done = fixture_done;
        a[i].owner = f;
        buf_init(&a[i].body, BATCH_BYTES_MAX);
        for (uint64_t n = 0; n < 10; n++)
            fixture_put(&a[i], 10 + i * 10 + n, 3000);
        assert_int_equal(journal_submit(f->j, &a[i]), REASON_ok);
    }
    assert_true(journal_step(f->j));
    assert_int_equal(journal_stats(f->j).commits, commits + 1);
    for (unsigned i = 0; i < 3; i++)
        buf_fini(&a[i].body);
    assert_int_equal(journal_set_cursor(f->j, "history", 40), 0);
    fixture_die(f, true);
    path_of(path, 0);
    disk_sim_poke(f->sim, path, at + 100, &junk, 1);
    assert_int_equal(fixture_open(f), -EBADMSG);
    f->opts.skip_corrupt = true;
    assert_int_equal(fixture_open(f), 0);
    assert_int_equal(journal_durable(f->j), 41); /* 40, and the record of the gap */
    assert_int_equal(fixture_read(f, 0, &gaps), 20);
    assert_int_equal(gaps, 20);
    f->opts.skip_corrupt = false;
    fixture_die(f, true);
    assert_int_equal(fixture_open(f), 0); /* it is known now */
    assert_int_equal(fixture_read(f, 30, &gaps), 10);
    fixture_free(f);
}

/* A cursor in a file of its own, as another process leaves it. */
static void leave_cursor(struct fixture *f, const char *path, uint64_t offset)
{
    struct cursors c;
    bool damaged = false;
    uint64_t at;
    assert_int_equal(cursors_open(&c, f->opts.disk, path, f->j->log_id, &damaged, &f->err), 0);
    assert_int_equal(cursors_slot(&c, "sink:kafka", offset, &at), 0);
    cursors_close(&c);
}

/* Of a view, that keeps its place itself. */
static uint8_t log_read[16];

static bool a_view_is_beyond(void *arg, const uint8_t log_id[16], uint64_t end,
                             struct journal_proof *ret)
{
    assert_non_null(arg);
    assert_int_equal(end, 50);
    assert_memory_equal(log_id, log_read, 16);
    *ret = (struct journal_proof){.who = "latest", .path = "data/latest.snap", .offset = 70};
    return true;
}

enum who { OUR_READER, READER_ELSEWHERE, A_VIEW, BEFORE_A_JUMP, KINDS_OF_READERS };

/* A disk that lied, or an older copy in the log's place: its end looks torn, but somebody has read
 * further. His offsets are never used again. */
static void what_was_read_was_durable(void **state)
{
    for (enum who who = 0; who < KINDS_OF_READERS; who++) {
        struct fixture *f = fixture_new(SEGMENT);
        static const char zeros[SEGMENT];
        char path[64];
        uint64_t gaps;
        assert_int_equal(f->opts.disk->mkdir(f->opts.disk, "own"), 0);
        assert_int_equal(fixture_open(f), 0);
        fill(f, 0, 50, 100);
        uint64_t end = f->j->tail.position;
        fill(f, 50, 20, 100);
        if (who == READER_ELSEWHERE)
            leave_cursor(f, "own/cursors", 70);
        else if (who != A_VIEW)
            assert_int_equal(journal_set_cursor(f->j, "history", 70), 0);
        memcpy(log_read, f->j->log_id, sizeof log_read);
        fixture_die(f, false);
        path_of(path, 0);
        disk_sim_poke(f->sim, path, end, zeros, SEGMENT - end);
        f->opts.cursors_elsewhere = who == READER_ELSEWHERE ? "own/cursors" : NULL;
        f->opts.beyond = who == A_VIEW || who == BEFORE_A_JUMP ? a_view_is_beyond : NULL;
        f->opts.beyond_arg = f;
        f->opts.jump = who == BEFORE_A_JUMP; /* then it is a copy, whose readers are elsewhere */
        if (who != BEFORE_A_JUMP) {
            assert_int_equal(fixture_open(f), -EBADMSG);
            assert_non_null(strstr(f->err.text, "record 50 was expected"));
            assert_non_null(strstr(f->err.text, "skip_corrupt"));
            static const char *const proofs[] = {
                "\"history\" has read up to record 70 (log/cursors)",
                "\"sink:kafka\" has read up to record 70 "
                "(own/cursors)",
                "\"latest\" has read up to record 70 "
                "(data/latest.snap)"};
            assert_non_null(strstr(f->err.text, proofs[who]));
        }
        f->opts.skip_corrupt = who != BEFORE_A_JUMP;
        assert_int_equal(fixture_open(f), 0);
        uint64_t first = journal_durable(f->j);
        assert_true(first > (who == BEFORE_A_JUMP ? JOURNAL_JUMP : JOURNAL_LEAP));
        f->opts.beyond = NULL;
        assert_int_equal(journal_mark(f->j).began, first - 1); /* before the gap's record */
        assert_int_equal(fixture_append(f, first, 1, 10), REASON_ok);
        assert_int_equal(f->last_offset, first);
        assert_int_equal(fixture_read(f, 0, &gaps), 51);
        assert_int_equal(gaps, first - 1 - 50);
        f->opts.skip_corrupt = false;
        f->opts.jump = 0;
        fixture_die(f, true);
        assert_int_equal(fixture_open(f), 0); /* it is known now */
        fixture_free(f);
    }
}

/* What another process has left is no reason not to start, but for what it proves. */
static void cursors_elsewhere_that_are_none_of_ours(void **state)
{
    struct fixture *f = fixture_new(SEGMENT);
    uint8_t ours[16];
    assert_int_equal(f->opts.disk->mkdir(f->opts.disk, "own"), 0);
    f->opts.cursors_elsewhere = "own/cursors";
    assert_int_equal(fixture_open(f), 0); /* there is no such file */
    fill(f, 0, 5, 100);
    leave_cursor(f, "own/cursors", 5);
    memcpy(ours, f->j->log_id, sizeof ours);
    f->j->log_id[0] ^= 1;
    leave_cursor(f, "own/others", 4000);
    memcpy(f->j->log_id, ours, sizeof ours);
    fixture_die(f, false);
    assert_int_equal(fixture_open(f), 0);
    fixture_die(f, false);
    f->opts.cursors_elsewhere = "own/others"; /* of another log */
    assert_int_equal(fixture_open(f), 0);
    leave_cursor(f, "own/wild", UINT64_MAX - 1); /* of none at all */
    fixture_die(f, false);
    f->opts.cursors_elsewhere = "own/wild";
    assert_int_equal(fixture_open(f), 0);
    assert_int_equal(journal_durable(f->j), 5);
    fixture_free(f);
}

static void damaged_or_missing_segment(void **state)
{
    for (int missing = 0; missing < 2; missing++) {
        struct fixture *f = fixture_new(16384);
        assert_int_equal(fixture_open(f), 0);
        uint64_t n = fill(f, 0, 100, 300), last = f->j->tail.segment_base, gaps;
        fixture_die(f, true);
        char path[64], junk = 0x55;
        path_of(path, last);
        if (missing)
            disk_sim_disk(f->sim)->unlink(disk_sim_disk(f->sim), path);
        else
            disk_sim_poke(f->sim, path, 50, &junk, 1);
        assert_int_equal(fixture_open(f), -EBADMSG);
        f->opts.skip_corrupt = true;
        assert_int_equal(fixture_open(f), 0);
        assert_true(journal_durable(f->j) >= n);
        assert_int_equal(fixture_read(f, 0, &gaps), last);
        assert_true(gaps >= n - last);
        fixture_free(f);
    }
}

static void newer_format_is_refused_untouched(void **state)
{
    for (int what = 0; what < 3; what++) {
        struct fixture *f = fixture_new(16384);
        assert_int_equal(fixture_open(f), 0);
        uint64_t n = fill(f, 0, 60, 300);
        uint64_t position = f->j->tail.position, salt = f->j->tail.salt;
        struct batch_header h = {.base_offset = n,
                                 .version = FORMAT_VERSION + 1,
                                 .chain = f->j->tail.chain,
                                 .durable_before = n};
        char path[64], raw[SEGMENT_HEADER_BYTES];
        path_of(path, what == 0 ? 0 : f->j->tail.segment_base);
        fixture_die(f, false);
        const char *ptr;
        size_t len;
        if (what == 0) {
            struct segment_header sh;
            disk_sim_peek(f->sim, path, &ptr, &len);
            assert_int_equal(segment_header_decode(ptr, &sh), FORMAT_OK);
            sh.version++;
            segment_header_encode(raw, &sh);
            disk_sim_poke(f->sim, path, 0, raw, sizeof raw);
        } else if (what == 1) {
            struct checkpoint c = {.version = FORMAT_VERSION + 1, .segment_base = OFFSET_NONE};
            checkpoint_encode(raw, &c);
            disk_sim_poke(f->sim, "log/ckpt.b", 0, raw, sizeof raw);
        } else {
            batch_header_encode(raw, &h, salt);
            disk_sim_poke(f->sim, path, position, raw, BATCH_HEADER_BYTES);
        }
        uint64_t calls = disk_sim_calls(f->sim);
        f->opts.skip_corrupt = true; /* even then */
        assert_int_equal(fixture_open(f), -EPROTONOSUPPORT);
        assert_non_null(strstr(f->err.text, "newer"));
        assert_int_equal(disk_sim_calls(f->sim), calls);
        fixture_free(f);
    }
}

static void second_opener_is_refused(void **state)
{
    struct fixture *f = fixture_new(16384);
    struct journal *second;
    assert_int_equal(fixture_open(f), 0);
    assert_int_equal(journal_open_with(&f->opts, &f->rand, &second, &f->err), -EWOULDBLOCK);
    assert_non_null(strstr(f->err.text, "another process"));
    assert_int_equal(fixture_append(f, 0, 1, 10), REASON_ok);
    fixture_free(f);
}

static void files_of_another_log_are_refused(void **state)
{
    struct fixture *f = fixture_new(16384), *g = fixture_new(16384);
    g->rand.state = 77;
    assert_int_equal(fixture_open(f), 0);
    assert_int_equal(fixture_open(g), 0);
    uint64_t n = fill(f, 0, 100, 300), last = f->j->tail.segment_base;
    fill(g, 0, 100, 300);
    assert_true(n && last == g->j->tail.segment_base);
    journal_close(f->j);
    f->j = NULL;
    fixture_die(g, true);
    char path[64];
    const char *ptr;
    size_t len;
    path_of(path, last);
    assert_int_equal(disk_sim_peek(g->sim, path, &ptr, &len), 0);
    disk_sim_poke(f->sim, path, 0, ptr, len);
    assert_int_equal(fixture_open(f), -EBADMSG);
    assert_non_null(strstr(f->err.text, "another log"));
    fixture_free(g);
    fixture_free(f);
}

/* A crash at each single call of recovery and of what follows; then it must recover all the same.
 */
static void crash_at_every_call(void **state)
{
    struct fixture *f = fixture_new(16384);
    assert_int_equal(fixture_open(f), 0);
    uint64_t n = fill(f, 0, 45, 300);
    char path[64], junk[700];
    memset(junk, 0x77, sizeof junk); /* a torn end to be cut */
    path_of(path, f->j->tail.segment_base);
    assert_true(f->j->tail.position < 14000);
    fixture_die(f, true);
    struct disk_sim *master = f->sim;
    for (uint64_t k = 1; k < 60; k++) {
        f->sim = disk_sim_copy(master, k);
        f->opts.disk = disk_sim_disk(f->sim);
        disk_sim_poke(f->sim, path, 14000, junk, sizeof junk);
        disk_sim_die_after(f->sim, k);
        uint64_t told = n;
        if (fixture_open(f) == 0)
            while (!disk_sim_dead(f->sim) && fixture_append(f, told, 2, 200) == REASON_ok)
                told += 2;
        assert_true(disk_sim_dead(f->sim));
        fixture_die(f, k % 2);
        assert_int_equal(fixture_open(f), 0);
        uint64_t got = journal_durable(f->j), gaps;
        assert_true(got == told || got == told + 2);
        assert_int_equal(fixture_read(f, 0, &gaps), got);
        fixture_die(f, false);
        disk_sim_free(f->sim);
    }
    f->sim = master;
    fixture_free(f);
}

/* A restored log goes on at the next multiple of 2^40; the gap costs one call of a reader. */
static void jumps_further_each_time(void **state)
{
    for (unsigned records = 0; records <= 45; records += 45) {
        struct fixture *f = fixture_new(16384);
        uint64_t gaps, at = 0, seen;
        assert_int_equal(fixture_open(f), 0);
        if (records)
            fill(f, 0, records, 300);
        seen = journal_durable(f->j);
        for (unsigned jump = 1; jump <= 3; jump++) {
            jump & 1 ? journal_close(f->j) : fixture_die(f, true);
            f->j = NULL;
            f->opts.jump = jump;
            at += jump * JOURNAL_JUMP;
            assert_int_equal(fixture_open(f), 0);
            assert_int_equal(journal_durable(f->j), at + 1); /* the record of the gap */
            assert_int_equal(fixture_append(f, at + 1, 1, 10), REASON_ok);
            assert_int_equal(f->last_offset, at + 1);
            f->opts.jump = 0;
            fixture_die(f, true);
            assert_int_equal(fixture_open(f), 0);
            assert_int_equal(journal_durable(f->j), at + 2);
            assert_int_equal(fixture_read(f, 0, &gaps), ++seen);
            assert_int_equal(fixture_read(f, at - 7, &gaps), 1); /* from inside the gap */
            assert_int_equal(gaps, 7);
        }
        fixture_free(f);
    }
}

/* Either it has jumped or it has not; nothing is lost, and nothing stands in the way of asking
 * again. */
static void crash_at_every_call_of_a_jump(void **state)
{
    struct fixture *f = fixture_new(16384);
    assert_int_equal(fixture_open(f), 0);
    uint64_t n = fill(f, 0, 45, 300), before = 0, after = 0;
    fixture_die(f, true);
    struct disk_sim *master = f->sim;
    bool done = false;
    for (uint64_t k = 1; !done; k++) {
        f->sim = disk_sim_copy(master, k);
        f->opts.disk = disk_sim_disk(f->sim);
        f->opts.jump = 1;
        disk_sim_die_after(f->sim, k);
        done = fixture_open(f) == 0 && !disk_sim_dead(f->sim);
        fixture_die(f, k % 2);
        f->opts.jump = 0;
        assert_int_equal(fixture_open(f), 0);
        uint64_t got = journal_durable(f->j), gaps;
        assert_true(got == n || got == JOURNAL_JUMP || got == JOURNAL_JUMP + 1);
        assert_true(!done || got == JOURNAL_JUMP + 1);
        got == n ? before++ : after++;
        assert_int_equal(fixture_read(f, 0, &gaps), n);
        fixture_die(f, true);
        f->opts.jump = 1;
        assert_int_equal(fixture_open(f), 0);
        assert_true(journal_durable(f->j) > JOURNAL_JUMP);
        assert_int_equal(fixture_read(f, 0, &gaps), n);
        fixture_die(f, false);
        disk_sim_free(f->sim);
    }
    assert_true(before > 10 && after > 2);
    f->sim = master;
    fixture_free(f);
}

/* A file that says where the gap begins gives way to another one before there is anything in it;
 * that says the same. */
static void replaced_behind_a_jump(unsigned syncs_failing, size_t len)
{
    struct fixture *f = fixture_new(16384);
    assert_int_equal(fixture_open(f), 0);
    uint64_t n = fill(f, 0, 45, 300), empty = 0;
    struct buf out;
    buf_init(&out, 1 << 16);
    fixture_die(f, true);
    struct disk_sim *master = f->sim;
    bool done = false;
    for (uint64_t k = 1; !done; k++) {
        uint64_t gaps;
        f->sim = disk_sim_copy(master, k);
        f->opts.disk = disk_sim_disk(f->sim);
        f->opts.jump = 1;
        disk_sim_die_after(f->sim, k);
        done = fixture_open(f) == 0 && !disk_sim_dead(f->sim);
        fixture_die(f, false);
        f->opts.jump = 0;
        assert_int_equal(fixture_open(f), 0);
        uint64_t at = journal_durable(f->j);
        empty += at == JOURNAL_JUMP;
        keeper_look(f->j); /* the spare is ready, so the next sync is the writer's */
        disk_sim_faults(f->sim)->syncs_failing = syncs_failing;
        assert_int_equal(fixture_append(f, at, 1, len), REASON_ok);
        assert_int_equal(journal_stats(f->j).sync_failures, syncs_failing);
        fixture_die(f, true);
        assert_int_equal(fixture_open(f), 0);
        assert_int_equal(journal_durable(f->j), at + 1);
        assert_int_equal(fixture_read(f, 0, &gaps), n + 1);
        journal_close(f->j);
        f->j = NULL;
        assert_int_equal(journal_verify(f->opts.disk, "log", &out, &f->err), 0);
        disk_sim_free(f->sim);
    }
    buf_fini(&out);
    assert_true(empty > 0);
    f->sim = master;
    fixture_free(f);
}

static void the_first_commit_of_a_jump_fails(void **state)
{
    replaced_behind_a_jump(1, 100);
}

/* It finds no room in that file. */
static void the_first_append_of_a_jump_is_large(void **state)
{
    replaced_behind_a_jump(0, 100000);
}

/* What is told is what is wrong. */
static void no_room_for_a_jump(void **state)
{
    struct fixture *f = fixture_new(16384);
    assert_int_equal(fixture_open(f), 0);
    fill(f, 0, 20, 300);
    fixture_die(f, true);
    disk_sim_faults(f->sim)->capacity = 16384 + 8192;
    f->opts.jump = 1;
    assert_int_equal(fixture_open(f), -ENOSPC);
    assert_non_null(strstr(f->err.text, strerror(ENOSPC)));
    disk_sim_faults(f->sim)->capacity = 0;
    fixture_die(f, false);
    assert_int_equal(fixture_open(f), 0);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torn_at_every_byte),
        cmocka_unit_test(no_flipped_bit_is_silent),
        cmocka_unit_test(corruption_is_told_from_a_torn_tail),
        cmocka_unit_test(idle_batch_proves_the_last_one),
        cmocka_unit_test(lost_end_is_refused_or_skipped),
        cmocka_unit_test(a_segment_cut_short),
        cmocka_unit_test(whole_batches_behind_the_damage_stay),
        cmocka_unit_test(what_was_read_was_durable),
        cmocka_unit_test(cursors_elsewhere_that_are_none_of_ours),
        cmocka_unit_test(damaged_or_missing_segment),
        cmocka_unit_test(newer_format_is_refused_untouched),
        cmocka_unit_test(second_opener_is_refused),
        cmocka_unit_test(files_of_another_log_are_refused),
        cmocka_unit_test(crash_at_every_call),
        cmocka_unit_test(jumps_further_each_time),
        cmocka_unit_test(crash_at_every_call_of_a_jump),
        cmocka_unit_test(the_first_commit_of_a_jump_fails),
        cmocka_unit_test(the_first_append_of_a_jump_is_large),
        cmocka_unit_test(no_room_for_a_jump),
    };
    log_set_level(getenv("JOURNAL_LOG") ? LOG_INFO : LOG_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
