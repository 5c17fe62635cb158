/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/rule.h - a rule: what of a feed makes the server publish a message by itself; the payload of
 * a RECORD_RULE, by which rules are made and removed; and the mark that a rule's message carries in
 * the journal. Plain values that borrow their bytes; pure functions; any thread.
 */
#pragma once

#include "base/buf.h"

/* Numbers are part of the journal's format. */
enum rule_when {
    RULE_ABOVE = 1,  /* a number is greater than `limit`; again not before one is at most `clear` */
    RULE_BELOW = 2,  /* less than `limit`; again not before one is at least `clear` */
    RULE_CHANGE = 3, /* a value is not the one before; with a `limit` above 0: a number that is
                        further than that from the one that was told last */
    RULE_SILENCE = 4, /* nothing has come for `silence_ms` */
};

struct rule {
    uint64_t id; /* never used again */
    uint64_t account, feed;
    enum rule_when when;
    double limit, clear;
    uint64_t silence_ms;
    uint64_t every_ms;  /* least time between what makes it publish; 0: none */
    uint64_t to_feed;   /* the feed that its message goes to; 0: the topic {account}/rules/{id} */
    uint64_t webhook;   /* of the account, that gets the message whatever it selects; 0: none */
    struct slice value; /* the message; ptr NULL: what came */
    int64_t created_us;
};

/* "above", "below", "change", "silence". */
const char *rule_when_name(enum rule_when when);

/* Numbers are part of the journal's format. */
enum rule_event {
    RULE_ADDED = 1,
    RULE_REMOVED = 2,
    RULE_TRIED = 3, /* publishes, whatever its feed says */
};

struct rule_record {
    enum rule_event event;
    struct rule rule;   /* RULE_ADDED: all of it; else its id */
    struct slice value; /* RULE_TRIED: in place of what came */
};

/* Appends: u8 event, varint id; of RULE_TRIED the value; of RULE_ADDED varint account, varint feed,
 * u8 when, f64 limit, f64 clear, varint silence, every, feed, webhook, zigzag created, u8 whether
 * there is a value, value. */
void rule_record_encode(struct buf *out, const struct rule_record *r);
/* Reads one back; its slices borrow from `payload`. False: it is none, or its numbers are out of
 * bounds. */
bool rule_record_decode(struct slice payload, struct rule_record *ret);

/* What a rule's message says of where it comes from: its idempotency key. So a message that is
 * published twice is stored once, and whoever reads the journal knows what was told already. */
struct rule_mark {
    uint64_t rule;
    uint64_t offset;  /* of the record that made the rule publish; of silence: of the last one */
    unsigned depth;   /* 1: that record was nobody's rule's; else one more than that one's */
    uint64_t webhook; /* of the rule */
};

#define RULE_MARK_MAX 80 /* bytes */
/* "rule:ID:OFFSET:DEPTH:WEBHOOK". Returns its length. */
size_t rule_mark_format(char out[RULE_MARK_MAX], const struct rule_mark *m);
/* False: it is none. */
bool rule_mark_parse(struct slice text, struct rule_mark *ret);
