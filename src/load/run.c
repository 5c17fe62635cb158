/* SPDX-License-Identifier: Apache-2.0 */
#include "load/run.h"

#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "load/ledger.h"

#define TICK_MS     20
#define DELIVERY_NS NS_PER_S         /* for copies of the last answer's; some never come */
#define POLL_NS     (50 * NS_PER_US) /* due sooner: by polling, which keeps a core from others */

bool run_sending(const struct run *r)
{
    return r->phase <= PHASE_MEASURE && r->started < r->started_max;
}

bool run_late(const struct run *r, uint64_t now)
{
    return r->phase == PHASE_DRAIN && now >= r->result->ended_ns + r->opts->drain_ns;
}

uint64_t run_due_ns(struct run *r)
{
    uint64_t ns = UINT64_MAX;
    if (!r->replay)
        ns = arrival_due_ns(&r->arrival, r->scheduled);
    else if (r->scheduled < r->replay->count)
        ns = r->replay->devices[r->scheduled].due_ns;
    return ns > UINT64_MAX - r->schedule_ns ? UINT64_MAX : r->schedule_ns + ns;
}

uint64_t run_think_ns(struct run *r)
{
    uint64_t least = r->opts->think_ns, most = r->opts->think_ns_max;
    return least + (most > least ? rand_below(&r->rand, most - least) : 0);
}

/* ---- open loop ---- */

static void on_poller(uv_idle_t *poller)
{
    struct run *r = poller->data;
    r->ops->pump(r->owner);
}

void run_wake_at(struct run *r, uint64_t at_ns, uint64_t now_ns)
{
    if (at_ns - now_ns < POLL_NS) {
        uv_idle_start(&r->poller, on_poller);
        return;
    }
    uv_idle_stop(&r->poller);
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(at_ns / NS_PER_S), .tv_nsec = (long)(at_ns % NS_PER_S)},
    };
    timerfd_settime(r->pacer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void run_wait(struct run *r)
{
    uv_idle_stop(&r->poller);
}

static void on_pacer(uv_poll_t *pacer, int status, int events)
{
    struct run *r = pacer->data;
    uint64_t expirations;
    ssize_t n = read(r->pacer_fd, &expirations, sizeof expirations);
    if (n > 0)
        r->ops->pump(r->owner);
}

/* ---- phases ---- */

/* What was due in this phase, was to be sent at all, and was not. */
static uint64_t unsent(const struct run *r, uint64_t now)
{
    uint64_t passed = now - r->schedule_ns, due = 0, left = r->started_max - r->started;
    if (r->replay) {
        while (due < r->replay->count && r->replay->devices[due].due_ns < passed)
            due++;
    } else if (r->opts->rate > 0) {
        due = arrival_due_before(&r->arrival, passed);
    }
    due -= due < r->scheduled ? due : r->scheduled;
    return due < left ? due : left;
}

static void begin_phase(struct run *r, enum phase phase, uint64_t now, uint64_t length)
{
    if (phase == PHASE_MEASURE) {
        result_start(r->result, now);
        r->shown_ns = now;
    }
    if (phase == PHASE_DRAIN) {
        r->result->ended_ns = now;
        r->result->answered_in_time = r->result->answered;
        r->result->unsent = unsent(r, now < r->phase_end_ns ? now : r->phase_end_ns);
    } else {
        r->schedule_ns = now;
        r->scheduled = 0;
        r->arrival = r->opts->arrival;
        if (phase == PHASE_WARMUP)
            arrival_steady(&r->arrival, r->arrival.points[0].rate);
    }
    r->phase = phase;
    r->phase_end_ns = now + length;
}

/* How much of the run is over. */
static double share_over(const struct run *r, uint64_t now)
{
    uint64_t all = r->opts->warmup_ns + r->opts->run_ns;
    uint64_t left = r->phase_end_ns > now ? r->phase_end_ns - now : 0;
    if (r->phase == PHASE_WARMUP)
        left += r->opts->run_ns;
    double by_time = 1 - (double)left / (double)all;
    double by_count = r->opts->requests ? (double)r->started / (double)r->opts->requests : 0;
    return by_count > by_time ? by_count : by_time;
}

/* Once a second. */
static void show_progress(struct run *r, uint64_t now)
{
    if (r->phase > PHASE_MEASURE || now - r->shown_ns < NS_PER_S)
        return;
    r->shown_ns += NS_PER_S;
    const struct screen_state state = {
        .phase = r->phase == PHASE_WARMUP ? "warm-up" : "running",
        .share = share_over(r, now),
        .elapsed_s = (double)(now - r->result->began_ns) / (double)NS_PER_S,
        .due = r->opts->rate,
        .second = result_second(r->result),
        .result = r->result,
        .watched = watch_take(&r->watch),
    };
    screen_show(&r->screen, &state);
}

static void close_everything(struct run *r)
{
    r->phase = PHASE_OVER;
    r->ops->close(r->owner);
    uv_close((uv_handle_t *)&r->tick, NULL);
    uv_close((uv_handle_t *)&r->interrupt, NULL);
    if (r->pacer_fd >= 0) {
        uv_close((uv_handle_t *)&r->pacer, NULL);
        uv_close((uv_handle_t *)&r->poller, NULL);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct run *r = timer->data;
    uint64_t now = clock_mono_ns();
    show_progress(r, now);
    r->ops->tend(r->owner, now);
    if (r->opts->storm_ns && !r->stormed && r->phase == PHASE_MEASURE &&
        now >= r->schedule_ns + r->opts->storm_ns) {
        r->stormed = r->storming = true;
        r->ops->storm(r->owner);
        r->storming = false;
    }
    bool unanswered = r->ops->unanswered(r->owner);
    bool under_way = unanswered || (r->ops->undelivered && r->ops->undelivered(r->owner));
    if (r->phase == PHASE_WARMUP && now >= r->phase_end_ns)
        begin_phase(r, PHASE_MEASURE, now, r->opts->run_ns);
    else if (r->phase == PHASE_MEASURE && (now >= r->phase_end_ns || r->alive == 0))
        begin_phase(r, PHASE_DRAIN, now, DELIVERY_NS);
    else if (r->phase <= PHASE_MEASURE && !run_sending(r) && !under_way)
        begin_phase(r, PHASE_DRAIN, now, 0);
    else if (r->phase == PHASE_WARMUP && r->alive == 0)
        begin_phase(r, PHASE_DRAIN, now, 0);
    /* An answer may come until its time is over, which is another outcome than a broken connection.
     */
    if (r->phase == PHASE_DRAIN && unanswered)
        r->phase_end_ns = now + DELIVERY_NS;
    if (r->phase == PHASE_DRAIN && !unanswered && (now >= r->phase_end_ns || !under_way))
        close_everything(r);
}

static void on_interrupt(uv_signal_t *signal, int number)
{
    struct run *r = signal->data;
    if (r->phase <= PHASE_MEASURE)
        begin_phase(r, PHASE_DRAIN, clock_mono_ns(), DELIVERY_NS);
    else if (r->phase == PHASE_DRAIN)
        close_everything(r); /* the second one: now */
}

/* ---- beginning and end ---- */

static int resolve(struct run *r, struct error *err)
{
    uv_getaddrinfo_t request;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int rc = uv_getaddrinfo(&r->loop, &request, NULL, r->opts->url.host, r->opts->url.port, &hints);
    if (rc < 0)
        return error_set(err, -EHOSTUNREACH, "%s: %s", r->opts->url.host, uv_strerror(rc));
    memcpy(&r->address, request.addrinfo->ai_addr, request.addrinfo->ai_addrlen);
    uv_freeaddrinfo(request.addrinfo);
    return 0;
}

static int start_pacer(struct run *r, struct error *err)
{
    if (r->opts->rate == 0)
        return 0;
    r->pacer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (r->pacer_fd < 0)
        return error_set(err, -errno, "timerfd: %s", strerror(errno));
    r->pacer.data = r;
    CHECK(uv_poll_init(&r->loop, &r->pacer, r->pacer_fd) == 0);
    CHECK(uv_poll_start(&r->pacer, UV_READABLE, on_pacer) == 0);
    CHECK(uv_idle_init(&r->loop, &r->poller) == 0);
    r->poller.data = r;
    return 0;
}

static void start(struct run *r)
{
    CHECK(uv_timer_init(&r->loop, &r->tick) == 0);
    r->tick.data = r;
    uv_timer_start(&r->tick, on_tick, TICK_MS, TICK_MS);
    CHECK(uv_signal_init(&r->loop, &r->interrupt) == 0);
    r->interrupt.data = r;
    uv_signal_start(&r->interrupt, on_interrupt, SIGINT);

    uint64_t now = clock_mono_ns();
    result_start(r->result, now);
    r->shown_ns = now;
    bool warm = r->opts->warmup_ns > 0;
    begin_phase(r, warm ? PHASE_WARMUP : PHASE_MEASURE, now,
                warm ? r->opts->warmup_ns : r->opts->run_ns);
    r->ops->open(r->owner);
}

int run_all(struct run *r, const struct load_opts *opts, const struct fleet *fleet,
            struct result *result, const struct run_ops *ops, void *owner, struct error *err)
{
    *r = (struct run){.opts = opts,
                      .result = result,
                      .ops = ops,
                      .owner = owner,
                      .replay = opts->replay ? fleet : NULL,
                      .pacer_fd = -1,
                      .started_max = UINT64_MAX,
                      .rand.state = opts->seed};
    if (!opts->quiet && isatty(STDERR_FILENO))
        r->screen.out = stderr;
    if (opts->verify_key)
        r->started_max = LEDGER_MESSAGES_MAX;
    if (opts->requests && opts->requests < r->started_max)
        r->started_max = opts->requests;
    CHECK(uv_loop_init(&r->loop) == 0);
    int rc = resolve(r, err);
    if (rc == 0 && r->screen.out && opts->watch_url.host[0])
        rc = watch_start(&r->watch, opts, err);
    if (rc == 0)
        rc = start_pacer(r, err);
    if (rc == 0) {
        start(r);
        uv_run(&r->loop, UV_RUN_DEFAULT);
    }
    watch_stop(&r->watch);
    if (r->pacer_fd >= 0)
        close(r->pacer_fd);
    CHECK(uv_loop_close(&r->loop) == 0);
    return rc;
}
