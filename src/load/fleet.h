/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/fleet.h - the devices, and for each the bytes of its request (of MQTT: its CONNECT), made
 * once: sending is then one write of ready bytes. Owned by the run; constant once built. One
 * thread.
 */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "load/load_opts.h"

#define FLEET_SEQ_DIGITS 16
#define FLEET_SEQS_MAX                                                                             \
    4 /* places in a request where the sequence stands; further ones stay text                     \
       */

struct fleet_device {
    uint64_t at; /* where its request begins in `bytes` */
    uint32_t len;
    uint32_t seq_at[FLEET_SEQS_MAX]; /* where in the request the 16 digits stand */
    uint32_t seqs;                   /* how many places */
    uint16_t id_len;
    uint64_t id_at; /* in `ids` */
};

struct fleet {
    struct fleet_device *devices;
    uint32_t count;
    uint32_t request_max; /* bytes of the longest request */
    struct buf bytes, ids;
};

/* Reads the devices the options name and builds their requests. 0 or negative errno. */
int fleet_init(struct fleet *f, const struct load_opts *opts, struct error *err);
/* Accepts a zeroed or half-built fleet. */
void fleet_fini(struct fleet *f);

/* 16 digits: 1,000,000,000,000,000 + sequence, so that the length never changes. */
void fleet_sequence_format(char out[FLEET_SEQ_DIGITS], uint64_t sequence);

static inline struct slice fleet_request(const struct fleet *f, const struct fleet_device *d)
{
    return slice_of(f->bytes.ptr + d->at, d->len);
}

static inline struct slice fleet_id(const struct fleet *f, const struct fleet_device *d)
{
    return slice_of(f->ids.ptr + d->id_at, d->id_len);
}
