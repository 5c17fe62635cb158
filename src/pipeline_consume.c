/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Consumer groups: to their thread and back. A fetch waits there, for as long as a minute; its
 * connection is read on meanwhile. What was handed out to a client that is not there any more, or
 * to a credential that is not what it was, is given back at once.
 *
 * A connection that asked for WebSocket is let in here, as a consumer of the group (101), and what
 * it says from then on comes as the requests that it stands for.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "pipeline_private.h"

#define TEXTS_MAX (sizeof(struct consume_token) * (CONSUME_MESSAGES_MAX + 1))

struct consume_call {
    struct consume_ask ask;
    struct buf texts;
    struct principal *let_in; /* of a connection that asks to be */
    bool revoked;
};

static void end_call(struct job *j)
{
    buf_fini(&j->consume->texts);
    free(j->consume);
    j->consume = NULL;
}

static void refuse(struct job *j, enum reason reason, const char *text)
{
    bool later =
        reason == REASON_busy || reason == REASON_stopping || reason == REASON_outcome_unknown;
    job_exchange(j)->reply.retry_ns = later ? NS_PER_S : 0;
    job_refuse(j, reason, text);
}

static bool is_still_who_it_was(const struct job *j)
{
    struct credential *now =
        catalog_credential(j->lane->p->opts.api.catalog, j->credential->number);
    bool same = now && now->version == j->credential->version;
    credential_unref(now);
    return same;
}

/* Tells the thread, and waits for nothing. */
static void on_left(struct consume_ask *ask)
{
    free(ask);
}

void lane_consumer_left(void *lane, uint64_t consumer)
{
    struct consume_ask *ask = calloc(1, sizeof *ask);
    CHECK(ask);
    ask->op = CONSUME_LEAVE;
    ask->consumer = consumer;
    ask->done = on_left;
    consume_submit(((struct lane *)lane)->p->opts.consume, ask);
}

enum reason lane_may_consume(void *lane, struct principal *p)
{
    if (!p->credential || !lane_vouches(lane, p))
        return REASON_revoked;
    bool may = (p->credential->permissions & ROUTE_CONSUME_MAY) == ROUTE_CONSUME_MAY;
    return may ? REASON_ok : REASON_forbidden;
}

/* The client is gone, or may not have it: it was given back. */
static void on_returned(struct job *j)
{
    struct buf *body = &job_exchange(j)->reply.body;
    bool revoked = j->consume->revoked;
    end_call(j);
    if (revoked) {
        refuse(j, REASON_revoked, NULL);
        return;
    }
    buf_clear(body);
    buf_put_str(body, "{\"messages\":[]}");
    job_exchange(j)->reply.status = 200;
    job_send(j);
}

static void on_return_done(struct consume_ask *ask)
{
    job_post(ask->owner, on_returned);
}

/* Which offsets the group did not get; over WebSocket a member of the message. */
static void put_gap(struct exchange *x, const struct consume_ask *ask)
{
    bool member = x->request.consumer != 0;
    struct buf *out = member ? &x->reply.body : &x->reply.fields;
    if (member && out->len)
        out->len--; /* the brace */
    buf_printf(out, member ? ",\"gap\":\"%llu-%llu\"}" : "X-Sluice-Gap: %llu-%llu\r\n",
               (unsigned long long)ask->missed_from, (unsigned long long)ask->missed_to - 1);
}

/* The group has it as a consumer; that its client was here a moment ago is not enough. */
static void let_in(struct job *j)
{
    struct exchange *x = job_exchange(j);
    uint64_t consumer = j->consume->ask.consumer;
    struct principal *p = j->consume->let_in;
    bool gone = exchange_gone(x);
    end_call(j);
    if (gone) {
        lane_consumer_left(j->lane, consumer);
        refuse(j, REASON_stopping, NULL);
        return;
    }
    p->generation = 0; /* as connect_run has it */
    p->credential = credential_ref(j->credential);
    x->request.consumer = consumer;
    x->reply.status = 101;
    job_send(j);
}

static void on_answered(struct job *j)
{
    struct exchange *x = job_exchange(j);
    struct consume_ask *ask = &j->consume->ask;
    if (ask->reason == REASON_ok && ask->op == CONSUME_OPEN) {
        let_in(j);
        return;
    }
    if (ask->count) {
        j->consume->revoked = !is_still_who_it_was(j);
        if (j->consume->revoked || exchange_gone(x)) {
            buf_clear(&x->reply.body);
            ask->op = CONSUME_RETURN;
            ask->done = on_return_done;
            consume_submit(j->lane->p->opts.consume, ask);
            return;
        }
    }
    if (ask->reason != REASON_ok) {
        char text[sizeof ask->text];
        enum reason reason = ask->reason;
        memcpy(text, ask->text, sizeof text);
        end_call(j);
        refuse(j, reason, text);
        return;
    }
    if (ask->missed_to > ask->missed_from)
        put_gap(x, ask);
    x->reply.status = ask->op == CONSUME_REMOVE ? 204 : 200;
    end_call(j);
    job_send(j);
}

static void on_done(struct consume_ask *ask)
{
    job_post(ask->owner, on_answered);
}

void consume_run(struct job *j)
{
    struct exchange *x = job_exchange(j);
    struct error err = {""};
    if (x->request.method == METHOD_HEAD) { /* GET hands out */
        buf_put_str(&x->reply.fields, "Allow: GET\r\n");
        job_refuse(j, REASON_method, NULL);
        return;
    }
    if (x->request.consumer && exchange_gone(x)) { /* it has left, and must get nothing any more */
        job_refuse(j, REASON_stopping, NULL);
        return;
    }
    if (!job_throttle(j, 1, 0))
        return;
    job_keep(j);
    x->reply.no_store = true;
    struct consume_call *call = calloc(1, sizeof *call);
    CHECK(call);
    j->consume = call;
    buf_init(&call->texts, TEXTS_MAX);
    call->ask = (struct consume_ask){.account = j->account->number,
                                     .credential = j->credential,
                                     .out = &x->reply.body,
                                     .done = on_done,
                                     .owner = j};
    enum reason reason = api_consume(&j->match, &x->request, &call->ask, &call->texts, &err);
    if (reason != REASON_ok) {
        end_call(j);
        refuse(j, reason, err.text);
        return;
    }
    if (call->ask.op == CONSUME_OPEN) {
        call->let_in = x->request.principal;
        call->ask.consumer =
            atomic_fetch_add_explicit(&j->lane->p->consumers, 1, memory_order_relaxed) + 1;
    }
    bool waits = call->ask.op == CONSUME_FETCH && call->ask.wait_ns > 0;
    consume_submit(j->lane->p->opts.consume, &call->ask);
    if (waits) {
        exchange_keep_no_body(x);
        exchange_release(x);
    }
}
