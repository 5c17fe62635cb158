/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/journal_print.h"

#include <jansson.h>
#include <stdlib.h>

#include "codec/text.h"
#include "flow/publish.h"
#include "flow/session_record.h"

#define HEX_BYTES_MAX ((size_t)8 << 20)

static const char *kind_name(enum record_kind kind)
{
    switch (kind) {
    case RECORD_DATUM:
        return "datum";
    case RECORD_PUBLISH:
        return "publish";
    case RECORD_CHANGED:
        return "changed";
    case RECORD_DELETED:
        return "deleted";
    case RECORD_DICTIONARY:
        return "dictionary";
    case RECORD_SESSION:
        return "session";
    case RECORD_AUDIT:
        return "audit";
    case RECORD_GAP:
        return "gap";
    case RECORD_RULE:
        return "rule";
    }
    return "unknown";
}

static void put_time(json_t *object, const char *name, int64_t us)
{
    struct buf text;
    buf_init(&text, 100);
    time_format_ms(&text, us);
    json_object_set_new(object, name, json_stringn(text.ptr, text.len));
    buf_fini(&text);
}

static void put_bytes(json_t *object, const char *name, struct slice bytes)
{
    json_t *text = json_stringn(bytes.ptr ? bytes.ptr : "", bytes.len);
    if (text) {
        json_object_set_new(object, name, text);
        return;
    }
    char longer[32];
    struct buf hex;
    snprintf(longer, sizeof longer, "%s_hex", name);
    buf_init(&hex, HEX_BYTES_MAX);
    for (size_t i = 0; i < bytes.len; i++)
        buf_printf(&hex, "%02x", (unsigned char)bytes.ptr[i]);
    json_object_set_new(object, longer, json_stringn(hex.ptr, hex.len));
    buf_fini(&hex);
}

static void put_number(json_t *object, const char *name, uint64_t v)
{
    if (v)
        json_object_set_new(object, name, json_integer((json_int_t)v));
}

static void put_datum(json_t *object, struct slice payload)
{
    struct datum d;
    if (!datum_decode(payload, &d)) {
        put_bytes(object, "payload", payload);
        return;
    }
    put_bytes(object, "value", d.value);
    if (d.has_place) {
        json_object_set_new(object, "lat", json_real(d.lat));
        json_object_set_new(object, "lon", json_real(d.lon));
    }
    if (d.has_place && d.has_ele)
        json_object_set_new(object, "ele", json_real(d.ele));
}

static void put_publish(json_t *object, struct slice payload)
{
    struct publish p;
    if (!publish_decode(payload, &p)) {
        put_bytes(object, "payload", payload);
        return;
    }
    put_number(object, "qos", p.qos);
    if (p.has_expiry)
        json_object_set_new(object, "expiry_s", json_integer(p.expiry_s));
    if (p.properties.len)
        put_bytes(object, "properties", p.properties);
    put_bytes(object, "message", p.message);
}

static const char *event_name(enum session_event event)
{
    static const char *const names[] = {
        [SESSION_OPENED] = "opened",         [SESSION_RESUMED] = "resumed",
        [SESSION_CLOSED] = "closed",         [SESSION_ENDED] = "ended",
        [SESSION_SUBSCRIBED] = "subscribed", [SESSION_UNSUBSCRIBED] = "unsubscribed",
        [SESSION_ACKED] = "acked",           [SESSION_SENT] = "sent",
        [SESSION_PUBREL] = "pubrel",         [SESSION_COMPLETED] = "completed",
        [SESSION_RECEIVED] = "received",     [SESSION_RELEASED] = "released",
        [SESSION_GIVEN] = "given",           [SESSION_RETURNED] = "returned",
    };
    return names[event];
}

/* {"position": 7, "part": 1, "packet_id": 3, "qos": 2}, what of it there is. */
static json_t *item_of(const struct session_record *s, const struct session_item *item)
{
    json_t *one = json_object();
    if (s->event == SESSION_ACKED || s->event == SESSION_SENT || s->event >= SESSION_GIVEN) {
        put_number(one, "position", item->place / SESSION_PARTS);
        put_number(one, "part", item->place % SESSION_PARTS);
    }
    put_number(one, "packet_id", item->packet_id);
    put_number(one, "qos", item->qos);
    return one;
}

static void put_session(json_t *object, struct slice payload)
{
    struct session_record s;
    if (!session_record_decode(payload, &s)) {
        put_bytes(object, "payload", payload);
        return;
    }
    json_object_set_new(object, "event", json_string(event_name(s.event)));
    if (s.event == SESSION_OPENED)
        put_bytes(object, "client_id", s.client_id);
    if (s.event <= SESSION_CLOSED)
        json_object_set_new(object, "expiry_s", json_integer(s.expiry_s));
    if (s.will.topic.len)
        put_bytes(object, "will_topic", s.will.topic);
    put_number(object, "why", s.end);
    if (s.filter.filter.len)
        put_bytes(object, "filter", s.filter.filter);
    put_number(object, "qos", s.filter.qos);
    put_number(object, "subscription_id", s.filter.id);
    put_number(object, "floor", s.floor);
    if (!s.count)
        return;
    json_t *items = json_array();
    struct slice list = s.list;
    struct session_item item = {0};
    while (session_next_item(&s, &list, &item))
        json_array_append_new(items, item_of(&s, &item));
    json_object_set_new(object, "items", items);
}

/* What the payload holds depends on the kind; sealed ones stay closed. */
static void put_payload(json_t *object, const struct record *r)
{
    struct datum_target target;
    bool has_target = (r->kind == RECORD_CHANGED || r->kind == RECORD_DELETED) && !r->key_id &&
                      r->payload.len >= DATUM_TARGET_BYTES &&
                      datum_target_decode(slice_of(r->payload.ptr, DATUM_TARGET_BYTES), &target);
    if (has_target) {
        json_object_set_new(object, "target_offset", json_integer((json_int_t)target.offset));
        put_time(object, "target_event", target.event_ms * 1000);
    }
    if (r->key_id)
        put_number(object, "sealed_bytes", r->payload.len);
    else if (r->kind == RECORD_DATUM)
        put_datum(object, r->payload);
    else if (r->kind == RECORD_CHANGED && has_target)
        put_datum(object, slice_from(r->payload, DATUM_TARGET_BYTES));
    else if (r->kind == RECORD_PUBLISH)
        put_publish(object, r->payload);
    else if (r->kind == RECORD_SESSION)
        put_session(object, r->payload);
    else if (r->payload.len && !has_target)
        put_bytes(object, "payload", r->payload);
}

static json_t *object_of(uint64_t offset, const struct record *r)
{
    json_t *object =
        json_pack("{s:I, s:s}", "offset", (json_int_t)offset, "kind", kind_name(r->kind));
    put_time(object, "received", r->receive_us);
    if (r->event_us != r->receive_us)
        put_time(object, "event", r->event_us);
    put_number(object, "account", r->account);
    put_number(object, "feed", r->feed);
    put_number(object, "credential", r->credential);
    put_number(object, "client", r->client);
    put_number(object, "key_id", r->key_id);
    if (r->topic.len)
        put_bytes(object, "topic", r->topic);
    if (r->producer.key.len)
        put_bytes(object, "idempotency_key", r->producer.key);
    put_number(object, "session", r->producer.session);
    put_number(object, "sequence", r->producer.sequence);
    put_payload(object, r);
    return object;
}

/* name=value, a text as it is when it is one plain word, else quoted as in JSON. */
static void print_member(FILE *out, const char *name, json_t *value)
{
    const char *text = json_string_value(value);
    bool plain = text && *text;
    for (const char *at = text; plain && *at; at++)
        plain = *at > ' ' && *at != '"' && *at != '=' && *at != 0x7f;
    fprintf(out, " %s=", name);
    if (plain)
        fputs(text, out);
    else
        json_dumpf(value, out, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(17));
}

void journal_print(FILE *out, bool json, uint64_t offset, const struct record *r)
{
    json_t *object = object_of(offset, r), *value;
    const char *name;
    if (json) {
        json_dumpf(object, out, JSON_COMPACT | JSON_REAL_PRECISION(17));
    } else {
        fprintf(out, "%llu %s %s", (unsigned long long)offset,
                json_string_value(json_object_get(object, "received")), kind_name(r->kind));
        json_object_del(object, "offset");
        json_object_del(object, "received");
        json_object_del(object, "kind");
        json_object_foreach(object, name, value) print_member(out, name, value);
    }
    fputc('\n', out);
    json_decref(object);
}
