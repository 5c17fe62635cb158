/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's own figures, published as messages to feeds of an account now and then. What cannot
 * be stored then is not tried again: the next ones are newer. The first lane, from its tick.
 */
#include <stdio.h>

#include "base/metric.h"
#include "codec/text.h"
#include "pipeline_private.h"

#define TOPIC_ROOM 512u
#define VALUE_ROOM 64u

static void on_published(struct lane *l, void *arg, const struct reply *r)
{
    (void)l;
    (void)arg;
    metric_add(r->reason == REASON_ok ? METRIC_figures_stored : METRIC_figures_refused, 1);
}

static void publish(struct lane *l, struct account *a, const struct figure *f)
{
    char topic[TOPIC_ROOM];
    struct buf value;
    buf_init(&value, VALUE_ROOM);
    double_format(&value, f->value);
    int len = snprintf(topic, sizeof topic, "%.*s/feeds/%s", SLICE_ARG(a->name), f->key);
    own_publish(l, &(struct own_publish){.account = a,
                                         .sender = "system",
                                         .permissions = PERM_data_write | PERM_feed_write,
                                         .topic = slice_of(topic, (size_t)len),
                                         .body = buf_slice(&value),
                                         .done = on_published});
    buf_fini(&value);
}

void figures_tick(struct lane *l, uint64_t now_ns)
{
    const struct figure_source *s = &l->p->opts.figures;
    struct figure figures[FIGURES_MAX];
    if (!s->account || l != l->p->lanes[0] || l->stopping || now_ns < l->own_figures_ns)
        return;
    bool first = !l->own_figures_ns;
    l->own_figures_ns = now_ns + s->every_ns;
    if (first)
        return; /* of no time yet */
    struct account *a = catalog_account_by_number(l->p->opts.api.catalog, s->account);
    unsigned count = a ? s->take(s->arg, figures) : 0;
    for (unsigned i = 0; i < count; i++)
        publish(l, a, &figures[i]);
    account_unref(a);
}
