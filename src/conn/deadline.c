/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invariants: 1. a linked deadline sits in a slot not later than the one its at_ns wants, so it is
 * looked at in time. 2. A deadline further away than the wheel is long sits in the last slot and
 * moves on when it comes up.
 */
#include "conn/deadline.h"

#include <stddef.h>
#include <string.h>

#include "base/check.h"

void wheel_init(struct wheel *w, uint64_t now_ns)
{
    memset(w, 0, sizeof *w);
    w->turned = now_ns / WHEEL_SLOT_NS;
}

void deadline_clear(struct deadline *d)
{
    if (d->prev) {
        *d->prev = d->next;
        if (d->next)
            d->next->prev = d->prev;
        d->prev = NULL;
        d->next = NULL;
    }
}

static void link_into(struct wheel *w, struct deadline *d, uint64_t slot)
{
    if (slot <= w->turned)
        slot = w->turned + 1;
    if (slot > w->turned + WHEEL_SLOTS - 1)
        slot = w->turned + WHEEL_SLOTS - 1;
    struct deadline **head = &w->slots[slot % WHEEL_SLOTS];
    d->slot = slot;
    d->next = *head;
    d->prev = head;
    if (d->next)
        d->next->prev = &d->next;
    *head = d;
}

void deadline_set(struct wheel *w, struct deadline *d, uint64_t at_ns)
{
    d->at_ns = at_ns;
    if (!at_ns)
        return; /* stays linked at most until its slot comes up */
    uint64_t slot = at_ns / WHEEL_SLOT_NS + 1;
    if (d->prev && d->slot <= slot)
        return;
    deadline_clear(d);
    link_into(w, d, slot);
}

void wheel_turn(struct wheel *w, uint64_t now_ns)
{
    uint64_t now_slot = now_ns / WHEEL_SLOT_NS;
    if (now_slot > w->turned + WHEEL_SLOTS) /* slept long: one whole round sees every slot */
        w->turned = now_slot - WHEEL_SLOTS;
    while (w->turned < now_slot) {
        w->turned++;
        struct deadline *d = w->slots[w->turned % WHEEL_SLOTS];
        w->slots[w->turned % WHEEL_SLOTS] = NULL;
        /* The list is taken as a whole: `due` may clear or set any deadline, so each step unlinks
         * the head of a local list that other calls keep consistent through prev. */
        struct deadline *list = d;
        if (list)
            list->prev = &list;
        while (list) {
            d = list;
            deadline_clear(d);
            if (!d->at_ns)
                continue;
            if (d->at_ns > now_ns) {
                link_into(w, d, d->at_ns / WHEEL_SLOT_NS + 1);
                continue;
            }
            d->at_ns = 0;
            CHECK(d->due);
            d->due(d);
        }
    }
}
