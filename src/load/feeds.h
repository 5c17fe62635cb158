/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/feeds.h - which feeds a run's messages go to: they are numbered, by device and by %feed%,
 * and named. Borrows from options and fleet; constant; one thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "load/fleet.h"
#include "load/load_opts.h"

struct feeds {
    const struct fleet *fleet;
    struct slice name;   /* may hold %device% and %feed% */
    bool by_device;      /* every device has its own */
    bool by_feed;        /* it holds %feed%, */
    uint32_t per_device; /* which has so many values; 1 without */
    uint32_t count;
};

/* Of what the options send: --feed, or the feed in --topic (the whole topic if it names none).
 * -E2BIG: more than LOAD_FEEDS_MAX. */
int feeds_init(struct feeds *f, const struct load_opts *opts, const struct fleet *fleet,
               struct error *err);

/* What stands behind USER/feeds/ or USER/f/; empty if the topic is of another form. */
struct slice feeds_of_topic(struct slice topic);

/* Appends the feed's name as the server's API has it. */
void feeds_name(const struct feeds *f, uint32_t number, struct buf *out);

/* `feed`: what stands for %feed%, 0 if nothing does. */
static inline uint32_t feeds_number(const struct feeds *f, const struct fleet_device *device,
                                    uint32_t feed)
{
    uint32_t of_device = f->by_device ? (uint32_t)(device - f->fleet->devices) : 0;
    return of_device * f->per_device + (f->by_feed ? feed : 0);
}
