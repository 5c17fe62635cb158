/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/hashpool.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <dirent.h>
#include <poll.h>
#include <sys/eventfd.h>

#define HASHES    150u /* of a millisecond each, or a little more */
#define PATIENCE  (20 * NS_PER_S)
#define STATUS    4096
#define PATH_ROOM 64

struct task {
    char state; /* as proc(5) has it */
    unsigned slept;
};

/* What /proc says of the thread of this process that has that name. */
static struct task task_of(const char *name)
{
    struct task found = {0};
    DIR *dir = opendir("/proc/self/task");
    assert_non_null(dir);
    struct dirent *e;
    while ((e = readdir(dir))) {
        char path[PATH_ROOM], text[STATUS] = {0};
        snprintf(path, sizeof path, "/proc/self/task/%.20s/status", e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (!f)
            continue;
        size_t n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
        assert_true(n > 0);
        char shown[17];
        if (sscanf(text, "Name: %16s", shown) != 1 || strcmp(shown, name) != 0)
            continue;
        const char *state = strstr(text, "\nState:"),
                   *slept = strstr(text, "\nvoluntary_ctxt_switches:");
        assert_true(state && slept && sscanf(state, " State: %c", &found.state) == 1 &&
                    sscanf(slept, " voluntary_ctxt_switches: %u", &found.slept) == 1);
    }
    closedir(dir);
    assert_true(found.state);
    return found;
}

/* Until it waits for a job: what it sleeps for from then on is one job more, or a rest. */
static unsigned slept_when_ready(const struct hashpool *p)
{
    uint64_t end = clock_mono_ns() + PATIENCE;
    struct task t;
    do {
        t = task_of("hash");
        assert_true(clock_mono_ns() < end);
    } while (t.state != 'S' || p->seats[0]->state != FREE);
    return t.slept;
}

static void compute_one(struct hashpool *p, const struct hash_job *job)
{
    struct hash_result r;
    hashpool_give(p, 0, job);
    struct pollfd done = {.fd = p->wake_fd, .events = POLLIN};
    assert_int_equal(poll(&done, 1, (int)(PATIENCE / NS_PER_MS)), 1);
    eventfd_t count;
    assert_int_equal(eventfd_read(p->wake_fd, &count), 0);
    assert_true(hashpool_collect(p, 0, clock_mono_ns(), &r) && r.right);
}

/* A thread that always has something to do sleeps for each job once, while it waits for it, and now
 * and then in between. */
static void who_computes_all_the_time_rests(void **state)
{
    (void)state;
    int fd = eventfd(0, EFD_CLOEXEC);
    struct hashpool *p = hashpool_new(1, true, fd);
    assert_non_null(p);
    struct decoy decoy = {0};
    struct hash_job job = {.secret = "secret", .real = true, .decoy = &decoy};
    struct crypt_data *scratch = calloc(1, sizeof *scratch);
    assert_non_null(scratch);
    const char *stored = crypt_r(job.secret, "$2b$04$abcdefghijklmnopqrstuu", scratch);
    assert_non_null(stored);
    snprintf(job.stored, sizeof job.stored, "%s", stored);
    free(scratch);

    unsigned before = slept_when_ready(p), longest = 0;
    uint64_t began = clock_mono_ns();
    for (unsigned i = 0; i < HASHES || clock_mono_ns() - began < 4 * RUN_NS; i++) {
        compute_one(p, &job);
        (void)slept_when_ready(p);
        longest = i + 1;
    }
    uint64_t took = clock_mono_ns() - began;
    unsigned rests = slept_when_ready(p) - before - longest;
    assert_true(rests >= 2);
    assert_true(rests <= took / RUN_NS + 1);
    hashpool_free(p);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(who_computes_all_the_time_rests)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
