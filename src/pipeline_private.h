/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline_private.h - what pipeline.c (the order), pipeline_turn.c (the requests of a turn),
 * pipeline_write.c (to the journal), pipeline_batch.c (and back), pipeline_read.c (views, waiting,
 * the read pool) and the others share. Nobody else includes it.
 */
#pragma once

#include "base/fair.h"
#include "base/thread.h"
#include "pipeline.h"
#include "pipeline_claims.h"
#include "view/backlog.h"

#define JOB_MAGIC 0x10b10b10u

enum { VIEW_LATEST = 1, VIEW_HISTORY = 2, VIEW_SESSION = 4 };

#define NO_SINK SINKS_MAX /* in job.sink */

/* One request in the pipeline; lives in its exchange's stage. What the answer needs comes first: it
 * is looked at when all of a commit's requests have pushed each other out of the cache. */
struct job {
    uint32_t magic;
    enum ack_level ack;
    struct lane *lane;
    struct job *next;            /* put off, or in a list of the lane: waiting, profiles */
    uint32_t first_index, count; /* in the journal */
    struct account *account;     /* references */
    struct credential *credential;
    struct feed *feed;   /* the one the path names */
    struct group *group; /* the same */
    /* Waiting for the catalog: */
    struct catalog_ask *asks;
    unsigned asks_count;
    bool stale;       /* answered from views that are behind */
    bool passed;      /* the throttle has counted it */
    bool owned;       /* counted in lane->busy */
    bool awaits;      /* counted in sink_waiters of `sink` */
    uint8_t sink;     /* of ACK_DELIVERED: which of opts.sinks */
    uint64_t receipt; /* webhook that is told if that comes late; 0: none */
    bool changed;     /* the catalog has done what was asked: what is read now is the answer */
    /* Reading, where more is left to be done than to answer; NULL: not so */
    struct api_found *found;
    uint64_t end_offset; /* one past its last record */
    uint64_t deadline_ns;
    struct buf ids;   /* size_t each: where in the reply the ids stand */
    struct buf texts; /* what the asks point to */
    struct route_match match;
    int64_t now_us;
    uint64_t session;                /* whose record it is */
    uint32_t flags;                  /* of the record of ROUTE_TOPIC */
    uint32_t overload;               /* the ladder's state when it was authenticated */
    uint64_t device_hash, feed_hash; /* while it is put off: what is fetched ahead; 0: nothing */
    struct mail mail;                /* brings it back from another thread */
    void (*resume)(struct job *j);   /* what the mail does */
    /* Waiting for a password hash: */
    struct shield_wait wait;
    _Atomic unsigned asks_left;
    unsigned retries;
    /* Waiting for views: */
    unsigned views;
    uint64_t need; /* until they have applied everything below */
    void (*on_applied)(struct job *j);
    struct fair_item pool_item;
    bool (*in_pool)(struct job *j); /* what is done there; NULL: api_read */
    void (*from_pool)(struct job *j);
    struct backlog *backlog; /* being collected */
    struct admin_call *call;
    struct consume_call *consume;
    struct prof_call *prof;
};

/* Whom the journal's answer is for: a job, or what is left of one whose exchange is gone already.
 */
struct owed {
    struct job *job; /* NULL: pledged, and this is all that is known of it: */
    void *pledge;
    const struct exchange_ops *ops;
    struct account *account; /* reference */
    uint64_t start_ns, deadline_ns;
    uint32_t first_index, count; /* in the journal */
    bool of_session;
};

/* An append on its way, with the requests that are in it. */
struct batch {
    struct journal_append append;
    struct mail mail;
    struct lane *lane;
    struct batch *next;
    struct owed *owed; /* in the order of their records; not those answered already: */
    uint32_t owed_first, owed_count, owed_room;
    uint32_t seen;     /* records at the end of the last turn */
    unsigned turns;    /* that it has been filled in */
    uint32_t received; /* records whose senders were answered already */
    uint64_t submitted_ns;
};

struct late; /* pipeline_late.c */
struct late_list {
    struct late *first, *last;
};

/* Answers that wait for a sink, by `need`. */
struct awaiting {
    struct job *first, *last;
};

struct read_pool;
struct live;

struct pipeline {
    struct pipeline_opts opts;
    uint64_t told_before; /* what was durable at start: all accounts were told of it */
    struct lane *lanes[WORKERS_MAX];
    _Atomic unsigned lanes_count; /* the views look through the lanes while they are made */
    struct read_pool *pool;
    struct claims claims;
    struct live *live; /* pipeline_live.c */
    struct prof *prof;
    _Atomic enum pprof_access pprof;
    struct overload overload;
    _Atomic bool shed;
    atomic_flag ticking;           /* somebody is in overload_look or pipeline_tune */
    uint64_t commits, commits_ns;  /* of all lanes at the last look */
    uint64_t hold_above;           /* un-durable bytes at which reading stops */
    _Atomic unsigned holding;      /* lanes that do not read */
    _Atomic uint64_t consumers;    /* that were let in so far: the last one's number */
    _Atomic bool quits;            /* nobody is to wait for a sink any more */
    pthread_mutex_t receipts_lock; /* of the next one, held for a link or two */
    struct receipt *receipts;      /* for webhooks, that are to be published; newest first */
    struct mail receipts_mail;     /* to the first lane: there are some */
    _Atomic bool receipts_posted;
    _Atomic unsigned
        receipts_count;     /* that are not stored yet, in the lists of the first lane too */
    struct mail rules_mail; /* to the first lane: rules owe something */
    _Atomic bool rules_posted;
    struct own_sender *own_senders; /* of the first lane */
};

/* What one sender has sent and his windows do not know yet: see pipeline_throttle.c. */
struct tab {
    struct account *account;
    struct credential *credential; /* references; NULL: there is none */
    uint64_t source, now_ns, generation;
    uint64_t last;  /* number of the credential that was asked for last in this turn */
    uint32_t cost;  /* messages */
    uint64_t bytes; /* of their values */
};

struct lane {
    struct pipeline *p;
    struct lane_tune tune;
    struct worker *worker;
    unsigned busy;
    struct job *held, **held_last;       /* refusals that are given later; oldest first */
    struct job *profiles;                /* with the profiler */
    struct job *put_off, **put_off_last; /* until the worker settles; oldest first */
    struct batch *open;                  /* being filled in this turn */
    struct batch *flying, **flying_last; /* submitted, oldest first */
    struct batch *spare;
    uint64_t submitted_ns; /* when the last one was */
    bool stopping;         /* nothing is published but what clients send */
    bool holds;            /* reading from sockets */
    uint32_t flying_count; /* records of all that fly */
    size_t unproven_bytes; /* of bodies that wait for a password hash */
    _Atomic uint64_t waiting_records,
        oldest_ns;                        /* at the end of the last turn; for overload_look */
    _Atomic uint64_t commits, commits_ns; /* appends done, and the time they took in all */
    struct job *waiting;                  /* for views */
    _Atomic unsigned waiting_count;
    _Atomic bool wake_posted;
    struct mail wake;
    struct awaiting awaiting[SINKS_MAX];
    _Atomic unsigned awaiting_count;
    struct late_list late[SINKS_MAX]; /* answers that were given before that */
    _Atomic unsigned late_count;
    struct receipt *receipts; /* of the first lane: refused for the moment */
    _Atomic bool moved_posted;
    struct mail moved; /* of a sink's position */
    struct tab tab;    /* within a turn */
    struct points points;
    struct buf points_storage;
    struct buf payload, properties, sealed;
    struct sealer *sealer; /* NULL: records stay plain */
    struct feed *feeds[REQUEST_RECORDS_MAX];
    struct live_ops live;
    _Atomic int interest; /* subscriptions of this lane */
    struct buf live_text, live_opened;
    int64_t told_s; /* wall clock second that subscribers of time were told; 0: none has been */
    uint64_t figures_ns;      /* when those of $SYS are told next */
    uint64_t own_figures_ns;  /* the same of those that are feeds; 0: not known yet */
    struct producer producer; /* of the request in hand, if it names itself */
    char key_text[IDEMPOTENCY_KEY_MAX];
    uint8_t key_name[SEAL_NAME_BYTES]; /* what is stored of it, when records are sealed */
};

/* ---- pipeline.c ---- */
struct exchange *job_exchange(struct job *j);
/* Gives back what the asks hold, and the asks. */
void job_drop_asks(struct job *j);
/* Gives back what the job holds, then sends the reply. */
void job_send(struct job *j);
void job_refuse(struct job *j, enum reason reason, const char *text);
/* The same, and nothing is sent yet: what stands for the exchange, which is the front's. */
void *job_pledge(struct job *j);
/* Brings the job back to its lane: `resume` runs there. Any thread. */
void job_post(struct job *j, void (*resume)(struct job *j));
/* exchange_keep, and the match's slices stay good. */
void job_keep(struct job *j);
/* Who is it, and all the steps behind that. */
void job_authenticate(struct job *j);

/* ---- pipeline_throttle.c ---- */
/* Counts the request against all its limits. False: refused and answered. */
bool job_throttle(struct job *j, uint32_t cost, uint32_t bytes);
/* All that was asked for until now is counted: before the windows are looked at. */
void throttle_settle(struct lane *l);
/* The same at the end of a turn. */
void throttle_turn_end(struct lane *l);

/* ---- pipeline_turn.c ---- */
/* The job is authenticated when the worker settles. */
void turn_put_off(struct job *j);

/* ---- pipeline_write.c ---- */
/* ROUTE_WRITE: points to feeds to the journal. */
void write_run(struct job *j);
/* Appends a RECORD_DELETED or RECORD_CHANGED about the job's feed; the reply is complete and leaves
 * once it is durable. */
void write_about(struct job *j, enum record_kind kind, struct slice payload);
/* Appends a RECORD_SESSION about that session, its payload being the lane's; the reply is complete
 * and leaves once it is durable. */
void write_session(struct job *j, uint64_t session);
/* Appends a RECORD_PUBLISH of the request, its payload being the lane's; answers once it is
 * durable.
 */
void write_publish(struct job *j, uint32_t flags);
/* The account was told of everything below `end`: its reads wait for it. */
void remember_told(struct account *a, uint64_t end);
/* The same of what its MQTT sessions were told. */
void remember_session_told(struct account *a, uint64_t end);
/* So many messages that came in at start_ns are accepted. */
void count_accepted(const struct lane *l, uint32_t count, uint64_t start_ns);
/* The telemetry answer: accepted at that level, and further members. */
void job_put_accepted(struct job *j, const struct ack *ack, const char *more);
/* The header that leads to the receipt of the job's last message. */
void job_put_location(struct job *j);
/* The reply is complete, and leaves. */
void job_accepted(struct job *j);
/* The job's records are durable, the first of them at `first_offset`: answers. */
void job_durable(struct job *j, uint64_t first_offset);
void job_not_durable(struct job *j, enum reason reason);
/* The reply of Adafruit's create and batch data but for the offsets, from the lane's points. */
void prepare_data_reply(struct job *j);
/* The same when the feeds are not at hand any more. False: one of them is gone. */
bool write_reply_again(struct job *j);

/* ---- pipeline_batch.c ---- */
/* The lane's open batch. */
struct batch *batch_open(struct lane *l);
/* Hands it to the journal. While that has too much in hand it stays open, and goes on filling up to
 * its own maximum. */
void batch_submit(struct lane *l);
/* Appends that the journal has not given back, or not taken yet. */
unsigned batch_unfinished(const struct lane *l);
bool batch_turn_end(struct lane *l, bool more);
void batch_tick(struct lane *l, uint64_t now_ns);
void batch_lane_free(struct lane *l);

/* ---- pipeline_ack.c: when accepted is said ---- */
/* As the account has it. */
void ack_of_account(struct job *j);
/* As the request has it, if it says. False: refused and answered. */
bool ack_of_request(struct job *j);
/* The job's records are about to be submitted, and at their end it will wait for a sink; it does
 * not any more. Both do nothing at other levels. */
void ack_begin(struct job *j);
void ack_end(struct job *j);
/* Its records are durable: answers once its sink is past them, or tells that it is not. */
void ack_wait(struct job *j);
void ack_tick(struct lane *l);
/* Nobody waits any more, from the next tick on: the server stops. Any thread. */
void ack_quit(struct pipeline *p);

/* ---- pipeline_late.c: receipts that are pushed ---- */
/* The job is about to be told that it is not delivered yet. */
void late_put(struct job *j);
/* A sink's position may have moved. */
void late_look(struct lane *l);
void late_free(struct lane *l);
/* Of the first lane: publishes the receipts for webhooks. */
void receipts_run(struct lane *l);
void receipts_free(struct pipeline *p);

/* ---- pipeline_once.c: requests that name themselves, to be stored once ---- */
static inline bool once_asked(const struct request *q)
{
    return __builtin_expect(q->idempotency_key.ptr || q->device_seq.ptr || q->rule.ptr, 0);
}
/* Fills the lane's producer from the request. False: refused and answered. */
bool once_begin(struct job *j);
/* How far once_answer has got in the units of an append; zeroed at its beginning. */
struct unit_place {
    const struct journal_unit *unit; /* the last one passed */
    uint32_t dropped;                /* records up to there that were not stored */
};
/* Answers one job of a durable append that has units; they are come to in the order of records. */
void once_answer(struct job *j, const struct journal_append *a, struct unit_place *place);
/* How many records before that one were not stored; the next one asked for lies behind it. */
uint32_t once_dropped(const struct journal_append *a, struct unit_place *place, uint32_t index);

/* ---- pipeline_overload.c ---- */
/* Whether the ladder lets the authenticated request pass; else it was refused and answered. Only to
 * be asked when job->overload is not 0. */
bool overload_lets(struct job *j);
/* Refuses a read. */
void overload_refuse_read(struct job *j);
/* At L3 and above: whether a password hash may be computed for the job. */
bool overload_lets_hash(struct job *j);
/* At each end of a turn: what is waiting now. */
void overload_note_turn(struct lane *l);
/* An append came back. */
void overload_note_commit(struct lane *l, uint64_t submitted_ns);
/* Stops reading from sockets, or goes on, by how much is not durable yet. */
void overload_hold_look(struct lane *l);
void overload_look(struct lane *l, uint64_t now_ns);

/* ---- pipeline_change.c: ROUTE_CHANGE, to the catalog and back ---- */
void change_run(struct job *j);
/* The read of what is to be deleted is done: deletes it. */
void change_submit(struct job *j);
/* The read is done, and the feed's mark is to be moved; then the reply leaves. */
void mark_move(struct job *j);

/* ---- pipeline_connect.c: connections that say once who they are ---- */
/* ROUTE_CONNECT. */
void connect_run(struct job *j);
/* Who sent it, as the connection has it. False: not any more; refused and answered. */
bool connect_identify(struct job *j);

/* ---- pipeline_live.c ---- */
/* Turns records into the messages that subscribers see, in all the forms that topics have. */
struct message_maker {
    const struct api *api;
    struct sealer *sealer;     /* opens records; NULL: none are sealed */
    struct buf *text, *opened; /* of one thread at a time */
    struct live_ops to;        /* `wants` and `publish` */
    bool blind;                /* nobody asks for a payload: sealed ones are not opened */
};
/* Those of one record; its payload may be opened in place. Any thread. */
void make_messages(const struct message_maker *maker, struct record *r, uint64_t offset);
void live_free(struct live *live);

/* ---- pipeline_publish.c ---- */
/* ROUTE_TOPIC: a message to a topic that is no feed, to the journal. */
void publish_run(struct job *j);
/* ROUTE_RETAINED. */
void retained_run(struct job *j);

/* ---- pipeline_service.c: what the server itself tells ---- */
void service_tick(struct lane *l, uint64_t now_ns);
/* Whether the principal may subscribe to a filter of no account. */
enum reason service_may_subscribe(struct lane *l, const struct principal *p, struct slice filter);

/* ---- pipeline_will.c ---- */
/* A client is about to open its session anew: publishes the will of the one before, if that has
 * ended, which `replaced` says of one that has not expired. */
void wills_before(struct lane *l, uint64_t account, struct slice client_id, bool replaced);
/* Publishes wills that are due. */
void wills_tick(struct lane *l);

/* ---- pipeline_rules.c ---- */
/* Publishes what rules owe. */
void rules_run(struct lane *l);
/* The view of rules has applied more. Any thread. */
void rules_on_applied(struct pipeline *p);

/* ---- pipeline_figures.c ---- */
/* Publishes the server's own figures, when it is time. */
void figures_tick(struct lane *l, uint64_t now_ns);

/* ---- pipeline_own.c ---- */
struct own_publish {
    struct account *account; /* whose */
    const char *sender;      /* what it is called; a constant */
    uint64_t permissions;
    struct slice topic, body;
    struct slice rule; /* see struct request */
    /* What became of it; called once, maybe before own_publish returns. */
    void (*done)(struct lane *l, void *arg, const struct reply *r);
    void *arg;
};
/* Publishes a copy of it. The first lane. */
void own_publish(struct lane *l, const struct own_publish *what);
/* All lanes are gone. */
void own_senders_free(struct pipeline *p);

/* ---- pipeline_session.c ---- */
/* Whose session it is: the connection's principal, even when that is no more. */
void session_identify(struct job *j);
/* ROUTE_SESSION: MQTT sessions, to the journal. */
void session_run(struct job *j);

/* ---- pipeline_missed.c ---- */
/* ROUTE_MISSED: what a session is to get of the journal. */
void missed_run(struct job *j);

/* ---- pipeline_consume.c ---- */
/* ROUTE_CONSUME: consumer groups. */
void consume_run(struct job *j);

/* ---- pipeline_prof.c ---- */
/* ROUTE_PROF, before it is known who asks: refuses it, or goes on as the setting says. */
void prof_admit(struct job *j);
/* The same, who may. */
void prof_run(struct job *j);
/* Ends profiles whose clients are gone. */
void prof_tick(struct lane *l);

/* ---- pipeline_admin.c ---- */
/* ROUTE_ADMIN, ROUTE_COMMAND. */
void admin_begin(struct job *j);

/* ---- pipeline_read.c ---- */
/* ROUTE_READ. */
void read_run(struct job *j);
/* Calls `then` once `views` have applied everything below `need`; at once if they have. After
 * `deadline_ns` the job is refused. The request must be kept if it is looked at again. */
void wait_for_views(struct job *j, unsigned views, uint64_t need, uint64_t deadline_ns,
                    void (*then)(struct job *j));
void read_tick(struct lane *l, uint64_t now_ns);
/* Calls `what` in a thread of the read pool, again in its turn as long as that returns false, then
 * `then` on the lane. A pool that has no room, and one that comes to it behind the job's deadline,
 * refuse: REASON_busy. The request must be kept. */
void read_in_pool(struct job *j, bool (*what)(struct job *j), void (*then)(struct job *j));
struct read_pool *read_pool_new(struct pipeline *p);
void read_pool_free(struct read_pool *pool);
