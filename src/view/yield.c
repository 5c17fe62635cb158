/* SPDX-License-Identifier: Apache-2.0 */
#include "view/yield.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/thread.h"

enum {
    NICE = 10,   /* a ninth of the weight of others */
    WINDOW = 10, /* looks; with half of them in time they stand back again */
};
#define LOOK_NS (200 * NS_PER_MS)
#define LATE_NS (2 * NS_PER_S) /* what was durable so long ago and is not applied is late */

struct yield {
    struct yield_opts opts;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop; /* under lock */
};

bool yielding_look(struct yielding *y, uint64_t applied, uint64_t durable, uint64_t now_ns)
{
    bool in_time = applied >= y->mark;
    if (in_time || !y->mark_ns) {
        y->mark = durable;
        y->mark_ns = now_ns;
    }
    if (y->on) {
        y->on = now_ns - y->mark_ns < LATE_NS;
        return y->on;
    }
    y->looks++;
    y->in_time += in_time;
    if (y->looks == WINDOW) {
        y->on = y->in_time * 2 >= WINDOW;
        y->looks = y->in_time = 0;
    }
    return y->on;
}

/* False: stop. */
static bool wait_for_look(struct yield *y)
{
    uint64_t end = clock_mono_ns() + LOOK_NS;
    pthread_mutex_lock(&y->lock);
    while (!y->stop && cond_wait_until(&y->wake, &y->lock, end))
        ;
    bool stop = y->stop;
    pthread_mutex_unlock(&y->lock);
    return !stop;
}

static void run(void *arg)
{
    struct yield *y = arg;
    struct yielding rule = {0};
    int before = thread_nice();
    if (!thread_nice_ends()) {
        log_line(LOG_INFO, "yield.off", "why=\"RLIMIT_NICE lets no thread be less nice again\"");
        return;
    }
    for (bool on = false; wait_for_look(y);) {
        uint64_t durable = journal_durable(y->opts.journal);
        bool wish = yielding_look(&rule, view_applied(y->opts.view), durable, clock_mono_ns());
        if (wish == on)
            continue;
        on = wish;
        int code = threads_set_nice(y->opts.threads, on ? before + NICE : before, on);
        if (code < 0)
            log_line(LOG_WARN, "yield.failed", "error=%s", strerror(-code));
        metric_set(METRIC_view_history_yields, on);
    }
}

struct yield *yield_start(const struct yield_opts *opts)
{
    struct yield *y = calloc(1, sizeof *y);
    CHECK(y);
    y->opts = *opts;
    cond_init(&y->wake);
    pthread_mutex_init(&y->lock, NULL);
    y->thread = thread_start("yield", run, y);
    return y;
}

void yield_stop(struct yield *y)
{
    if (!y)
        return;
    pthread_mutex_lock(&y->lock);
    y->stop = true;
    pthread_cond_signal(&y->wake);
    pthread_mutex_unlock(&y->lock);
    pthread_join(y->thread, NULL);
    pthread_mutex_destroy(&y->lock);
    pthread_cond_destroy(&y->wake);
    free(y);
}
