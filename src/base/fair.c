/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fair.h"

#include <stddef.h>

void fair_init(struct fair_queue *q, uint32_t len_max, uint32_t per_key_max)
{
    *q = (struct fair_queue){.len_max = len_max, .per_key_max = per_key_max};
    q->active_last = &q->active;
    for (unsigned i = 0; i < FAIR_FLOWS; i++)
        q->flows[i].last = &q->flows[i].first;
}

static void activate(struct fair_queue *q, struct fair_flow *f)
{
    f->next_active = NULL;
    *q->active_last = f;
    q->active_last = &f->next_active;
}

bool fair_put(struct fair_queue *q, uint64_t key, struct fair_item *item)
{
    key ^= key >> 33;
    key *= 0xff51afd7ed558ccdull; /* the finaliser of MurmurHash3 (Appleby) */
    struct fair_flow *f = &q->flows[(key >> 32) % FAIR_FLOWS];
    if (q->len >= q->len_max || f->len >= q->per_key_max)
        return false;
    item->next = NULL;
    *f->last = item;
    f->last = &item->next;
    if (f->len++ == 0)
        activate(q, f);
    q->len++;
    return true;
}

struct fair_item *fair_take(struct fair_queue *q)
{
    struct fair_flow *f = q->active;
    if (!f)
        return NULL;
    q->active = f->next_active;
    if (!q->active)
        q->active_last = &q->active;
    struct fair_item *item = f->first;
    f->first = item->next;
    if (!f->first)
        f->last = &f->first;
    q->len--;
    if (--f->len)
        activate(q, f);
    item->next = NULL;
    return item;
}
