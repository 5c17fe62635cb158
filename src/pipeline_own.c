/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages that the server itself publishes in an account, by rules and of its own figures, as a
 * client would: through the same stages, in the account's windows. Who sends them is a credential
 * that nobody has: it is made for one exchange, and only what it shares with the next one of the
 * same account stays. All on the first lane.
 */
#include <stdlib.h>

#include "base/check.h"
#include "pipeline_private.h"

/* They are as many as accounts that have had something published. */
struct own_sender {
    struct own_sender *next;
    uint64_t account;
    struct credential_live live;
};

/* An exchange of no connection. */
struct own_exchange {
    struct own_publish what; /* its texts are `bytes` */
    struct principal who;
    struct buf bytes;
    struct lane *lane;
    struct exchange x; /* last: it ends in the pipeline's part */
};

static void on_nothing(struct exchange *x)
{
    (void)x; /* its bytes are its own, and there is no connection */
}

static void on_send(struct exchange *x)
{
    struct own_exchange *o = (struct own_exchange *)((char *)x - offsetof(struct own_exchange, x));
    reason_count(x->reply.reason);
    o->what.done(o->lane, o->what.arg, &x->reply);
    principal_clear(&o->who);
    buf_fini(&o->bytes);
    buf_fini(&x->reply.body);
    buf_fini(&x->reply.fields);
    free(o);
}

static const struct exchange_ops own_ops = {
    .prefetch = on_nothing, .keep = on_nothing, .release = on_nothing, .send = on_send};

static struct credential_live *live_of(struct pipeline *p, uint64_t account)
{
    struct own_sender *s = p->own_senders;
    while (s && s->account != account)
        s = s->next;
    if (!s) {
        s = calloc(1, sizeof *s);
        CHECK(s);
        s->account = account;
        s->next = p->own_senders;
        p->own_senders = s;
    }
    return &s->live;
}

void own_senders_free(struct pipeline *p)
{
    while (p->own_senders) {
        struct own_sender *s = p->own_senders;
        p->own_senders = s->next;
        free(s);
    }
}

static struct credential *make_sender(struct pipeline *p, const struct own_publish *what)
{
    struct credential *c = credential_new(0);
    CHECK(c);
    c->account = account_ref(what->account);
    c->number = CREDENTIAL_OWN + what->account->number;
    c->version = 1;
    c->kind = CREDENTIAL_KEY;
    c->name = slice_str(what->sender);
    c->permissions = what->permissions;
    c->live = live_of(p, what->account->number);
    return c;
}

/* Appends the text and returns where it begins; all of them have room. */
static struct slice keep(struct buf *bytes, struct slice text)
{
    size_t at = bytes->len;
    buf_put_slice(bytes, text);
    CHECK(!bytes->failed);
    return text.ptr ? slice_of(bytes->ptr + at, text.len) : text;
}

void own_publish(struct lane *l, const struct own_publish *what)
{
    struct own_exchange *o = calloc(1, sizeof *o + lane_stage_bytes());
    CHECK(o);
    o->what = *what;
    o->lane = l;
    o->who.credential = make_sender(l->p, what);
    size_t room = what->topic.len + what->body.len + what->rule.len + 1;
    buf_init(&o->bytes, room);
    CHECK(buf_reserve(&o->bytes, room)); /* at once: it does not move any more */
    buf_init(&o->x.reply.body, 65536);
    buf_init(&o->x.reply.fields, 8192);
    o->x.magic = EXCHANGE_MAGIC;
    o->x.ops = &own_ops;
    o->x.request.method = METHOD_PUBLISH;
    o->x.request.principal = &o->who;
    o->x.request.own = true;
    o->x.request.path = keep(&o->bytes, what->topic);
    o->x.request.body = keep(&o->bytes, what->body);
    o->x.request.rule = keep(&o->bytes, what->rule);
    o->x.request.qos = 1;
    o->x.request.start_ns = worker_now_ns(l->worker);
    lane_handle(l, &o->x);
}
