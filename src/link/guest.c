/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread connects, takes in what the gateway says, and tells where the sinks are: at once when
 * somebody waits, else each REPORT_NS.
 *
 * Locks, never two at once but in this order: `sinks_lock` (which sinks there are, held while they
 * are reported), `lock` (the descriptor, who asks, the names).
 *
 * A mark is taken in this order: names that changed are forgotten, the keyring is read again, then
 * the journal goes on. So what a record needs is known before it can be read. If a step fails, the
 * mark stays due. Nothing is told before the first one: what the sinks have done is true of the log
 * that it is about, unless that went back; then there is no connection any more.
 */
#include "link/guest.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/thread.h"
#include "link/names.h"
#include "link/wire.h"

#define RETRY_NS   (200 * NS_PER_MS)
#define REFUSED_NS (5 * NS_PER_S)
#define REPORT_NS  (1000 * NS_PER_MS)
#define LOOK_NS    (100 * NS_PER_MS)
#define ASK_NS     (5 * NS_PER_S)
#define DUE_NS     (500 * NS_PER_MS) /* between two tries to take a mark */

#define U(v) (unsigned long long)(v)

/* Somebody who waits for an answer; on his stack. */
struct asker {
    struct asker *next;
    uint64_t ticket;
    uint32_t reason;
    bool done, failed;
    char text[LINK_GUEST_NAME_MAX];
};

struct link_guest {
    struct link_guest_opts opts;
    char *path;
    int bell;
    pthread_t thread;
    _Atomic bool stop, connected, marked; /* marked: since it connected */
    _Atomic bool attached;
    _Atomic bool mark_due; /* the thread's: it could not be taken */

    pthread_mutex_t sinks_lock;
    struct link_welcome welcome;
    struct sink *const *sinks;
    unsigned sinks_count;
    int of_host[SINKS_MAX];      /* its number there; negative: it is unknown there */
    uint32_t waiting[SINKS_MAX]; /* by our numbers: what ours were told */
    uint32_t there[SINKS_MAX];   /* by their numbers: as the gateway said last */
    uint64_t told_to[SINKS_MAX]; /* fates were told up to there */

    pthread_mutex_t lock;
    pthread_cond_t answered;
    int fd; /* -1: none */
    struct asker *askers;
    uint64_t ticket;
    struct link_names *names;

    /* The thread's: */
    struct link_mark mark;
    int tell_code;   /* of the round of cursors in hand */
    bool mark_first; /* since it connected */
    bool told_refused;
    uint64_t reported_ns, tried_ns;
    char packet[PACKET_MAX];
};

/* ---- asking ---------------------------------------------------------------------------------- */

/* With the lock. */
static int say_locked(struct link_guest *g, enum link_kind kind, const void *body, size_t len,
                      struct slice rest)
{
    return g->fd < 0 ? -ENOTCONN : link_send(g->fd, kind, body, len, rest);
}

static int say(struct link_guest *g, enum link_kind kind, const void *body, size_t len,
               struct slice rest)
{
    pthread_mutex_lock(&g->lock);
    int rc = say_locked(g, kind, body, len, rest);
    pthread_mutex_unlock(&g->lock);
    return rc;
}

static void begin_asking(struct link_guest *g, struct asker *a)
{
    memset(a, 0, sizeof *a);
    a->ticket = ++g->ticket;
    a->next = g->askers;
    g->askers = a;
}

/* With the lock; sleeps until the answer is there, or nobody will give it. */
static bool wait_for(struct link_guest *g, struct asker *a)
{
    uint64_t end = clock_mono_ns() + ASK_NS;
    while (!a->done && !a->failed && cond_wait_until(&g->answered, &g->lock, end))
        ;
    struct asker **at = &g->askers;
    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    return a->done;
}

/* With the lock. */
static bool ask(struct link_guest *g, struct asker *a, unsigned of, uint64_t number)
{
    begin_asking(g, a);
    struct link_ask q = {.ticket = a->ticket, .number = number, .of = of};
    a->failed = say_locked(g, LINK_ASK, &q, sizeof q, (struct slice){0}) != 0;
    return wait_for(g, a);
}

bool link_guest_name(struct link_guest *g, enum link_of of, uint64_t number,
                     char ret[LINK_GUEST_NAME_MAX])
{
    struct asker a;
    pthread_mutex_lock(&g->lock);
    bool known = link_names_find(g->names, of, number, ret, LINK_GUEST_NAME_MAX);
    if (!known) {
        uint64_t age = link_names_age(g->names);
        known = ask(g, &a, of, number);
        if (known)
            memcpy(ret, a.text, LINK_GUEST_NAME_MAX);
        if (known && age == link_names_age(g->names)) /* none were forgotten meanwhile */
            link_names_put(g->names, of, number, a.text);
    }
    pthread_mutex_unlock(&g->lock);
    return known;
}

static const char text_away[] = "it was done, but the gateway is away, so no audit log has it";

enum reason link_guest_note(struct link_guest *g, const struct link_note_text *note, char text[256])
{
    const struct slice texts[] = {note->what, note->subject, note->more, note->actor, note->from};
    struct link_note n = {.account = note->account, .credential = note->credential};
    struct buf rest;
    struct asker a;
    buf_init(&rest, LINK_TEXT_MAX);
    for (unsigned i = 0; i < 5; i++) {
        n.lengths[i] = (uint32_t)texts[i].len;
        buf_put_slice(&rest, texts[i]);
    }
    pthread_mutex_lock(&g->lock);
    begin_asking(g, &a);
    n.ticket = a.ticket;
    a.failed = rest.failed || say_locked(g, LINK_NOTE, &n, sizeof n, buf_slice(&rest)) != 0;
    bool known = wait_for(g, &a);
    pthread_mutex_unlock(&g->lock);
    buf_fini(&rest);
    snprintf(text, 256, "%.255s", known ? a.text : text_away);
    return !known ? REASON_journal_failed : a.reason < REASON_COUNT ? a.reason : REASON_internal;
}

/* ---- what the gateway says: each false when it makes no sense -------------------------------- */

/* An answer: the asker may have gone. */
static void give(struct link_guest *g, uint64_t ticket, uint32_t reason, struct slice text)
{
    pthread_mutex_lock(&g->lock);
    for (struct asker *a = g->askers; a; a = a->next) {
        if (a->ticket != ticket)
            continue;
        a->reason = reason;
        size_t n = text.len < sizeof a->text ? text.len : sizeof a->text - 1;
        memcpy(a->text, text.len ? text.ptr : "", n);
        a->text[n] = 0;
        a->done = true;
    }
    pthread_cond_broadcast(&g->answered);
    pthread_mutex_unlock(&g->lock);
}

/* With sinks_lock. */
static void pass_waiting(struct link_guest *g)
{
    for (unsigned i = 0; i < g->sinks_count; i++) {
        uint32_t now = g->of_host[i] >= 0 ? g->there[g->of_host[i]] : 0;
        if (now != g->waiting[i])
            sink_waiters(g->sinks[i], (int)(now - g->waiting[i]));
        g->waiting[i] = now;
    }
}

static void set_waiting(struct link_guest *g, const uint32_t waiting[SINKS_MAX])
{
    pthread_mutex_lock(&g->sinks_lock);
    memcpy(g->there, waiting, sizeof g->there);
    pass_waiting(g);
    pthread_mutex_unlock(&g->sinks_lock);
}

static void take_mark(struct link_guest *g, const struct link_mark *before)
{
    int rc = 0;
    g->tried_ns = clock_mono_ns();
    if (g->mark_first || g->mark.names != before->names) {
        pthread_mutex_lock(&g->lock);
        link_names_forget(g->names);
        pthread_mutex_unlock(&g->lock);
    }
    if (g->mark_first || g->mark.keys != before->keys)
        rc = g->opts.keys(g->opts.arg);
    set_waiting(g, g->mark.waiting);
    if (!rc)
        rc = journal_follow_to(g->opts.journal, &g->mark.journal);
    if (rc && !g->mark_due)
        log_line(LOG_ERROR, "link.mark_failed", "durable=%llu error=%s", U(g->mark.journal.durable),
                 strerror(-rc));
    g->mark_due = g->mark_first = rc != 0; /* then all of it is done again */
    if (!rc)
        atomic_store(&g->marked, true);
}

static bool take(struct link_guest *g, struct slice packet)
{
    struct link_mark mark, before = g->mark;
    struct link_name name;
    struct link_noted noted;
    struct slice rest;
    switch (link_kind_of(packet)) {
    case LINK_MARK:
        if (!link_parse(packet, LINK_MARK, &mark, sizeof mark, &rest))
            return false;
        g->mark = mark;
        if (!g->mark_due) /* else all of it is done again in its time */
            take_mark(g, &before);
        return true;
    case LINK_NAME:
        if (!link_parse(packet, LINK_NAME, &name, sizeof name, &rest))
            return false;
        give(g, name.ticket, 0, rest);
        return true;
    case LINK_NOTED:
        if (!link_parse(packet, LINK_NOTED, &noted, sizeof noted, &rest))
            return false;
        give(g, noted.ticket, noted.reason, rest);
        return true;
    default:
        return false;
    }
}

/* ---- what is told ---------------------------------------------------------------------------- */

static int tell_fates(struct link_guest *g, unsigned i, uint64_t to)
{
    uint8_t fates[LINK_FATES_MAX];
    uint64_t from = g->told_to[i], oldest = to > FATES_MAX ? to - FATES_MAX : 0;
    int rc = 0;
    for (from = from < oldest ? oldest : from; from < to && !rc;) {
        struct link_fates f = {.offset = from, .sink = (uint32_t)g->of_host[i]};
        f.count = to - from < sizeof fates ? (uint32_t)(to - from) : (uint32_t)sizeof fates;
        sink_fates(g->sinks[i], from, fates, f.count);
        rc = say(g, LINK_FATES, &f, sizeof f, slice_of((char *)fates, f.count));
        from += f.count;
    }
    return rc;
}

/* Those that have moved, or all. */
static int tell_sinks(struct link_guest *g, bool all)
{
    int rc = 0;
    pthread_mutex_lock(&g->sinks_lock);
    for (unsigned i = 0; i < g->sinks_count && !rc; i++) {
        struct link_report r;
        if (g->of_host[i] < 0 || (!all && sink_position(g->sinks[i]) == g->told_to[i]))
            continue;
        memset(&r, 0, sizeof r);
        sink_report(g->sinks[i], &r.report);
        r.sink = (uint32_t)g->of_host[i];
        rc = tell_fates(g, i, r.report.position);
        if (!rc)
            rc = say(g, LINK_REPORT, &r, sizeof r, (struct slice){0});
        g->told_to[i] = r.report.position;
    }
    pthread_mutex_unlock(&g->sinks_lock);
    return rc;
}

static void tell_cursor(void *arg, const char *name, uint64_t offset)
{
    struct link_guest *g = arg;
    struct link_cursor c;
    memset(&c, 0, sizeof c);
    c.offset = offset;
    snprintf(c.name, sizeof c.name, "%s", name);
    if (!g->tell_code)
        g->tell_code = say(g, LINK_CURSOR, &c, sizeof c, (struct slice){0});
}

static int tell(struct link_guest *g)
{
    uint64_t now = clock_mono_ns();
    bool due = now - g->reported_ns >= REPORT_NS;
    if (due)
        g->reported_ns = now;
    if (due && atomic_load(&g->attached)) { /* before, those that begin now would be missing */
        g->tell_code = 0;
        journal_cursors(g->opts.journal, tell_cursor, g);
        tell_cursor(g, "",
                    0); /* a round that is not whole has no end: it would let go of the rest */
        if (g->tell_code)
            return g->tell_code;
    }
    return tell_sinks(g, due);
}

/* ---- a connection ---------------------------------------------------------------------------- */

/* Which of ours is which of theirs. With sinks_lock. */
static void match_sinks(struct link_guest *g)
{
    for (unsigned i = 0; i < g->sinks_count; i++) {
        g->of_host[i] = -1;
        g->told_to[i] = 0;
        for (unsigned k = 0; k < g->welcome.count; k++)
            if (strcmp(sink_name(g->sinks[i]), g->welcome.sinks[k]) == 0)
                g->of_host[i] = (int)k;
        if (g->of_host[i] < 0 && atomic_load(&g->connected))
            log_line(LOG_ERROR, "link.unknown_sink",
                     "sink=%s why=\"the gateway's settings do not have it: it keeps no journal for "
                     "it\"",
                     sink_name(g->sinks[i]));
    }
}

static void set_fd(struct link_guest *g, int fd)
{
    static const uint32_t none[SINKS_MAX];
    pthread_mutex_lock(&g->lock);
    g->fd = fd;
    for (struct asker *a = g->askers; fd < 0 && a; a = a->next)
        a->failed = true;
    pthread_cond_broadcast(&g->answered);
    pthread_mutex_unlock(&g->lock);
    atomic_store(&g->connected, fd >= 0);
    atomic_store(&g->marked, false);
    if (fd < 0) {
        set_waiting(g, none);
        return;
    }
    pthread_mutex_lock(&g->sinks_lock);
    match_sinks(g);
    pthread_mutex_unlock(&g->sinks_lock);
}

/* What the gateway answers to our first words. 0, or why not, as a negative errno. */
static int greet(struct link_guest *g, int fd, struct error *err)
{
    struct link_hello hello = {.build = LINK_BUILD, .pid = (uint32_t)getpid()};
    struct link_welcome w;
    struct slice rest, packet;
    uint8_t nothing;
    int rc = link_send(fd, LINK_HELLO, &hello, sizeof hello, (struct slice){0});
    if (rc && rc != -EPIPE) /* refused before it was heard: why is to be read all the same */
        return rc;
    ssize_t n;
    uint64_t until = clock_mono_ns() + LINK_SEND_NS;
    do {
        packet_wait(&fd, 1, -1, LOOK_NS);
        n = packet_receive(fd, g->packet, sizeof g->packet);
    } while (n == -EAGAIN && !atomic_load(&g->stop) && clock_mono_ns() < until);
    if (n <= 0)
        return n ? (int)n : -ECONNRESET;
    packet = slice_of(g->packet, (size_t)n);
    if (link_parse(packet, LINK_REFUSED, &nothing, sizeof nothing, &rest))
        return error_set(err, -EACCES, "%.*s", SLICE_ARG(rest));
    if (!link_parse(packet, LINK_WELCOME, &w, sizeof w, &rest) || w.count > SINKS_MAX)
        return -EPROTO;
    for (unsigned i = 0; i < SINKS_MAX; i++)
        w.sinks[i][LINK_NAME_BYTES - 1] = 0;
    if (memcmp(w.log_id, journal_position(g->opts.journal).log_id, 16) != 0)
        return error_set(err, -EACCES, "the gateway has another journal now: start this anew");
    pthread_mutex_lock(&g->sinks_lock);
    g->welcome = w;
    pthread_mutex_unlock(&g->sinks_lock);
    return 0;
}

static void converse(struct link_guest *g, int fd)
{
    ssize_t n = -EAGAIN;
    while (!atomic_load(&g->stop) && n == -EAGAIN) {
        packet_wait(&fd, 1, g->bell, LOOK_NS);
        unsigned some = LINK_TURN; /* what we have to tell must not wait for a silence */
        while (some-- && (n = packet_receive(fd, g->packet, sizeof g->packet)) > 0)
            if (!take(g, slice_of(g->packet, (size_t)n)))
                return;
        if (n > 0)
            n = -EAGAIN; /* and on in the next turn */
        if (g->mark_due && clock_mono_ns() - g->tried_ns >= DUE_NS)
            take_mark(g, &g->mark);
        if (journal_went_back(g->opts.journal))
            return;
        /* Before the first mark it may be another log than the sinks were at. */
        if (n == -EAGAIN && atomic_load(&g->marked) && tell(g) != 0)
            return;
    }
}

static void run(void *arg)
{
    struct link_guest *g = arg;
    while (!atomic_load(&g->stop)) {
        struct error err = {""};
        if (journal_went_back(g->opts.journal)) { /* there is nothing true to be told of it */
            packet_wait(NULL, 0, g->bell, REFUSED_NS);
            if (journal_back_due(g->opts.journal) && journal_put_back(g->opts.journal) == 0)
                log_line(LOG_INFO, "journal.cursors_put_back", "path=%s", g->path);
            continue;
        }
        int fd = packet_connect(g->path), rc = fd < 0 ? fd : greet(g, fd, &err);
        if (rc == 0) {
            log_line(LOG_INFO, "link.connected", "path=%s", g->path);
            g->told_refused = false;
            g->mark_first = true;
            g->mark_due = false;
            g->reported_ns = 0;
            set_fd(g, fd);
            converse(g, fd);
            set_fd(g, -1);
            log_line(LOG_WARN, "link.lost", "path=%s durable=%llu", g->path,
                     U(journal_durable(g->opts.journal)));
        } else if (err.text[0] && !g->told_refused) {
            log_line(LOG_ERROR, "link.refused", "why=\"%s\"", err.text);
            g->told_refused = true;
        }
        packet_close(fd, NULL);
        if (!atomic_load(&g->stop))
            packet_wait(NULL, 0, g->bell, err.text[0] ? REFUSED_NS : RETRY_NS);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

static void destroy(struct link_guest *g)
{
    packet_close(g->bell, NULL);
    link_names_free(g->names);
    pthread_mutex_destroy(&g->sinks_lock);
    pthread_mutex_destroy(&g->lock);
    pthread_cond_destroy(&g->answered);
    free(g->path);
    free(g);
}

int link_guest_open(const struct link_guest_opts *opts, struct link_guest **ret, struct error *err)
{
    struct link_guest *g = calloc(1, sizeof *g);
    CHECK(g);
    g->opts = *opts;
    g->path = strdup(opts->path);
    g->fd = -1;
    g->names = link_names_new();
    CHECK(g->path && g->names);
    cond_init(&g->answered);
    pthread_mutex_init(&g->sinks_lock, NULL);
    pthread_mutex_init(&g->lock, NULL);
    g->bell = packet_bell();
    if (g->bell < 0) {
        int rc = error_set(err, g->bell, "link: %s", strerror(-g->bell));
        destroy(g);
        return rc;
    }
    g->thread = thread_start("link", run, g);
    *ret = g;
    return 0;
}

void link_guest_close(struct link_guest *g)
{
    if (!g)
        return;
    atomic_store(&g->stop, true);
    packet_ring(g->bell);
    pthread_join(g->thread, NULL);
    destroy(g);
}

void link_guest_attach(struct link_guest *g, struct sink *const *sinks, unsigned count)
{
    CHECK(count <= SINKS_MAX);
    pthread_mutex_lock(&g->sinks_lock);
    g->sinks = sinks;
    g->sinks_count = count;
    memset(g->waiting, 0, sizeof g->waiting);
    match_sinks(g);
    pass_waiting(g); /* who waits since before is not told of again */
    atomic_store(&g->attached, sinks != NULL);
    pthread_mutex_unlock(&g->sinks_lock);
    packet_ring(g->bell);
}

void link_guest_moved(struct link_guest *g)
{
    packet_ring(g->bell);
}

bool link_guest_wait(struct link_guest *g, uint64_t ns)
{
    uint64_t until = clock_mono_ns() + ns;
    while (!atomic_load(&g->marked) && clock_mono_ns() < until)
        clock_sleep_ns(2 * NS_PER_MS);
    return atomic_load(&g->marked);
}

bool link_guest_is_connected(const struct link_guest *g)
{
    return atomic_load(&g->connected);
}

bool link_guest_is_behind(const struct link_guest *g)
{
    return !atomic_load(&g->marked) || atomic_load(&g->mark_due);
}
