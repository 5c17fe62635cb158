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

#define HEADER_MAX  1024u /* read ahead of the protocol; a PROXY header has at most 536 */
#define PATIENCE_NS NS_PER_S

struct opening {
    struct stream *stream;
    struct listener *listener;
    struct opening *next, **prev;
    struct deadline deadline;
    uint64_t since_ns;
    bool proxy;     /* its header is to come first */
    bool failed;    /* on the list of those that failed: an alert is on its way */
    struct buf raw; /* bytes read: the header so far, and perhaps what follows it */
};

void openings_init(struct openings *list)
{
    *list = (struct openings){.last = &list->first};
}

void openings_close(struct openings *list)
{
    while (list->first)
        stream_close(list->first->stream);
    while (list->failed)
        stream_close(list->failed->stream);
}

bool openings_have_room(struct listener *l)
{
    struct openings *list = listener_openings(l);
    struct worker *w = listener_worker(l);
    if (list->count < listener_tune_now(l)->opening_max)
        return true;
    if (worker_now_ns(w) < list->first->since_ns + PATIENCE_NS ||
        stream_held(list->first->stream)) /* it is the next one to go on */
        return false;
    metric_add(METRIC_openings_evicted, 1);
    stream_close(list->first->stream);
    return true;
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
    struct worker *w = o->stream->worker;
    if (stream_held(o->stream)) {
        deadline_set(worker_wheel(w), d,
                     worker_now_ns(w) + listener_tune_now(o->listener)->opening_ns);
        return;
    }
    metric_add(METRIC_connections_timed_out, 1);
    stream_close(o->stream);
}

bool opening_begin(struct listener *l, struct stream *s)
{
    struct openings *list = listener_openings(l);
    struct opening *o = calloc(1, sizeof *o);
    if (!o)
        return false;
    o->stream = s;
    o->listener = l;
    o->proxy = is_proxy(l, s);
    o->since_ns = worker_now_ns(s->worker);
    o->deadline.due = on_due;
    deadline_set(worker_wheel(s->worker), &o->deadline,
                 o->since_ns + listener_tune_now(l)->opening_ns);
    buf_init(&o->raw, HEADER_MAX);
    o->prev = list->last;
    *list->last = o;
    list->last = &o->next;
    list->count++;
    s->opening = o;
    return true;
}

static void unlink_it(struct opening *o)
{
    struct openings *list = listener_openings(o->listener);
    *o->prev = o->next;
    if (o->next)
        o->next->prev = o->prev;
    else if (!o->failed)
        list->last = o->prev;
    list->count -= !o->failed;
}

void opening_end(struct opening *o)
{
    unlink_it(o);
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
    o->stream->proxied = true;
    buf_consume(&o->raw, used);
    return true;
}

/* ---- TLS ---- */

/* The peer may still read the alert that says why: until then it is no owner's, and no opening one
 * either. */
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
    unlink_it(o);
    o->failed = true;
    o->next = list->failed;
    o->prev = &list->failed;
    if (o->next)
        o->next->prev = &o->next;
    list->failed = o;
    deadline_clear(&o->deadline);
    listener_look(o->listener);
    stream_finish(s);
}

/* Goes on with the handshake; when it is done the protocol begins. */
static void shake_hands(struct opening *o, struct tls_set *tls)
{
    struct stream *s = o->stream;
    if (!s->tls && !(s->tls = tls_conn_new(tls, s, listener_alpn(o->listener), &o->raw))) {
        stream_close(s);
        return;
    }
    enum tls_step step = tls_conn_handshake(s->tls);
    if (step == TLS_STEP_MORE || s->closing)
        return;
    if (step == TLS_STEP_FAILED) {
        fail(o);
        return;
    }
    metric_add(METRIC_tls_handshakes, 1);
    metric_add(METRIC_tls_resumed, tls_conn_resumed(s->tls));
    metric_observe(METRIC_tls_handshake_time, worker_now_ns(s->worker) - o->since_ns);
    if (tls_conn_identity(s->tls).ptr)
        certified_add(s);
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
    if (tls || o->stream->tls)
        shake_hands(o, tls);
    else
        open_up(o);
}
