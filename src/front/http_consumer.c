/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection that is pushed messages of a consumer group, by WebSocket (decision 0064). It knows
 * no rule of its own: it is to the pipeline a client that fetches again and again, and whose
 * messages - {"ack": ...} and the like - are the requests of the same name. What it adds is that a
 * fetch is asked for by itself, as long as the client takes what it is sent, and that all it has is
 * given back when it ends (http_consumers.left).
 *
 * Invariants: 1. One fetch at most is under way, and none while bytes are unsent: of a client that
 * reads nothing one batch is in memory. 2. Of what the client says at most CONSUME_TOLD_MAX
 * messages and about CONSUME_FRAME_BYTES have no answer; then nothing is read. 3. What was not
 * refused for good is asked again when its time has come: the client need not. 4. Behind `ends`
 * nothing is read or fetched; the close frame follows the answers to what came before.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "codec/json.h"
#include "codec/websocket.h"
#include "flow/limits.h"
#include "front/http_private.h"
#include "front/reply_why.h"

#define CONSUMER_MAGIC 0xc0115e1fu
#define UNSENT_MAX     (256u << 10) /* answers and pongs not taken: nothing is read until they are */
#define BATCH_MAX      (16u << 20)
#define PING_NS        (20 * NS_PER_S)
#define PINGS_MAX      3 /* not confirmed by the client's TCP: its machine is gone */
#define WHY_MAX        (WEBSOCKET_CONTROL_MAX - 2)
#define NOTHING        SLICE("{\"messages\":[]}")

/* Close codes of our own: that, and the status that HTTP would answer with. */
#define CODE_OF_STATUS 4000u

/* What is asked of the pipeline. */
struct consumer_ask {
    struct consumer_ask *next;
    struct consumer_conn *conn; /* NULL: it is gone */
    const char *what;           /* the client's word; NULL: the fetch */
    uint64_t again_ns;          /* when it is asked again; 0: it is with the pipeline */
    uint32_t credit;
    struct buf text; /* what the slices are of */
    struct slice path, query, body, id;
    struct exchange x; /* last: it ends in the pipeline's part */
};

struct consumer_conn {
    uint32_t magic;
    struct http_front *front;
    struct stream *stream;
    struct consumer_conn *next, **prev; /* of the front */
    struct principal who;
    uint64_t number, source;
    struct buf place; /* path and query of the group */
    size_t path_len;
    struct websocket in;
    struct buf message; /* being received */
    struct consumer_ask *fetch;
    struct consumer_ask *told; /* in no order */
    unsigned told_count;
    size_t told_bytes;
    unsigned later; /* of these, how many are to be asked again */
    uint64_t ping_ns;
    unsigned pings;     /* since its TCP was heard of */
    uint64_t sent_seen; /* progress of writing at the last look */
    bool stalled, ends, left;
    uint16_t code; /* to close with */
    char why[WHY_MAX + 1];
    struct deadline deadline;
};

static const struct stream_ops consumer_ops;
static const struct exchange_ops ask_ops;

static uint64_t now_of(const struct consumer_conn *c)
{
    return worker_now_ns(c->front->opts.worker);
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void arm(struct consumer_conn *c)
{
    uint64_t at = c->ping_ns;
    if (stream_unsent(c->stream)) {
        at = stream_stuck_ns(c->stream) + c->front->opts.tune.write_timeout_ns;
    } else if (!c->ends) {
        if (c->fetch && c->fetch->again_ns)
            at = sooner(at, c->fetch->again_ns);
        for (const struct consumer_ask *a = c->later ? c->told : NULL; a; a = a->next)
            at = a->again_ns ? sooner(at, a->again_ns) : at;
    }
    deadline_set(worker_wheel(c->front->opts.worker), &c->deadline, at);
}

/* ---- out ---- */

/* The text of one message is put behind what this leaves room for. */
static struct buf *begin_message(struct consumer_conn *c)
{
    static const char room[WEBSOCKET_HEAD_MAX];
    struct buf *out = &c->front->gather;
    buf_clear(out);
    buf_put(out, room, sizeof room);
    return out;
}

static void send_message(struct consumer_conn *c)
{
    char head[WEBSOCKET_HEAD_MAX];
    struct buf *out = &c->front->gather;
    CHECK(!out->failed); /* no longer than a reply and a few words */
    unsigned n = websocket_head(head, WEBSOCKET_TEXT, out->len - sizeof head);
    char *at = out->ptr + sizeof head - n;
    memcpy(at, head, n);
    stream_write(c->stream, slice_of(at, (size_t)(out->ptr + out->len - at)));
    buf_reuse(out, 4096);
}

static void send_control(struct consumer_conn *c, enum websocket_opcode opcode,
                         struct slice payload)
{
    char bytes[WEBSOCKET_HEAD_MAX + WEBSOCKET_CONTROL_MAX];
    struct buf out;
    buf_init(&out, sizeof bytes);
    websocket_put(&out, opcode, payload);
    stream_write(c->stream, buf_slice(&out));
    buf_fini(&out);
}

/* ---- what is asked ---- */

static void ask_free(struct consumer_ask *a)
{
    if (!a)
        return;
    if (a->text.ptr)
        explicit_bzero(a->text.ptr, a->text.cap); /* a key may be in the query */
    buf_fini(&a->text);
    buf_fini(&a->x.reply.body);
    buf_fini(&a->x.reply.fields);
    free(a);
}

/* Appends; what it returns stays where it is, as there is room for all. */
static struct slice keep(struct buf *text, struct slice s)
{
    size_t at = text->len;
    buf_put_slice(text, s);
    CHECK(!text->failed);
    return slice_of(text->ptr + at, s.len);
}

/* `what` NULL: the fetch. The path of the others is the group's with that word behind it. */
static struct consumer_ask *ask_new(struct consumer_conn *c, const char *what, struct slice body,
                                    struct slice id)
{
    struct consumer_ask *a = calloc(1, sizeof *a + c->front->opts.stage_bytes);
    CHECK(a);
    size_t word = what ? strlen(what) + 1 : 0;
    size_t bytes = c->place.len + word + body.len + id.len + 1;
    buf_init(&a->text, bytes);
    CHECK(buf_reserve(&a->text, bytes));
    a->conn = c;
    a->what = what;
    a->path = keep(&a->text, slice_of(c->place.ptr, c->path_len));
    if (what) {
        keep(&a->text, SLICE("/"));
        keep(&a->text, slice_str(what));
        a->path.len += word;
    } else {
        a->query = keep(&a->text, slice_from(buf_slice(&c->place), c->path_len));
    }
    a->body = keep(&a->text, body);
    a->id = keep(&a->text, id);
    buf_init(&a->x.reply.body, BATCH_MAX);
    buf_init(&a->x.reply.fields, 8192);
    a->x.magic = EXCHANGE_MAGIC;
    a->x.ops = &ask_ops;
    return a;
}

static void submit(struct consumer_ask *a)
{
    struct consumer_conn *c = a->conn;
    const struct http_opts *o = &c->front->opts;
    a->again_ns = 0;
    buf_clear(&a->x.reply.body);
    buf_clear(&a->x.reply.fields);
    a->x.reply.reason = REASON_ok;
    a->x.reply.status = 0;
    a->x.reply.retry_ns = 0;
    memset(a->x.stage, 0, o->stage_bytes);
    a->x.request = (struct request){.method = METHOD_GET,
                                    .surface = o->surface,
                                    .path = a->path,
                                    .query = a->query,
                                    .body = a->body,
                                    .principal = &c->who,
                                    .consumer = c->number,
                                    .credit = a->credit,
                                    .source = c->source,
                                    .start_ns = now_of(c)};
    if (a->what && *a->what == 'c') {
        a->x.request.method = METHOD_CREDIT;
        a->x.request.path.len = c->path_len;
    } else if (a->what) {
        a->x.request.method = METHOD_POST;
    }
    o->handle(o->arg, &a->x);
}

static void fetch(struct consumer_conn *c)
{
    if (c->fetch || c->ends || c->front->stopping || stream_unsent(c->stream))
        return;
    c->fetch = ask_new(c, NULL, (struct slice){0}, (struct slice){0});
    submit(c->fetch);
}

/* ---- the end ---- */

static void leave(struct consumer_conn *c)
{
    if (!c->left)
        c->front->opts.consumers.left(c->front->opts.arg, c->number);
    c->left = true;
}

/* Nobody waits for it any more; what the pipeline has, it frees when it comes back. */
static void abandon(struct consumer_ask *a)
{
    if (!a)
        return;
    a->conn = NULL;
    a->x.request.principal = NULL;
    if (a->again_ns)
        ask_free(a);
}

static void take_off(struct consumer_conn *c, struct consumer_ask *a)
{
    struct consumer_ask **at = &c->told;
    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    c->told_count--;
    c->told_bytes -= a->body.len;
}

/* Nothing is owed to the client any more. */
static void say_goodbye(struct consumer_conn *c)
{
    struct buf out;
    leave(c);
    buf_init(&out, WEBSOCKET_HEAD_MAX + WEBSOCKET_CONTROL_MAX);
    websocket_put_close(&out, c->code, c->why);
    stream_write(c->stream, buf_slice(&out));
    buf_fini(&out);
    stream_finish(c->stream);
}

/* See 4. What waits to be asked again has no outcome: its messages come again. */
static void end(struct consumer_conn *c, unsigned code, struct slice why)
{
    if (c->ends)
        return;
    c->ends = true;
    c->code = (uint16_t)code;
    size_t n = why.len < WHY_MAX ? why.len : WHY_MAX;
    if (n)
        memcpy(c->why, why.ptr, n);
    abandon(c->fetch);
    c->fetch = NULL;
    for (struct consumer_ask *a = c->told, *next; a && c->later; a = next) {
        next = a->next;
        if (!a->again_ns)
            continue;
        c->later--;
        take_off(c, a);
        ask_free(a);
    }
    stream_pause(c->stream);
    if (!c->told)
        say_goodbye(c);
}

static void end_for(struct consumer_conn *c, const struct reply *r)
{
    struct buf why;
    buf_init(&why, 4096);
    reply_put_why(&why, r);
    end(c, CODE_OF_STATUS + reason_info(r->reason)->http, buf_slice(&why));
    buf_fini(&why);
}

/* ---- answers ---- */

static bool may_read(const struct consumer_conn *c)
{
    return !c->ends && !c->later && c->told_count < CONSUME_TOLD_MAX &&
           c->told_bytes < CONSUME_FRAME_BYTES && stream_unsent(c->stream) < UNSENT_MAX;
}

static void keep_reading(struct consumer_conn *c)
{
    if (!c->stalled || !may_read(c))
        return;
    c->stalled = false;
    stream_resume(c->stream);
}

/* {"ack": ..., "id": ...}, the value being what HTTP answers. */
static void tell(struct consumer_conn *c, const struct consumer_ask *a)
{
    struct buf *out = begin_message(c);
    buf_printf(out, "{\"%s\":", a->what);
    buf_put_slice(out, buf_slice(&a->x.reply.body));
    if (a->id.len) {
        buf_put_str(out, ",\"id\":");
        buf_put_slice(out, a->id);
    }
    buf_put_str(out, "}");
    send_message(c);
}

static void on_told(struct consumer_conn *c, struct consumer_ask *a)
{
    tell(c, a);
    take_off(c, a);
    ask_free(a);
}

static void on_fetched(struct consumer_conn *c, struct consumer_ask *a)
{
    struct slice batch = buf_slice(&a->x.reply.body);
    if (!slice_eq(batch, NOTHING)) {
        buf_put_slice(begin_message(c), batch);
        send_message(c);
    }
    c->fetch = NULL;
    ask_free(a);
    fetch(c);
}

static void on_refused(struct consumer_conn *c, struct consumer_ask *a)
{
    const struct reply *r = &a->x.reply;
    if (r->retry_ns && !c->ends) {
        a->again_ns = now_of(c) + r->retry_ns;
        c->later += a->what != NULL;
        return;
    }
    /* Messages were on their way when the credential changed: they were given back. */
    if (!a->what && r->reason == REASON_revoked &&
        c->front->opts.consumers.may(c->front->opts.arg, &c->who) == REASON_ok) {
        submit(a);
        return;
    }
    end_for(c, r);
    if (a->what)
        take_off(c, a);
    ask_free(a);
}

static void on_send(struct exchange *x)
{
    OBJ_CHECK(x, EXCHANGE_MAGIC);
    struct consumer_ask *a = (struct consumer_ask *)((char *)x - offsetof(struct consumer_ask, x));
    struct consumer_conn *c = a->conn;
    reason_count(x->reply.reason);
    if (!c) {
        ask_free(a);
        return;
    }
    OBJ_CHECK(c, CONSUMER_MAGIC);
    if (x->reply.reason != REASON_ok)
        on_refused(c, a);
    else if (a->what)
        on_told(c, a);
    else
        on_fetched(c, a);
    if (c->ends && !c->told && !c->left)
        say_goodbye(c);
    keep_reading(c);
    arm(c);
}

static void on_nothing(struct exchange *x)
{
    (void)x; /* its bytes are its own */
}

static bool on_gone(const struct exchange *x)
{
    const struct consumer_ask *a =
        (const struct consumer_ask *)((const char *)x - offsetof(struct consumer_ask, x));
    return !a->conn;
}

static const struct exchange_ops ask_ops = {.gone = on_gone,
                                            .prefetch = on_nothing,
                                            .keep = on_nothing,
                                            .release = on_nothing,
                                            .send = on_send};

/* ---- what the client says ---- */

struct said {
    const char *what; /* NULL: nothing yet */
    struct slice body, id;
    uint32_t credit;
};

/* A number or a string, as it was written. */
static bool is_id(struct json v)
{
    return (v.type == JSON_NUMBER || v.type == JSON_STRING) && v.raw.len <= CONSUME_ID_BYTES;
}

static bool is_credit(struct json v, uint32_t *ret)
{
    double n = v.type == JSON_NUMBER ? json_double(v) : -1;
    if (!(n >= 0 && n <= CONSUME_MESSAGES_MAX) || n != (double)(uint32_t)n)
        return false;
    *ret = (uint32_t)n;
    return true;
}

/* NULL, or why it is not understood. */
static const char *take_member(struct json key, struct json value, struct said *s)
{
    static const char *const words[] = {"ack", "nack", "extend", "credit"};
    unsigned i = 0;
    if (slice_eq(key.raw, SLICE("id"))) {
        /* Of a string the quotes lie around what is raw. */
        s->id =
            value.type == JSON_STRING ? slice_of(value.raw.ptr - 1, value.raw.len + 2) : value.raw;
        return is_id(value) ? NULL : "id must be a number, or a string of at most 128 bytes";
    }
    while (i < 4 && !slice_eq(key.raw, slice_str(words[i])))
        i++;
    if (i == 4)
        return "a message has ack, nack, extend or credit, and id if it is to be known again";
    if (s->what)
        return "one thing at a time: ack, nack, extend or credit";
    s->what = words[i];
    s->body = value.raw;
    if (i == 3)
        return is_credit(value, &s->credit) ? NULL : "credit must be a number from 0 to 1000";
    return value.type == JSON_OBJECT ? NULL : "ack, nack and extend are objects with tokens";
}

static const char *understand(struct slice message, struct said *ret)
{
    struct json whole, key, value;
    size_t at;
    const char *why = NULL, *text;
    if (!json_parse(message, &whole, &at, &text) || whole.type != JSON_OBJECT)
        return "a message must be a JSON object";
    struct slice rest = json_members(whole);
    while (!why && rest.len && json_next_member(&rest, &key, &value))
        why = take_member(key, value, ret);
    if (!why && !ret->what)
        why = "a message has ack, nack, extend or credit";
    return why;
}

static void take_message(struct consumer_conn *c)
{
    struct said s = {0};
    const char *why = understand(buf_slice(&c->message), &s);
    if (why) {
        metric_add(METRIC_websocket_failures, 1);
        end(c, CODE_OF_STATUS + reason_info(REASON_bad_body)->http, slice_str(why));
        return;
    }
    struct consumer_ask *a = ask_new(c, s.what, s.body, s.id);
    a->credit = s.credit;
    a->next = c->told;
    c->told = a;
    c->told_count++;
    c->told_bytes += a->body.len;
    submit(a);
}

static void take_data(struct consumer_conn *c, const struct websocket_event *e)
{
    if (e->opcode != WEBSOCKET_TEXT) {
        metric_add(METRIC_websocket_failures, 1);
        end(c, WEBSOCKET_UNSUPPORTED, SLICE("only texts are understood here"));
        return;
    }
    buf_put_slice(&c->message, e->data);
    if (!e->final)
        return;
    take_message(c);
    buf_reuse(&c->message, 0);
}

static void take_event(struct consumer_conn *c, enum websocket_outcome outcome,
                       const struct websocket_event *e)
{
    if (outcome == WEBSOCKET_BAD) {
        metric_add(METRIC_websocket_failures, 1);
        end(c, e->code, slice_str(e->why));
    } else if (outcome == WEBSOCKET_DATA) {
        take_data(c, e);
    } else if (outcome == WEBSOCKET_CONTROL && e->opcode == WEBSOCKET_CLOSE) {
        end(c, e->code, (struct slice){0});
    } else if (outcome == WEBSOCKET_CONTROL && e->opcode == WEBSOCKET_PING) {
        send_control(c, WEBSOCKET_PONG, e->data);
    }
}

static size_t on_input(void *owner, char *ptr, size_t len)
{
    struct consumer_conn *c = owner;
    OBJ_CHECK(c, CONSUMER_MAGIC);
    size_t at = 0, used;
    c->pings = 0;
    while (at < len && may_read(c)) {
        struct websocket_event e;
        enum websocket_outcome outcome =
            websocket_parse(&c->in, ptr + at, len - at, CONSUME_FRAME_BYTES, &used, &e);
        at += used;
        take_event(c, outcome, &e);
    }
    if (c->ends)
        return len;
    if (!may_read(c)) {
        c->stalled = true;
        stream_pause(c->stream);
    }
    arm(c);
    return at;
}

/* ---- deadlines ---- */

static void ask_again(struct consumer_conn *c, uint64_t now)
{
    if (c->fetch && c->fetch->again_ns && c->fetch->again_ns <= now)
        submit(c->fetch);
    for (struct consumer_ask *a = c->told, *next; a && c->later; a = next) {
        next = a->next;
        if (!a->again_ns || a->again_ns > now)
            continue;
        c->later--;
        submit(a);
    }
    keep_reading(c);
}

/* A client that works for long and reads nothing meanwhile need not answer pings; that its machine
 * is there its TCP says, and what it has its lease ends. */
static void on_due(struct deadline *d)
{
    struct consumer_conn *c =
        (struct consumer_conn *)((char *)d - offsetof(struct consumer_conn, deadline));
    OBJ_CHECK(c, CONSUMER_MAGIC);
    uint64_t now = now_of(c), sent = stream_sent(c->stream);
    bool moves = sent != c->sent_seen, unsent = stream_unsent(c->stream) > 0;
    bool pings = now >= c->ping_ns;
    if ((unsent && !moves) || (pings && !moves && c->pings >= PINGS_MAX)) {
        metric_add(METRIC_connections_timed_out, 1);
        stream_close(c->stream);
        return;
    }
    if (!unsent && !c->ends)
        ask_again(c, now);
    if (pings || unsent)
        c->sent_seen = sent;
    if (moves)
        stream_unstuck(c->stream);
    if (pings) {
        c->ping_ns = now + PING_NS;
        c->pings = moves ? 0 : c->pings + 1;
        if (!c->ends && !unsent)
            send_control(c, WEBSOCKET_PING, (struct slice){0});
    }
    arm(c);
}

/* ---- the connection ---- */

static void on_end(void *owner)
{
    end(owner, WEBSOCKET_NO_CODE, (struct slice){0});
}

static void on_drained(void *owner)
{
    struct consumer_conn *c = owner;
    fetch(c);
    keep_reading(c);
    arm(c);
}

static void on_closed(void *owner)
{
    struct consumer_conn *c = owner;
    OBJ_CHECK(c, CONSUMER_MAGIC);
    leave(c);
    abandon(c->fetch);
    while (c->told) {
        struct consumer_ask *a = c->told;
        c->told = a->next;
        abandon(a);
    }
    deadline_clear(&c->deadline);
    *c->prev = c->next;
    if (c->next)
        c->next->prev = c->prev;
    c->front->consumers_count--;
    metric_move(METRIC_consume_connections, -1);
    principal_clear(&c->who);
    if (c->place.ptr)
        explicit_bzero(c->place.ptr, c->place.cap);
    buf_fini(&c->place);
    buf_fini(&c->message);
    c->magic = 0;
    free(c);
}

static const struct stream_ops consumer_ops = {
    .on_input = on_input,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_closed = on_closed,
};

void http_consumer_begin(struct http_front *f, struct stream *s, struct http_exchange *e)
{
    const struct request *q = &e->x.request;
    struct consumer_conn *c = calloc(1, sizeof *c);
    CHECK(c);
    c->magic = CONSUMER_MAGIC;
    c->front = f;
    c->stream = s;
    c->who = e->who;
    e->who = (struct principal){0};
    c->number = q->consumer;
    c->source = q->source;
    buf_init(&c->place, q->path.len + q->query.len);
    buf_put_slice(&c->place, q->path);
    buf_put_slice(&c->place, q->query);
    CHECK(!c->place.failed);
    c->path_len = q->path.len;
    buf_init(&c->message, CONSUME_FRAME_BYTES);
    c->ping_ns = now_of(c) + PING_NS;
    c->deadline.due = on_due;
    c->next = f->consumers;
    c->prev = &f->consumers;
    if (c->next)
        c->next->prev = &c->next;
    f->consumers = c;
    f->consumers_count++;
    metric_add(METRIC_websocket_upgrades, 1);
    metric_move(METRIC_consume_connections, 1);
    stream_set_known(s, true);
    stream_set_owner(s, &consumer_ops, c, WORKER_SCRATCH);
    arm(c);
    stream_hand_over(s);
    fetch(c);
}

void http_consumers_stop(struct http_front *f)
{
    for (struct consumer_conn *c = f->consumers; c; c = c->next)
        end(c, WEBSOCKET_GOING_AWAY, SLICE("the server stops"));
}

void http_consumers_abort(struct http_front *f)
{
    for (struct consumer_conn *c = f->consumers; c; c = c->next)
        stream_close(c->stream);
}

void http_front_check(struct http_front *f)
{
    for (struct consumer_conn *c = f->consumers; c; c = c->next) {
        enum reason reason = f->opts.consumers.may(f->opts.arg, &c->who);
        if (reason != REASON_ok)
            end_for(c, &(struct reply){.reason = reason});
    }
}
