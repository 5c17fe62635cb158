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
#include "load/template.h"

struct fleet_device {
    uint64_t at; /* where its request begins in `bytes` */
    uint32_t len;
    uint16_t id_len;
    bool stores;                 /* its body holds a sequence, for the run's feed */
    uint64_t id_at;              /* in `ids` */
    struct template_marks marks; /* what is different in every request */
    uint64_t due_ns;             /* --replay: after the start */
};

/* A device that takes turns at the requests of a recording: where its id and secret are. */
struct fleet_name {
    uint64_t at; /* in `names` */
    uint16_t id_len, secret_len;
};

struct fleet {
    struct fleet_device *devices;
    uint32_t count;
    uint32_t request_max; /* bytes of the longest request */
    struct buf bytes, ids;
    /* --replay: then `devices` are the requests of the recording */
    struct buf names;
    struct fleet_name *rows;
    uint32_t rows_count;
};

/* Reads the devices the options name and builds their requests. 0 or negative errno. */
int fleet_init(struct fleet *f, const struct load_opts *opts, struct error *err);
/* Accepts a zeroed or half-built fleet. */
void fleet_fini(struct fleet *f);

static inline struct slice fleet_request(const struct fleet *f, const struct fleet_device *d)
{
    return slice_of(f->bytes.ptr + d->at, d->len);
}

static inline struct slice fleet_id(const struct fleet *f, const struct fleet_device *d)
{
    return slice_of(f->ids.ptr + d->id_at, d->id_len);
}
