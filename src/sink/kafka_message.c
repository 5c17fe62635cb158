/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages as Kafka has them: the value is what was sent, byte for byte; what neither key nor time
 * says stands in headers. The key keeps what belongs together in one partition, in order. Kafka's
 * own timestamp is when the message was received: brokers delete by it, and refuse what lies in the
 * future, so a device whose clock is wrong would have its messages removed at once, or never, or
 * refused. What the device says is the header `ts`.
 *
 * A change has the new value and a deletion an empty one, both with the header `target`, the
 * position of what they are about. A feed's deletion has no target and no value: in a compacted
 * topic it ends the feed's key.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#include <xxhash.h>

#include "base/clock.h"
#include "codec/text.h"
#include "flow/publish.h"
#include "sink/kafka_own.h"

#define HEADERS_FEW 4

/* ---- the topic ------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    size_t at; /* of the name, in struct sink_names */
} holders[] = {{"{account}", offsetof(struct sink_names, account)},
               {"{feed}", offsetof(struct sink_names, feed)},
               {"{device}", offsetof(struct sink_names, device)}};

/* What stands for the feed of a message to a topic that is none. */
static struct slice feed_of(const struct sink_message *m)
{
    return m->record.kind == RECORD_PUBLISH ? m->record.topic : m->names.feed;
}

static bool is_legal(char c)
{
    return isalnum((unsigned char)c) || c == '.' || c == '_' || c == '-';
}

/* The placeholder that stands here; NULL: none. *ret_len: of its text. */
static const size_t *holder_at(const char *text, size_t *ret_len)
{
    if (*text != '{')
        return NULL;
    for (size_t i = 0; i < sizeof holders / sizeof holders[0]; i++) {
        *ret_len = strlen(holders[i].text);
        if (strncmp(text, holders[i].text, *ret_len) == 0)
            return &holders[i].at;
    }
    return NULL;
}

int kafka_template_check(const char *template, struct error *err)
{
    size_t n = 1, length = 0;
    for (const char *p = template; *p; p += n, length++) {
        bool held = holder_at(p, &n) != NULL;
        if (!held && !is_legal(*p))
            return error_set(err, -EINVAL,
                             "kafka.topic: '%c' is neither a letter, a digit, '.', '_' or '-', nor "
                             "does {account}, {feed} or {device} begin there",
                             *p);
        n = held ? n : 1;
    }
    if (length == 0 || length > KAFKA_TOPIC_MAX || strcmp(template, ".") == 0 ||
        strcmp(template, "..") == 0)
        return error_set(err, -EINVAL,
                         "kafka.topic: it must have 1 to %u characters, and not be "
                         "'.' or '..'",
                         KAFKA_TOPIC_MAX);
    return 0;
}

/* A '/' becomes a '.', what a topic's name cannot have a '_', and so does a name that is not there.
 */
static void put_name(struct buf *out, struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        buf_put_u8(out, (uint8_t)(is_legal(name.ptr[i]) ? name.ptr[i]
                                  : name.ptr[i] == '/'  ? '.'
                                                        : '_'));
    if (name.len == 0)
        buf_put_u8(out, '_');
}

static void put_topic(const struct kafka *k, const struct sink_message *m, struct buf *out)
{
    struct sink_names names = m->names;
    size_t n = 1;
    names.feed = feed_of(m);
    for (const char *p = k->opts.topic; *p; p += n) {
        const size_t *at = holder_at(p, &n);
        n = at ? n : 1;
        if (at)
            put_name(out, *(const struct slice *)((const char *)&names + *at));
        else
            buf_put_u8(out, (uint8_t)*p);
    }
}

/* The handle of the message's topic; NULL: it has none, with a sentence. */
static rd_kafka_topic_t *find_topic(struct kafka *k, const struct sink_message *m,
                                    struct error *err)
{
    struct buf *name = &k->name;
    buf_clear(name);
    put_topic(k, m, name);
    bool bad = name->len > KAFKA_TOPIC_MAX || (name->len == 1 && name->ptr[0] == '.') ||
               (name->len == 2 && name->ptr[0] == '.' && name->ptr[1] == '.');
    rd_kafka_topic_t **place = &k->topics[XXH3_64bits(name->ptr, name->len) % KAFKA_TOPICS];
    buf_put_u8(name, 0);
    if (bad || name->failed) {
        error_set(err, -EINVAL, "there can be no topic with the name %.64s%s", name->ptr,
                  name->len > 64 ? "..." : "");
        return NULL;
    }
    if (*place && strcmp(rd_kafka_topic_name(*place), name->ptr) == 0)
        return *place;
    if (*place)
        rd_kafka_topic_destroy(*place); /* the messages in it keep it as long as they need it */
    *place = rd_kafka_topic_new(k->producer, name->ptr, NULL);
    if (!*place)
        error_set(err, -EINVAL, "topic %s: %s", name->ptr, rd_kafka_err2str(rd_kafka_last_error()));
    return *place;
}

/* ---- key, value, headers --------------------------------------------------------------------- */

/* Never empty: a compacted topic takes no message without a key. A feed that has no name any more
 * goes by its number. */
static void put_key(const struct kafka *k, const struct sink_message *m, struct buf *out)
{
    struct slice part = k->opts.key == KAFKA_KEY_DEVICE ? m->names.device : feed_of(m);
    if (m->names.account.len)
        buf_put_slice(out, m->names.account);
    else
        buf_printf(out, "#%llu", (unsigned long long)m->record.account);
    if (part.len) {
        buf_put_u8(out, '/');
        buf_put_slice(out, part);
    } else if (k->opts.key == KAFKA_KEY_FEED) {
        buf_printf(out, "/#%llu", (unsigned long long)m->record.feed);
    }
}

struct content {
    const char *kind;
    bool has_target, has_value;
    struct datum_target target;
    struct datum datum; /* its value, and where */
};

/* False: the payload is damaged. */
static bool read_content(const struct record *r, struct content *ret)
{
    struct publish p;
    *ret = (struct content){.kind = "datum", .has_value = true};
    switch ((int)r->kind) {
    case RECORD_PUBLISH:
        ret->kind = "message";
        if (!publish_decode(r->payload, &p))
            return false;
        ret->datum.value = p.message;
        return true;
    case RECORD_CHANGED:
        ret->kind = "changed";
        ret->has_target = true;
        return datum_target_decode(r->payload, &ret->target) &&
               datum_decode(slice_from(r->payload, DATUM_TARGET_BYTES), &ret->datum);
    case RECORD_DELETED:
        ret->kind = "deleted";
        ret->has_target = ret->has_value = r->payload.len > 0;
        return !ret->has_target || datum_target_decode(r->payload, &ret->target);
    default:
        return datum_decode(r->payload, &ret->datum);
    }
}

static void add(rd_kafka_headers_t **h, const char *name, struct slice value)
{
    if (!value.len)
        return;
    if (!*h)
        *h = rd_kafka_headers_new(HEADERS_FEW);
    rd_kafka_header_add(*h, name, -1, value.ptr, (ssize_t)value.len);
}

static void add_number(struct kafka *k, rd_kafka_headers_t **h, const char *name, uint64_t value)
{
    buf_clear(&k->number);
    buf_put_dec(&k->number, value);
    add(h, name, buf_slice(&k->number));
}

static void add_double(struct kafka *k, rd_kafka_headers_t **h, const char *name, double value)
{
    buf_clear(&k->number);
    double_format(&k->number, value);
    add(h, name, buf_slice(&k->number));
}

static void add_content(struct kafka *k, rd_kafka_headers_t **h, const struct content *c)
{
    if (c->has_target)
        add_number(k, h, "target", c->target.offset);
    if (c->datum.has_place) {
        add_double(k, h, "lat", c->datum.lat);
        add_double(k, h, "lon", c->datum.lon);
    }
    if (c->datum.has_place && c->datum.has_ele)
        add_double(k, h, "ele", c->datum.ele);
}

/* See enum kafka_headers. NULL: there are none. */
static rd_kafka_headers_t *make_headers(struct kafka *k, const struct sink_message *m,
                                        const struct content *c, bool again)
{
    const struct record *r = &m->record;
    bool full = k->opts.headers == KAFKA_HEADERS_FULL;
    bool brief = full || k->opts.headers == KAFKA_HEADERS_BRIEF;
    bool by_device = k->opts.key == KAFKA_KEY_DEVICE;
    int64_t ms = r->event_us / 1000;
    rd_kafka_headers_t *h = NULL;
    if (full || r->kind != RECORD_DATUM)
        add(&h, "kind", slice_str(c->kind));
    if (full)
        add(&h, "account", m->names.account);
    if ((full || (brief && by_device)) && r->kind != RECORD_PUBLISH)
        add(&h, "feed", m->names.feed);
    if (full || (brief && !by_device))
        add(&h, "device", m->names.device);
    if (full || (brief && by_device))
        add(&h, "topic", r->topic);
    if (full || ms != r->receive_us / 1000) {
        buf_clear(&k->number);
        buf_printf(&k->number, "%lld", (long long)ms);
        add(&h, "ts", buf_slice(&k->number));
    }
    if (full)
        add(&h, "log", slice_str(k->log_id));
    if (brief || again || c->has_target)
        add_number(k, &h, "position", m->offset);
    if (full && r->feed)
        add_number(k, &h, "feed_no", r->feed);
    add_content(k, &h, c);
    if (again)
        add(&h, "again", SLICE("1"));
    return h;
}

enum sink_outcome kafka_message_put(struct kafka *k, const struct sink_message *m, bool again,
                                    uint64_t end_ns, struct error *err)
{
    struct content c;
    if (!read_content(&m->record, &c)) {
        error_set(err, 0, "its payload is no %s", c.kind);
        return SINK_POISON;
    }
    rd_kafka_topic_t *topic = find_topic(k, m, err);
    if (!topic)
        return SINK_POISON;
    buf_clear(&k->key);
    put_key(k, m, &k->key);
    struct slice value = c.datum.value.ptr ? c.datum.value : SLICE("");
    struct kafka_record record = {.topic = topic,
                                  .partition = RD_KAFKA_PARTITION_UA,
                                  .key = buf_slice(&k->key),
                                  .value = c.has_value ? value : (struct slice){0},
                                  .time_ms = m->record.receive_us / 1000,
                                  .headers = make_headers(k, m, &c, again)};
    return kafka_put(k, &record, end_ns, err);
}
