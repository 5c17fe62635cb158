/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal with its threads, on the lossy disk, killed at random moments: each kill is a power
 * cut. What the child said was durable, through a pipe, must be there afterwards. Every message has
 * a name, and after the kill the next child sends the last ones again, as senders do that got no
 * answer: each must be there once.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "journal/fixture.h"

#define ROUNDS   12
#define INFLIGHT 8
#define AGAIN    24         /* of the last life, sent again: more than were in flight */
#define IDS_MAX  (1u << 18) /* of one life */

struct told {
    uint64_t offset, id;
};

static int pipe_out;

/* The id an append carries; 0: the append is free. */
typedef _Atomic uint64_t carried_id;

static void on_done(struct journal_append *a)
{
    carried_id *id = a->owner;
    if (a->reason == REASON_ok) {
        const struct journal_unit *u = journal_next_unit(a, NULL);
        struct told t = {u->verdict == ONCE_NEW ? a->first_offset : u->found.offset, *id};
        if (u->verdict != ONCE_NEW && u->verdict != ONCE_DUPLICATE)
            _exit(6);
        if (write(pipe_out, &t, sizeof t) != sizeof t)
            _exit(3);
    }
    buf_clear(&a->body);
    buf_clear(&a->units);
    a->count = 0;
    *id = 0;
}

/* By key or by sequence, as the id will have it. */
static void put_named(struct journal_append *a, uint64_t id)
{
    char name[24];
    snprintf(name, sizeof name, "%llx", (unsigned long long)id);
    struct record r = {
        .kind = RECORD_DATUM, .account = id, .credential = 1 + id % 2, .payload = SLICE("23.5")};
    r.producer.fingerprint = id;
    if (id % 2)
        r.producer.key = slice_str(name);
    else
        r.producer.sequence = id;
    if (!journal_put(a, &r) || !journal_put_unit(a, 0, 0))
        _exit(4);
}

static struct journal_opts opts_of(struct disk *d, const char *dir)
{
    return (struct journal_opts){.disk = d,
                                 .dir = dir,
                                 .segment_bytes = 1 << 15,
                                 .ring_bytes = 1 << 17,
                                 .pending_bytes = 1 << 20,
                                 .once_window_ms = 600000,
                                 .once_bytes = 64 << 20,
                                 .once_devices = 64};
}

/* Never returns. */
static void child(const char *dir, uint64_t seed, uint64_t again, int fd)
{
    struct journal_opts o = opts_of(disk_lossy(seed), dir);
    static struct journal_append a[INFLIGHT];
    static carried_id ids[INFLIGHT];
    struct journal *j;
    struct error err;
    pipe_out = fd;
    if (journal_open(&o, &j, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        _exit(2);
    }
    for (unsigned i = 0; i < INFLIGHT; i++) {
        a[i] = (struct journal_append){.done = on_done, .owner = &ids[i]};
        buf_init(&a[i].body, 1 << 16);
    }
    for (uint64_t n = 1;; n++) {
        struct journal_append *s = &a[n % INFLIGHT];
        uint64_t id = n <= AGAIN && again ? again + n - 1 : seed << 32 | n;
        while (ids[n % INFLIGHT])
            sched_yield();
        ids[n % INFLIGHT] = id;
        put_named(s, id);
        enum reason reason = journal_submit(j, s);
        if (reason != REASON_ok) {
            fprintf(stderr, "submit: %s\n", reason_info(reason)->name);
            _exit(5);
        }
    }
}

/* *last: the newest id told of; some of those before and behind it are sent again. */
static uint64_t kill_and_collect(const char *dir, uint64_t seed, uint64_t *id_at, uint64_t max,
                                 uint64_t *last)
{
    /* Only of the life before this one: one that was not told of may be stored already, and to a
     * sequence number of that life those of an earlier one are too old. */
    bool told_then = *last >> 32 == seed - 1 && (*last & UINT32_MAX) > AGAIN;
    uint64_t again = told_then ? *last - AGAIN / 2 : 0;
    int fds[2], status;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0)
        child(dir, seed, again, fds[1]);
    close(fds[1]);
    struct rand r = {.state = seed};
    uint64_t deadline = clock_mono_ns() + (5 + rand_below(&r, 60)) * NS_PER_MS, count = 0;
    struct told t;
    bool killed = false;
    while (read(fds[0], &t, sizeof t) == sizeof t) {
        assert_true(t.offset < max);
        assert_true(id_at[t.offset] == 0 || id_at[t.offset] == t.id);
        id_at[t.offset] = t.id;
        *last = t.id > *last ? t.id : *last;
        count++;
        if (!killed && clock_mono_ns() > deadline) {
            kill(pid, SIGKILL);
            killed = true;
        }
    }
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fail_msg("the child ended with wait status 0x%x", (unsigned)status);
    return count;
}

/* Compares the log with what was told; each id stands there once. */
static void check(struct journal *j, uint64_t *id_at, uint64_t max)
{
    struct journal_reader_opts ro = {0};
    struct journal_reader *reader;
    struct journal_batch b;
    struct error err = {""};
    bool *seen = calloc((ROUNDS + 1) * IDS_MAX, sizeof *seen);
    assert_int_equal(journal_reader_open(j, &ro, &reader, &err), 0);
    uint64_t at = 0;
    while (journal_reader_next(reader, &b) == JOURNAL_BATCH) {
        struct record r;
        size_t pos = 0;
        for (; journal_batch_record(&b, &pos, &r) == 1; at++) {
            assert_true(at < max && (id_at[at] == 0 || id_at[at] == r.account));
            id_at[at] = r.account;
            uint64_t n = r.account & UINT32_MAX, seed = r.account >> 32;
            assert_true(n < IDS_MAX && seed <= ROUNDS);
            assert_false(seen[seed * IDS_MAX + n]);
            seen[seed * IDS_MAX + n] = true;
        }
    }
    assert_true(at == max || id_at[at] == 0); /* nothing told lies behind the end */
    journal_reader_close(reader);
    free(seen);
}

static void what_was_told_survives_the_kill(void **state)
{
    char dir[] = "/tmp/journal-crash-XXXXXX", command[64];
    const uint64_t max = 1 << 20;
    uint64_t *id_at = calloc(max, sizeof *id_at), told = 0, last = 0;
    assert_non_null(mkdtemp(dir));
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        struct journal_opts o = opts_of(disk_posix(), dir);
        struct error err = {""};
        struct journal *j;
        told += kill_and_collect(dir, seed, id_at, max, &last);
        if (journal_open(&o, &j, &err) != 0)
            fail_msg("%s", err.text);
        check(j, id_at, max);
        journal_close(j);
    }
    assert_true(told > ROUNDS);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
    free(id_at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_told_survives_the_kill),
    };
    log_set_level(LOG_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
