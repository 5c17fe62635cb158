/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front/mqtt_private.h - what mqtt_conn.c (bytes in, life and death), mqtt_packet.c (packets to
 * exchanges) and mqtt_reply.c (replies to packets) share. Nobody else includes it.
 */
#pragma once

#include "codec/mqtt.h"
#include "flow/missed.h"
#include "flow/session_state.h"
#include "front/mqtt.h"
#include "front/mqtt_flights.h"
#include "front/mqtt_share.h"
#include "front/mqtt_subs.h"

#define MQTT_CONN_MAGIC 0x3097c0deu

/* What a connection owes for a packet, in its queue. Most messages need no more than that while
 * they wait for the disk: thousands of them stay in the cache, where as many exchanges would not.
 */
struct mqtt_answer {
    struct mqtt_answer *next, **prev; /* in the queue; or the free list, by `next` */
    struct mqtt_conn *conn;           /* NULL: the connection went away, or it is a will */
    struct mqtt_front *front;
    struct mqtt_exchange *exchange; /* whose it is a part of; NULL: pledged, see flow/exchange.h */
    enum mqtt_type type; /* MQTT_CONNACK, PUBACK, PUBREC; MQTT_PUBLISH: none (QoS 0, a will) */
    uint16_t id;
    uint8_t code;
    bool done;
};

/* A message on its connection, or its CONNECT: the exchange and what the answer needs. */
struct mqtt_exchange {
    struct mqtt_answer answer;
    struct mqtt_exchange *free_next;
    struct mqtt_replay *replay; /* what waits for it; of METHOD_RETAINED */
    struct mqtt_conn *settles;  /* whose session it is about, which keeps its client id until then;
                                   METHOD_PUBLISH: which ends behind it */
    struct mqtt_conn *asks;     /* for what it missed; its answers do not wait for that */
    struct missed *missed;      /* what it asks; of a `group`'s record: what is asked behind it */
    struct share_group *group;  /* is to know what became of it; a reference, or NULL */
    unsigned telling;           /* then: of mqtt_share_tell */
    bool kept;
    bool released;  /* a message: it is on its way into the journal, or came back */
    struct buf out; /* an answer that is more than a few bytes */
    struct buf raw; /* the request's bytes, once kept; a will's */
    struct principal own;
    struct exchange x; /* last: it ends in the pipeline's part */
};

/* What is published when a connection ends without a DISCONNECT (MQTT-3.1.2-8). */
struct mqtt_will {
    bool retain, has_expiry;
    uint8_t qos;
    uint32_t expiry_s, delay_s;
    size_t topic_len, properties_len, payload_len;
    char bytes[]; /* these three */
};

struct mqtt_alias {
    char *topic; /* NULL: not set */
    uint16_t len;
};

enum mqtt_state {
    MQTT_NEW,     /* waits for CONNECT */
    MQTT_LOGIN,   /* that is with the pipeline */
    MQTT_CLAIM,   /* waits for the client id's earlier holder to let go */
    MQTT_OPEN,    /* waits for its session, which is with the pipeline */
    MQTT_UP,      /* CONNACK was sent */
    MQTT_ENDING,  /* reads no more; closes behind the answers that are owed */
    MQTT_CLOSING, /* the stream is told to close */
};

struct mqtt_conn {
    uint32_t magic;
    struct mqtt_front *front;
    struct stream *stream;
    struct mqtt_conn *next, **prev;    /* all connections of the front */
    struct mqtt_conn *dirty_next;      /* in the front's list, if `dirty` */
    struct mqtt_answer *first, **last; /* without an answer sent, oldest first */
    struct mqtt_exchange *kept;        /* what reading waits for */
    enum mqtt_state state;
    struct mqtt_reader reader;
    uint32_t packet_max; /* what the client takes */
    uint16_t keep_alive; /* seconds, as in force */
    uint16_t alias_max;  /* topic aliases that the client takes, as far as we give any */
    uint16_t ids_count, ids_room;
    uint16_t unanswered, acks; /* in the queue: above QoS 0; of QoS 1 */
    uint16_t owed;             /* of QoS 2, and the will: what `settles` it */
    uint64_t source;           /* the client's address as limits count it */
    bool unread;               /* at the last look at silent_ns what may have come was not */
    bool dirty, stalled, ended, quiet /* no reason strings */, closed;
    bool assigned, keep_alive_cut, wants_session, clean;
    bool expiry_cut, present; /* the session was there before */
    bool settling;            /* it has ended, but its session is still being told so */
    bool keep_will;           /* then: and publishes the will later */
    bool will_kept;           /* its session has it */
    bool begun;               /* it was told CONNACK */
    bool replaying;
    enum reason failed; /* why it closes at the end of the turn; REASON_ok: it does not */
    uint32_t expiry_s;  /* of the session, as in force */
    uint64_t session;   /* its number; 0: it ends with the connection */
    uint64_t number;    /* record_client, known from MQTT_CLAIM on */
    uint64_t handed_up; /* worker_settled + 1 when the last request was; 0: never */
    uint64_t sent_seen; /* progress of writing at the last look */
    uint64_t silent_ns; /* if no packet has come by then, it ends: MQTT-3.1.2-22 */
    struct principal principal;
    struct mqtt_claim claim;
    char *client_id;
    struct mqtt_will *will;
    struct mqtt_replay *replays;      /* retained messages it is to get; oldest first */
    struct mqtt_conn *replaying_next; /* in the front's list, if `replaying` */
    struct mqtt_sub *subs;
    struct mqtt_sub *due;             /* of these: that the message at hand matches, by `also` */
    struct mqtt_conn *due_next;       /* in the front's list, if there are such */
    uint16_t subs_count, receive_max; /* what the client takes at a time */
    struct delivery *out;             /* NULL: nothing above QoS 0 was sent or subscribed yet */
    uint16_t *ids;                    /* of QoS 2: received, not released */
    struct mqtt_alias *aliases;       /* that the client has set: the front's alias_max of them */
    struct mqtt_given *given;         /* aliases that it was told; NULL: none yet */
    struct deadline deadline;
    struct buf sending; /* messages for one write at the end of the turn */
};

struct mqtt_front {
    struct mqtt_opts opts;
    struct mqtt_conn *conns, *dirty, *replaying;
    unsigned conns_count;
    struct mqtt_subs *subs;
    struct mqtt_exchange *free;
    struct mqtt_exchange *untold, **untold_last; /* ends to be told again; by time */
    struct deadline tell_again;
    struct mqtt_answer *free_answers;
    unsigned free_count, free_answers_count;
    struct buf gather;   /* answers for one write */
    struct buf retained; /* one message */
    struct buf aliased;  /* one packet */
    struct buf now; /* of the connection whose input is looked at: answers that wait for none */
    /* Of the message in hand, before 5.0 and in it: the packet of all subscribers of QoS 0. */
    struct buf common[2];
    bool common_made[2];
    struct mqtt_conn *due;      /* whom the message at hand is for */
    struct buf ids;             /* subscription identifiers of one packet */
    uint32_t last_member;       /* number of a shared subscription */
    _Atomic uint64_t live_next; /* position: what lies below has come here; 0: nothing has */
    bool handed;                /* up, since the worker settled */
    bool stopping;
};

/* How a message goes to a client. */
struct outgoing {
    const struct live_message *m;
    struct slice payload;
    uint8_t qos; /* that is granted */
    bool as_published, dup;
    struct slice ids; /* subscription identifiers, encoded as properties */
    uint32_t member;  /* as member of a group (struct mqtt_sub); 0: for itself */
};

/* ---- mqtt_conn.c ---- */
/* A new exchange at the end of the queue. */
struct mqtt_exchange *mqtt_enqueue(struct mqtt_conn *c, enum mqtt_type answer);
/* Off the queue. */
void mqtt_dequeue(struct mqtt_answer *a);
void mqtt_exchange_free(struct mqtt_exchange *e);
/* Gives the exchange to the pipeline. */
void mqtt_hand_up(struct mqtt_exchange *e);
/* The exchange's answer is complete: it leaves at the end of the turn. */
void mqtt_done(struct mqtt_exchange *e);
/* What the client is owed for the exchange it cannot be given: closes at the end of the turn, since
 * who tells of a session is in the midst of it. */
void mqtt_fail(struct mqtt_exchange *e);
/* Sends with what else this turn has for the client. */
void mqtt_send_later(struct mqtt_conn *c, struct slice packet);
/* Says so (5.0: DISCONNECT with the code; `why` may be NULL) and closes; publishes the will. */
void mqtt_close(struct mqtt_conn *c, uint8_t code, const char *why);
/* Closes behind what is being sent; `with_will`: publishes it. */
void mqtt_end(struct mqtt_conn *c, bool with_will);
/* The client id is this connection's, and so is the session: CONNACK, and reading goes on. */
void mqtt_begin(struct mqtt_conn *c);

/* ---- mqtt_keep.c: sessions that outlive their connection ---- */
/* The client id is this connection's: opens the session, then mqtt_begin. */
void mqtt_open(struct mqtt_conn *c);
/* The reply to that. */
void mqtt_reply_open(struct mqtt_exchange *e);
/* The client released a packet id of QoS 2: PUBCOMP once that is durable. */
void mqtt_put_release(struct mqtt_conn *c, uint16_t id);
/* The connection has ended, maybe in MQTT_OPEN: tells its session so. False: there is none, and the
 * client id may be given back; else it is when c->settling ends. */
bool mqtt_settle(struct mqtt_conn *c, bool opening, bool keep_will);
/* Whether the will of a connection that ends is published later, by its session. */
bool mqtt_keeps_will(const struct mqtt_conn *c);
/* Puts the record into the exchange and hands that up. */
void mqtt_hand_up_event(struct mqtt_exchange *e, const struct session_record *r, uint64_t session);
/* The client (un)subscribed: what is answered behind this waits until it is durable. */
void mqtt_tell_filter(struct mqtt_conn *c, const struct session_record *r);
/* The end of the connection is told behind what becomes of this message. */
void mqtt_settle_behind(struct mqtt_conn *c, struct mqtt_exchange *e);
/* A message that `settles` is on its way into the journal. */
void mqtt_settle_on(struct mqtt_exchange *e);
/* The exchange that `settles` came back. */
void mqtt_settled(struct mqtt_exchange *e);
void mqtt_keep_init(struct mqtt_front *f);
/* The server stops: what could not be told is not told again. */
void mqtt_keep_stop(struct mqtt_front *f);

/* Its answers, or what it has to say, leave at the end of the turn. */
void mqtt_make_dirty(struct mqtt_conn *c);

/* ---- mqtt_ahead.c ---- */
/* How far the packets of one read were glanced at; zeroed at its beginning. */
#define MQTT_AHEAD 16u
struct mqtt_ahead {
    size_t at;                     /* where the next one begins */
    unsigned seen, halfway, taken; /* packets: glanced at, asked for again, worked on */
    bool blind;                    /* what follows is not whole */
    uint64_t hints[MQTT_AHEAD];
};
/* To be called before each packet of `in`, all that was read, is worked on. */
void mqtt_look_ahead(struct mqtt_conn *c, struct mqtt_ahead *a, struct slice in);

/* ---- mqtt_packet.c ---- */
/* One packet. */
void mqtt_take(struct mqtt_conn *c, const struct mqtt_packet *p);
/* CONNACK with a reason code of 5.0 and a sentence, in the version's words; then the end. */
void mqtt_refuse_connect(struct mqtt_conn *c, enum mqtt_version version, uint8_t code,
                         const char *why);
/* CONNACK that says what the reply's reason is. */
void mqtt_refuse_login(struct mqtt_conn *c, const struct reply *r);
/* Remembers a message of QoS 2 until it is released. */
void mqtt_remember_id(struct mqtt_conn *c, uint16_t id);
/* How many messages above QoS 0 it may have under way: what its session can keep. */
unsigned mqtt_receive_max(const struct mqtt_conn *c);
/* A packet that is none. */
void mqtt_refuse_packet(struct mqtt_conn *c, const struct mqtt_bad *b);
/* Forgets a message of QoS 2. False: there is none with this id. */
bool mqtt_release_id(struct mqtt_conn *c, uint16_t id);

/* ---- mqtt_reply.c ---- */
/* Turns the reply into the exchange's answer, or into the end of the connection. */
void mqtt_reply(struct mqtt_exchange *e);
/* Appends the answer. */
void mqtt_put_answer(struct buf *out, const struct mqtt_answer *a);
/* An exchange of no connection, for what is said of one that has ended. */
struct mqtt_exchange *mqtt_exchange_new(struct mqtt_front *f);
/* Gives back the connection's memory if nothing holds it any more. */
void mqtt_conn_forget(struct mqtt_conn *c);
/* Appends a packet that the client takes: without its properties where they make it too large. */
void mqtt_put_fitting(struct buf *out, const struct mqtt_conn *c, struct mqtt_packet *p);
void mqtt_put_connack(struct buf *out, const struct mqtt_conn *c);

/* ---- for struct live_ops (flow/live.h); `front` is the mqtt_front ---- */
bool mqtt_front_wants(void *front, uint64_t account);
void mqtt_front_publish(void *front, const struct live_message *m);
void mqtt_front_begin(void *front, uint64_t first);
void mqtt_front_end(void *front, uint64_t next);

/* ---- mqtt_send.c ---- */
/* SUBSCRIBE and UNSUBSCRIBE. */
void mqtt_take_filters(struct mqtt_conn *c, const struct mqtt_packet *p);
void mqtt_drop_subs(struct mqtt_conn *c);
/* Whether its role lets it see what is published to a topic that is no feed. */
bool mqtt_may_see(const struct credential *who, struct slice topic);
/* A subscription of the session as it was kept. */
void mqtt_restore_sub(struct mqtt_conn *c, const struct session_filter *f, uint64_t since);
/* The packet, above QoS 0, into front->gather, its id not set. False: dropped and counted. */
bool mqtt_put_message(struct mqtt_conn *c, const struct outgoing *o);
void mqtt_set_id(char *packet, uint16_t id);
/* Whether the message is for the subscription, whose filter matches. */
bool mqtt_sub_wants(const struct mqtt_sub *sub, const struct live_message *m);
/* One more subscription that the message is sent by: the greatest QoS, and all identifiers, which
 * lie in the front until the next message is begun with an `o` that has none. */
void mqtt_add_match(struct mqtt_front *f, struct outgoing *o, const struct mqtt_sub *sub);
/* Sends, queues or drops. Whether it is under way then, above QoS 0. */
bool mqtt_send(struct mqtt_conn *c, const struct mqtt_sub *sub, const struct live_message *m,
               struct slice payload);
/* Whether a message of that QoS would be sent at once. */
bool mqtt_may_send(const struct mqtt_conn *c, uint8_t qos);
/* Sends what this client alone asked for, by its best subscription that matches. False: none does.
 */
bool mqtt_send_asked(struct mqtt_conn *c, struct slice topic, struct slice payload);

/* ---- mqtt_aliases.c: topic aliases to clients ---- */
/* mqtt_send_later, of PUBLISH packets, one behind the other: by aliases if the client takes them.
 */
void mqtt_send_messages(struct mqtt_conn *c, struct slice packets);
void mqtt_aliases_free(struct mqtt_conn *c);

/* ---- mqtt_shared.c: shared subscriptions ---- */
/* Makes the connection a member of the filter's group; the filter is a shared one. NULL: that has
 * as many as it may have. `restored`: its session has it already. */
struct mqtt_sub *mqtt_join(struct mqtt_conn *c, uint64_t scope, struct slice filter, bool restored);
/* It is none any more; the subscription is still to be removed. */
void mqtt_leave(struct mqtt_sub *sub);
/* The same with all of the connection, which ends: what it was given goes to others, and the
 * journal is told what is not told yet (mqtt_deliver_close). */
void mqtt_leave_all(struct mqtt_conn *c);
/* A message of the group, that its home has matched, to one of its members. */
void mqtt_share_out(struct mqtt_front *f, struct share_group *g, const struct live_message *m,
                    struct slice payload);
/* Whether there is somebody to give to: no, if the server is stopping. */
bool mqtt_may_give(struct share_group *g);
/* A message of the group that one member is not to have goes to another, who reads it from the
 * journal. False: there is none (mqtt_may_give). */
bool mqtt_give_to_another(struct mqtt_front *f, struct share_group *g, uint64_t place);
/* The same of what it may not see, who was asked in that round: it ends with whom that began. */
void mqtt_pass_on(struct mqtt_front *f, struct share_group *g, uint64_t place,
                  const struct share_round *asked);
/* What a member that has left was given goes to another. False: there is none. */
bool mqtt_give_back(struct mqtt_conn *c, uint32_t member, uint64_t place);

/* ---- mqtt_replay.c: retained messages to who subscribes ---- */
/* It has subscribed: is to get those that are there, by the filter's retain handling; `again`: it
 * had that subscription already. */
void mqtt_replay_begin(struct mqtt_conn *c, const struct mqtt_filter *f, const struct mqtt_sub *sub,
                       bool again);
/* It has unsubscribed. */
void mqtt_replay_drop(struct mqtt_conn *c, struct slice filter);
/* It is closing. */
void mqtt_replay_drop_all(struct mqtt_conn *c);
/* The view has them: the reply to what mqtt_replay_begin asked. */
void mqtt_reply_retained(struct mqtt_exchange *e);
/* It takes more than a moment ago. */
void mqtt_replay_on(struct mqtt_conn *c);
/* Sends a part of what is to be sent. Returns whether there is more that could be. */
bool mqtt_replay_some(struct mqtt_front *f);

/* ---- mqtt_notice.c ---- */
/* Something of the client's was refused for what it did. True: once too often, so that its
 * connection was closed. */
bool mqtt_count_refusal(struct mqtt_conn *c, const char *action, struct slice topic);
/* Counts a SUBSCRIBE or UNSUBSCRIBE, and warns who has few left. False: it was one too many. */
bool mqtt_count_filters(struct mqtt_conn *c, const char *action, struct slice filter);
/* Tells the account's subscribers that the client's `action` ("PUBLISH") on that topic was refused;
 * the sentence is the reason's or a better one. */
void mqtt_notice(struct mqtt_conn *c, const char *action, struct slice topic, enum reason reason,
                 struct slice sentence);
/* ---- mqtt_deliver.c: messages above QoS 0 ---- */
/* Whether one would be sent at once. */
bool mqtt_may_deliver(const struct mqtt_conn *c);
/* Sends the message's packet or queues it; of a session that does not keep up the journal is the
 * queue, of others what is too much is dropped. */
void mqtt_deliver(struct mqtt_conn *c, const struct live_message *m, uint8_t qos,
                  struct buf *packet);
/* The same of a member's message, which is not to be found in the journal by its subscriptions.
 * False: dropped. */
bool mqtt_deliver_shared(struct mqtt_conn *c, const struct live_message *m, uint32_t member,
                         uint8_t qos, struct buf *packet);
/* What comes live while the connection only waits to end: its session reads it later. */
void mqtt_deliver_let_pass(struct mqtt_conn *c, uint64_t place);
/* Whether a message of so many bytes would find room, in the queue if it must. */
bool mqtt_may_queue(const struct mqtt_conn *c, uint8_t qos, size_t bytes);
/* The member is to read a message from the journal, and send it, or pass it on (mqtt_pass_on).
 * False: it has enough of these. */
bool mqtt_deliver_place(struct mqtt_conn *c, uint32_t member, uint64_t place,
                        const struct share_round *asked);
/* Position of the first message that it was given as that member and neither has nor keeps;
 * UINT64_MAX: there is none. */
uint64_t mqtt_deliver_unread(const struct mqtt_conn *c, const struct mqtt_sub *sub);
/* Whether it ends and its session goes on, which has its subscriptions and is sent again what was
 * under way. */
bool mqtt_deliver_keeps(const struct mqtt_conn *c);
/* It has left that group: what it was sent as that member is its own, the rest goes to others. */
void mqtt_deliver_disown(struct mqtt_conn *c, const struct mqtt_sub *sub);
/* It has left its groups: gives back what it was given and has not acknowledged. */
void mqtt_deliver_give_back(struct mqtt_conn *c);
/* PUBACK, PUBREC, PUBCOMP. */
void mqtt_take_ack(struct mqtt_conn *c, const struct mqtt_packet *p);
/* At the end of a turn in which the connection was made dirty. */
void mqtt_deliver_flush(struct mqtt_conn *c);
/* Tells the journal what there is to be told; before it leaves a group. */
void mqtt_deliver_tell(struct mqtt_conn *c);
/* Before the session is told that its connection has ended: what is not told yet. */
void mqtt_deliver_close(struct mqtt_conn *c);
void mqtt_deliver_free(struct mqtt_conn *c);
/* A session that was there before, item by item; then, behind CONNACK, goes on with it. */
void mqtt_deliver_restore(struct mqtt_conn *c, const struct session_state *s,
                          const struct session_state_item *i);
void mqtt_deliver_begin(struct mqtt_conn *c);
/* The first subscription was made: it sees what becomes durable from now on. */
void mqtt_deliver_join(struct mqtt_conn *c);

/* ---- mqtt_missed.c: what it is sent from the journal ---- */
/* The exchange that `asks` came back. */
void mqtt_take_missed(struct mqtt_exchange *e);

/* ---- mqtt_tell.c: what the journal is told of that ---- */
/* A good moment to tell it how far the client is. */
void mqtt_deliver_ping(struct mqtt_conn *c);
/* A record about the session is durable. */
void mqtt_told(struct mqtt_exchange *e);
/* The session has subscribed: tells how far its group is. */
void mqtt_tell_group(struct mqtt_conn *c, const struct mqtt_sub *sub);
/* The exchange that has a `group` came back. */
void mqtt_group_told(struct mqtt_exchange *e);
