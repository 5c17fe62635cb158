/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_link.h - the gateway's end of the link (link/host.h), with what it answers from: catalog,
 * keyring, journal. And names for sinks that run in the process at the other end. Main thread, but
 * where it says otherwise.
 */
#pragma once

#include "catalog/catalog.h"
#include "link/guest.h"
#include "link/host.h"
#include "seal/keyring.h"
#include "sink/sink.h"

struct gateway_link {
    struct link_host *host;
    struct catalog *catalog;
    struct keyring *keyring; /* NULL: nothing is sealed */
    void (*moved)(void *arg);
    void *moved_arg;
};

/* `opts` says which sinks, which cursors, where and of what journal. 0, or a negative errno with a
 * sentence. */
int gateway_link_open(struct gateway_link *l, const struct link_host_opts *opts, struct error *err);
void gateway_link_close(struct gateway_link *l);

/* What the names of the last record asked about stand in; of one sink's thread. */
struct guest_namer {
    struct link_guest *guest;
    char account[LINK_GUEST_NAME_MAX], feed[LINK_GUEST_NAME_MAX], device[LINK_GUEST_NAME_MAX];
};
/* As sink_opts.names; `arg` is the namer. */
void guest_names(void *arg, const struct record *r, struct sink_names *ret);
