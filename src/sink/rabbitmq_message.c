/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record of the journal as an AMQP message: the value is the body, all else are properties and
 * headers. What changes or deletes a datum is a message too; its header `of` is the position of the
 * datum it is about.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "flow/publish.h"
#include "sink/rabbitmq_own.h"

#define PERSISTENT 2

static amqp_bytes_t bytes_of(struct slice s)
{
    return (amqp_bytes_t){s.len, (void *)(uintptr_t)s.ptr};
}

/* ---- routing keys ---------------------------------------------------------------------------- */

static const char *const fields[] = {"{account}", "{feed}", "{device}"};

/* The field that the text begins with, or -1. */
static int field_at(const char *text)
{
    for (int i = 0; i < 3; i++)
        if (strncmp(text, fields[i], strlen(fields[i])) == 0)
            return i;
    return -1;
}

int rabbitmq_check_key(const char *template, struct error *err)
{
    size_t literal = 0;
    for (const char *t = template; *t;) {
        int field = field_at(t);
        if (field < 0 && (*t == '{' || *t == '}'))
            return error_set(err, -EINVAL,
                             "rabbitmq.routing_key: braces stand around account, feed or device");
        literal += field < 0;
        t += field < 0 ? 1 : strlen(fields[field]);
    }
    return literal > RABBITMQ_NAME_MAX
               ? error_set(err, -EINVAL, "rabbitmq.routing_key: it is too long")
               : 0;
}

static bool put_key(struct rabbitmq_message *ret, struct slice s, bool topic)
{
    if (s.len > RABBITMQ_NAME_MAX - ret->key_len)
        return false;
    for (size_t i = 0; i < s.len; i++)
        ret->key[ret->key_len++] = topic && s.ptr[i] == '/' ? '.' : s.ptr[i];
    return true;
}

/* A topic that is no feed stands in the feed's place, with dots for its slashes. */
static bool make_key(const struct rabbitmq *p, const struct sink_message *m,
                     struct rabbitmq_message *ret)
{
    bool topic = m->record.kind == RECORD_PUBLISH;
    const struct slice values[] = {m->names.account, topic ? m->record.topic : m->names.feed,
                                   m->names.device};
    bool ok = true;
    for (const char *t = p->opts.routing_key; *t && ok;) {
        int field = field_at(t);
        ok = field < 0 ? put_key(ret, slice_of(t, 1), false)
                       : put_key(ret, values[field], topic && field == 1);
        t += field < 0 ? 1 : strlen(fields[field]);
    }
    return ok;
}

/* ---- headers --------------------------------------------------------------------------------- */

static amqp_field_value_t *add(struct rabbitmq_message *ret, const char *name, uint8_t kind)
{
    amqp_table_t *table = &ret->properties.headers;
    CHECK(table->num_entries < (int)RABBITMQ_HEADERS);
    amqp_table_entry_t *e = &ret->headers[table->num_entries++];
    e->key = amqp_cstring_bytes(name);
    e->value.kind = kind;
    return &e->value;
}

static void add_int(struct rabbitmq_message *ret, const char *name, int64_t v)
{
    add(ret, name, AMQP_FIELD_KIND_I64)->value.i64 = v;
}

static void add_text(struct rabbitmq_message *ret, const char *name, struct slice s)
{
    if (s.len)
        add(ret, name, AMQP_FIELD_KIND_UTF8)->value.bytes = bytes_of(s);
}

/* As text: pika, the client that Python programs have, makes whole numbers of AMQP's doubles. */
static void add_double(struct rabbitmq_message *ret, const char *name, char text[32], double v)
{
    int n = snprintf(text, 32, "%.15g", v);
    add_text(ret, name, slice_of(text, (size_t)n));
}

static void add_place(struct rabbitmq_message *ret, const struct datum *d)
{
    if (!d->has_place)
        return;
    add_double(ret, "lat", ret->places[0], d->lat);
    add_double(ret, "lon", ret->places[1], d->lon);
    if (d->has_ele)
        add_double(ret, "ele", ret->places[2], d->ele);
}

/* ---- messages -------------------------------------------------------------------------------- */

/* Body and what is said of it. False: the payload is damaged. */
static bool put_payload(struct rabbitmq_message *ret, const struct record *r)
{
    struct slice rest = r->payload;
    struct datum_target of;
    struct datum d = {0};
    struct publish publish;
    bool ok = true;
    const char *type = r->kind == RECORD_DATUM     ? "datum"
                       : r->kind == RECORD_PUBLISH ? "message"
                       : r->kind == RECORD_CHANGED ? "changed"
                                                   : "deleted";
    ret->properties.type = amqp_cstring_bytes(type);
    if ((r->kind == RECORD_CHANGED || r->kind == RECORD_DELETED) && rest.len) {
        ok = datum_target_decode(rest, &of);
        if (ok)
            add_int(ret, "of", (int64_t)of.offset);
        rest = slice_from(rest, ok ? DATUM_TARGET_BYTES : 0);
    }
    if (r->kind == RECORD_PUBLISH) {
        ok = publish_decode(rest, &publish);
        d.value = publish.message;
    } else if (r->kind != RECORD_DELETED) {
        ok = ok && datum_decode(rest, &d);
    }
    if (!ok)
        return false;
    ret->body = bytes_of(d.value);
    add_place(ret, &d);
    return true;
}

const char *rabbitmq_message(const struct rabbitmq *p, const struct sink_message *m,
                             struct rabbitmq_message *ret)
{
    const struct record *r = &m->record;
    ret->key_len = 0;
    ret->properties = (amqp_basic_properties_t){
        ._flags = AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                  AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_TYPE_FLAG |
                  AMQP_BASIC_APP_ID_FLAG,
        .delivery_mode = PERSISTENT,
        .timestamp = (uint64_t)(r->event_us / 1000000),
        .app_id = amqp_cstring_bytes("sluice")};
    ret->properties.headers.entries = ret->headers;
    int n = snprintf(ret->id, sizeof ret->id, "%s:%llu", p->log_id, (unsigned long long)m->offset);
    ret->properties.message_id = (amqp_bytes_t){(size_t)n, ret->id};
    add_int(ret, "position", (int64_t)m->offset);
    add_int(ret, "ts", r->event_us / 1000);
    add_int(ret, "received", r->receive_us / 1000);
    add_text(ret, "account", m->names.account);
    add_text(ret, "feed", m->names.feed);
    add_text(ret, "device", m->names.device);
    if (r->kind == RECORD_PUBLISH)
        add_text(ret, "topic", r->topic);
    if (!put_payload(ret, r))
        return "its payload is damaged";
    return make_key(p, m, ret) ? NULL : "its routing key would have more than 255 bytes";
}

bool rabbitmq_message_offset(const struct rabbitmq *p, amqp_bytes_t id, uint64_t *ret)
{
    char digits[24];
    struct slice s = slice_of(id.bytes, id.len);
    if (s.len <= RABBITMQ_LOG_ID_LEN + 1 || s.len - RABBITMQ_LOG_ID_LEN > sizeof digits ||
        !slice_starts(s, slice_of(p->log_id, RABBITMQ_LOG_ID_LEN)))
        return false;
    s = slice_from(s, RABBITMQ_LOG_ID_LEN + 1);
    memcpy(digits, s.ptr, s.len);
    digits[s.len] = 0;
    *ret = strtoull(digits, NULL, 10);
    return true;
}
