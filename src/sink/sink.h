/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/sink.h - the runner of one sink: a thread that reads the journal with a cursor of its own,
 * makes batches of the messages that were selected, and hands them to a target (a database, a
 * broker) through a table of functions. What can happen to a delivery is decided here, once for all
 * kinds: retries, the breaker, dead letters, pauses, replays, and what is held back from retention.
 *
 * Owned by the server. The ops are called on the sink's thread only. A sink only ever waits: it
 * never slows the journal's writer down, and sees nothing that is not durable.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "flow/limits.h"
#include "flow/record.h"
#include "journal/journal.h"
#include "seal/seal.h"
#include "sink/attempts.h"
#include "sink/breaker.h"
#include "sink/dead.h"
#include "sink/fates.h"

struct sink;

/* ---- what a kind of sink fills in ---------------------------------------------------------- */

/* What the record's numbers are called now; empty: nothing any more. */
struct sink_names {
    struct slice account, feed, device;
    bool unknown; /* nobody can tell now: the record is looked at again later */
};

/* What the target said of one message, if it judges them one by one. */
enum sink_verdict {
    SINK_UNKNOWN,
    SINK_TAKEN,   /* it is safe there */
    SINK_REFUSED, /* for what it is */
};

struct sink_message {
    uint64_t offset;
    struct record record; /* opened */
    struct sink_names names;
    struct slice raw; /* as in the journal, for dead letters */
    enum sink_verdict verdict;
    const char *why; /* of a refusal; valid until `send` returns */
    unsigned own;    /* the target's; 0 at first, and kept until there is a verdict */
};

struct sink_batch {
    uint64_t from, to; /* the stretch of the journal it stands for: where the target's cursor is,
                          and where it shall be */
    /* A target without a cursor may judge one by one, and leave its verdicts here whatever the
     * outcome; it sends none again that has one. */
    struct sink_message *messages;
    unsigned count; /* may be 0: then only the cursor moves */
    bool again;     /* of a replay: the messages may be there already, and no cursor moves */
};

enum sink_outcome {
    SINK_DONE = 1, /* all of it is safe at the target, but for what has a verdict of its own */
    SINK_AWAY,     /* it was not delivered, or nobody knows; later it may be */
    SINK_POISON,   /* nothing of it was: the target refuses a message of it for what it is */
    SINK_MOVED,    /* nothing of it was: the target's cursor is not at `from` */
    SINK_GONE,     /* as AWAY, and the target wants no more: paused until an operator resumes it */
};

struct sink_ops {
    const char *kind;
    /* The target keeps the cursor, moves it together with the messages, and says where it is: each
     * message is there exactly once. Else at least once. */
    bool transactional;
    /* Gets a connection ready. *position is where the runner is; a transactional target that has a
     * cursor says where that is, and begins with the runner's if it has none. DONE or AWAY. */
    enum sink_outcome (*open)(void *of, uint64_t *position, struct error *err);
    /* Delivers the batch; returns within a time of its own, whatever the target does. */
    enum sink_outcome (*send)(void *of, const struct sink_batch *b, struct error *err);
    /* While nothing is sent, about once a second: looks after the connection. DONE or AWAY. May be
     * NULL. */
    enum sink_outcome (*tend)(void *of, struct error *err);
    /* Lets go of the connection: after AWAY or MOVED, at a pause and at the end. */
    void (*close)(void *of);
    /* Ends what open or send waits for, now and later: the sink stops. Any thread. May be NULL. */
    void (*cancel)(void *of);
    /* How long it asked to be left alone, behind AWAY from send; 0: it did not. May be NULL. */
    uint64_t (*pause_ns)(void *of);
    /* Sends something that is no message, beside all others, and waits at most that long. Any
     * thread. NULL: there is no such thing. */
    void (*test)(void *of, uint64_t patience_ns, struct attempt *ret);
    /* See attempts_get. Any thread. NULL: nobody remembers. */
    bool (*attempt)(void *of, unsigned n, struct attempt *ret);
    /* The owner's, once the sink is stopped; the runner never calls it. */
    void (*free)(void *of);
};

/* ---- the runner ---------------------------------------------------------------------------- */

struct sink_opts {
    const char *name; /* "postgres" */
    const struct sink_ops *ops;
    void *of; /* outlives the sink */
    struct journal *journal;
    struct keyring *keyring; /* NULL: nothing is sealed */
    struct disk *disk;
    const char *dir; /* of NAME.dead and NAME.paused; exists */
    /* Fills in what is called how; the slices are valid until the next call. Sink's thread. */
    void (*names)(void *arg, const struct record *r, struct sink_names *ret);
    void *arg;
    /* Asked before that: false, nobody wants the record. NULL: everything is wanted. */
    bool (*wants)(void *arg, const struct record *r);
    void *wants_arg;
    /* Selection: names with commas between; a feed's with '*' at its end matches. Empty: all. A
     * message to a topic that is no feed has the topic in a feed's place. */
    const char *accounts, *feeds;
    unsigned batch_count;
    uint64_t batch_bytes; /* of records, and those of the last one on top */
    unsigned turns;       /* batches of the journal that are looked through at a time; 0: 64 */
    uint64_t linger_ns;   /* how long a batch waits for more */
    uint64_t retry_ns, retry_max_ns; /* see breaker_pause_ns */
    struct breaker_opts breaker;
    uint64_t hold_bytes;        /* of journal that a lagging sink keeps from being removed */
    uint64_t dead_bytes;        /* of dead letters */
    struct dead_schedule again; /* when letters are tried again by themselves; empty: never */
    uint64_t seed;              /* of the jitter */
    /* The position has moved while somebody waits (sink_waiters). Sink's thread. May be NULL. */
    void (*moved)(void *arg);
    void *moved_arg;
};

/* Opens what it keeps and the reader, and starts the thread. 0 or a negative errno. */
int sink_start(const struct sink_opts *opts, struct sink **ret, struct error *err);
/* Stops the thread after the delivery at hand and frees. Accepts NULL. */
void sink_stop(struct sink *s);
/* Retention is not held up any more by a sink of that name, which is not open. 0 or negative
 * errno. */
int sink_forget(struct journal *journal, const char *name);

/* No delivery from now on, also after a restart; until resume. 0 or a negative errno: then nothing
 * changed. Any thread but the sink's; waits for the disk. */
int sink_pause(struct sink *s, bool paused);
/* Delivers what the journal still has of [from, to) once more, after live messages. One at a time:
 * -EBUSY. A restart forgets it. Any thread. */
int sink_replay(struct sink *s, uint64_t from, uint64_t to);
/* Tries dead letters once more, those of `offset` only, or all (UINT64_MAX). Returns when that is
 * done, or after `patience_ns` with -ETIMEDOUT; -EAGAIN: the target is away. How many went and how
 * many are still dead. Any thread but the sink's. */
int sink_retry_dead(struct sink *s, uint64_t offset, uint64_t patience_ns, unsigned *ret_sent,
                    unsigned *ret_kept);
struct dead_letters *sink_dead(struct sink *s);
/* Tries the target, also while the sink is paused. False: its kind cannot be. */
bool sink_test(struct sink *s, uint64_t patience_ns, struct attempt *ret);
/* The n-th last attempt. False: so many are not remembered. */
bool sink_attempt(struct sink *s, unsigned n, struct attempt *ret);
const char *sink_name(const struct sink *s);

/* ---- for who waits until something is delivered ---- */
/* Where it is: see sink_stats. One atomic load. Any thread. */
uint64_t sink_position(const struct sink *s);
/* So many more, or fewer, wait for what comes now: while there are any, `moved` is called, and no
 * batch waits for more messages. Any thread; takes no lock that is held over anything slow. */
void sink_waiters(struct sink *s, int change);
/* What became of `count` messages from `offset` on, all below its position: fates_worst. Any
 * thread, no lock. */
enum fate sink_fate(const struct sink *s, uint64_t offset, uint32_t count, uint32_t *ret_delivered);
/* What a receipt tells of one message: "pending", or its fate's name, for which dead letters are
 * looked through if it is too old to be remembered. Any thread but workers. */
const char *sink_tells(struct sink *s, uint64_t offset);
/* Whether its target said that it wants no more: SINK_DISABLED. Any thread, no lock. */
bool sink_is_disabled(const struct sink *s);

enum sink_state {
    SINK_RUNNING,
    SINK_FAILING, /* the target is away; see the breaker */
    SINK_PAUSED,
    SINK_STUCK,    /* the dead letters are full */
    SINK_DISABLED, /* paused because the target said GONE; `error` says how */
    SINK_ABSENT,   /* it runs in another process, which is not there (remote.h) */
};

struct sink_stats {
    enum sink_state state;
    enum breaker_state breaker;
    uint64_t position;  /* everything below is delivered, or dead, or was not selected */
    uint64_t lag;       /* records that are durable and not below it */
    uint64_t lag_bytes; /* of these, about */
    uint64_t lag_us;    /* age of the oldest message not delivered */
    uint64_t delivered, batches, failures, retries, dead;
    uint64_t gaps;     /* stretches that the journal had no longer, or that were given up */
    uint64_t given_up; /* records that were, as the sink held more than hold_bytes back */
    uint64_t erased, unreadable;
    uint64_t opened; /* the breaker, how often */
    uint64_t dead_letters, dead_bytes;
    uint64_t replay_from, replay_to; /* what is left of a replay; equal: none */
    char error[256];                 /* of the last failure, while it fails */
};
struct sink_stats sink_stats(struct sink *s);
/* "running", "failing", "paused", "stuck", "disabled", "absent". */
const char *sink_state_name(enum sink_state state);
