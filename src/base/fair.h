/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/fair.h - a queue that is fair between keys: items are taken round robin over the keys that
 * have any (McKenney, Stochastic Fairness Queueing, 1990: keys share FAIR_FLOWS queues by hash). No
 * lock of its own: the owner's lock covers it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define FAIR_FLOWS 256u

struct fair_item {
    struct fair_item *next;
};

struct fair_flow {
    struct fair_item *first, **last;
    struct fair_flow *next_active;
    uint32_t len;
};

struct fair_queue {
    struct fair_flow flows[FAIR_FLOWS];
    struct fair_flow *active, **active_last; /* flows with items, in the order of their turns */
    uint32_t len, len_max, per_key_max;
};

void fair_init(struct fair_queue *q, uint32_t len_max, uint32_t per_key_max);
/* False: the queue, or this key's part of it, is full. */
bool fair_put(struct fair_queue *q, uint64_t key, struct fair_item *item);
/* The next item, or NULL. */
struct fair_item *fair_take(struct fair_queue *q);
