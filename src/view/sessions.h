/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/sessions.h - the view `session`: all MQTT sessions that outlive their connection, and the
 * retained messages, made from the journal's session and publish records, with a snapshot on disk.
 *
 * sessions_apply, _tick and _snapshot belong to the view's thread. The rest is for any thread and
 * waits for nothing but a mutex that is held while one session is copied or changed. What a worker
 * reads here is what the journal said when the view applied it: before it goes on with a session it
 * waits until the view has applied all records about that session (pipeline: wait_for_views).
 *
 * Which connection has a session now is not known here.
 */
#pragma once

#include "base/error.h"
#include "journal/disk.h"
#include "seal/seal.h"
#include "view/session.h"

struct sessions;

struct sessions_opts {
    struct disk *disk;
    const char *path;        /* of the snapshot file */
    struct keyring *keyring; /* seals what came sealed; NULL: there is nothing of that kind */
    uint64_t log_id[2]; /* the journal this view belongs to: another log's snapshot is refused */
    uint32_t sessions_max, sessions_per_account_max;
    uint32_t retained_max, retained_per_account_max;
    uint64_t memory_max, memory_per_account_max; /* bytes of both */
};

/* Loads the snapshot if there is one. *ret_cursor: everything below it is in. A damaged snapshot is
 * an error (-EBADMSG) that names the file, never silently ignored. */
int sessions_open(const struct sessions_opts *opts, struct sessions **ret, uint64_t *ret_cursor,
                  struct error *err);
/* Accepts NULL. */
void sessions_close(struct sessions *t);

/* Whether the record can change anything here. Any thread. */
bool sessions_want(const struct record *r);
/* Applies one record; offsets ascend. */
void sessions_apply(struct sessions *t, const struct record *r, uint64_t offset);
/* Writes the snapshot: everything below `cursor`. 0 or negative errno. */
int sessions_snapshot(struct sessions *t, uint64_t cursor);
/* Ends a journal batch of so many bytes: everything below `next_offset` was applied. Forgets what
 * has expired, and writes the snapshot now and then (view/pace.h). Returns the cursor of the newest
 * snapshot. */
uint64_t sessions_tick(struct sessions *t, uint64_t next_offset, uint64_t bytes, uint64_t now_ns);

/* ---- sessions -------------------------------------------------------------------------------- */

/* The number for a session that is to be opened. */
uint64_t sessions_new_number(struct sessions *t);
/* Whether the account may open one more. Said of what is applied: those that are being opened now
 * are not counted, so a few more may come; what is too much then is not kept. */
bool sessions_have_room(struct sessions *t, uint64_t account);
/* A copy of the account's session of that client. False: there is none, or it has expired at
 * `now_us`. The copy is session_fini's. */
bool sessions_find(struct sessions *t, uint64_t account, struct slice client_id, int64_t now_us,
                   struct session *ret);
/* The same by number, and one that has expired is still found while its will is not published. */
bool sessions_get(struct sessions *t, uint64_t account, uint64_t number, struct session *ret);
/* Before the listeners open, when the journal has been applied: whoever seems to be connected was
 * cut off when the server ended, and begins to expire now. Returns how many. */
unsigned sessions_cut_off(struct sessions *t, int64_t now_us);

/* A will that is to be published now. */
struct session_due {
    uint64_t account, number, credential;
};
/* Up to `max` of them, each told again only after some seconds: in between the publish record with
 * RECORD_F_WILL should have been applied. Goes through a part of the table per call, all of it in
 * SESSIONS_SWEEP calls. One thread at a time. */
#define SESSIONS_SWEEP 10u
unsigned sessions_wills_due(struct sessions *t, int64_t now_us, struct session_due *ret,
                            unsigned max);

/* The same of that client's session alone, with a copy (session_fini's): its will is due, or would
 * be but that the session is `replaced` now, which ends it. */
bool sessions_take_will(struct sessions *t, uint64_t account, struct slice client_id,
                        int64_t now_us, bool replaced, struct session *ret);
/* A will that could not be published for so long is given up. */
#define SESSION_WILL_KEPT_US (3600 * 1000000ll)

/* ---- groups of shared subscriptions ------------------------------------------------------------
 */

/* Whether a session of the account has that subscription, "$share/...". *ret_floor: the position
 * below which all messages of its group are settled; 0: nothing is known. */
bool sessions_group_floor(struct sessions *t, uint64_t account, struct slice filter,
                          uint64_t *ret_floor);
/* Places of messages that its members have or were sent, from the floor on, which is the one at the
 * same moment; ascending, to be freed. */
uint64_t *sessions_group_given(struct sessions *t, uint64_t account, struct slice filter,
                               uint64_t *ret_floor, uint32_t *ret_count);

/* ---- retained messages ----------------------------------------------------------------------- */

struct retained {
    struct slice topic;
    struct slice payload; /* a publish (flow/publish.h) */
    uint64_t offset, credential;
    uint64_t client; /* that published it, as the record says */
    int64_t receive_us;
};
/* Whether the account may keep that message besides what it has. Said as sessions_have_room. */
bool sessions_have_retained_room(struct sessions *t, uint64_t account, struct slice topic,
                                 size_t payload_bytes);
enum retained_step {
    RETAINED_END,  /* no more */
    RETAINED_ONE,  /* here it is */
    RETAINED_MORE, /* none among those looked at in this call: go on behind ret->topic */
};
/* The account's first retained message that the filter (no shared one) matches and whose topic is
 * greater (as bytes) than `after`; expired ones are skipped. `after` ptr NULL: the very first. The
 * copy lies in `storage` (cleared first), which can hold TOPIC_MAX + RETAINED_MAX and must not hold
 * `after`. Looks at RETAINED_LOOKS messages at the most. */
#define RETAINED_LOOKS 256u
enum retained_step sessions_next_retained(struct sessions *t, uint64_t account, struct slice filter,
                                          struct slice after, int64_t now_us, struct buf *storage,
                                          struct retained *ret);

struct sessions_stats {
    uint64_t sessions, retained, bytes;
    uint64_t connected; /* of the sessions */
    uint64_t dropped;   /* sessions, retained messages and entries that found no room */
};
struct sessions_stats sessions_stats(struct sessions *t);
