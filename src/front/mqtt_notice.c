/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adafruit's way of telling who cannot be told by a code: a message on {user}/throttle, which is a
 * JSON string, or on {user}/errors, "CLIENT_ID IP_ADDRESS ACTION TOPIC sentence". Nothing of it is
 * stored; whoever of the account has subscribed gets it, on whatever worker.
 */
#include <stdio.h>

#include "base/check.h"
#include "front/mqtt_private.h"

#define NOTICE_MAX (2u * 1024u + UINT16_MAX + MQTT_CLIENT_ID_MAX + 128u)

#define FEW 6u /* attempts left: then Adafruit warns */

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

static void notify(struct notice *n, const char *where)
{
    const struct mqtt_conn *c = n->conn;
    struct buf topic;
    if (!c->principal.credential)
        return;
    const struct account *account = c->principal.credential->account;
    buf_init(&n->text, NOTICE_MAX);
    buf_init(&topic, USERNAME_MAX + 16);
    buf_put_slice(&topic, account->name);
    buf_put_str(&topic, where);
    CHECK(!topic.failed); /* names are bounded */
    const struct live_message m = {
        .account = account->number, .topic = buf_slice(&topic), .payload = on_notice, .arg = n};
    c->front->opts.tell(c->front->opts.arg, &m);
    buf_fini(&topic);
    buf_fini(&n->text);
}

void mqtt_notice(struct mqtt_conn *c, const char *action, struct slice topic, enum reason reason,
                 struct slice sentence)
{
    struct slice prefix = SLICE("request failed - ");
    bool throttled = reason == REASON_throttled;
    if (slice_starts(sentence, prefix))
        sentence = slice_from(sentence, prefix.len);
    notify(&(struct notice){.conn = c,
                            .action = action,
                            .topic = topic,
                            .sentence = sentence,
                            .alone = throttled || reason == REASON_bad_name},
           throttled ? "/throttle" : "/errors");
}

bool mqtt_count_refusal(struct mqtt_conn *c, const char *action, struct slice topic)
{
    struct flood_verdict v;
    c->front->opts.flood(c->front->opts.arg, &c->principal, c->source, FLOOD_REFUSED, &v);
    if (v.allow)
        return false;
    notify(&(struct notice){.conn = c,
                            .action = action,
                            .topic = topic,
                            .sentence = SLICE("request flood, disconnecting")},
           "/errors");
    mqtt_close(c, MQTT_QUOTA, "request flood");
    return true;
}

bool mqtt_count_filters(struct mqtt_conn *c, const char *action, struct slice filter)
{
    char text[128];
    struct flood_verdict v;
    c->front->opts.flood(c->front->opts.arg, &c->principal, c->source, FLOOD_SUBSCRIBE, &v);
    if (!v.allow || !v.window_ms || v.remaining >= FEW)
        return v.allow;
    int len = snprintf(text, sizeof text,
                       "only %u attempts remaining in the next %u seconds, please slow your "
                       "request rate",
                       v.remaining, (v.window_ms + 999) / 1000);
    notify(
        &(struct notice){
            .conn = c, .action = action, .topic = filter, .sentence = slice_of(text, (size_t)len)},
        "/throttle");
    return true;
}
