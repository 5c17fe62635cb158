/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal with its threads, on the lossy disk, killed at random moments: each kill is a power
 * cut. What the child said was durable, through a pipe, must be there afterwards.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "journal/fixture.h"

#define ROUNDS   12
#define INFLIGHT 8

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
        struct told t = {a->first_offset, *id};
        if (write(pipe_out, &t, sizeof t) != sizeof t)
            _exit(3);
    }
    buf_clear(&a->body);
    a->count = 0;
    *id = 0;
}

static struct journal_opts opts_of(struct disk *d, const char *dir)
{
    return (struct journal_opts){.disk = d,
                                 .dir = dir,
                                 .segment_bytes = 1 << 15,
                                 .ring_bytes = 1 << 17,
                                 .pending_bytes = 1 << 20};
}

/* Never returns. */
static void child(const char *dir, uint64_t seed, int fd)
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
        while (ids[n % INFLIGHT])
            sched_yield();
        ids[n % INFLIGHT] = seed << 32 | n;
        struct record r = {
            .kind = RECORD_DATUM, .account = seed << 32 | n, .payload = SLICE("23.5")};
        if (!journal_put(s, &r) || journal_submit(j, s) != REASON_ok)
            _exit(4);
    }
}

static uint64_t kill_and_collect(const char *dir, uint64_t seed, uint64_t *id_at, uint64_t max)
{
    int fds[2], status;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0)
        child(dir, seed, fds[1]);
    close(fds[1]);
    struct rand r = {.state = seed};
    uint64_t deadline = clock_mono_ns() + (5 + rand_below(&r, 60)) * NS_PER_MS, count = 0;
    struct told t;
    bool killed = false;
    while (read(fds[0], &t, sizeof t) == sizeof t) {
        assert_true(t.offset < max);
        assert_true(id_at[t.offset] == 0 || id_at[t.offset] == t.id);
        id_at[t.offset] = t.id;
        count++;
        if (!killed && clock_mono_ns() > deadline) {
            kill(pid, SIGKILL);
            killed = true;
        }
    }
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return count;
}

static void what_was_told_survives_the_kill(void **state)
{
    char dir[] = "/tmp/journal-crash-XXXXXX", command[64];
    const uint64_t max = 1 << 20;
    uint64_t *id_at = calloc(max, sizeof *id_at), told = 0;
    assert_non_null(mkdtemp(dir));
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        struct journal_opts o = opts_of(disk_posix(), dir);
        struct journal_reader_opts ro = {0};
        struct journal_reader *reader;
        struct journal_batch b;
        struct error err = {""};
        struct journal *j;
        told += kill_and_collect(dir, seed, id_at, max);
        if (journal_open(&o, &j, &err) != 0)
            fail_msg("%s", err.text);
        assert_int_equal(journal_reader_open(j, &ro, &reader, &err), 0);
        uint64_t at = 0;
        while (journal_reader_next(reader, &b) == JOURNAL_BATCH) {
            struct record r;
            size_t pos = 0;
            for (; journal_batch_record(&b, &pos, &r) == 1; at++) {
                assert_true(at < max && (id_at[at] == 0 || id_at[at] == r.account));
                id_at[at] = r.account;
            }
        }
        assert_true(at == max || id_at[at] == 0); /* nothing told lies behind the end */
        journal_reader_close(reader);
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
