/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/course.h - a sink's way through a stretch of the journal: it reads, picks what was selected,
 * and makes batches of it. For sink/ only; belongs to the sink's thread. A sink has one course for
 * what comes live and, while something is replayed, another one.
 */
#pragma once

#include "sink/fates.h"
#include "sink/sink.h"

#define COURSE_NAMES_MAX (USERNAME_MAX + TOPIC_MAX + DEVICE_ID_MAX)

#define COURSE_CURSOR_BYTES 64 /* "sink:NAME": the named reader */

struct course {
    const struct sink_opts *opts;
    struct sealer *sealer; /* the sink's; NULL: nothing is sealed */
    /* Of what comes live; else NULL. What is left out is noted at once, the rest by the sink. */
    struct fates *fates;
    const _Atomic unsigned *waiters; /* while there are any, no batch waits for more */
    struct journal_reader *reader;
    uint64_t end; /* it reads no further */
    /* What is not used up of the batch that the journal gave last. */
    struct journal_batch given;
    size_t given_at;
    uint64_t given_offset, given_left;
    /* The batch for the target: from `from` up to `to`. */
    uint64_t from, to;
    struct sink_message *messages;
    unsigned count;
    struct buf text;   /* what the messages point into; never moves */
    struct buf opened; /* of one record */
    struct buf whys;   /* of refusals; never moves */
    uint64_t begun_ns; /* when the first record came into it */
    bool ready;        /* it is being delivered: nothing is added */
    unsigned first;    /* messages before are delivered, or dead */
    unsigned bad_end;  /* above `first`: one of the messages before is poison */
    uint64_t gaps, erased, unreadable, read, read_bytes;
    int failing;        /* the journal cannot be read at `to`: a negative errno; 0: it can */
    int64_t stalled_us; /* the next record cannot be had: since when, or when it was received */
    int64_t past_us;    /* what is yet to be read was received later */
    bool told_unreadable;
    bool unnamed; /* of the next record the names cannot be told now */
};

/* A list of names with commas between: the next one; false at its end. */
bool course_item(struct slice *rest, struct slice *ret);
/* Whether the list has this one: '*' at the end of a name matches the rest. */
bool course_listed(const char *list, struct slice name);

/* Opens a reader at `from`; a named one (named: holds retention up) for what comes live. 0 or a
 * negative errno with a sentence; then the course is as it was. */
int course_begin(struct course *c, bool named, uint64_t from, uint64_t end, struct error *err);
void course_end(struct course *c);

enum course_found {
    COURSE_READY = 1, /* there is a batch */
    COURSE_LINGERS,   /* there is something of one; later it is ready */
    COURSE_NOTHING,   /* nothing to read */
    COURSE_OVER,      /* it came to its end, and all was delivered */
    COURSE_FAILED,    /* the journal cannot be read now */
};
/* Reads on. *ret_ns: when to call again, at the latest. */
enum course_found course_fill(struct course *c, uint64_t now_ns, uint64_t *ret_ns);
/* The batch is delivered: the next one begins where the cursor is now. */
void course_next(struct course *c, uint64_t from);
/* The target has refused messages of the batch, and why is its own: keeps that, until course_next.
 */
void course_keep_whys(struct course *c);
/* Whether lists of accounts and feeds, see sink_opts, have the message. */
bool course_selects(const char *accounts, const char *feeds, const struct record *r,
                    const struct sink_names *names);
enum course_letter {
    COURSE_MESSAGE = 1, /* it is the one message of the batch */
    COURSE_NONE,        /* it is no message any more */
    COURSE_UNNAMED,     /* nobody can tell its names now: to be tried again later */
};
/* Decodes a record of a dead letter, into an empty batch. */
enum course_letter course_message(struct course *c, uint64_t offset, struct slice raw);
