/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn/certified.h - connections of clients with a certificate, when whose certificates are
 * believed changes (a reload). On the worker's thread.
 */
#pragma once

#include <stdbool.h>

#include "conn/stream.h"
#include "conn/tls.h"

/* The worker's. */
struct certified {
    struct stream *good, *doubted;
    struct tls_set *set; /* a reference: judges the doubted; NULL: there are none, or nobody is
                            believed */
    unsigned closed;     /* of those it has judged */
};

/* Its handshake is done, and its client showed a certificate. */
void certified_add(struct stream *s);
/* It is closed. Accepts streams that were not added. */
void certified_drop(struct stream *s);
/* Has all connections of the worker judged by `set` in the turns that follow: those whose
 * certificate would not be taken any more, or would name another device, are closed. NULL: all. */
void certified_judge(struct worker *w, struct tls_set *set);
/* Judges some. True: there are more. */
bool certified_go_on(struct worker *w);
