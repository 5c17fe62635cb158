/* SPDX-License-Identifier: Apache-2.0 */
/* What each packet of a client does: most become an exchange, some are answered at once. */
#include <stdlib.h>

#include "base/check.h"
#include "base/metric.h"
#include "base/rand.h"
#include "flow/limits.h"
#include "front/mqtt_private.h"

#define IDS_MAX     4096u /* messages of QoS 2 not released, without a session */
#define ALIAS_BYTES 1024u /* of a topic that gets an alias */
#define ASSIGNED    22u   /* characters of a client id that we make: 5 bits each */

/* ---- CONNECT ---- */

void mqtt_refuse_connect(struct mqtt_conn *c, enum mqtt_version version, uint8_t code,
                         const char *why)
{
    struct mqtt_packet p = {.type = MQTT_CONNACK, .code = code};
    metric_add(METRIC_mqtt_connects_refused, 1);
    c->reader.version = version;
    if (version == MQTT_5) {
        p.properties.has = 1ull << MQTT_REASON_STRING;
        p.properties.reason_string = slice_str(why);
    } else {
        p.code = mqtt_connack_code_3(code);
    }
    mqtt_put_fitting(&c->front->now, c, &p); /* sent when its input was looked at */
    stream_write(c->stream, buf_slice(&c->front->now));
    buf_clear(&c->front->now);
    mqtt_end(c, false);
}

void mqtt_refuse_packet(struct mqtt_conn *c, const struct mqtt_bad *b)
{
    metric_add(METRIC_mqtt_bad_packets, 1);
    if (c->state != MQTT_NEW) {
        mqtt_close(c, b->code, b->why);
        return;
    }
    /* Before 5.0 a CONNECT that is malformed is not answered (3.1.1: MQTT-3.1.4-1); what is no MQTT
     * never is. */
    bool answer =
        b->version == MQTT_5 || (b->version != MQTT_NONE && b->code == MQTT_UNSUPPORTED_VERSION);
    if (answer)
        mqtt_refuse_connect(c, b->version, b->code, b->why);
    else
        mqtt_end(c, false);
}

/* MQTT-3.1.3-5 to -8; more than 3.1's 23 bytes are taken from all. */
static bool client_id_valid(const struct mqtt_connect *k)
{
    if (!k->client_id.len)
        return k->version == MQTT_5 || (k->version == MQTT_3_1_1 && k->clean);
    return k->client_id.len <= MQTT_CLIENT_ID_MAX;
}

static void keep_client_id(struct mqtt_conn *c, const struct mqtt_connect *k)
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
    c->assigned = !k->client_id.len;
    size_t len = c->assigned ? 5 + ASSIGNED : k->client_id.len;
    c->client_id = malloc(len + 1);
    CHECK(c->client_id);
    if (c->assigned) {
        uint8_t random[ASSIGNED];
        rand_secret(random, sizeof random);
        memcpy(c->client_id, "auto-", 5);
        for (unsigned i = 0; i < ASSIGNED; i++)
            c->client_id[5 + i] = digits[random[i] & 31];
    } else {
        memcpy(c->client_id, k->client_id.ptr, len);
    }
    c->client_id[len] = 0;
}

static void keep_will(struct mqtt_conn *c, const struct mqtt_connect *k)
{
    if (!k->has_will)
        return;
    bool is_5 = k->version == MQTT_5;
    struct slice parts[] = {k->will_topic, is_5 ? k->will.raw : (struct slice){0}, k->will_payload};
    struct mqtt_will *w = malloc(sizeof *w + parts[0].len + parts[1].len + parts[2].len);
    CHECK(w);
    *w = (struct mqtt_will){.retain = k->will_retain,
                            .qos = k->will_qos,
                            .topic_len = parts[0].len,
                            .properties_len = parts[1].len,
                            .payload_len = parts[2].len};
    if (is_5 && mqtt_has(&k->will, MQTT_MESSAGE_EXPIRY)) {
        w->has_expiry = true;
        w->expiry_s = k->will.message_expiry;
    }
    if (is_5 && mqtt_has(&k->will, MQTT_WILL_DELAY))
        w->delay_s = k->will.will_delay;
    char *at = w->bytes;
    for (unsigned i = 0; i < 3; i++) {
        if (parts[i].len)
            memcpy(at, parts[i].ptr, parts[i].len);
        at += parts[i].len;
    }
    c->will = w;
}

static void set_expiry(struct mqtt_conn *c, uint32_t asked_s)
{
    uint32_t longest = c->front->opts.tune.session_expiry_max_s;
    c->expiry_cut = asked_s > longest;
    c->expiry_s = c->expiry_cut ? longest : asked_s;
}

static void keep_properties(struct mqtt_conn *c, const struct mqtt_packet *p)
{
    const struct mqtt_connect *k = &p->connect;
    const struct mqtt_properties *props = &p->properties;
    uint16_t longest = c->front->opts.tune.keep_alive_max_s;
    c->clean = k->clean;
    c->keep_alive = k->keep_alive;
    if (k->version != MQTT_5) {
        c->expiry_s = k->clean ? 0 : c->front->opts.tune.session_expiry_max_s;
        return;
    }
    c->keep_alive_cut = longest && (!k->keep_alive || k->keep_alive > longest);
    if (c->keep_alive_cut)
        c->keep_alive = longest;
    if (mqtt_has(props, MQTT_MAXIMUM_PACKET))
        c->packet_max = props->maximum_packet;
    if (mqtt_has(props, MQTT_RECEIVE_MAX))
        c->receive_max = props->receive_max;
    if (mqtt_has(props, MQTT_TOPIC_ALIAS_MAX)) /* MQTT-3.1.2-26, -27: else none */
        c->alias_max =
            props->topic_alias_max < MQTT_ALIASES_MAX ? props->topic_alias_max : MQTT_ALIASES_MAX;
    c->quiet = mqtt_has(props, MQTT_REQUEST_PROBLEM) && !props->request_problem;
    c->wants_session = mqtt_has(props, MQTT_SESSION_EXPIRY) && props->session_expiry;
    set_expiry(c, c->wants_session ? props->session_expiry : 0);
}

static void take_connect(struct mqtt_conn *c, const struct mqtt_packet *p)
{
    const struct mqtt_connect *k = &p->connect;
    if (!client_id_valid(k)) {
        mqtt_refuse_connect(c, k->version, MQTT_BAD_CLIENT_ID,
                            "the client id is empty or too long");
        return;
    }
    if (mqtt_has(&p->properties, MQTT_AUTH_METHOD)) { /* MQTT-4.12.0-1 */
        mqtt_refuse_connect(c, k->version, MQTT_BAD_AUTH_METHOD, "there is no such method");
        return;
    }
    c->reader.version = k->version;
    c->reader.packet_max = c->front->opts.packet_max;
    keep_properties(c, p);
    keep_client_id(c, k);
    keep_will(c, k);
    c->state = MQTT_LOGIN;
    struct mqtt_exchange *e = mqtt_enqueue(c, MQTT_CONNACK);
    struct request *q = &e->x.request;
    q->method = METHOD_CONNECT;
    q->principal = &e->own;
    q->source = c->source;
    /* 5.0 lets a client send a password without a name: a key says whose it is. */
    if (k->username.ptr)
        q->presented = (struct presented){PRESENTED_BASIC, k->username, k->password};
    else if (k->password.ptr)
        q->presented = (struct presented){.kind = PRESENTED_KEY, .secret = k->password};
    /* Who sends a secret means that one: a gateway may speak for devices. */
    struct slice certified = stream_identity(c->stream);
    if (!k->password.ptr && certified.ptr)
        q->presented = (struct presented){.kind = PRESENTED_CERTIFICATE, .id = certified};
    mqtt_hand_up(e);
}

/* ---- PUBLISH ---- */

/* Whether the message's topic is known; sets it from the alias, or the alias from it. */
static bool resolve_alias(struct mqtt_conn *c, const struct mqtt_packet *p, struct slice *topic)
{
    if (!mqtt_has(&p->properties, MQTT_TOPIC_ALIAS))
        return true;
    unsigned alias = p->properties.topic_alias, max = c->front->opts.alias_max;
    if (alias > max) { /* MQTT-3.2.2-17 */
        mqtt_close(c, MQTT_ALIAS_INVALID, "a topic alias is above the maximum");
        return false;
    }
    if (!c->aliases)
        c->aliases = calloc(max, sizeof *c->aliases);
    CHECK(c->aliases);
    struct mqtt_alias *a = &c->aliases[alias - 1];
    if (!topic->len && !a->topic) { /* section 3.3.2.3.4 */
        mqtt_close(c, MQTT_PROTOCOL_ERROR, "a topic alias was not set");
        return false;
    }
    if (!topic->len) {
        *topic = slice_of(a->topic, a->len);
        return true;
    }
    if (topic->len > ALIAS_BYTES) {
        mqtt_close(c, MQTT_NAME_INVALID, "a topic that gets an alias is too long");
        return false;
    }
    free(a->topic);
    a->topic = malloc(topic->len);
    CHECK(a->topic);
    memcpy(a->topic, topic->ptr, topic->len);
    a->len = (uint16_t)topic->len;
    return true;
}

static int find_id(const struct mqtt_conn *c, uint16_t id)
{
    for (unsigned i = 0; i < c->ids_count; i++) {
        if (c->ids[i] == id)
            return (int)i;
    }
    return -1;
}

void mqtt_remember_id(struct mqtt_conn *c, uint16_t id)
{
    if (c->ids_count == c->ids_room) {
        c->ids_room = (uint16_t)(c->ids_room ? c->ids_room * 2 : 8);
        c->ids = realloc(c->ids, c->ids_room * sizeof *c->ids);
        CHECK(c->ids);
    }
    c->ids[c->ids_count++] = id;
}

bool mqtt_release_id(struct mqtt_conn *c, uint16_t id)
{
    int at = find_id(c, id);
    if (at < 0)
        return false;
    c->ids[at] = c->ids[--c->ids_count];
    return true;
}

static bool is_queued(const struct mqtt_conn *c, uint16_t id)
{
    const struct mqtt_answer *a = c->first;
    while (a && (a->type != MQTT_PUBREC || a->id != id || a->done))
        a = a->next;
    return a != NULL;
}

/* A message of QoS 2 that is here already is not handed up again (MQTT-4.3.3-10). */
static void answer_duplicate(struct mqtt_conn *c, const struct mqtt_packet *p)
{
    metric_add(METRIC_mqtt_duplicates, 1);
    if (is_queued(c, p->id)) {
        if (c->reader.version == MQTT_5) /* MQTT-4.4.0-1: only behind a new connection */
            mqtt_close(c, MQTT_PROTOCOL_ERROR, "a message was sent again while it waits");
        return; /* before, some clients do; its answer is still to come */
    }
    struct mqtt_exchange *e = mqtt_enqueue(c, MQTT_PUBREC);
    e->answer.id = p->id;
    mqtt_done(e);
}

unsigned mqtt_receive_max(const struct mqtt_conn *c)
{
    unsigned max = c->front->opts.receive_max, kept = c->session ? SESSION_IN_MAX : IDS_MAX;
    return max < kept ? max : kept;
}

/* Whether one more message above QoS 0 may be under way. */
static bool has_room(struct mqtt_conn *c, unsigned qos)
{
    unsigned ids = c->ids_count, max = mqtt_receive_max(c);
    if (c->reader.version == MQTT_5 && c->acks + ids >= max) { /* MQTT-3.3.4-9 */
        mqtt_close(c, MQTT_RECEIVE_MAXIMUM, "more messages at a time than receive maximum allows");
        return false;
    }
    if (qos == 2 && ids >= (c->session ? SESSION_IN_MAX : IDS_MAX)) {
        mqtt_close(c, MQTT_RECEIVE_MAXIMUM, NULL);
        return false;
    }
    return true;
}

static void take_publish(struct mqtt_conn *c, const struct mqtt_packet *p)
{
    const struct mqtt_publish *m = &p->publish;
    struct slice topic = m->topic;
    metric_add(METRIC_mqtt_publishes, 1);
    if (!resolve_alias(c, p, &topic))
        return;
    if (m->qos == 2 && find_id(c, p->id) >= 0) {
        answer_duplicate(c, p);
        return;
    }
    if (m->qos && !has_room(c, m->qos))
        return;
    static const enum mqtt_type answers[] = {MQTT_PUBLISH, MQTT_PUBACK, MQTT_PUBREC};
    struct mqtt_exchange *e = mqtt_enqueue(c, answers[m->qos]);
    struct request *q = &e->x.request;
    e->answer.id = p->id;
    q->session = c->session;
    if (m->qos == 2) {
        mqtt_remember_id(c, p->id);
        q->packet_id = p->id;
    }
    q->method = METHOD_PUBLISH;
    q->principal = &c->principal;
    q->path = topic;
    q->body = m->payload;
    if (c->reader.version == MQTT_5) {
        q->properties = p->properties.raw;
        q->has_expiry = mqtt_has(&p->properties, MQTT_MESSAGE_EXPIRY);
        q->expiry_s = q->has_expiry ? p->properties.message_expiry : 0;
        q->client = c->number; /* who has no local is of 5.0: nobody else has to be known */
    }
    q->retain = m->retain;
    q->qos = m->qos;
    q->no_answer = m->qos == 0;
    q->source = c->source;
    mqtt_hand_up(e);
}

/* ---- the rest ---- */

static void take_release(struct mqtt_conn *c, const struct mqtt_packet *p)
{
    bool known = mqtt_release_id(c, p->id);
    if (known && c->session) {
        mqtt_put_release(c, p->id);
        return;
    }
    mqtt_put_ack(&c->front->now, c->reader.version, MQTT_PUBCOMP, p->id,
                 known ? MQTT_SUCCESS : MQTT_ID_NOT_FOUND);
}

static void take_disconnect(struct mqtt_conn *c, const struct mqtt_packet *p)
{
    bool expiry = mqtt_has(&p->properties, MQTT_SESSION_EXPIRY) && p->properties.session_expiry;
    if (expiry && !c->wants_session) { /* section 3.14.2.2.2 */
        mqtt_close(c, MQTT_PROTOCOL_ERROR, "a session that ends with its connection stays so");
        return;
    }
    if (mqtt_has(&p->properties, MQTT_SESSION_EXPIRY))
        set_expiry(c, p->properties.session_expiry);
    mqtt_end(c, p->code != MQTT_SUCCESS); /* MQTT-3.14.4-3; else it ends in error: 3.1.2.5 */
}

void mqtt_take(struct mqtt_conn *c, const struct mqtt_packet *p)
{
    switch (p->type) {
    case MQTT_CONNECT:
        take_connect(c, p);
        break;
    case MQTT_PUBLISH:
        take_publish(c, p);
        break;
    case MQTT_PUBREL:
        take_release(c, p);
        break;
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
        mqtt_take_filters(c, p);
        break;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBCOMP:
        mqtt_take_ack(c, p);
        break;
    case MQTT_PINGREQ:
        mqtt_put_empty(&c->front->now, MQTT_PINGRESP);
        mqtt_deliver_ping(c);
        break;
    case MQTT_DISCONNECT:
        take_disconnect(c, p);
        break;
    case MQTT_AUTH:
        mqtt_close(c, MQTT_PROTOCOL_ERROR, "no authentication method was agreed on");
        break;
    default: /* answers to what was never sent */
        break;
    }
}
