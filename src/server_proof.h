/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_proof.h - who has read the journal and keeps the place itself: views, consumer groups,
 * webhooks of accounts, and the process of the sinks. Each is asked when the journal is opened, by
 * a server or without one, so that nothing it has read is missing in silence (decision 0074).
 */
#pragma once

#include <limits.h>

#include "journal/journal.h"

struct proof {
    const char *data; /* the data directory */
    char cursors[PATH_MAX];
};

/* Has the journal of that data directory ask them all when it is opened with `opts`. `p` and `data`
 * outlive the call of journal_open. 0 or a negative errno with a sentence. */
int proof_ask(struct proof *p, const char *data, struct journal_opts *opts, struct error *err);
