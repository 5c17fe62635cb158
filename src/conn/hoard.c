/* SPDX-License-Identifier: Apache-2.0 */
#include "conn/hoard.h"

#include "base/metric.h"

#define NEWCOMERS 4u /* this part is theirs */

void hoard_init(struct hoard *h)
{
    *h = (struct hoard){.bytes_max = SIZE_MAX};
    stream_list_init(&h->newcomers);
    stream_list_init(&h->known);
}

static struct stream_place *list_of(struct stream *s)
{
    struct hoard *h = worker_hoard(s->worker);
    return s->known ? &h->known : &h->newcomers;
}

static struct stream *first_of(struct stream_place *list)
{
    return (struct stream *)((char *)list->next - offsetof(struct stream, hoarder));
}

/* Each that is closed takes what it has off the sum, so this ends. */
static void keep_below(struct hoard *h)
{
    while (h->bytes > h->bytes_max) {
        bool newcomer =
            !stream_list_is_empty(&h->newcomers) &&
            (h->of_newcomers > h->bytes_max / NEWCOMERS || stream_list_is_empty(&h->known));
        metric_add(METRIC_connections_evicted, 1);
        stream_close(first_of(newcomer ? &h->newcomers : &h->known));
    }
}

void hoard_count(struct stream *s)
{
    struct hoard *h = worker_hoard(s->worker);
    if (s->closing)
        return;
    size_t has = stream_keeps(s);
    h->bytes += has - s->counted;
    if (!s->known)
        h->of_newcomers += has - s->counted;
    s->counted = has;
    if (!has)
        stream_list_drop(&s->hoarder);
    else if (!s->hoarder.next)
        stream_list_put(list_of(s), &s->hoarder);
    keep_below(h);
}

void hoard_renew(struct stream *s)
{
    if (!s->hoarder.next)
        return;
    stream_list_drop(&s->hoarder);
    stream_list_put(list_of(s), &s->hoarder);
}

void hoard_move(struct stream *s)
{
    struct hoard *h = worker_hoard(s->worker);
    h->of_newcomers += s->known ? -s->counted : s->counted;
    hoard_renew(s);
}

void hoard_drop(struct stream *s)
{
    struct hoard *h = worker_hoard(s->worker);
    h->bytes -= s->counted;
    if (!s->known)
        h->of_newcomers -= s->counted;
    s->counted = 0;
    stream_list_drop(&s->hoarder);
}
