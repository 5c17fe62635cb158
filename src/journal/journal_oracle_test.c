/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The oracle: thousands of seeded lives of a journal on a faulty disk. Each life is a row of boots;
 * each boot submits, commits, reads, and ends in a death at a random call, with or without a power
 * cut. A plain model knows what was promised:
 *
 * 1. What was acknowledged is there after recovery, byte for byte, at the offset that was told.
 * 2. What else is there is a prefix of the appends of one commit that was never acknowledged: whole
 *    appends, in order, no hole.
 * 3. No offset ever has two contents: neither told, nor shown to a reader, nor recovered.
 * 4. Recovering a copy of the same disk gives the same log.
 * 5. The journal opens again, always.
 * 6. An append that names itself is in the log once, however often it was sent, whatever failed and
 *    died in between; a retry is told the offset of the original.
 *
 * `run_life` returns what is wrong, so that a test can show that the oracle notices a lying disk.
 */
#include "journal/internal.h"

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
#include "journal/disk_sim.h"
#include "journal/record.h"

#define OFFSETS_MAX  60000u
#define APPENDS_MAX  4096u
#define ATTEMPTS_MAX 512u
#define BOOTS        4
#define NAMED_MAX    4096u

struct life;

struct sent {
    struct journal_append append;
    struct life *life;
    uint64_t first_id; /* ids of its records: first_id + i */
    bool named;
    bool busy;
};

/* Appends that one step of the writer answered with a failure, in order. */
struct attempt {
    unsigned from, to; /* in `failed` */
};

struct failed {
    uint64_t first_id;
    uint32_t count;
};

struct life {
    struct disk_sim *sim;
    struct rand rand, journal_rand;
    struct journal *j;
    struct journal_opts opts;
    struct clock_fake clock;
    uint64_t id_at[OFFSETS_MAX]; /* 0: not known yet */
    uint64_t durable;            /* everything below was told, shown or recovered */
    uint64_t next_id;
    uint64_t place_of[OFFSETS_MAX]; /* of an id: its offset + 1; 0: not known to be stored */
    struct failed named[NAMED_MAX]; /* what was sent under a name, to be sent again */
    unsigned named_count;
    struct sent sent[8];
    struct failed failed[APPENDS_MAX];
    unsigned failed_count;
    struct attempt attempts[ATTEMPTS_MAX];
    unsigned attempts_count;
    struct journal_reader *readers[2];
    char wrong[256];
};

__attribute__((format(printf, 2, 3))) static bool wrong(struct life *l, const char *format, ...)
{
    if (!l->wrong[0]) {
        va_list args;
        va_start(args, format);
        vsnprintf(l->wrong, sizeof l->wrong, format, args);
        va_end(args);
    }
    return false;
}

/* A record's payload follows from its id alone. */
static size_t make_payload(uint64_t id, char out[32768])
{
    struct rand r = {.state = id * 7919};
    size_t len = 8 + (size_t)rand_below(&r, id % 97 == 0 ? 20000 : 300);
    memset(out, (int)(id & 255), len);
    le64_put(out, id);
    return len;
}

static bool learn(struct life *l, uint64_t offset, uint64_t id, const char *how)
{
    if (offset >= OFFSETS_MAX)
        return wrong(l, "offset %llu is out of all bounds", (unsigned long long)offset);
    if (l->id_at[offset] && l->id_at[offset] != id)
        return wrong(l, "offset %llu has two contents (%s)", (unsigned long long)offset, how);
    l->id_at[offset] = id;
    if (id < OFFSETS_MAX && l->place_of[id] && l->place_of[id] != offset + 1)
        return wrong(l, "id %llu is at %llu and at %llu (%s)", (unsigned long long)id,
                     (unsigned long long)l->place_of[id] - 1, (unsigned long long)offset, how);
    if (id < OFFSETS_MAX)
        l->place_of[id] = offset + 1;
    return true;
}

static void clear_sent(struct sent *s)
{
    buf_clear(&s->append.body);
    buf_clear(&s->append.units);
    s->append.count = 0;
    s->busy = false;
}

/* Records of the append that were stored; checks what was said of the others. */
static uint32_t stored_of(struct life *l, const struct sent *s)
{
    const struct journal_unit *u = journal_next_unit(&s->append, NULL);
    if (!u || u->verdict == ONCE_NEW)
        return s->append.count;
    if (u->verdict != ONCE_DUPLICATE || l->place_of[s->first_id] != u->found.offset + 1)
        wrong(l, "id %llu: verdict %d at %llu, but it is at %llu", (unsigned long long)s->first_id,
              (int)u->verdict, (unsigned long long)u->found.offset,
              (unsigned long long)l->place_of[s->first_id] - 1);
    return 0;
}

static void on_done(struct journal_append *a)
{
    struct sent *s = a->owner;
    struct life *l = s->life;
    if (a->reason == REASON_ok) {
        l->failed_count = 0; /* what failed before can no longer come back; the step goes on */
        l->attempts_count = 1;
        l->attempts[0] = (struct attempt){0, 0};
        uint32_t stored = stored_of(l, s);
        if (stored && disk_sim_dead(l->sim)) /* for a duplicate nothing is written */
            wrong(l, "an append was acknowledged after the death");
        for (uint32_t i = 0; i < stored; i++)
            learn(l, a->first_offset + i, s->first_id + i, "acknowledged");
        if (a->first_offset != l->durable)
            wrong(l, "acknowledged at %llu, expected %llu", (unsigned long long)a->first_offset,
                  (unsigned long long)l->durable);
        l->durable = a->first_offset + stored;
    } else if (l->failed_count < APPENDS_MAX && l->attempts_count) {
        l->failed[l->failed_count++] = (struct failed){s->first_id, a->count};
        l->attempts[l->attempts_count - 1].to = l->failed_count;
    } else if (l->failed_count == APPENDS_MAX) {
        wrong(l, "the test's own table is full");
    }
    clear_sent(s);
}

static void put_one(struct life *l, struct sent *s, uint64_t id)
{
    static char payload[32768];
    char name[32];
    struct record r = {.kind = RECORD_DATUM,
                       .account = id,
                       .credential = 8,
                       .feed = 3,
                       .receive_us = l->clock.wall_us,
                       .event_us = l->clock.wall_us,
                       .payload = slice_of(payload, make_payload(id, payload))};
    bool by_key = s->first_id % 3;
    snprintf(name, sizeof name, "name-%llu", (unsigned long long)id);
    if (s->named && id == s->first_id) /* a sequence to each credential: none is ever too old */
        r.producer = (struct producer){.fingerprint = id,
                                       .sequence = by_key ? 0 : 1,
                                       .key = by_key ? slice_str(name) : slice_str("")};
    if (s->named && !by_key)
        r.credential = 1000 + s->first_id;
    assert_true(journal_put(&s->append, &r));
}

static void submit_one(struct life *l)
{
    struct sent *s = NULL;
    for (unsigned i = 0; i < 8; i++)
        if (!l->sent[i].busy)
            s = &l->sent[i];
    if (!s)
        return;
    struct failed what = {l->next_id, 1 + (uint32_t)rand_below(&l->rand, 5)};
    bool again = l->named_count && rand_below(&l->rand, 4) == 0;
    if (again) { /* one of the last few, or any */
        unsigned back = (unsigned)rand_below(&l->rand, rand_below(&l->rand, 2) ? 8 : NAMED_MAX);
        what = l->named[l->named_count - 1 - back % l->named_count];
    }
    s->first_id = what.first_id;
    s->named = again || rand_below(&l->rand, 2);
    for (uint32_t i = 0; i < what.count; i++)
        put_one(l, s, what.first_id + i);
    if (s->named)
        assert_true(journal_put_unit(&s->append, 0, 0));
    s->busy = true;
    if (journal_submit(l->j, &s->append) != REASON_ok) {
        clear_sent(s); /* never in anybody's hands */
        return;
    }
    if (!again)
        l->next_id += what.count;
    if (!again && s->named && l->named_count < NAMED_MAX)
        l->named[l->named_count++] = what;
}

static void step(struct life *l)
{
    if (l->attempts_count < ATTEMPTS_MAX)
        l->attempts[l->attempts_count++] = (struct attempt){l->failed_count, l->failed_count};
    journal_step(l->j);
}

static bool check_batch(struct life *l, const struct journal_batch *b, const char *how)
{
    static char payload[32768];
    size_t at = 0;
    struct record r;
    uint32_t n = 0;
    int rc;
    while ((rc = journal_batch_record(b, &at, &r)) == 1) {
        if (r.kind == RECORD_GAP)
            return wrong(l, "a gap record though nothing was corrupt");
        size_t len = make_payload(r.account, payload);
        if (r.feed != 3 || !slice_eq(r.payload, slice_of(payload, len)))
            return wrong(l, "offset %llu: other bytes (%s)",
                         (unsigned long long)b->first_offset + n, how);
        if (!learn(l, b->first_offset + n, r.account, how))
            return false;
        n++;
    }
    if (rc || n != b->count)
        return wrong(l, "batch at %llu: %u records of %llu", (unsigned long long)b->first_offset, n,
                     (unsigned long long)b->count);
    return true;
}

static void read_some(struct life *l, unsigned which)
{
    struct journal_reader *r = l->readers[which];
    if (!r)
        return;
    uint64_t turns = rand_below(&l->rand, 12);
    for (uint64_t i = 0; i < turns; i++) {
        struct journal_batch b;
        uint64_t at = journal_reader_offset(r);
        int rc = journal_reader_next(r, &b);
        if (rc == JOURNAL_WAIT || rc < 0) {
            if (rc == -EBADMSG || (rc == JOURNAL_WAIT && at < journal_durable(l->j)))
                wrong(l, "reader at %llu: %d", (unsigned long long)at, rc);
            break;
        }
        if (b.first_offset != at)
            wrong(l, "reader jumped from %llu to %llu", (unsigned long long)at,
                  (unsigned long long)b.first_offset);
        if (rc == JOURNAL_GAP && !disk_sim_dead(l->sim) &&
            b.first_offset + b.count > journal_position(l->j).oldest)
            wrong(l, "a gap at %llu above the oldest", (unsigned long long)at);
        if (rc == JOURNAL_BATCH)
            check_batch(l, &b, "shown");
        if (which == 0 && rand_below(&l->rand, 4) == 0)
            journal_reader_commit(r, journal_reader_offset(r));
    }
}

static void close_readers(struct life *l)
{
    for (unsigned i = 0; i < 2; i++) {
        journal_reader_close(l->readers[i]);
        l->readers[i] = NULL;
    }
}

/* Whether append f of the attempt was a copy of what was stored or comes before it. */
static bool is_copy(const struct life *l, const struct attempt *a, unsigned f)
{
    uint64_t place = l->place_of[l->failed[f].first_id];
    if (place && place <= l->durable)
        return true;
    for (unsigned k = a->from; k < f; k++) {
        if (l->failed[k].first_id == l->failed[f].first_id)
            return true;
    }
    return false;
}

/* The recovered records behind what is known must be whole appends, in order, of one attempt. */
static bool check_tail(struct life *l, const uint64_t *ids, uint64_t count)
{
    if (count == 0)
        return true;
    for (unsigned k = 0; k < l->attempts_count; k++) {
        uint64_t n = 0;
        bool same = true;
        for (unsigned f = l->attempts[k].from; same && n < count && f < l->attempts[k].to; f++) {
            if (is_copy(l, &l->attempts[k], f))
                continue;
            for (uint32_t i = 0; same && i < l->failed[f].count; i++, n++)
                same = n < count && ids[n] == l->failed[f].first_id + i;
        }
        if (same && n == count)
            return true;
    }
    return wrong(l, "%llu records recovered at %llu that are no prefix of what was issued",
                 (unsigned long long)count, (unsigned long long)l->durable);
}

/* Reads all of `j` and compares it with the model. Returns a hash of the contents. */
static uint64_t check_all(struct life *l, struct journal *j, bool adopt)
{
    struct journal_reader *r;
    struct journal_reader_opts nameless = {0};
    struct journal_position p = journal_position(j);
    static uint64_t tail[OFFSETS_MAX];
    uint64_t tail_count = 0, hash = p.durable;
    if (p.durable < l->durable)
        return wrong(l, "%llu acknowledged, %llu recovered", (unsigned long long)l->durable,
                     (unsigned long long)p.durable);
    assert_int_equal(journal_reader_open(j, &nameless, &r, NULL), 0);
    struct journal_batch b;
    int rc;
    while (!l->wrong[0] && (rc = journal_reader_next(r, &b)) != JOURNAL_WAIT) {
        if (rc != JOURNAL_BATCH) {
            wrong(l, "recovered log: %d at %llu", rc, (unsigned long long)journal_reader_offset(r));
            break;
        }
        size_t at = 0;
        struct record rec;
        for (uint32_t n = 0; journal_batch_record(&b, &at, &rec) == 1; n++) {
            hash = hash * 31 + rec.account;
            if (b.first_offset + n >= l->durable && tail_count < OFFSETS_MAX)
                tail[tail_count++] = rec.account;
        }
        check_batch(l, &b, "recovered");
    }
    if (!l->wrong[0] && journal_reader_offset(r) != p.durable)
        wrong(l, "the log ends at %llu of %llu", (unsigned long long)journal_reader_offset(r),
              (unsigned long long)p.durable);
    journal_reader_close(r);
    check_tail(l, tail, tail_count);
    /* What retention removed is forgotten at the next boot. */
    for (uint64_t id = 0; adopt && id < OFFSETS_MAX; id++) {
        if (l->place_of[id] && l->place_of[id] <= p.oldest)
            l->place_of[id] = 0;
    }
    if (adopt) {
        l->durable = p.durable;
        l->failed_count = l->attempts_count = 0;
    }
    return hash;
}

static int open_journal(struct life *l)
{
    struct error err;
    int rc = journal_open_with(&l->opts, &l->journal_rand, &l->j, &err);
    if (rc) {
        l->j = NULL;
        if (!disk_sim_dead(l->sim) && disk_sim_faults(l->sim)->sync_fails == 0)
            wrong(l, "does not open: %s", err.text);
    }
    return rc;
}

static void choose_faults(struct life *l)
{
    struct disk_sim_faults *f = disk_sim_faults(l->sim);
    struct disk_sim_faults some = {
        .short_io = rand_below(&l->rand, 3) ? 0 : 8000,
        .eintr = rand_below(&l->rand, 3) ? 0 : 4000,
        .early = (unsigned)rand_below(&l->rand, 3) * 20000,
        .sync_fails = rand_below(&l->rand, 3) ? 0 : 2500,
        .capacity = rand_below(&l->rand, 6) ? 0 : 300000,
        .ignore_fdatasync = f->ignore_fdatasync,
    };
    *f = some;
}

static void no_faults(struct life *l)
{
    bool lying = disk_sim_faults(l->sim)->ignore_fdatasync;
    *disk_sim_faults(l->sim) = (struct disk_sim_faults){.ignore_fdatasync = lying};
}

static void open_readers(struct life *l)
{
    struct journal_reader_opts named = {.name = "view"}, nameless = {0};
    struct error err;
    if (rand_below(&l->rand, 2) && journal_reader_open(l->j, &named, &l->readers[0], &err) != 0) {
        l->readers[0] = NULL;
        if (!disk_sim_dead(l->sim) && !disk_sim_faults(l->sim)->sync_fails &&
            !disk_sim_faults(l->sim)->capacity)
            wrong(l, "named reader: %s", err.text);
    }
    if (journal_reader_open(l->j, &nameless, &l->readers[1], &err) != 0)
        wrong(l, "nameless reader: %s", err.text);
}

static void live(struct life *l)
{
    choose_faults(l);
    disk_sim_die_after(l->sim, 1 + rand_below(&l->rand, 120));
    if (open_journal(l) != 0)
        return;
    open_readers(l);
    for (unsigned i = 0; i < 200 && !l->wrong[0] && !disk_sim_dead(l->sim); i++) {
        clock_sleep_ns(rand_below(&l->rand, 20) * NS_PER_MS);
        switch (rand_below(&l->rand, 8)) {
        case 0:
        case 1:
        case 2:
            submit_one(l);
            break;
        case 3:
        case 4:
            step(l);
            break;
        case 5:
            rand_below(&l->rand, 2) ? journal_idle(l->j) : keeper_look(l->j);
            break;
        default:
            read_some(l, (unsigned)rand_below(&l->rand, 2));
        }
    }
}

static void end_boot(struct life *l)
{
    close_readers(l);
    bool cut = rand_below(&l->rand, 3) > 0;
    if (l->j) {
        if (rand_below(&l->rand, 3) == 0) {
            /* An orderly close; if the process is dead, that is a no-op on the disk. */
            if (l->attempts_count < ATTEMPTS_MAX)
                l->attempts[l->attempts_count++] =
                    (struct attempt){l->failed_count, l->failed_count};
            journal_close(l->j);
        } else {
            journal_abandon(l->j);
        }
        l->j = NULL;
    }
    for (unsigned i = 0; i < 8; i++) { /* what was queued died with the process */
        clear_sent(&l->sent[i]);
    }
    cut ? disk_sim_cut(l->sim) : disk_sim_kill(l->sim);
}

/* Recovers a copy and the disk itself; both must be right, and alike. */
static void recover_and_check(struct life *l)
{
    no_faults(l);
    struct disk_sim *own = l->sim, *copy = disk_sim_copy(l->sim, rand_next(&l->rand));
    uint64_t hash[2] = {0, 0};
    for (unsigned i = 0; i < 2 && !l->wrong[0]; i++) {
        l->sim = i ? own : copy;
        l->opts.disk = disk_sim_disk(l->sim);
        if (open_journal(l) == 0) {
            hash[i] = check_all(l, l->j, i == 1);
            journal_abandon(l->j);
            l->j = NULL;
            disk_sim_kill(l->sim);
        }
    }
    l->sim = own;
    l->opts.disk = disk_sim_disk(own);
    disk_sim_free(copy);
    if (!l->wrong[0] && hash[0] != hash[1])
        wrong(l, "two recoveries of the same disk differ");
}

static void run_life(uint64_t seed, bool lying, char ret_wrong[256])
{
    struct life *l = calloc(1, sizeof *l);
    assert_non_null(l);
    l->rand.state = seed;
    l->journal_rand.state = seed ^ 0x5555;
    l->next_id = 1;
    l->clock.wall_us = 1700000000000000;
    clock_set_fake(&l->clock);
    l->sim = disk_sim_new(seed * 3 + 1);
    disk_sim_faults(l->sim)->ignore_fdatasync = lying;
    for (unsigned i = 0; i < 8; i++) {
        l->sent[i].life = l;
        l->sent[i].append.owner = &l->sent[i];
        l->sent[i].append.done = on_done;
        buf_init(&l->sent[i].append.body, BATCH_BYTES_MAX);
    }
    uint64_t segment = 16384u << rand_below(&l->rand, 3);
    l->opts = (struct journal_opts){
        .disk = disk_sim_disk(l->sim),
        .dir = "log",
        .segment_bytes = segment,
        .retain_bytes = rand_below(&l->rand, 2) ? 0 : segment * 4,
        .cap_bytes = rand_below(&l->rand, 2) ? 0 : segment * 8,
        .when_full = rand_below(&l->rand, 2) ? JOURNAL_BLOCK : JOURNAL_DROP_OLDEST,
        .ring_bytes = 65536,
        .pending_bytes = 1 << 20,
        .refuse_percent = 95,
        .once_window_ms = 3600000,
        .once_bytes = 1 << 20,
        .once_devices = 1024,
    };
    for (unsigned boot = 0; boot < BOOTS && !l->wrong[0]; boot++) {
        live(l);
        end_boot(l);
        if (!l->wrong[0])
            recover_and_check(l);
    }
    close_readers(l);
    if (l->j)
        journal_abandon(l->j);
    for (unsigned i = 0; i < 8; i++)
        buf_fini(&l->sent[i].append.body), buf_fini(&l->sent[i].append.units);
    disk_sim_free(l->sim);
    clock_set_fake(NULL);
    memcpy(ret_wrong, l->wrong, sizeof l->wrong);
    free(l);
}

static uint64_t number_from(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : fallback;
}

/* ORACLE_SEEDS and ORACLE_FIRST choose others, to repeat a failure or to run for longer. */
static void keeps_its_promise(void **state)
{
    uint64_t first = number_from("ORACLE_FIRST", 1), count = number_from("ORACLE_SEEDS", 2000);
    unsigned failures = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        char what[256];
        run_life(seed, false, what);
        if (what[0] && ++failures <= 10)
            print_error("seed %llu: %s\n", (unsigned long long)seed, what);
    }
    assert_int_equal(failures, 0);
}

static void notices_a_disk_that_lies(void **state)
{
    unsigned noticed = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        char what[256];
        run_life(seed, true, what);
        noticed += what[0] != 0;
    }
    assert_true(noticed > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_its_promise),
        cmocka_unit_test(notices_a_disk_that_lies),
    };
    log_set_level(getenv("ORACLE_LOG") ? LOG_INFO : LOG_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
