/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/proof.h - where clients say what they sent and what was answered: the ledger, the ack log,
 * both or none. Owned by the run; one thread.
 */
#pragma once

#include <unistd.h>

#include "load/ack_log.h"
#include "load/ledger.h"

struct proof {
    struct feeds feeds;
    struct ledger ledger;
    bool kept;  /* there is a ledger */
    int ack_fd; /* -1: no log */
    uint64_t logged;
};

/* With what the options ask for. The fleet is complete. 0 or negative errno. */
static inline int proof_init(struct proof *p, const struct load_opts *opts,
                             const struct fleet *fleet, struct error *err)
{
    int rc = ack_log_open(opts->ack_log, &p->ack_fd, err);
    if (rc == 0 && opts->sequenced)
        rc = feeds_init(&p->feeds, opts, fleet, err);
    p->kept = opts->verify_key != NULL;
    if (rc == 0 && p->kept)
        rc = ledger_init(&p->ledger, opts->first_sequence, p->feeds.count, err);
    return rc;
}

/* Accepts one that is zeroed but for ack_fd -1. */
static inline void proof_fini(struct proof *p)
{
    if (p->ack_fd >= 0)
        close(p->ack_fd);
    ledger_fini(&p->ledger);
}

static inline void proof_sent(struct proof *p, uint64_t sequence)
{
    if (p->kept)
        ledger_sent(&p->ledger, sequence);
}

/* At most once for each that was sent. */
static inline void proof_settle(struct proof *p, enum ledger_outcome outcome, const struct ack *ack)
{
    if (p->kept)
        ledger_settle(&p->ledger, ack->sequence, ack->feed, outcome);
    if (p->ack_fd >= 0 && outcome == LEDGER_ACKED) {
        ack_log_put(p->ack_fd, &p->feeds, ack);
        p->logged++;
    }
}
