/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection, from its first byte to its last.
 *
 *   NEW --CONNECT--> LOGIN --right--> CLAIM --client id free--> OPEN --> UP --DISCONNECT--> CLOSING
 *    |                 |                |                        |--stop--> ENDING --> CLOSING
 *    '-----------------'--- refused: CONNACK, or an error: DISCONNECT of 5.0 ------> CLOSING
 *
 * Invariants: 1. `first..last` are the messages handed up whose answers have not left, in order of
 * arrival; only the head of the queue may leave. Messages without an answer leave it when they are
 * done. 2. Input is looked at only in NEW and UP, while nothing is kept and the client takes its
 * answers (`may_read`); the stream is paused otherwise. 3. An exchange that is still with the
 * pipeline when its connection closes is orphaned (conn NULL) and freed when it is sent. 4. Nothing
 * but mqtt_end moves to CLOSING, so that a will is published and a client id given back exactly
 * once.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "flow/limits.h"
#include "front/mqtt_private.h"

#define FREE_MAX     4096u /* exchanges kept for reuse: as many as a busy turn has under way */
#define REUSE_BYTES  4096u /* their buffers above this are given back */
#define REPLY_MAX    65536u
#define BODY_MAX     (1u << 20) /* of a message that was asked for, and so of a reply */
#define FIELDS_MAX   8192u
#define GATHER_MAX   (16u << 20)
#define SENDING_MAX  16384u       /* messages of a turn: more leave at once */
#define UNREAD_NS    NS_PER_S     /* for what has come to be read, when that goes on */
#define UNSENT_MAX   (256u << 10) /* answers not taken: no further packets until they are */
#define ANSWERS_MORE 100u /* a 5.0 client is owed at a time, besides those to its messages */

static const struct stream_ops conn_ops;
static const struct exchange_ops exchange_ops;

/* ---- exchanges ---- */

/* As it was when it was made. Done when it is taken, not when it is given back: then it is out of
 * the cache again, and most of it is not needed for that. */
static void exchange_clear(struct mqtt_exchange *e)
{
    buf_clear(&e->out);
    buf_clear(&e->raw);
    buf_clear(&e->x.reply.body);
    buf_clear(&e->x.reply.fields);
    struct buf body = e->x.reply.body, fields = e->x.reply.fields;
    e->x.request = (struct request){0};
    e->x.reply = (struct reply){.reason = REASON_ok, .body = body, .fields = fields};
    memset(e->x.stage, 0, e->answer.front->opts.stage_bytes);
    e->answer = (struct mqtt_answer){.front = e->answer.front, .exchange = e};
    e->settles = NULL;
    e->replay = NULL;
    e->asks = NULL;
    e->missed = NULL;
    e->group = NULL;
    e->kept = e->released = false;
}

struct mqtt_exchange *mqtt_exchange_new(struct mqtt_front *f)
{
    struct mqtt_exchange *e = f->free;
    if (e) {
        f->free = e->free_next;
        f->free_count--;
        exchange_clear(e);
    } else {
        e = calloc(1, sizeof *e + f->opts.stage_bytes);
        CHECK(e);
        buf_init(&e->out, f->opts.packet_max + REPLY_MAX);
        buf_init(&e->raw, f->opts.packet_max + f->opts.connect_max);
        buf_init(&e->x.reply.body, BODY_MAX);
        buf_init(&e->x.reply.fields, FIELDS_MAX);
        e->x.magic = EXCHANGE_MAGIC;
        e->x.ops = &exchange_ops;
        e->answer.front = f;
        e->answer.exchange = e;
    }
    return e;
}

static void exchange_destroy(struct mqtt_exchange *e)
{
    buf_fini(&e->out);
    buf_fini(&e->raw);
    buf_fini(&e->x.reply.body);
    buf_fini(&e->x.reply.fields);
    free(e);
}

void mqtt_exchange_free(struct mqtt_exchange *e)
{
    struct mqtt_front *f = e->answer.front;
    principal_clear(&e->own);
    missed_free(e->missed);
    if (f->free_count >= FREE_MAX) {
        exchange_destroy(e);
        return;
    }
    struct buf *all[] = {&e->out, &e->raw, &e->x.reply.body, &e->x.reply.fields};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i]->cap > REUSE_BYTES)
            buf_fini(all[i]);
    }
    e->free_next = f->free;
    f->free = e;
    f->free_count++;
}

static struct mqtt_answer *answer_new(struct mqtt_front *f)
{
    struct mqtt_answer *a = f->free_answers;
    if (a) {
        f->free_answers = a->next;
        f->free_answers_count--;
    } else {
        a = malloc(sizeof *a);
        CHECK(a);
    }
    return a;
}

/* And the exchange that it is a part of. */
static void answer_free(struct mqtt_answer *a)
{
    struct mqtt_front *f = a->front;
    if (a->exchange) {
        mqtt_exchange_free(a->exchange);
    } else if (f->free_answers_count >= FREE_MAX) {
        free(a);
    } else {
        a->next = f->free_answers;
        f->free_answers = a;
        f->free_answers_count++;
    }
}

struct mqtt_exchange *mqtt_enqueue(struct mqtt_conn *c, enum mqtt_type answer)
{
    struct mqtt_exchange *e = mqtt_exchange_new(c->front);
    struct mqtt_answer *a = &e->answer;
    a->conn = c;
    a->type = answer;
    a->prev = c->last;
    *c->last = a;
    c->last = &a->next;
    c->unanswered = (uint16_t)(c->unanswered + (answer != MQTT_PUBLISH));
    c->acks = (uint16_t)(c->acks + (answer == MQTT_PUBACK));
    return e;
}

/* Puts what was copied from `from` into that one's place in the queue. */
static void take_place(struct mqtt_answer *a, const struct mqtt_answer *from)
{
    CHECK(*from->prev == from);
    *a->prev = a;
    if (a->next)
        a->next->prev = &a->next;
    else
        a->conn->last = &a->next;
}

void mqtt_dequeue(struct mqtt_answer *a)
{
    struct mqtt_conn *c = a->conn;
    *a->prev = a->next;
    if (a->next)
        a->next->prev = a->prev;
    else
        c->last = a->prev;
    c->unanswered = (uint16_t)(c->unanswered - (a->type != MQTT_PUBLISH));
    c->acks = (uint16_t)(c->acks - (a->type == MQTT_PUBACK));
    a->conn = NULL;
    a->prev = NULL;
}

static struct mqtt_exchange *of(struct exchange *x)
{
    OBJ_CHECK(x, EXCHANGE_MAGIC);
    return (struct mqtt_exchange *)((char *)x - offsetof(struct mqtt_exchange, x));
}

void mqtt_hand_up(struct mqtt_exchange *e)
{
    struct mqtt_front *f = e->answer.front;
    e->x.request.start_ns = worker_now_ns(f->opts.worker);
    f->handed = true;
    if (e->answer.conn)
        e->answer.conn->handed_up = worker_settled(f->opts.worker) + 1;
    f->opts.handle(f->opts.arg, &e->x);
}

/* ---- deadlines ---- */

/* A packet has come. */
static void note_heard(struct mqtt_conn *c)
{
    c->silent_ns = worker_now_ns(c->front->opts.worker) + c->keep_alive * (NS_PER_S * 3 / 2);
    c->unread = false;
}

/* What has not come by now may be here, and not read. */
static void excuse(struct mqtt_conn *c)
{
    uint64_t soon = worker_now_ns(c->front->opts.worker) + UNREAD_NS;
    if (c->silent_ns < soon)
        c->silent_ns = soon;
}

static bool is_silent(const struct mqtt_conn *c)
{
    return c->state == MQTT_UP && c->keep_alive &&
           c->silent_ns <= worker_now_ns(c->front->opts.worker);
}

static void arm(struct mqtt_conn *c)
{
    struct worker *w = c->front->opts.worker;
    uint64_t now = worker_now_ns(w), at = 0;
    if (stream_unsent(c->stream)) /* whatever comes from the client meanwhile */
        at = stream_stuck_ns(c->stream) + c->front->opts.tune.write_timeout_ns;
    else if (c->state == MQTT_CLOSING)
        at = now + c->front->opts.tune.write_timeout_ns;
    else if (c->state == MQTT_NEW)
        at = c->deadline.at_ns; /* set when it was accepted, and only once */
    else if (c->state == MQTT_LOGIN || c->state == MQTT_CLAIM)
        at = now + c->front->opts.tune.connect_timeout_ns;
    if (c->state == MQTT_UP && c->keep_alive && (!at || c->silent_ns < at))
        at = c->silent_ns;
    deadline_set(worker_wheel(w), &c->deadline, at);
}

static void on_due(struct deadline *d)
{
    struct mqtt_conn *c = (struct mqtt_conn *)((char *)d - offsetof(struct mqtt_conn, deadline));
    OBJ_CHECK(c, MQTT_CONN_MAGIC);
    uint64_t now = worker_now_ns(c->front->opts.worker);
    bool silent = is_silent(c), unsent = stream_unsent(c->stream);
    if (unsent && stream_stuck_ns(c->stream) + c->front->opts.tune.write_timeout_ns <= now) {
        uint64_t sent = stream_sent(c->stream);
        if (sent != c->sent_seen) {
            c->sent_seen = sent;
            stream_unstuck(c->stream);
            arm(c);
            return;
        }
        metric_add(METRIC_connections_timed_out, 1);
        mqtt_end(c, true);
        stream_close(c->stream); /* it takes nothing */
        return;
    }
    bool unread = c->stalled || stream_held(c->stream);
    if (silent && (unread || c->unread)) {
        c->unread = unread;
        excuse(c);
        silent = false;
    }
    if (!silent && (unsent || c->state == MQTT_UP || c->state == MQTT_LOGIN)) {
        arm(c); /* a login is answered in its time */
        return;
    }
    if (c->state == MQTT_NEW && stream_held(c->stream)) {
        struct worker *w = c->front->opts.worker;
        deadline_set(worker_wheel(w), d, worker_now_ns(w) + c->front->opts.tune.connect_timeout_ns);
        return;
    }
    if (c->state == MQTT_OPEN)
        return; /* by the pipeline, too */
    metric_add(METRIC_connections_timed_out, 1);
    if (c->state == MQTT_CLAIM)
        mqtt_refuse_connect(c, c->reader.version, MQTT_SERVER_BUSY,
                            "what the client id's last connection has left is not on disk yet");
    else if (c->state == MQTT_UP)
        mqtt_close(c, MQTT_KEEP_ALIVE_TIMEOUT, "nothing came for one and a half times keep alive");
    else
        stream_close(c->stream);
}

/* ---- the end ---- */

/* Publishes the will as the client would have: nobody waits for the outcome. */
static void publish_will(struct mqtt_conn *c)
{
    struct mqtt_will *will = c->will;
    if (!will || !c->principal.credential || c->front->stopping)
        return;
    metric_add(METRIC_mqtt_wills, 1);
    struct mqtt_exchange *e = mqtt_exchange_new(c->front);
    e->answer.type = MQTT_PUBLISH;
    e->kept = true;
    buf_put(&e->raw, will->bytes, will->topic_len + will->properties_len + will->payload_len);
    CHECK(!e->raw.failed); /* it was in a CONNECT */
    e->own = c->principal;
    credential_ref(e->own.credential);
    struct request *q = &e->x.request;
    q->method = METHOD_PUBLISH;
    q->principal = &e->own;
    q->path = slice_of(e->raw.ptr, will->topic_len);
    q->properties = slice_of(e->raw.ptr + will->topic_len, will->properties_len);
    q->body = slice_of(q->properties.ptr + will->properties_len, will->payload_len);
    q->has_expiry = will->has_expiry;
    q->expiry_s = will->expiry_s;
    q->retain = will->retain;
    q->qos = will->qos;
    q->session = c->session;
    q->client = c->number;
    q->will = c->session != 0;
    q->source = c->source;
    if (c->session)
        mqtt_settle_behind(c, e);
    mqtt_hand_up(e);
}

void mqtt_end(struct mqtt_conn *c, bool with_will)
{
    if (c->state == MQTT_CLOSING)
        return;
    bool up = c->state == MQTT_UP || c->state == MQTT_ENDING, opening = c->state == MQTT_OPEN;
    c->state = MQTT_CLOSING;
    bool kept = up && with_will && mqtt_keeps_will(c);
    if (up && with_will && !kept)
        publish_will(c);
    mqtt_leave_all(c);
    mqtt_drop_subs(c);
    if (!mqtt_settle(c, opening, kept))
        (void)mqtt_claim_drop(&c->claim); /* the memory goes in on_closed, or behind that */
    free(c->will);
    c->will = NULL;
    stream_finish(c->stream);
    arm(c);
}

/* Appends all answers at the head of the queue that are done. */
static void put_done(struct mqtt_conn *c, struct buf *out)
{
    while (c->failed == REASON_ok && c->first && c->first->done) {
        struct mqtt_answer *a = c->first;
        mqtt_put_answer(out, a);
        mqtt_dequeue(a);
        answer_free(a);
    }
    CHECK(!out->failed); /* receive_max answers of at most REPLY_MAX */
}

/* What mqtt_send_later was given. */
static void send_waiting(struct mqtt_conn *c)
{
    if (!c->sending.len)
        return;
    stream_write(c->stream, buf_slice(&c->sending));
    buf_fini(&c->sending); /* an idle connection keeps no memory for it */
}

void mqtt_close(struct mqtt_conn *c, uint8_t code, const char *why)
{
    if (c->state == MQTT_CLOSING)
        return;
    struct buf *out = &c->front->gather;
    send_waiting(c);
    buf_clear(out);
    put_done(c, out); /* what was stored is said to be, as far as that goes */
    if (c->reader.version == MQTT_5 && (c->state == MQTT_UP || c->state == MQTT_ENDING)) {
        struct mqtt_packet p = {.type = MQTT_DISCONNECT, .code = code};
        if (why) {
            p.properties.has = 1ull << MQTT_REASON_STRING;
            p.properties.reason_string = slice_str(why);
        }
        mqtt_put_fitting(out, c, &p);
    }
    stream_write(c->stream, buf_slice(&c->front->now)); /* in order with what was just answered */
    buf_clear(&c->front->now);
    stream_write(c->stream, buf_slice(out));
    mqtt_end(c, true);
}

/* ---- answers out ---- */

static bool may_read(const struct mqtt_conn *c)
{
    if (c->kept || stream_unsent(c->stream) >= UNSENT_MAX)
        return false;
    /* 5.0 has a word for more messages than that; before, who sends too much waits. */
    unsigned more = c->reader.version == MQTT_5 ? ANSWERS_MORE : 0;
    return c->state == MQTT_NEW ||
           (c->state == MQTT_UP && c->unanswered < c->front->opts.receive_max + more);
}

static void keep_reading(struct mqtt_conn *c)
{
    if (c->stalled && may_read(c)) {
        c->stalled = false;
        excuse(c);
        stream_resume(c->stream);
    }
}

void mqtt_make_dirty(struct mqtt_conn *c)
{
    if (c->dirty)
        return;
    c->dirty = true;
    c->dirty_next = c->front->dirty;
    c->front->dirty = c;
}

void mqtt_send_later(struct mqtt_conn *c, struct slice packet)
{
    if (c->sending.len + packet.len > SENDING_MAX)
        send_waiting(c);
    if (packet.len > SENDING_MAX) {
        stream_write(c->stream, packet);
        return;
    }
    buf_put_slice(&c->sending, packet);
    mqtt_make_dirty(c);
}

void mqtt_done(struct mqtt_exchange *e)
{
    struct mqtt_conn *c = e->answer.conn;
    e->answer.done = true;
    if (c->kept == e)
        c->kept = NULL;
    if (e->answer.type == MQTT_PUBLISH) {
        mqtt_dequeue(&e->answer);
        mqtt_exchange_free(e);
    }
    mqtt_make_dirty(c);
}

void mqtt_fail(struct mqtt_exchange *e)
{
    struct mqtt_conn *c = e->answer.conn;
    c->failed = e->x.reply.reason;
    if (c->kept == e)
        c->kept = NULL;
    mqtt_dequeue(&e->answer);
    mqtt_exchange_free(e);
    mqtt_make_dirty(c);
}

/* Sends all answers that may leave, in one write. */
static void flush(struct mqtt_conn *c)
{
    struct buf *out = &c->front->gather;
    if (c->state == MQTT_UP && c->failed == REASON_ok)
        mqtt_deliver_flush(c);
    if (c->failed != REASON_ok)
        mqtt_close(c, MQTT_UNSPECIFIED, reason_info(c->failed)->text);
    buf_clear(out);
    put_done(c, out);
    if (c->state == MQTT_CLOSING)
        return;
    bool sends = out->len + c->sending.len > 0;
    send_waiting(c);
    stream_write(c->stream, buf_slice(out));
    if (c->state == MQTT_ENDING && !c->first)
        mqtt_close(c, MQTT_STOPPING, NULL);
    if (c->ended && !c->first)
        mqtt_end(c, true);
    if (sends && stream_unsent(c->stream))
        arm(c);
    keep_reading(c);
    mqtt_replay_on(c);
}

bool mqtt_front_flush(struct mqtt_front *f)
{
    bool more;
    do {
        f->handed = false;
        while (f->dirty) {
            struct mqtt_conn *c = f->dirty;
            f->dirty = c->dirty_next;
            c->dirty = false;
            flush(c);
        }
        more = mqtt_replay_some(f); /* behind SUBACK */
        if (f->handed)              /* what is told of sessions: with this turn's batch */
            worker_settle(f->opts.worker);
    } while (f->dirty); /* by what was refused */
    buf_reuse(&f->gather, REUSE_BYTES);
    buf_reuse(&f->aliased, REUSE_BYTES);
    for (unsigned i = 0; i < 2; i++)
        buf_reuse(&f->common[i], REUSE_BYTES);
    return more;
}

/* ---- for the pipeline ---- */

static void on_keep(struct exchange *x)
{
    struct mqtt_exchange *e = of(x);
    struct request *q = &x->request;
    if (e->kept || !e->answer.conn)
        return;
    struct slice *all[] = {&q->path, &q->body, &q->properties, &q->presented.id,
                           &q->presented.secret};
    const unsigned count = sizeof all / sizeof *all;
    size_t bytes = 1;
    for (unsigned i = 0; i < count; i++)
        bytes += all[i]->len;
    buf_clear(&e->raw);
    CHECK(buf_reserve(&e->raw, bytes)); /* bounded by the packets' maxima */
    for (unsigned i = 0; i < count; i++) {
        if (!all[i]->ptr)
            continue;
        char *at = e->raw.ptr + e->raw.len;
        buf_put_slice(&e->raw, *all[i]);
        all[i]->ptr = at;
    }
    e->kept = true;
    e->answer.conn->kept = e;
    e->answer.conn->stalled = true;
    stream_pause(e->answer.conn->stream);
}

static void on_prefetch(struct exchange *x)
{
    struct mqtt_exchange *e = of(x);
    __builtin_prefetch(e->answer.conn, 1);
}

static void on_release(struct exchange *x)
{
    struct mqtt_exchange *e = of(x);
    e->released = true;
    if (e->settles && x->request.method == METHOD_PUBLISH)
        mqtt_settle_on(e);
    if (e->answer.conn && e->answer.conn->kept == e) {
        e->answer.conn->kept = NULL;
        mqtt_make_dirty(e->answer.conn); /* reads on at the end of the turn */
    }
}

static void on_send(struct exchange *x)
{
    struct mqtt_exchange *e = of(x);
    e->released = true;
    reason_count(x->reply.reason);
    if (e->group)
        mqtt_group_told(e);
    if (e->missed)
        mqtt_take_missed(e);
    else if (e->settles)
        mqtt_settled(e);
    else if (x->request.method == METHOD_RETAINED)
        mqtt_reply_retained(e);
    else if (!e->answer.conn)
        mqtt_exchange_free(e);
    else
        mqtt_reply(e);
}

static void *on_pledge(struct exchange *x)
{
    struct mqtt_exchange *e = of(x);
    struct mqtt_answer *a = answer_new(e->answer.front);
    CHECK(!e->answer.conn || e->answer.type != MQTT_PUBLISH); /* which has none to wait for */
    on_release(x);
    *a = e->answer;
    a->exchange = NULL;
    if (a->conn)
        take_place(a, &e->answer);
    mqtt_exchange_free(e);
    return a;
}

/* What failed becomes an exchange again, which says so. */
static void refuse_pledge(struct mqtt_answer *a, enum reason reason, uint64_t retry_ns)
{
    struct mqtt_conn *c = a->conn;
    struct mqtt_exchange *e = mqtt_exchange_new(a->front);
    e->answer = *a;
    e->answer.exchange = e;
    e->released = true;
    take_place(&e->answer, a);
    answer_free(a);
    e->x.request.method = METHOD_PUBLISH;
    e->x.request.principal = &c->principal;
    e->x.request.source = c->source;
    e->x.reply.reason = reason;
    e->x.reply.retry_ns = retry_ns;
    mqtt_reply(e);
}

static void on_redeem(void *pledge, enum reason reason, uint64_t retry_ns)
{
    struct mqtt_answer *a = pledge;
    struct mqtt_conn *c = a->conn;
    reason_count(reason);
    if (!c) {
        answer_free(a);
    } else if (reason == REASON_ok) {
        a->done = true;
        mqtt_make_dirty(c);
    } else {
        refuse_pledge(a, reason, retry_ns);
    }
}

static const struct exchange_ops exchange_ops = {
    .prefetch = on_prefetch,
    .keep = on_keep,
    .release = on_release,
    .send = on_send,
    .pledge = on_pledge,
    .redeem = on_redeem,
};

/* ---- bytes in ---- */

static void send_now(struct mqtt_conn *c)
{
    struct buf *now = &c->front->now;
    if (!now->len)
        return;
    stream_write(c->stream, buf_slice(now));
    buf_reuse(now, REUSE_BYTES);
}

static size_t on_input(void *owner, char *ptr, size_t len)
{
    struct mqtt_conn *c = owner;
    OBJ_CHECK(c, MQTT_CONN_MAGIC);
    struct mqtt_front *f = c->front;
    struct mqtt_packet p;
    struct mqtt_bad b;
    struct mqtt_ahead ahead = {0};
    size_t used = 0;
    enum mqtt_outcome outcome = MQTT_DONE;
    while (used < len && outcome == MQTT_DONE) {
        /* The message before this one may have to wait, and this one behind it. */
        if (c->handed_up == worker_settled(f->opts.worker) + 1) {
            send_now(c); /* settling may end other connections, which say so in the same buffer */
            worker_settle(f->opts.worker);
        }
        if (!may_read(c)) {
            c->stalled = true;
            stream_pause(c->stream);
            break;
        }
        mqtt_look_ahead(c, &ahead, slice_of(ptr, len));
        outcome = mqtt_parse(slice_of(ptr + used, len - used), &c->reader, &p, &b);
        if (outcome == MQTT_BAD) {
            mqtt_refuse_packet(c, &b);
        } else if (outcome == MQTT_DONE) {
            used += p.size;
            mqtt_take(c, &p);
        }
    }
    send_now(c);
    if (c->state == MQTT_CLOSING)
        return len;
    if (used) { /* a packet that trickles in does not count (section 3.1.2.10) */
        note_heard(c);
        arm(c);
    }
    return used;
}

static void on_end(void *owner)
{
    struct mqtt_conn *c = owner;
    c->ended = true; /* answers that are owed may still be wanted */
    if (!c->first)
        mqtt_end(c, true);
}

static void on_drained(void *owner)
{
    struct mqtt_conn *c = owner;
    arm(c);
    keep_reading(c);
}

static void conn_free(struct mqtt_conn *c)
{
    for (unsigned i = 0; c->aliases && i < c->front->opts.alias_max; i++)
        free(c->aliases[i].topic);
    free(c->aliases);
    mqtt_aliases_free(c);
    free(c->ids);
    free(c->client_id);
    buf_fini(&c->sending);
    c->magic = 0;
    free(c);
}

static void drop_dirty(struct mqtt_conn *c)
{
    if (!c->dirty)
        return;
    struct mqtt_conn **at = &c->front->dirty;
    while (*at != c)
        at = &(*at)->dirty_next;
    *at = c->dirty_next;
}

static void on_closed(void *owner)
{
    struct mqtt_conn *c = owner;
    OBJ_CHECK(c, MQTT_CONN_MAGIC);
    mqtt_end(c, true); /* unless it did */
    while (c->first) {
        struct mqtt_answer *a = c->first;
        struct mqtt_exchange *e = a->exchange;
        mqtt_dequeue(a);
        if (a->done) {
            answer_free(a);
        } else if (e && e->x.request.principal == &c->principal) {
            e->own = c->principal; /* it may still be put off */
            credential_ref(e->own.credential);
            e->x.request.principal = &e->own;
        }
    }
    drop_dirty(c);
    deadline_clear(&c->deadline);
    *c->prev = c->next;
    if (c->next)
        c->next->prev = c->prev;
    c->front->conns_count--;
    metric_move(METRIC_mqtt_connections, -1);
    principal_clear(&c->principal);
    c->closed = true;
    mqtt_conn_forget(c);
}

void mqtt_conn_forget(struct mqtt_conn *c)
{
    if (!c->settling && c->state == MQTT_CLOSING && mqtt_claim_drop(&c->claim) && c->closed)
        conn_free(c);
}

static const struct stream_ops conn_ops = {
    .on_input = on_input,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_closed = on_closed,
};

static void on_told(struct mqtt_claim *claim, enum claim_event event)
{
    struct mqtt_conn *c = (struct mqtt_conn *)((char *)claim - offsetof(struct mqtt_conn, claim));
    OBJ_CHECK(c, MQTT_CONN_MAGIC);
    if (event == CLAIM_GONE) {
        if (c->closed && !c->settling)
            conn_free(c);
    } else if (event == CLAIM_GRANTED) {
        if (c->state == MQTT_CLAIM)
            mqtt_open(c);
    } else {
        metric_add(METRIC_mqtt_taken_over, 1);
        mqtt_close(c, MQTT_TAKEN_OVER, NULL); /* MQTT-3.1.4-3 */
    }
}

void mqtt_begin(struct mqtt_conn *c)
{
    c->state = MQTT_UP;
    stream_set_known(c->stream, true);
    buf_clear(&c->front->gather);
    mqtt_put_connack(&c->front->gather, c);
    if (!c->front->gather.len) {
        mqtt_end(c, false); /* the client takes no packet of that size */
        return;
    }
    stream_write(c->stream, buf_slice(&c->front->gather));
    c->begun = true;
    metric_add(METRIC_mqtt_connects, 1);
    mqtt_deliver_begin(c);
    c->stalled = true;
    mqtt_make_dirty(c); /* reads on, or ends, at the end of the turn */
    if (c->front->stopping)
        c->state = MQTT_ENDING;
    note_heard(c);
    arm(c);
}

/* ---- the front ---- */

bool mqtt_accept(void *front, struct stream *s)
{
    struct mqtt_front *f = front;
    if (f->stopping)
        return false;
    struct mqtt_conn *c = calloc(1, sizeof *c);
    if (!c)
        return false;
    c->magic = MQTT_CONN_MAGIC;
    c->front = f;
    c->stream = s;
    c->last = &c->first;
    c->reader = (struct mqtt_reader){.server = true, .packet_max = f->opts.connect_max};
    c->packet_max = MQTT_LENGTH_MAX;
    buf_init(&c->sending, SENDING_MAX);
    c->receive_max = UINT16_MAX; /* section 3.1.2.11.3 */
    c->source = address_source(stream_peer(s));
    c->claim.worker = f->opts.worker;
    c->claim.told = on_told;
    c->next = f->conns;
    c->prev = &f->conns;
    if (c->next)
        c->next->prev = &c->next;
    f->conns = c;
    f->conns_count++;
    metric_move(METRIC_mqtt_connections, 1);
    /* What one read brings beyond a packet may have to be kept too. */
    stream_set_owner(s, &conn_ops, c, f->opts.packet_max + WORKER_SCRATCH);
    stream_may_hold(s);
    c->deadline.due = on_due;
    deadline_set(worker_wheel(f->opts.worker), &c->deadline,
                 worker_now_ns(f->opts.worker) + f->opts.tune.connect_timeout_ns);
    return true;
}

struct mqtt_front *mqtt_front_new(const struct mqtt_opts *opts)
{
    struct mqtt_front *f = calloc(1, sizeof *f);
    CHECK(f);
    f->opts = *opts;
    f->subs = mqtt_subs_new();
    mqtt_keep_init(f);
    buf_init(&f->gather, (size_t)REPLY_MAX * 65536u);
    buf_init(&f->now, GATHER_MAX);
    buf_init(&f->retained, TOPIC_MAX + RETAINED_MAX);
    buf_init(&f->aliased, GATHER_MAX + TOPIC_MAX);
    buf_init(&f->ids, GATHER_MAX);
    for (unsigned i = 0; i < 2; i++)
        buf_init(&f->common[i], GATHER_MAX);
    return f;
}

void mqtt_front_tune(struct mqtt_front *f, const struct mqtt_tune *tune)
{
    f->opts.tune = *tune;
}

void mqtt_front_free(struct mqtt_front *f)
{
    if (!f)
        return;
    CHECK(!f->conns && !f->untold);
    deadline_clear(&f->tell_again);
    while (f->free) {
        struct mqtt_exchange *e = f->free;
        f->free = e->free_next;
        exchange_destroy(e);
    }
    while (f->free_answers) {
        struct mqtt_answer *a = f->free_answers;
        f->free_answers = a->next;
        free(a);
    }
    buf_fini(&f->gather);
    buf_fini(&f->now);
    buf_fini(&f->retained);
    buf_fini(&f->aliased);
    buf_fini(&f->ids);
    for (unsigned i = 0; i < 2; i++)
        buf_fini(&f->common[i]);
    mqtt_subs_free(f->subs);
    free(f);
}

void mqtt_front_check(struct mqtt_front *f)
{
    for (struct mqtt_conn *c = f->conns; c; c = c->next) {
        if (c->state == MQTT_UP && !f->opts.vouches(f->opts.arg, &c->principal))
            mqtt_close(c, MQTT_NOT_AUTHORIZED, reason_info(REASON_revoked)->text);
    }
}

void mqtt_front_stop(struct mqtt_front *f)
{
    f->stopping = true;
    mqtt_shares_stop(f->opts.shares);
    mqtt_keep_stop(f);
    for (struct mqtt_conn *c = f->conns; c; c = c->next) {
        if (c->state == MQTT_UP && c->first)
            c->state = MQTT_ENDING;
        else if (c->state == MQTT_UP)
            mqtt_close(c, MQTT_STOPPING, NULL);
        else if (c->state == MQTT_NEW || c->state == MQTT_CLAIM)
            mqtt_end(c, false);
    }
}

void mqtt_front_abort(struct mqtt_front *f)
{
    mqtt_keep_stop(f);
    for (struct mqtt_conn *c = f->conns; c; c = c->next)
        stream_close(c->stream);
}

unsigned mqtt_front_connections(const struct mqtt_front *f)
{
    return f->conns_count;
}
