/* SPDX-License-Identifier: Apache-2.0 */
#include "conn/worker.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "base/thread.h"
#include "conn/hoard.h"
#include "conn/stream_private.h"

#define SCRATCH_BLOCKS 4u
#define TOIL_NS        (NS_PER_MS / 2) /* of a turn, for accepting, and again for newcomers */

struct worker {
    unsigned index;
    pthread_t thread;
    uv_loop_t loop;
    uv_poll_t wake; /* of wake_fd. Not a uv_async_t: its receiver spins until the sender is done */
    int wake_fd;
    uv_check_t after_poll;
    uv_prepare_t before_poll;
    uv_idle_t sleepless; /* while active, polling does not wait */
    bool is_sleepless, ticked;
    uv_timer_t tick;
    struct worker_hook hook;
    struct wheel wheel;
    uint64_t now_ns;
    uint64_t nap_until_ns; /* 0: it does not */
    int64_t wall_us;       /* 0: to be read */
    int64_t date_second;
    char date[32];
    char *scratch; /* SCRATCH_BLOCKS of them, so that a turn's requests can be held together */
    size_t scratch_held;
    size_t scratch_looked_at; /* up to here a settle gives nothing back: requests are still found */
    bool hold;                /* reading from sockets */
    struct stream_lists streams;
    struct certified certified;
    struct hoard hoard;
    uint64_t toiled_ns; /* in this turn */
    unsigned settling;  /* depth */
    uint64_t settled;
    _Alignas(64) struct mail *_Atomic mailbox; /* newest first */
};

/* Takes all mail at once and runs it oldest first. */
static void run_mail(struct worker *w)
{
    struct mail *newest = atomic_exchange_explicit(&w->mailbox, NULL, memory_order_acquire);
    struct mail *oldest = NULL;
    while (newest) {
        struct mail *m = newest;
        newest = m->next;
        m->next = oldest;
        oldest = m;
    }
    while (oldest) {
        struct mail *m = oldest;
        oldest = m->next;
        m->next = NULL;
        m->run(m);
    }
}

static void on_wake(uv_poll_t *handle, int status, int events)
{
    struct worker *w = handle->data;
    eventfd_t count;
    (void)status;
    (void)events;
    (void)eventfd_read(w->wake_fd, &count);
    w->now_ns = clock_mono_ns();
    run_mail(w);
}

static void on_sleepless(uv_idle_t *handle)
{
    (void)handle; /* its being active is all */
}

void worker_settle(struct worker *w)
{
    w->settling++;
    w->settled++;
    if (w->hook.settle)
        w->hook.settle(w->hook.arg);
    if (--w->settling == 0)
        w->scratch_held = w->scratch_looked_at;
}

uint64_t worker_settled(const struct worker *w)
{
    return w->settled;
}

static void end_turn(struct worker *w)
{
    worker_settle(w);
    w->nap_until_ns = 0;
    bool again = w->hook.turn_end && w->hook.turn_end(w->hook.arg);
    if (stream_lists_wait(&w->streams) || w->certified.doubted) {
        again = true;
        w->nap_until_ns = 0;
    }
    w->toiled_ns = 0;
    if (again && !w->is_sleepless)
        uv_idle_start(&w->sleepless, on_sleepless);
    else if (!again && w->is_sleepless)
        uv_idle_stop(&w->sleepless);
    w->is_sleepless = again;
    if (w->now_ns)
        metric_observe(METRIC_worker_turn, clock_mono_ns() - w->now_ns);
    w->now_ns = 0;
    w->wall_us = 0;
}

static void on_after_poll(uv_check_t *handle)
{
    struct worker *w = handle->data;
    w->toiled_ns = 0; /* whoever was put off has time of its own, or newcomers would go before */
    certified_go_on(w);
    stream_go_on(w);
    end_turn(w);
}

static void nap(struct worker *w)
{
    uint64_t now = clock_mono_ns();
    struct pollfd mail = {.fd = w->wake_fd, .events = POLLIN};
    struct timespec most;
    if (w->nap_until_ns > now) {
        uint64_t ns = w->nap_until_ns - now;
        most =
            (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
        (void)ppoll(&mail, 1, &most, NULL);
    }
    w->nap_until_ns = 0;
}

/* What ran before polling (timers) may have left something to hand on as well. */
static void on_before_poll(uv_prepare_t *handle)
{
    struct worker *w = handle->data;
    if (w->ticked)
        end_turn(w);
    w->ticked = false;
    if (w->nap_until_ns)
        nap(w);
}

static void on_tick(uv_timer_t *handle)
{
    struct worker *w = handle->data;
    w->ticked = true;
    w->now_ns = clock_mono_ns();
    wheel_turn(&w->wheel, w->now_ns);
    if (w->hook.tick)
        w->hook.tick(w->hook.arg);
}

struct worker *worker_new(unsigned index)
{
    struct worker *w = aligned_alloc(64, (sizeof *w + 63) / 64 * 64);
    CHECK(w);
    *w = (struct worker){.index = index};
    w->scratch = malloc((size_t)WORKER_SCRATCH * SCRATCH_BLOCKS);
    CHECK(w->scratch);
    CHECK(uv_loop_init(&w->loop) == 0);
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(w->wake_fd >= 0 && uv_poll_init(&w->loop, &w->wake, w->wake_fd) == 0);
    CHECK(uv_check_init(&w->loop, &w->after_poll) == 0);
    CHECK(uv_prepare_init(&w->loop, &w->before_poll) == 0);
    CHECK(uv_idle_init(&w->loop, &w->sleepless) == 0);
    CHECK(uv_timer_init(&w->loop, &w->tick) == 0);
    w->wake.data = w->after_poll.data = w->before_poll.data = w->tick.data = w;
    wheel_init(&w->wheel, clock_mono_ns());
    stream_lists_init(&w->streams);
    hoard_init(&w->hoard);
    return w;
}

void worker_set_hook(struct worker *w, struct worker_hook hook)
{
    w->hook = hook;
}

static void run(void *arg)
{
    struct worker *w = arg;
    uv_poll_start(&w->wake, UV_READABLE, on_wake);
    uv_check_start(&w->after_poll, on_after_poll);
    uv_prepare_start(&w->before_poll, on_before_poll);
    uv_timer_start(&w->tick, on_tick, WORKER_TICK_MS, WORKER_TICK_MS);
    uv_run(&w->loop, UV_RUN_DEFAULT);
}

void worker_start(struct worker *w)
{
    char name[16];
    snprintf(name, sizeof name, "worker-%u", w->index);
    w->thread = thread_start(name, run, w);
}

void worker_join(struct worker *w)
{
    pthread_join(w->thread, NULL);
}

void worker_free(struct worker *w)
{
    if (!w)
        return;
    CHECK(uv_loop_close(&w->loop) == 0);
    close(w->wake_fd);
    tls_set_unref(w->certified.set);
    free(w->scratch);
    free(w);
}

void worker_post(struct worker *w, struct mail *m)
{
    struct mail *head = atomic_load_explicit(&w->mailbox, memory_order_relaxed);
    do {
        m->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&w->mailbox, &head, m, memory_order_release,
                                                    memory_order_relaxed));
    if (!head)
        (void)eventfd_write(w->wake_fd, 1);
}

unsigned worker_index(const struct worker *w)
{
    return w->index;
}

uint64_t worker_now_ns(const struct worker *w)
{
    struct worker *mutable = (struct worker *)w;
    if (!mutable->now_ns)
        mutable->now_ns = clock_mono_ns();
    return mutable->now_ns;
}

int64_t worker_wall_us(struct worker *w)
{
    if (!w->wall_us)
        w->wall_us = clock_wall_us();
    return w->wall_us;
}

uv_loop_t *worker_loop(struct worker *w)
{
    return &w->loop;
}

struct wheel *worker_wheel(struct worker *w)
{
    return &w->wheel;
}

char *worker_scratch(struct worker *w)
{
    if (w->scratch_held > (size_t)WORKER_SCRATCH * (SCRATCH_BLOCKS - 1))
        worker_settle(w);
    return w->scratch + w->scratch_held;
}

void worker_scratch_hold(struct worker *w, size_t bytes)
{
    w->wall_us = 0;
    w->scratch_held += (bytes + 63) & ~(size_t)63;
    w->scratch_looked_at = w->scratch_held;
}

void worker_scratch_done(struct worker *w)
{
    w->scratch_looked_at = 0;
}

const bool *worker_hold_flag(const struct worker *w)
{
    return &w->hold;
}

struct stream_lists *worker_streams(struct worker *w)
{
    return &w->streams;
}

struct certified *worker_certified(struct worker *w)
{
    return &w->certified;
}

struct hoard *worker_hoard(struct worker *w)
{
    return &w->hoard;
}

bool worker_may_toil(const struct worker *w)
{
    return w->toiled_ns < TOIL_NS;
}

void worker_toiled(struct worker *w, uint64_t ns)
{
    w->toiled_ns += ns;
}

void worker_hold_reading(struct worker *w, bool hold)
{
    if (w->hold == hold)
        return;
    w->hold = hold;
    metric_move(METRIC_workers_holding, hold ? 1 : -1);
    if (hold)
        metric_add(METRIC_reading_held, 1);
    else
        stream_let_go(&w->streams);
}

void worker_nap(struct worker *w, uint64_t until_ns)
{
    w->nap_until_ns = until_ns;
}

const char *worker_http_date(struct worker *w)
{
    int64_t second = clock_wall_us() / US_PER_S;
    if (second != w->date_second) {
        static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                           "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        struct tm t;
        time_t when = (time_t)second;
        gmtime_r(&when, &t);
        snprintf(w->date, sizeof w->date, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[t.tm_wday],
                 (unsigned)t.tm_mday % 100u, months[t.tm_mon],
                 (unsigned)(t.tm_year + 1900) % 10000u, (unsigned)t.tm_hour % 100u,
                 (unsigned)t.tm_min % 100u, (unsigned)t.tm_sec % 100u);
        w->date_second = second;
    }
    return w->date;
}

void worker_finish(struct worker *w)
{
    uv_close((uv_handle_t *)&w->wake, NULL);
    uv_close((uv_handle_t *)&w->after_poll, NULL);
    uv_close((uv_handle_t *)&w->before_poll, NULL);
    uv_close((uv_handle_t *)&w->sleepless, NULL);
    uv_close((uv_handle_t *)&w->tick, NULL);
}
