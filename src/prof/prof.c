/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread takes one ask after the other. One for a CPU profile only starts the timer and becomes
 * `running`; the thread goes on with others, and comes back to it when its time is over, nobody
 * waits for it any more, the server stops, or it has become too large to be answered.
 */
#include "prof/prof.h"

#include <gperftools/profiler.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/thread.h"
#include "flow/limits.h"
#include "prof/flame.h"
#include "prof/heap.h"
#include "prof/names.h"
#include "prof/scratch.h"

#define LOOK_NS NS_PER_S /* how often a running profile's size is looked at */
#define NICE    10

struct prof {
    pthread_mutex_t lock;
    pthread_cond_t woken;
    struct prof_ask *first, **last;
    unsigned waiting;
    bool quit, stop;
    struct prof_ask *running; /* changed by the thread only, under the lock */
    /* The thread's own: */
    struct scratch file; /* of the running one */
    uint64_t began_ns, end_ns;
    pthread_t thread;
};

static void answer(struct prof_ask *ask, enum reason reason, const char *why)
{
    ask->reason = reason;
    snprintf(ask->why, sizeof ask->why, "%s", why ? why : "");
    ask->done(ask);
}

static void set_running(struct prof *p, struct prof_ask *ask)
{
    pthread_mutex_lock(&p->lock);
    p->running = ask;
    pthread_mutex_unlock(&p->lock);
}

/* ---- CPU ------------------------------------------------------------------------------------- */

static void begin(struct prof *p, struct prof_ask *ask, bool quit)
{
    struct error err = {""};
    uint64_t now_ns = clock_mono_ns();
    if (quit) {
        answer(ask, REASON_stopping, NULL);
        return;
    }
    if (p->running) {
        ask->left_ns = p->end_ns > now_ns ? p->end_ns - now_ns : 1;
        answer(ask, REASON_profile_running, NULL);
        return;
    }
    if (scratch_open(&p->file, &err) < 0) {
        answer(ask, REASON_internal, err.text);
        return;
    }
    if (!ProfilerStart(p->file.path)) {
        scratch_close(&p->file);
        answer(ask, REASON_internal,
               "the profiler does not start; does it run already, by CPUPROFILE?");
        return;
    }
    p->began_ns = now_ns;
    p->end_ns = now_ns + ask->for_ns;
    log_line(LOG_INFO, "prof.begin", "seconds=%.1f", (double)ask->for_ns / NS_PER_S);
    set_running(p, ask);
}

static const char *name_of(void *names, uint64_t address)
{
    return names_function(names, address);
}

static enum reason draw(struct slice profile, double seconds, struct buf *out, struct error *err)
{
    struct names *names = names_open(err);
    if (!names)
        return REASON_internal;
    bool drawn = flame_draw(profile, seconds, name_of, names, out);
    names_close(names);
    if (!drawn)
        error_set(err, 0, "gperftools wrote a profile that is none");
    return drawn ? REASON_ok : REASON_internal;
}

static void end(struct prof *p)
{
    struct prof_ask *ask = p->running;
    struct error err = {""};
    enum reason reason = REASON_ok;
    double seconds = (double)(clock_mono_ns() - p->began_ns) / NS_PER_S;
    pthread_mutex_lock(&p->lock);
    bool wanted = !ask->given_up;
    pthread_mutex_unlock(&p->lock);
    ProfilerStop();
    struct slice profile = scratch_read(&p->file);
    log_line(LOG_INFO, "prof.end", "seconds=%.1f bytes=%zu", seconds, profile.len);
    metric_add(METRIC_profiles, 1);
    if (wanted && ask->op == PROF_FLAME)
        reason = draw(profile, seconds, ask->out, &err);
    else if (wanted)
        buf_put_slice(ask->out, profile);
    scratch_close(&p->file);
    set_running(p, NULL);
    answer(ask, reason, err.text);
}

/* With the lock. */
static bool is_over(const struct prof *p)
{
    return p->running && (p->running->given_up || p->quit || clock_mono_ns() >= p->end_ns ||
                          scratch_bytes(&p->file) >= PROFILE_BYTES_MAX);
}

/* ---- the others ------------------------------------------------------------------------------ */

static bool is_between(char c)
{
    return c == '+' || c == ' ' || c == '\n' || c == '\r';
}

/* The next address of "0x1f+0x2a"; false: at the end, or *ret_bad. */
static bool next_address(struct slice *rest, uint64_t *ret, bool *ret_bad)
{
    while (rest->len && is_between(rest->ptr[0]))
        *rest = slice_from(*rest, 1);
    if (slice_starts(*rest, SLICE("0x")) || slice_starts(*rest, SLICE("0X")))
        *rest = slice_from(*rest, 2);
    size_t digits = 0;
    uint64_t value = 0;
    for (; digits < rest->len && !is_between(rest->ptr[digits]); digits++) {
        char c = rest->ptr[digits];
        int v = c >= '0' && c <= '9'                 ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'W'
                                                     : -1;
        if (v < 0 || digits == 16) {
            *ret_bad = true;
            return false;
        }
        value = value << 4 | (unsigned)v;
    }
    *rest = slice_from(*rest, digits);
    *ret = value;
    return digits > 0;
}

static void name_addresses(struct prof_ask *ask)
{
    struct error err = {""};
    struct slice rest = ask->text;
    uint64_t address;
    bool bad = false;
    struct names *names = names_open(&err);
    if (!names) {
        answer(ask, REASON_internal, err.text);
        return;
    }
    while (next_address(&rest, &address, &bad)) {
        const char *name = names_symbol(names, address);
        buf_printf(ask->out, "0x%llx\t%s\n", (unsigned long long)address, name ? name : "??");
    }
    names_close(names);
    answer(ask, bad ? REASON_bad_request : REASON_ok,
           bad ? "addresses are hexadecimal with a + between: 0x1f00+0x2a00" : NULL);
}

static void serve(struct prof *p, struct prof_ask *ask, bool quit)
{
    struct error err = {""};
    enum reason reason;
    switch (ask->op) {
    case PROF_CPU:
    case PROF_FLAME:
        begin(p, ask, quit);
        return;
    case PROF_SYMBOL:
        name_addresses(ask);
        return;
    case PROF_HEAP:
        reason = heap_profile(ask->out, &err);
        answer(ask, reason, err.text);
        return;
    case PROF_ALLOCATOR:
        heap_describe(ask->out);
        answer(ask, REASON_ok, NULL);
        return;
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* With the lock. */
static void rest(struct prof *p)
{
    if (!p->running) {
        pthread_cond_wait(&p->woken, &p->lock);
        return;
    }
    uint64_t look_ns = clock_mono_ns() + LOOK_NS;
    uint64_t until_ns = look_ns < p->end_ns ? look_ns : p->end_ns;
    (void)cond_wait_until(&p->woken, &p->lock, until_ns);
}

static void run(void *arg)
{
    struct prof *p = arg;
    thread_be_nice(NICE);
    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        struct prof_ask *ask = p->first;
        bool over = is_over(p), quit = p->quit;
        if (!over && !ask) {
            rest(p);
            continue;
        }
        if (!over) {
            p->first = ask->next;
            p->last = p->first ? p->last : &p->first;
            p->waiting--;
        }
        pthread_mutex_unlock(&p->lock);
        if (over)
            end(p);
        else
            serve(p, ask, quit);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
}

void prof_submit(struct prof *p, struct prof_ask *ask)
{
    ask->next = NULL;
    ask->given_up = false;
    pthread_mutex_lock(&p->lock);
    bool room = p->waiting < PROFILE_ASKS_MAX;
    if (room) {
        *p->last = ask;
        p->last = &ask->next;
        p->waiting++;
        pthread_cond_signal(&p->woken);
    }
    pthread_mutex_unlock(&p->lock);
    if (!room)
        answer(ask, REASON_busy, NULL);
}

void prof_give_up(struct prof *p, struct prof_ask *ask)
{
    pthread_mutex_lock(&p->lock);
    ask->given_up = true;
    pthread_cond_signal(&p->woken);
    pthread_mutex_unlock(&p->lock);
}

void prof_quit(struct prof *p)
{
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_signal(&p->woken);
    pthread_mutex_unlock(&p->lock);
}

struct prof *prof_new(void)
{
    struct prof *p = calloc(1, sizeof *p);
    CHECK(p);
    p->last = &p->first;
    p->file.fd = -1;
    cond_init(&p->woken);
    pthread_mutex_init(&p->lock, NULL);
    p->thread = thread_start("profiler", run, p);
    return p;
}

void prof_free(struct prof *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    CHECK(!p->first && !p->running);
    p->stop = true;
    pthread_cond_signal(&p->woken);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->woken);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
