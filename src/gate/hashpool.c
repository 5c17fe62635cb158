/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/hashpool.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/thread.h"

#define RUN_NS       (40 * NS_PER_MS) /* a hash thread computes for so long, or a hash longer, ... */
#define REST_NS      (100 * NS_PER_US) /* ... and rests for so long (decision 0073) */
#define TRICKLE_REST 19u               /* times what it computed: 5 % of one core */
#define TRICKLE_NICE 5 /* a third of a worker's weight: woken, that one runs at once */

enum state { FREE, BUSY, DONE, QUIT };

struct seat {
    struct hashpool *pool;
    pthread_t thread;
    sem_t go;
    _Atomic int state; /* the keeper sets BUSY and QUIT, the thread DONE */
    const struct hash_job *job;
    struct hash_result result;
    bool idle, trickle;
    uint64_t rest_until_ns; /* the keeper's */
    struct crypt_data scratch;
};

struct hashpool {
    unsigned count;
    bool idle_priority;
    int wake_fd;
    struct seat *seats[];
};

/* CPU time of the calling thread: under SCHED_IDLE the wall clock tells little. */
static uint64_t cpu_ns(void)
{
    struct rusage u;
    getrusage(RUSAGE_THREAD, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * NS_PER_S +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * NS_PER_US;
}

/* One hash of each other kind in use. */
static void compute_others(const struct hash_job *job, struct hash_result *result,
                           struct crypt_data *scratch)
{
    struct verifier_cost c;
    for (unsigned i = 0; (c = decoy_kind(job->decoy, i)).class != VERIFIER_BAD; i++) {
        if (verifier_cost_eq(c, job->cost))
            continue;
        char setting[VERIFIER_MAX];
        verifier_setting(c, setting);
        (void)verifier_check(job->secret, setting, scratch);
        result->decoys++;
    }
}

static void compute(struct seat *seat)
{
    const struct hash_job *job = seat->job;
    struct hash_result r = {0};
    uint64_t wall = clock_mono_ns(), cpu = cpu_ns();
    bool right = verifier_check(job->secret, job->stored, &seat->scratch);
    r.hashes = job->real;
    r.decoys = !job->real;
    r.right = right && job->real;
    if (!r.right)
        compute_others(job, &r, &seat->scratch);
    r.wall_ns = clock_mono_ns() - wall;
    r.cpu_ns = cpu_ns() - cpu;
    seat->result = r;
}

/* Lets the core go for a moment: while it always has something of ours to do, the kernel may come
 * to think that it owes us time, and keeps its own threads waiting for it, that of the disk's
 * flushes too. */
static void rest(uint64_t *rested_ns)
{
    uint64_t now = clock_mono_ns();
    if (now - *rested_ns < RUN_NS)
        return;
    clock_sleep_ns(REST_NS);
    *rested_ns = now;
}

static void run(void *arg)
{
    struct seat *seat = arg;
    uint64_t rested_ns = clock_mono_ns();
    if (seat->idle)
        thread_be_idle();
    else if (seat->trickle)
        thread_be_nice(TRICKLE_NICE);
    for (;;) {
        while (sem_wait(&seat->go) != 0)
            ;
        if (atomic_load_explicit(&seat->state, memory_order_acquire) == QUIT)
            return;
        if (!seat->trickle) /* the keeper sees to that */
            rest(&rested_ns);
        compute(seat);
        atomic_store_explicit(&seat->state, DONE, memory_order_release);
        uint64_t one = 1;
        ssize_t n = write(seat->pool->wake_fd, &one, sizeof one);
        CHECK(n == sizeof one);
    }
}

struct hashpool *hashpool_new(unsigned threads, bool idle_priority, int wake_fd)
{
    unsigned count = threads + idle_priority;
    struct hashpool *p = calloc(1, sizeof *p + count * sizeof p->seats[0]);
    if (!p)
        return NULL;
    p->idle_priority = idle_priority;
    p->wake_fd = wake_fd;
    for (; p->count < count; p->count++) {
        struct seat *seat = calloc(1, sizeof *seat);
        if (!seat) {
            hashpool_free(p);
            return NULL;
        }
        seat->pool = p;
        seat->idle = idle_priority && p->count < threads;
        seat->trickle = p->count >= threads;
        CHECK(sem_init(&seat->go, 0, 0) == 0);
        p->seats[p->count] = seat;
        seat->thread = thread_start(p->count < threads ? "hash" : "hash-trickle", run, seat);
    }
    return p;
}

void hashpool_free(struct hashpool *p)
{
    if (!p)
        return;
    for (unsigned i = 0; i < p->count; i++) {
        /* A thread that is computing stores DONE once more; it must not hide the QUIT. */
        while (p->seats[i]->state == BUSY)
            clock_sleep_ns(NS_PER_MS);
        atomic_store_explicit(&p->seats[i]->state, QUIT, memory_order_release);
        sem_post(&p->seats[i]->go);
    }
    for (unsigned i = 0; i < p->count; i++) {
        pthread_join(p->seats[i]->thread, NULL);
        sem_destroy(&p->seats[i]->go);
        explicit_bzero(&p->seats[i]->scratch, sizeof p->seats[i]->scratch);
        free(p->seats[i]);
    }
    free(p);
}

unsigned hashpool_seats(const struct hashpool *p)
{
    return p->count;
}

bool hashpool_is_trickle(const struct hashpool *p, unsigned seat)
{
    return p->idle_priority && seat == p->count - 1;
}

bool hashpool_ready(const struct hashpool *p, unsigned seat, uint64_t now_ns)
{
    const struct seat *s = p->seats[seat];
    return atomic_load_explicit(&s->state, memory_order_acquire) == FREE &&
           now_ns >= s->rest_until_ns;
}

void hashpool_give(struct hashpool *p, unsigned seat, const struct hash_job *job)
{
    struct seat *s = p->seats[seat];
    CHECK(s->state == FREE);
    s->job = job;
    atomic_store_explicit(&s->state, BUSY, memory_order_release);
    sem_post(&s->go);
}

bool hashpool_collect(struct hashpool *p, unsigned seat, uint64_t now_ns, struct hash_result *ret)
{
    struct seat *s = p->seats[seat];
    if (atomic_load_explicit(&s->state, memory_order_acquire) != DONE)
        return false;
    *ret = s->result;
    s->job = NULL;
    if (hashpool_is_trickle(p, seat))
        s->rest_until_ns = now_ns + TRICKLE_REST * s->result.cpu_ns;
    atomic_store_explicit(&s->state, FREE, memory_order_release);
    return true;
}
