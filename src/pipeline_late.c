/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receipts that are pushed (decision 0059): whoever was told "not yet delivered" hears of it on
 * {user}/receipts, once the sink is past the message. A lane remembers its own late answers, in a
 * list per sink in the order of their offsets, and only while anybody has subscribed to anything.
 * Nothing of it is stored: what a restart forgets, or the maximum, the receipt itself still tells.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/metric.h"
#include "pipeline_private.h"

struct late {
    struct late *next;
    struct account *account; /* a reference */
    uint64_t first, end;     /* its messages */
};

static bool anybody_listens(const struct pipeline *p)
{
    for (unsigned i = 0; i < p->lanes_count; i++)
        if (atomic_load_explicit(&p->lanes[i]->interest, memory_order_relaxed) > 0)
            return true;
    return false;
}

static void drop_first(struct lane *l, unsigned sink)
{
    struct late_list *list = &l->late[sink];
    struct late *first = list->first;
    list->first = first->next;
    if (!list->first)
        list->last = NULL;
    account_unref(first->account);
    free(first);
    l->late_count--;
    sink_waiters(l->p->opts.sinks[sink], -1);
}

void late_put(struct job *j)
{
    struct lane *l = j->lane;
    struct late_list *list = &l->late[j->sink];
    if (!anybody_listens(l->p))
        return;
    if (l->late_count >= LATE_MAX) {
        metric_add(METRIC_receipts_dropped, 1);
        return;
    }
    struct late *late = malloc(sizeof *late);
    CHECK(late);
    *late = (struct late){.account = account_ref(j->account),
                          .first = j->end_offset - j->count,
                          .end = j->end_offset};
    *(list->last ? &list->last->next : &list->first) = late;
    list->last = late;
    sink_waiters(l->p->opts.sinks[j->sink], 1);
    l->late_count++;
}

/* ---- telling ---- */

struct told {
    struct lane *lane;
    unsigned sink;
    const struct late *late;
};

static struct slice on_receipt(void *arg)
{
    const struct told *t = arg;
    struct buf *out = &t->lane->live_text;
    const struct sink *s = t->lane->p->opts.sinks[t->sink];
    uint32_t delivered, count = (uint32_t)(t->late->end - t->late->first);
    enum fate fate = sink_fate(s, t->late->first, count, &delivered);
    buf_clear(out);
    buf_put_str(out, "{\"receipt\":\"/v1/receipts/");
    buf_put_dec(out, t->late->end - 1);
    buf_printf(out, "\",\"accepted\":%u,\"sink\":\"%s\",\"state\":\"%s\",\"delivered\":%u}", count,
               sink_name(s), fate_name(fate), delivered);
    return buf_slice(out);
}

static void tell(struct lane *l, unsigned sink, const struct late *late)
{
    struct told t = {.lane = l, .sink = sink, .late = late};
    struct buf topic;
    buf_init(&topic, USERNAME_MAX + 16);
    buf_put_slice(&topic, late->account->name);
    buf_put_str(&topic, "/receipts");
    CHECK(!topic.failed); /* names are bounded */
    const struct live_message m = {.account = late->account->number,
                                   .permission = PERM_data_read,
                                   .topic = buf_slice(&topic),
                                   .payload = on_receipt,
                                   .arg = &t};
    metric_add(METRIC_receipts_pushed, 1);
    lane_tell(l, &m);
    buf_fini(&topic);
}

void late_look(struct lane *l)
{
    for (unsigned i = 0; i < l->p->opts.sinks_count && l->late_count; i++) {
        uint64_t position = sink_position(l->p->opts.sinks[i]);
        while (l->late[i].first && l->late[i].first->end <= position) {
            tell(l, i, l->late[i].first);
            drop_first(l, i);
        }
    }
}

void late_free(struct lane *l)
{
    for (unsigned i = 0; i < l->p->opts.sinks_count; i++)
        while (l->late[i].first)
            drop_first(l, i);
}
