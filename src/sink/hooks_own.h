/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/hooks_own.h - what sink/hooks*.c share. Everything is under the one mutex of struct hooks,
 * which the thread gives away only while it sleeps.
 *
 * The model. One course reads the head of the journal for all: each message goes into the queues of
 * its account's webhooks. A webhook whose queue is full, or that waits, is left behind: `read_at`
 * says where. Those behind are read for in turns by a second course, a stretch at a time, until
 * they are at the head again. So the journal is read once for all that keep up, a slow endpoint
 * costs a full queue and nothing else, and what many are behind costs reading time in turns.
 *
 * A webhook's position is the first message in its queue that is not settled, or where it reads on;
 * it is written down about once a second. What an endpoint refuses is `owed`: tried again by the
 * schedule, then dead; both are written down too, and read from the journal when their time comes.
 */
#pragma once

#include <limits.h>
#include <stdatomic.h>

#include "base/rand.h"
#include "base/thread.h"
#include "sink/course.h"
#include "sink/hooks.h"
#include "sink/webhook_post.h"

#define HOOK_QUEUE      32u
#define HOOK_AT_ONCE    4u
#define HOOKS_BUCKETS   1024u
#define HOOKS_QUEUE_MAX (64u << 20) /* bytes of all queues, unless an owner wants less */
#define HOOKS_SHARES    64u         /* of these; above its own a queue takes one message more */
#define HOOKS_NAME      "webhooks"  /* the journal's named cursor is sink:webhooks */

enum event_state { EVENT_WAITING, EVENT_UNDER_WAY, EVENT_SETTLED };

struct event {
    uint64_t offset, key; /* key: the same of a feed */
    int64_t receive_us;
    char *body; /* members of the event's object */
    size_t len;
    enum event_state state;
    unsigned blame;
    bool again; /* it is owed */
};

struct owed {
    uint64_t offset;
    int64_t due_us;
    uint32_t tried; /* pauses of the schedule that are over; WEBHOOK_PAUSES: it is dead */
    bool queued;
};

struct hook {
    struct hook *next;      /* all, by id */
    struct hook *neighbour; /* of the bucket of accounts */
    uint64_t id, account;
    char *url, *feeds;
    char secrets[2][HOOK_SECRET_MAX]; /* the second one may be empty */
    struct webhook_secrets keys;
    bool by_feed, paused;
    unsigned events_max;
    int64_t created_us;
    char disabled[200]; /* why; empty: it is not */
    /* Where it is. */
    bool behind;
    uint64_t read_at; /* if it is behind; else the head */
    bool rewind;      /* somebody wants it to go on at rewind_to */
    uint64_t rewind_to;
    struct event queue[HOOK_QUEUE]; /* a ring */
    uint64_t first, end;            /* sequence numbers in it */
    uint64_t queue_bytes;
    struct {
        uint64_t offset;
        unsigned blame;
    } blamed[HOOK_QUEUE]; /* what was put back, and is to blame: it is when it comes again */
    unsigned blamed_count;
    struct owed owed[HOOK_OWED_MAX];
    unsigned owed_count;
    /* The endpoint. */
    unsigned under_way, failures;
    uint64_t next_try_ns;
    bool cautious;
    uint64_t taken; /* messages, ever: whether others got through meanwhile */
    int64_t failing_since_us;
    uint64_t failing_since_ns; /* the same; 0: it began before this process did */
    char error[256];
    uint64_t delivered, failed, gaps;
    struct attempts *attempts;
};

/* What workers may look up. */
struct hook_owner {
    uint64_t id, account;
};

/* A request under way. */
struct flight {
    struct webhook_post it;
    struct hook *hook; /* NULL: free */
    uint64_t first;    /* sequence number of its first event */
    unsigned count;
    uint64_t taken; /* of the hook, when it was begun */
};

struct hooks {
    struct hooks_opts opts;
    char path[PATH_MAX], at_path[PATH_MAX], copy_path[PATH_MAX];
    struct sink_opts head_opts, lag_opts; /* of the courses */
    struct sealer *sealer;
    struct posts *posts;
    struct flight *flights;
    struct rand rand;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    atomic_uint asking; /* who waits for the lock */
    bool stop;
    struct hook *all, *buckets[HOOKS_BUCKETS];
    struct hook *removed; /* taken out by who asked; the thread ends their requests and frees */
    unsigned count;
    uint64_t next_id;
    struct course head, lag;
    bool reading;         /* the head is open: there are webhooks */
    uint64_t head_at;     /* everything before is in queues, or somebody is behind */
    uint64_t lag_account; /* whom the second course reads for */
    uint64_t turn_id;     /* whose turn with it was last */
    uint64_t served_id;   /* who had the last request */
    uint64_t queue_bytes, cautious_bytes; /* of all queues; of those that are cautious */
    bool moved;                           /* positions changed since they were written */
    uint64_t looked_ns, written_ns, committed;
    uint64_t delivered, failures, dead;
    /* What is told to who must not wait for a turn: its own lock, held for a copy. */
    pthread_mutex_t told_lock;
    struct hooks_stats told;
    struct hook_owner *owners; /* by id */
    size_t owners_count;
};

/* ---- hooks.c */
void hook_make_secret(char out[HOOK_SECRET_MAX]);
struct hook *hooks_find(struct hooks *h, uint64_t id);
/* To be called when webhooks came or went. */
void hooks_list_owners(struct hooks *h);
void hook_clear_queue(struct hooks *h, struct hook *k);
/* Its queue has so many more bytes; fewer: below zero, modulo 2^64. */
static inline void hook_weigh(struct hooks *h, struct hook *k, uint64_t bytes)
{
    h->queue_bytes += bytes;
    k->queue_bytes += bytes;
    h->cautious_bytes += k->cautious ? bytes : 0;
}
/* Forgets its queue and what is under way: it reads on from the first that is not settled. */
void hook_put_back(struct hooks *h, struct hook *k);
/* Its queue is empty. */
void hook_free(struct hook *k);
static inline uint64_t hook_read_at(const struct hooks *h, const struct hook *k)
{
    return k->behind ? k->read_at : h->head_at;
}
uint64_t hook_position(const struct hooks *h, const struct hook *k);
static inline bool hook_is_on(const struct hook *k)
{
    return !k->paused && !k->disabled[0];
}

/* ---- hooks_file.c */
/* Fills in all webhooks. 0 or negative errno with a sentence. */
int hooks_load(struct hooks *h, struct error *err);
/* 0 or a negative errno: the file is as it was. */
int hooks_save(struct hooks *h);
int hooks_save_positions(struct hooks *h);

/* One of them as an object of the file, and back (NULL: it is none). The caller's. */
struct json_t;
struct json_t *hook_to_json(const struct hook *k);
struct hook *hook_from_json(const struct json_t *o);
/* Before all others, whose numbers are greater; it goes on with what comes. */
void hooks_prepend(struct hooks *h, struct hook *k);
/* Writes the object, and takes the reference. 0 or a negative errno. */
int hooks_write_json(const struct hooks *h, const char *path, struct json_t *o);
/* *ret stays NULL if there is no such file. 0 or a negative errno with a sentence. */
int hooks_read_json(struct disk *disk, const char *path, struct json_t **ret, struct error *err);

/* ---- hooks_copy.c */
/* 0 or a negative errno. */
int hooks_save_copy(struct hooks *h);
/* Fills in the webhooks that a backup held; none if there is no such file. */
int hooks_load_copy(struct hooks *h, struct error *err);

/* ---- hooks_read.c */
void hooks_setup_courses(struct hooks *h);
/* Opens the head if there are webhooks and it is not open. */
int hooks_begin_reading(struct hooks *h, uint64_t at, struct error *err);
void hooks_end_reading(struct hooks *h);
/* One batch of the head, one stretch of somebody behind, one message that is owed. False: there was
 * nothing to do. */
bool hooks_read(struct hooks *h, uint64_t now_ns);

/* ---- hooks_send.c */
/* Begins what can be begun, and settles what has ended. False: nothing happened. */
bool hooks_send(struct hooks *h, uint64_t now_ns);
void hooks_abandon(struct hooks *h, struct hook *k); /* NULL: all */
