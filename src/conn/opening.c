/* SPDX-License-Identifier: Apache-2.0 */
#include "conn/opening_private.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "conn/stream_private.h"
#include "conn/tls_private.h"

#define HEADER_MAX 1024u    /* read ahead of the protocol; a PROXY header has at most 536 */
#define SILENCE_NS NS_PER_S /* whoever said nothing for so long may have to make room */

struct opening {
    struct stream *stream;
    struct listener *listener;
    struct opening_list *in;
    struct opening *next, **prev;
    struct deadline deadline;
    uint64_t since_ns;
    uint64_t listed_ns; /* on that list */
    bool proxy;         /* its header is to come first */
    struct buf raw;     /* bytes read: the header so far, and perhaps what follows it */
};

static void list_init(struct opening_list *list)
{
    *list = (struct opening_list){.last = &list->first};
}

static void list_close(struct opening_list *list)
{
    while (list->first)
        stream_close(list->first->stream);
}

static void list_add(struct opening_list *list, struct opening *o)
{
    o->in = list;
    o->listed_ns = worker_now_ns(o->stream->worker);
    o->next = NULL;
    o->prev = list->last;
    *list->last = o;
    list->last = &o->next;
}

static void list_drop(struct opening *o)
{
    *o->prev = o->next;
    if (o->next)
        o->next->prev = o->prev;
    else
        o->in->last = o->prev;
}

void openings_init(struct openings *list)
{
    *list = (struct openings){.count = 0};
    list_init(&list->silent);
    list_init(&list->heard);
    list_init(&list->failed);
}

void openings_close(struct openings *list)
{
    list_close(&list->silent);
    list_close(&list->heard);
    list_close(&list->failed);
}

static bool is_full(struct listener *l)
{
    return listener_openings(l)->count >= listener_tune_now(l)->opening_max;
}

/* Whoever is to go first when there is no room. NULL: none had his time yet. */
static struct opening *find_dawdler(struct listener *l)
{
    const struct openings *list = listener_openings(l);
    uint64_t now_ns = worker_now_ns(listener_worker(l));
    uint64_t patience_ns = listener_tune_now(l)->opening_ns / 2;
    uint64_t silence_ns = SILENCE_NS < patience_ns ? SILENCE_NS : patience_ns;
    struct opening *silent = list->silent.first, *heard = list->heard.first;
    if (silent && now_ns >= silent->listed_ns + silence_ns)
        return silent;
    return heard && now_ns >= heard->listed_ns + patience_ns ? heard : NULL;
}

bool openings_have_room(struct listener *l)
{
    return !is_full(l) || find_dawdler(l);
}

static void make_room(struct listener *l)
{
    struct opening *o = is_full(l) ? find_dawdler(l) : NULL;
    if (!o)
        return;
    metric_add(METRIC_openings_evicted, 1);
    stream_close(o->stream);
}

static bool is_proxy(const struct listener *l, const struct stream *s)
{
    const struct listener_tune *t = listener_tune_now(l);
    return t->proxies_count && cidr_covers(t->proxies, t->proxies_count, stream_peer(s));
}

bool opening_is_needed(const struct listener *l, const struct stream *s)
{
    return listener_tune_now(l)->tls || is_proxy(l, s);
}

static void on_due(struct deadline *d)
{
    struct opening *o = (struct opening *)((char *)d - offsetof(struct opening, deadline));
    if (o->stream->lingering) /* failed, and the alert is sent: it has that deadline now */
        return;
    metric_add(METRIC_connections_timed_out, 1);
    stream_close(o->stream);
}

bool opening_begin(struct listener *l, struct stream *s)
{
    struct openings *list = listener_openings(l);
    struct opening *o = calloc(1, sizeof *o);
    if (!o)
        return false;
    make_room(l);
    o->stream = s;
    o->listener = l;
    o->proxy = is_proxy(l, s);
    o->since_ns = worker_now_ns(s->worker);
    o->deadline.due = on_due;
    deadline_set(worker_wheel(s->worker), &o->deadline,
                 o->since_ns + listener_tune_now(l)->opening_ns);
    buf_init(&o->raw, HEADER_MAX);
    list_add(&list->silent, o);
    list->count++;
    s->opening = o;
    return true;
}

void opening_end(struct opening *o)
{
    struct openings *list = listener_openings(o->listener);
    list->count -= o->in != &list->failed;
    list_drop(o);
    deadline_clear(&o->deadline);
    o->stream->opening = NULL;
    buf_fini(&o->raw);
    listener_look(o->listener);
    free(o);
}

/* The protocol begins. */
static void open_up(struct opening *o)
{
    struct stream *s = o->stream;
    struct listener *l = o->listener;
    struct buf raw = o->raw;
    buf_init(&o->raw, 0);
    opening_end(o);
    if (listener_hand_over(l, s))
        stream_take_early(s, buf_slice(&raw));
    buf_fini(&raw);
}

/* ---- the PROXY header ---- */

/* Reads what there is. False: nothing more is to be done now. */
static bool read_header(struct opening *o)
{
    char *to = buf_reserve(&o->raw, HEADER_MAX - o->raw.len);
    ssize_t n = to ? recv(o->stream->fd, to, HEADER_MAX - o->raw.len, MSG_DONTWAIT) : 0;
    if (n > 0) {
        o->raw.len += (size_t)n;
        return true;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        stream_close(o->stream);
    return false;
}

/* True: it is whole, and taken off. False: more must come, or the stream is closed. */
static bool take_header(struct opening *o)
{
    struct address from;
    size_t used = 0;
    bool has = false;
    if (!read_header(o))
        return false;
    switch (proxy_header_parse(buf_slice(&o->raw), &used, &has, &from)) {
    case PROXY_MORE:
        return false;
    case PROXY_BAD:
        metric_add(METRIC_proxy_headers_bad, 1);
        stream_close(o->stream);
        return false;
    case PROXY_DONE:
        break;
    }
    if (has)
        o->stream->peer = from;
    buf_consume(&o->raw, used);
    return true;
}

/* ---- TLS ---- */

/* The peer may still read the alert that says why: until then, or until it has had the time for
 * that, it is no owner's, and no opening one either. */
static void fail(struct opening *o)
{
    struct stream *s = o->stream;
    struct openings *list = listener_openings(o->listener);
    struct buf who;
    buf_init(&who, 128);
    address_format(&who, &s->peer);
    metric_add(METRIC_tls_handshakes_failed, 1);
    log_line(LOG_DEBUG, "tls.handshake_failed", "peer=%.*s error=\"%s\"",
             SLICE_ARG(buf_slice(&who)), tls_conn_failure(s->tls));
    buf_fini(&who);
    list_drop(o);
    list->count--;
    list_add(&list->failed, o);
    deadline_set(worker_wheel(s->worker), &o->deadline, o->listed_ns + LINGER_NS);
    tls_conn_free(s->tls); /* what it wrote is the stream's already */
    s->tls = NULL;
    listener_look(o->listener);
    stream_finish(s);
}

/* Goes on with the handshake; when it is done the protocol begins. */
static void shake_hands(struct opening *o, struct tls_set *tls)
{
    struct stream *s = o->stream;
    if (!worker_may_toil(s->worker)) {
        stream_again(s);
        return;
    }
    if (!s->tls && !(s->tls = tls_conn_new(tls, s, listener_alpn(o->listener), &o->raw))) {
        stream_close(s);
        return;
    }
    uint64_t begun = clock_mono_ns();
    enum tls_step step = tls_conn_handshake(s->tls);
    worker_toiled(s->worker, clock_mono_ns() - begun);
    if (step == TLS_STEP_MORE || s->closing)
        return;
    if (step == TLS_STEP_FAILED) {
        fail(o);
        return;
    }
    metric_add(METRIC_tls_handshakes, 1);
    metric_add(METRIC_tls_resumed, tls_conn_resumed(s->tls));
    metric_observe(METRIC_tls_handshake_time, worker_now_ns(s->worker) - o->since_ns);
    open_up(o); /* watch() sees that there may be more to read */
}

void opening_read(struct opening *o)
{
    struct tls_set *tls = listener_tune_now(o->listener)->tls;
    if (o->proxy) {
        if (!take_header(o))
            return;
        o->proxy = false;
        if (tls && !o->raw.len)
            return;
    }
    struct openings *list = listener_openings(o->listener);
    if (o->in == &list->silent) {
        list_drop(o);
        list_add(&list->heard, o);
    }
    if (tls || o->stream->tls)
        shake_hands(o, tls);
    else
        open_up(o);
}
