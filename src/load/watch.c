/* SPDX-License-Identifier: Apache-2.0 */
#include "load/watch.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/thread.h"

#define EVERY_NS   NS_PER_S
#define STEP_NS    (50 * NS_PER_MS) /* how soon a stop is seen */
#define TIMEOUT_NS (2 * NS_PER_S)

void watch_parse(struct slice page, struct watch_figures *ret)
{
    const struct {
        struct slice name;
        double *value;
    } wanted[] = {{SLICE("sluice_throttle_allowed_total "), &ret->allowed},
                  {SLICE("sluice_throttle_refused_total "), &ret->refused},
                  {SLICE("sluice_shield_hits_total "), &ret->known},
                  {SLICE("sluice_hashes_run_total "), &ret->hashed},
                  {SLICE("sluice_hash_queue_length "), &ret->waiting}};
    while (page.len) {
        const char *end = memchr(page.ptr, '\n', page.len);
        struct slice line = slice_of(page.ptr, end ? (size_t)(end - page.ptr) : page.len);
        page = slice_from(page, line.len + 1);
        for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
            char number[32] = {0};
            struct slice value = slice_from(line, wanted[i].name.len);
            if (!slice_starts(line, wanted[i].name) || value.len >= sizeof number)
                continue;
            memcpy(number, value.ptr, value.len);
            *wanted[i].value = strtod(number, NULL);
        }
    }
}

static bool must_stop(struct watch *w)
{
    pthread_mutex_lock(&w->lock);
    bool stop = w->stop;
    pthread_mutex_unlock(&w->lock);
    return stop;
}

static void run(void *arg)
{
    struct watch *w = arg;
    uint64_t next = clock_mono_ns();
    while (!must_stop(w)) {
        struct response r;
        if (clock_mono_ns() < next) {
            clock_sleep_ns(STEP_NS);
            continue;
        }
        next = clock_mono_ns() + EVERY_NS;
        if (ask(&w->ask, SLICE("/metrics"), (struct slice){0}, &r, NULL) || r.status != 200)
            continue;
        struct watch_figures f = {.at_ns = clock_mono_ns()};
        watch_parse(r.body, &f);
        pthread_mutex_lock(&w->lock);
        w->newest = f;
        pthread_mutex_unlock(&w->lock);
    }
}

int watch_start(struct watch *w, const struct load_opts *opts, struct error *err)
{
    int rc = ask_init(&w->ask, opts, &opts->watch_url, NULL, err);
    w->ask.timeout_ns = TIMEOUT_NS;
    if (rc)
        return rc;
    pthread_mutex_init(&w->lock, NULL);
    w->thread = thread_start("watch", run, w);
    w->running = true;
    return 0;
}

struct watch_figures watch_take(struct watch *w)
{
    struct watch_figures f = {0};
    if (w->running) {
        pthread_mutex_lock(&w->lock);
        f = w->newest;
        pthread_mutex_unlock(&w->lock);
    }
    return f;
}

void watch_stop(struct watch *w)
{
    if (w->running) {
        pthread_mutex_lock(&w->lock);
        w->stop = true;
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
        pthread_mutex_destroy(&w->lock);
    }
    ask_fini(&w->ask);
    w->running = false;
}
