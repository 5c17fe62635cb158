/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline.h - the one place that knows the order of the stages: request -> who -> may they -> how
 * much -> shape -> journal or views -> reply. One `struct lane` per worker, used on that worker's
 * thread only; a pipeline is what the lanes share.
 */
#pragma once

#include "api/admin.h"
#include "api/api.h"
#include "conn/worker.h"
#include "flow/flood.h"
#include "flow/live.h"
#include "gate/overload.h"
#include "seal/seal.h"
#include "sink/consume.h"
#include "sink/hooks.h"
#include "sink/sink.h"
#include "view/view.h"

struct pipeline;
struct lane;

/* What may change while it runs: each lane has its own, ... */
struct lane_tune {
    struct limit_set address_limits;
    struct limit_set subscribes[2], refusals[2]; /* of a credential, of an address */
    uint64_t ack_timeout_ns, delivered_timeout_ns;
    uint64_t read_deadline_ns;
    uint64_t refusal_hold_ns; /* how long a refusal is held that shield_wait says may be; 0: not */
};

/* Who is given profiles of the server. */
enum pprof_access {
    PPROF_OFF,
    PPROF_KEY,  /* credentials with the permission admin_read */
    PPROF_OPEN, /* whoever reaches listen.operator */
};

/* ... and this is shared. */
struct pipeline_tune {
    enum pprof_access pprof;
    bool shed; /* the brown-out ladder is on */
    struct overload_opts overload;
};

/* What one session is given at most of what it missed: the newest, the rest is counted. */
struct missed_limits {
    uint32_t messages_max;
    uint64_t bytes_max, scan_bytes; /* of payloads; of the journal that is looked through */
};

/* A figure of the server's own: a value for the feed of that key. */
#define FIGURES_MAX    8u
#define FIGURE_KEY_MAX 32u
struct figure {
    char key[FIGURE_KEY_MAX];
    double value;
};

/* Where they come from. */
struct figure_source {
    uint64_t account; /* that they are feeds of; nobody else writes there. 0: there are none */
    uint64_t every_ns;
    unsigned (*take)(void *arg, struct figure *ret); /* at most FIGURES_MAX; on the first worker */
    void *arg;
};

struct pipeline_opts {
    struct api api;
    struct admin *admin;
    struct consume *consume;
    struct hooks *hooks;       /* NULL: accounts have none */
    struct sink *const *sinks; /* whose positions `delivered` waits for; at most SINKS_MAX */
    unsigned sinks_count;
    struct view *latest_view, *history_view; /* whose watermarks reads and `applied` wait for */
    struct view *session_view;               /* the same of who opens a session */
    struct sessions *sessions;
    struct rules *rules;
    struct figure_source figures;
    struct missed_limits missed;
    struct keyring *keyring; /* seals what is stored; NULL: it stays plain */
    struct lane_tune lane;
    struct pipeline_tune tune;
    uint64_t pending_bytes_max; /* the journal's; at three quarters of it reading stops */
    unsigned read_threads, read_queue_max, read_per_account_max;
};

struct pipeline *pipeline_new(const struct pipeline_opts *opts);
/* One thread at a time. */
void pipeline_tune(struct pipeline *p, const struct pipeline_tune *tune);
/* The server stops: requests that would wait for long are answered now. */
void pipeline_quit(struct pipeline *p);
/* The members of /v1/status about overload. */
void pipeline_put_overload(const struct pipeline *p, struct buf *out);
/* All lanes must be gone. Accepts NULL. */
void pipeline_free(struct pipeline *p);

struct lane *lane_new(struct pipeline *p, struct worker *w);
void lane_free(struct lane *l);
/* For requests from now on. The lane's thread. */
void lane_tune(struct lane *l, const struct lane_tune *tune);
/* Bytes the front must leave for the pipeline in each exchange. */
size_t lane_stage_bytes(void);
/* For http_opts.handle; `lane` is the struct lane. */
void lane_handle(void *lane, struct exchange *x);
/* Where a lane's messages for subscribers go. Before its worker runs. */
void lane_set_live(struct lane *l, struct live_ops ops);
/* So many more subscriptions, or fewer; `lane` is the struct lane. */
void lane_interest(void *lane, int change);
/* Everything below this position is durable; `lane` is the struct lane. */
uint64_t lane_durable(void *lane);
/* The principal's next retained message behind the topic `after` (ptr NULL: the first) that the
 * filter matches and that lies below position `below`. RETAINED_ONE: *ret and *ret_payload borrow
 * from `storage`, which can hold TOPIC_MAX + RETAINED_MAX. Else as sessions_next_retained. */
enum live_step lane_next_retained(void *lane, const struct principal *p, struct slice filter,
                                  struct slice after, uint64_t below, struct buf *storage,
                                  struct live_message *ret, struct slice *ret_payload);
/* Whether the principal may subscribe to the filter: REASON_ok, and whose messages it is about, or
 * why not. */
enum reason lane_may_subscribe(void *lane, struct principal *p, struct slice filter,
                               uint64_t *ret_account);
/* Counts one of that against the windows of who sent it and of where from; `lane` is the struct
 * lane. */
void lane_flood(void *lane, const struct principal *p, uint64_t source, enum flood what,
                struct flood_verdict *ret);
/* Brings a message to the subscribers of all lanes; `lane` is the struct lane of the caller. */
void lane_tell(void *lane, const struct live_message *m);
/* The thread that brings what is durable to subscribers: started when all lanes are there, stopped
 * before their workers are. */
void pipeline_live_start(struct pipeline *p);
void pipeline_live_stop(struct pipeline *p);
/* Whether who a connection turned out to be is still so. The front asks after every change of the
 * catalog; `lane` is the struct lane. */
bool lane_vouches(void *lane, struct principal *p);
/* The same of a connection that is pushed messages of a consumer group; also whether it may be:
 * REASON_ok, or why not. */
enum reason lane_may_consume(void *lane, struct principal *p);
/* It has ended: what it has is given back. `lane` is the struct lane. */
void lane_consumer_left(void *lane, uint64_t consumer);
/* A message of that topic by that principal comes soon: asks for the cache line where its feed is
 * looked up, and, with what it returned a little later, for the feed itself. They decide nothing.
 */
uint64_t lane_glance(void *lane, const struct principal *p, struct slice topic);
void lane_glance_again(void *lane, uint64_t hint);
/* For worker_hook; `lane` is the struct lane. */
void lane_settle(void *lane);
/* `more`: there is work left, so it must not nap. */
bool lane_turn_end(void *lane, bool more);
void lane_tick(void *lane);
/* The server stops: what is not published yet of itself, wills and messages of rules, is left to
 * its next start. The lane's thread. */
void lane_stop(struct lane *l);
/* What is in hand: requests that are not answered yet, and appends that are not done though all
 * their requests were answered (ack level received, or too late). */
unsigned lane_busy(const struct lane *l);

/* A view has applied more: wakes the requests that wait for it. Any thread. */
void pipeline_on_applied(void *pipeline);
/* The same of a sink, whose position has moved. Any thread. */
void pipeline_on_delivered(void *pipeline);
