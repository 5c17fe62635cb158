/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adafruit's way of telling who cannot be told by a code: a message on {user}/throttle, which is a
 * JSON string, or on {user}/errors, "CLIENT_ID IP_ADDRESS ACTION TOPIC sentence". Nothing of it is
 * stored; whoever of the account has subscribed gets it, on whatever worker.
 */
#include "base/check.h"
#include "front/mqtt_private.h"

#define NOTICE_MAX (2u * 1024u + UINT16_MAX + MQTT_CLIENT_ID_MAX + 128u)

struct notice {
    const struct mqtt_conn *conn;
    const char *action;
    struct slice topic, sentence;
    bool alone; /* the sentence and nothing else, as JSON */
    struct buf text;
};

/* Made when somebody wants it. */
static struct slice on_notice(void *arg)
{
    struct notice *n = arg;
    struct buf *out = &n->text;
    if (out->len) {
        ;
    } else if (n->alone) {
        buf_put_json(out, n->sentence);
    } else {
        buf_put_str(out, n->conn->client_id);
        buf_put_u8(out, ' ');
        address_format(out, stream_peer(n->conn->stream));
        buf_printf(out, " %s ", n->action);
        buf_put_slice(out, n->topic);
        buf_put_u8(out, ' ');
        buf_put_slice(out, n->sentence);
    }
    return out->failed ? (struct slice){0} : buf_slice(out);
}

void mqtt_notice(struct mqtt_conn *c, const char *action, struct slice topic, enum reason reason,
                 struct slice sentence)
{
    struct slice prefix = SLICE("request failed - ");
    bool throttled = reason == REASON_throttled;
    struct notice n = {.conn = c,
                       .action = action,
                       .topic = topic,
                       .sentence = sentence,
                       .alone = throttled || reason == REASON_bad_name};
    struct buf where;
    if (!c->principal.credential)
        return;
    const struct account *account = c->principal.credential->account;
    if (slice_starts(sentence, prefix))
        n.sentence = slice_from(sentence, prefix.len);
    buf_init(&n.text, NOTICE_MAX);
    buf_init(&where, USERNAME_MAX + 16);
    buf_put_slice(&where, account->name);
    buf_put_str(&where, throttled ? "/throttle" : "/errors");
    CHECK(!where.failed); /* names are bounded */
    const struct live_message m = {
        .account = account->number, .topic = buf_slice(&where), .payload = on_notice, .arg = &n};
    c->front->opts.tell(c->front->opts.arg, &m);
    buf_fini(&where);
    buf_fini(&n.text);
}
