/* SPDX-License-Identifier: Apache-2.0 */
#include "conn/opening_private.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "conn/stream_private.h"

#define HEADER_MAX  1024u /* read ahead of the protocol; a PROXY header has at most 536 */
#define PATIENCE_NS NS_PER_S

struct opening {
    struct stream *stream;
    struct listener *listener;
    struct opening *next, **prev;
    struct deadline deadline;
    uint64_t since_ns;
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
}

bool openings_have_room(struct listener *l)
{
    struct openings *list = listener_openings(l);
    struct worker *w = listener_worker(l);
    if (list->count < listener_tune_now(l)->opening_max)
        return true;
    if (worker_now_ns(w) < list->first->since_ns + PATIENCE_NS)
        return false;
    metric_add(METRIC_openings_evicted, 1);
    stream_close(list->first->stream);
    return true;
}

bool opening_is_needed(const struct listener *l, const struct stream *s)
{
    const struct listener_tune *t = listener_tune_now(l);
    return t->proxies_count && cidr_covers(t->proxies, t->proxies_count, stream_peer(s));
}

static void on_due(struct deadline *d)
{
    struct opening *o = (struct opening *)((char *)d - offsetof(struct opening, deadline));
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

void opening_end(struct opening *o)
{
    struct openings *list = listener_openings(o->listener);
    *o->prev = o->next;
    if (o->next)
        o->next->prev = o->prev;
    else
        list->last = o->prev;
    list->count--;
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

void opening_read(struct opening *o)
{
    struct address from;
    size_t used = 0;
    bool has = false;
    if (!read_header(o))
        return;
    switch (proxy_header_parse(buf_slice(&o->raw), &used, &has, &from)) {
    case PROXY_MORE:
        return;
    case PROXY_BAD:
        metric_add(METRIC_proxy_headers_bad, 1);
        stream_close(o->stream);
        return;
    case PROXY_DONE:
        break;
    }
    if (has)
        o->stream->peer = from;
    buf_consume(&o->raw, used);
    open_up(o);
}
