/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/ledger.h - what became of every message of a run, and whether the server's store agrees.
 * Four bits a message: what the server said of it, and how often it was found when everything was
 * read back; so 50 million messages take 25 MB, and memory is taken only for what was sent. Owned
 * by the run; one thread.
 *
 * A message is known by its sequence, which is in its value. That it lies in the feed it was sent
 * to is shown by a sum a feed: a hash of each acknowledged sequence is added when the server said
 * so and taken off when it is found there.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define LEDGER_MESSAGES_MAX (1ull << 32)
#define LEDGER_NAMED_MAX    10 /* of what is wrong, so many are named */
/* Sequences are below this; behind the last comes the first. */
#define LEDGER_SEQUENCES 1000000000000000ull

enum ledger_outcome {
    LEDGER_UNSENT,
    LEDGER_UNKNOWN, /* sent; no answer, or one that leaves it open: it may be stored once */
    LEDGER_ACKED,   /* must be stored once */
    LEDGER_REFUSED, /* must not be stored */
};

struct ledger {
    uint64_t first; /* the sequence of the first message */
    uint64_t count; /* how many sequences, counting from it, were used */
    uint8_t *cells; /* two messages each; mapped, so untouched pages take no memory */
    uint64_t *sums; /* a feed each */
    uint32_t feeds;
    uint64_t strangers; /* found with a sequence of this run that was never sent */
};

/* What is so, in messages; `feeds` in feeds. */
struct ledger_verdict {
    uint64_t acked, refused, unknown;
    uint64_t stored;         /* acknowledged and stored once */
    uint64_t lost;           /* acknowledged and not there */
    uint64_t doubled;        /* there more than once, whatever was said */
    uint64_t refused_stored; /* refused and there all the same */
    uint64_t unknown_stored; /* not a fault */
    uint64_t strangers;      /* never sent, and there */
    uint64_t feeds_wrong; /* feeds that hold other acknowledged messages than were sent to them */
    uint64_t named[LEDGER_NAMED_MAX]; /* sequences of the first that are wrong */
    unsigned named_count;
};

/* For messages whose sequences begin with `first`, to `feeds` feeds. 0 or negative errno. */
int ledger_init(struct ledger *l, uint64_t first, uint32_t feeds, struct error *err);
/* Accepts a zeroed ledger. */
void ledger_fini(struct ledger *l);

/* A message is about to be sent; its outcome is unknown. It must be one of LEDGER_MESSAGES_MAX. */
void ledger_sent(struct ledger *l, uint64_t sequence);
/* What the server said of a message that was sent to this feed. */
void ledger_settle(struct ledger *l, uint64_t sequence, uint32_t feed, enum ledger_outcome outcome);
/* Read back from this feed. Sequences of other runs are ignored. */
void ledger_found(struct ledger *l, uint64_t sequence, uint32_t feed);

/* After everything was read back. */
void ledger_judge(const struct ledger *l, struct ledger_verdict *ret);
/* Whether all is as was said. */
bool ledger_sound(const struct ledger_verdict *v);
