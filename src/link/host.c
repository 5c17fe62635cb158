/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two threads. `listen` accepts a guest and takes in what it says, until it is gone. `mark` sleeps
 * in the journal and tells the guest how far it is, at most once in NAP_NS; once a second it sees
 * to it that nobody holds back more of the journal than he may.
 *
 * `lock` is of the descriptor: `listen` opens and closes it, and both send through it.
 */
#include "link/host.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/thread.h"
#include "link/wire.h"

#define NAP_NS   (500 * NS_PER_US)
#define LOOK_NS  (1000 * NS_PER_MS)
#define SLEEP_NS (100 * NS_PER_MS)

#define U(v) (unsigned long long)(v)

struct link_host {
    struct link_host_opts opts;
    char *path;
    int listening, bell;
    _Atomic bool stop;
    _Atomic bool has_guest;
    _Atomic uint64_t guests; /* how often that has changed */
    pthread_mutex_t lock;
    int fd; /* of the guest; -1: none */
    pthread_t listener, marker;
    bool told[LINK_CURSORS_MAX]; /* the listener's: in this round */
    char packet[PACKET_MAX];     /* the listener's */
};

/* ---- sending --------------------------------------------------------------------------------- */

/* False: the guest takes nothing, or is gone; the listener will see that. */
static bool say(struct link_host *h, enum link_kind kind, const void *body, size_t len,
                struct slice rest)
{
    int rc = -ENOTCONN;
    pthread_mutex_lock(&h->lock);
    if (h->fd >= 0)
        rc = link_send(h->fd, kind, body, len, rest);
    pthread_mutex_unlock(&h->lock);
    if (rc == -EAGAIN)
        log_line(LOG_WARN, "link.stuck", "kind=%d", kind);
    return rc == 0;
}

static bool same(const struct link_mark *a, const struct link_mark *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static void make_mark(struct link_host *h, struct link_mark *ret)
{
    const struct link_host_opts *o = &h->opts;
    memset(ret, 0, sizeof *ret);
    ret->journal = journal_mark(o->journal);
    ret->names = o->names_changed(o->arg);
    ret->keys = o->keys_changed(o->arg);
    for (unsigned i = 0; i < o->sinks_count; i++)
        ret->waiting[i] = sink_waiting(o->sinks[i]);
}

/* ---- retention ------------------------------------------------------------------------------- */

/* What a sink in this process sees to itself: see sink.c, 4. */
static void relieve(struct link_host *h)
{
    for (unsigned i = 0; i < h->opts.cursors_count; i++) {
        const struct link_cursor_held *c = &h->opts.cursors[i];
        uint64_t from = journal_hold_from(h->opts.journal, c->hold_bytes);
        uint64_t at = journal_cursor(h->opts.journal, c->name, UINT64_MAX);
        if (at >= from || from > journal_durable(h->opts.journal))
            continue;
        int rc = journal_set_cursor(h->opts.journal, c->name, from);
        log_line(LOG_ERROR, "link.gave_up", "cursor=%s from=%llu to=%llu hold_bytes=%llu error=%s",
                 c->name, U(at), U(from), U(c->hold_bytes), rc ? strerror(-rc) : "none");
    }
}

/* One that is not there yet begins at the oldest record. */
static int begin_cursors(struct link_host *h, struct error *err)
{
    for (unsigned i = 0; i < h->opts.cursors_count; i++) {
        struct journal_reader *r;
        struct journal_reader_opts o = {.name = h->opts.cursors[i].name};
        int rc = journal_reader_open(h->opts.journal, &o, &r, err);
        if (rc)
            return rc;
        journal_reader_close(r);
    }
    return 0;
}

static void run_marker(void *arg)
{
    struct link_host *h = arg;
    struct link_mark last, next;
    uint64_t looked_ns = 0, guests = 0;
    memset(&last, 0, sizeof last);
    while (!atomic_load(&h->stop)) {
        if (clock_mono_ns() - looked_ns >= LOOK_NS) {
            looked_ns = clock_mono_ns();
            relieve(h);
        }
        make_mark(h, &next);
        if (atomic_load(&h->guests) != guests) { /* another one, who was told nothing yet */
            guests = atomic_load(&h->guests);
            memset(&last, 0, sizeof last);
        }
        if (!atomic_load(&h->has_guest)) {
            memset(&last, 0, sizeof last);
            clock_sleep_ns(SLEEP_NS / 4);
        } else if (same(&last, &next)) {
            journal_wait(h->opts.journal, next.journal.durable, SLEEP_NS);
        } else {
            if (say(h, LINK_MARK, &next, sizeof next, (struct slice){0}))
                last = next;
            clock_sleep_ns(NAP_NS);
        }
    }
}

/* ---- receiving: each false when it makes no sense -------------------------------------------- */

/* What it did not tell in this round, it has no more. */
static void end_round(struct link_host *h)
{
    for (unsigned i = 0; i < h->opts.cursors_count; i++) {
        const char *name = h->opts.cursors[i].name;
        bool held = journal_cursor(h->opts.journal, name, UINT64_MAX) != UINT64_MAX;
        if (!h->told[i] && held && journal_forget_reader(h->opts.journal, name) == 0)
            log_line(LOG_WARN, "link.let_go", "cursor=%s why=\"the other process has it no more\"",
                     name);
        h->told[i] = false;
    }
}

static bool on_cursor(struct link_host *h, struct slice packet)
{
    struct link_cursor c;
    struct slice rest;
    if (!link_parse(packet, LINK_CURSOR, &c, sizeof c, &rest))
        return false;
    c.name[sizeof c.name - 1] = 0;
    if (!c.name[0])
        end_round(h);
    for (unsigned i = 0; i < h->opts.cursors_count; i++) {
        if (strcmp(c.name, h->opts.cursors[i].name) != 0)
            continue;
        h->told[i] = true;
        int rc = journal_set_cursor(h->opts.journal, c.name, c.offset);
        if (rc)
            log_line(LOG_ERROR, "link.cursor_failed", "cursor=%s offset=%llu error=%s", c.name,
                     U(c.offset), strerror(-rc));
        return true;
    }
    return true; /* of a sink that only the guest has: nothing is kept for it, and that was said */
}

static bool on_fates(struct link_host *h, struct slice packet)
{
    struct link_fates f;
    struct slice rest;
    if (!link_parse(packet, LINK_FATES, &f, sizeof f, &rest) || f.sink >= h->opts.sinks_count ||
        f.count != rest.len)
        return false;
    uint64_t durable = journal_durable(h->opts.journal);
    if (f.offset > durable || f.count > durable - f.offset)
        return false;
    sink_remote_fates(h->opts.sinks[f.sink], f.offset, (const uint8_t *)rest.ptr, f.count);
    return true;
}

static bool on_report(struct link_host *h, struct slice packet)
{
    struct link_report r;
    struct slice rest;
    if (!link_parse(packet, LINK_REPORT, &r, sizeof r, &rest) || r.sink >= h->opts.sinks_count)
        return false;
    if (sink_remote_put(h->opts.sinks[r.sink], &r.report))
        h->opts.moved(h->opts.arg);
    return true;
}

static bool on_ask(struct link_host *h, struct slice packet)
{
    struct link_ask a;
    struct slice rest;
    struct buf name;
    if (!link_parse(packet, LINK_ASK, &a, sizeof a, &rest) || a.of > LINK_OF_DEVICE)
        return false;
    struct link_name reply = {.ticket = a.ticket};
    buf_init(&name, LINK_TEXT_MAX);
    h->opts.name(h->opts.arg, (enum link_of)a.of, a.number, &name);
    say(h, LINK_NAME, &reply, sizeof reply, buf_slice(&name));
    buf_fini(&name);
    return true;
}

static bool on_note(struct link_host *h, struct slice packet)
{
    struct link_note n;
    struct slice rest, texts[5];
    char text[256] = "";
    if (!link_parse(packet, LINK_NOTE, &n, sizeof n, &rest))
        return false;
    for (unsigned i = 0; i < 5; i++) {
        if (n.lengths[i] > rest.len)
            return false;
        texts[i] = slice_of(rest.ptr, n.lengths[i]);
        rest = slice_from(rest, n.lengths[i]);
    }
    const struct link_note_text note = {.account = n.account,
                                        .credential = n.credential,
                                        .what = texts[0],
                                        .subject = texts[1],
                                        .more = texts[2],
                                        .actor = texts[3],
                                        .from = texts[4]};
    struct link_noted reply = {.ticket = n.ticket,
                               .reason = h->opts.note(h->opts.arg, &note, text)};
    say(h, LINK_NOTED, &reply, sizeof reply, slice_str(text));
    return true;
}

static bool take(struct link_host *h, struct slice packet)
{
    switch (link_kind_of(packet)) {
    case LINK_CURSOR:
        return on_cursor(h, packet);
    case LINK_FATES:
        return on_fates(h, packet);
    case LINK_REPORT:
        return on_report(h, packet);
    case LINK_ASK:
        return on_ask(h, packet);
    case LINK_NOTE:
        return on_note(h, packet);
    default:
        return false;
    }
}

/* ---- a guest --------------------------------------------------------------------------------- */

static void refuse(int fd, const char *why)
{
    uint8_t nothing = 0;
    link_send(fd, LINK_REFUSED, &nothing, sizeof nothing, slice_str(why));
    log_line(LOG_ERROR, "link.refused", "why=\"%s\"", why);
}

/* Its first words. False: refused. */
static bool greet(struct link_host *h, int fd)
{
    struct link_hello hello;
    struct slice rest;
    ssize_t n = 0;
    uint64_t until = clock_mono_ns() + LINK_SEND_NS;
    do {
        packet_wait(&fd, 1, -1, SLEEP_NS);
        n = packet_receive(fd, h->packet, sizeof h->packet);
    } while (n == -EAGAIN && !atomic_load(&h->stop) && clock_mono_ns() < until);
    if (n <= 0 ||
        !link_parse(slice_of(h->packet, (size_t)n), LINK_HELLO, &hello, sizeof hello, &rest)) {
        refuse(fd, "that is no process of sinks");
        return false;
    }
    hello.build[sizeof hello.build - 1] = 0;
    if (strcmp(hello.build, LINK_BUILD) != 0) {
        refuse(fd, "the gateway is " LINK_BUILD ": both must be of one version");
        return false;
    }
    struct link_welcome w = {.count = h->opts.sinks_count};
    struct journal_position p = journal_position(h->opts.journal);
    memcpy(w.log_id, p.log_id, sizeof w.log_id);
    for (unsigned i = 0; i < w.count; i++)
        snprintf(w.sinks[i], sizeof w.sinks[i], "%s", sink_name(h->opts.sinks[i]));
    log_line(LOG_INFO, "link.guest", "pid=%u", hello.pid);
    return link_send(fd, LINK_WELCOME, &w, sizeof w, (struct slice){0}) == 0;
}

static void serve(struct link_host *h, int fd)
{
    const int both[] = {fd, h->listening};
    const char *why = "it is gone";
    while (!atomic_load(&h->stop)) {
        packet_wait(both, 2, h->bell, LOOK_NS);
        ssize_t n = -EAGAIN;
        unsigned some = LINK_TURN;
        while (some-- && (n = packet_receive(fd, h->packet, sizeof h->packet)) > 0)
            if (!take(h, slice_of(h->packet, (size_t)n))) {
                why = "what it said makes no sense";
                n = -EPROTO;
                break;
            }
        if (n <= 0 && n != -EAGAIN)
            break; /* who comes next is greeted, not refused */
        int second = packet_accept(h->listening);
        if (second >= 0) {
            /* What it says first is read: a socket that is closed over it would only say "reset".
             */
            packet_wait(&second, 1, h->bell, SLEEP_NS);
            (void)packet_receive(second, h->packet, sizeof h->packet);
            refuse(second, "another process has the sinks already");
            packet_close(second, NULL);
        } else if (second != -EAGAIN) {
            clock_sleep_ns(SLEEP_NS / 4); /* no descriptors: it is still waiting */
        }
    }
    log_line(LOG_WARN, "link.guest_gone", "why=\"%s\"", why);
}

static void set_guest(struct link_host *h, int fd)
{
    pthread_mutex_lock(&h->lock);
    h->fd = fd;
    memset(h->told, 0, sizeof h->told);
    atomic_fetch_add(&h->guests, 1);
    atomic_store(&h->has_guest, fd >= 0);
    pthread_mutex_unlock(&h->lock);
}

static void run_listener(void *arg)
{
    struct link_host *h = arg;
    while (!atomic_load(&h->stop)) {
        packet_wait(&h->listening, 1, h->bell, LOOK_NS);
        int fd = packet_accept(h->listening);
        if (fd < 0 && fd != -EAGAIN)
            clock_sleep_ns(SLEEP_NS / 4);
        if (fd < 0)
            continue;
        if (greet(h, fd)) {
            set_guest(h, fd);
            serve(h, fd);
            set_guest(h, -1);
            for (unsigned i = 0; i < h->opts.sinks_count; i++)
                sink_remote_absent(h->opts.sinks[i]);
        }
        packet_close(fd, NULL);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

static void destroy(struct link_host *h)
{
    packet_close(h->listening, h->listening >= 0 ? h->path : NULL);
    packet_close(h->bell, NULL);
    pthread_mutex_destroy(&h->lock);
    free(h->path);
    free(h);
}

int link_host_open(const struct link_host_opts *opts, struct link_host **ret, struct error *err)
{
    struct link_host *h = calloc(1, sizeof *h);
    CHECK(h);
    h->opts = *opts;
    h->path = strdup(opts->path);
    h->fd = h->listening = -1;
    pthread_mutex_init(&h->lock, NULL);
    CHECK(h->path);
    h->bell = packet_bell();
    int rc = h->bell < 0 ? error_set(err, h->bell, "link: %s", strerror(-h->bell)) : 0;
    if (!rc)
        rc = begin_cursors(h, err);
    if (!rc && (h->listening = packet_listen(h->path, err)) < 0)
        rc = h->listening;
    if (rc) {
        destroy(h);
        return rc;
    }
    h->listener = thread_start("link", run_listener, h);
    h->marker = thread_start("link-mark", run_marker, h);
    *ret = h;
    return 0;
}

void link_host_close(struct link_host *h)
{
    if (!h)
        return;
    atomic_store(&h->stop, true);
    packet_ring(h->bell);
    journal_wake(h->opts.journal);
    pthread_join(h->listener, NULL);
    pthread_join(h->marker, NULL);
    destroy(h);
}

bool link_host_has_guest(const struct link_host *h)
{
    return h && atomic_load(&h->has_guest);
}
