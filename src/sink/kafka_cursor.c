/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cursor is a message in a topic of ours: key "<log id>/<sink>", value the next offset; the
 * last one that was committed counts. The topic is compacted, so it stays small and forgets none.
 * Each journal has one of its own: of a partition readers are shown nothing behind the beginning of
 * a transaction that is open, so a server that hangs would keep another one from its cursor.
 *
 * A partition's new leader may not know yet how far the old one was, and show less. So a marker of
 * ours is written and committed first, and then everything is read up to that.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "sink/kafka_own.h"

#define PARTITION 0
#define TAIL      2000 /* of the topic's last offsets, so many are looked at first */
#define TEXT_MAX  256
#define SEGMENT   "16777216" /* bytes: only what lies in older ones is compacted */
#define DIRTY     "0.1"

/* ---- the topic ------------------------------------------------------------------------------- */

/* Waits for the answer to an admin request; NULL: there is none, with a sentence. */
static rd_kafka_event_t *answer(struct kafka *k, rd_kafka_queue_t *queue, uint64_t end_ns,
                                const char *what, struct error *err)
{
    for (;;) {
        rd_kafka_event_t *e = rd_kafka_queue_poll(queue, KAFKA_POLL_MS);
        rd_kafka_poll(k->producer, 0);
        if (e || kafka_client_over(k, k->producer, end_ns, what, err))
            return e;
    }
}

/* Whether these settings of a topic keep the cursor for ever. */
static bool is_compacted(const rd_kafka_ConfigResource_t *r, struct error *err)
{
    size_t n;
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(r, &n);
    for (size_t i = 0; i < n; i++) {
        const char *value = rd_kafka_ConfigEntry_value(entries[i]);
        if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), "cleanup.policy") != 0 || !value ||
            strcmp(value, "compact") == 0)
            continue;
        error_set(err, -EINVAL,
                  "topic %s has cleanup.policy=%s and would forget the cursor: it must be compact",
                  rd_kafka_ConfigResource_name(r), value);
        return false;
    }
    return true;
}

/* What the broker says of the topic: DONE, AWAY, or *ret_missing. */
static enum sink_outcome judge_topic(struct kafka *k, const rd_kafka_event_t *e, bool *ret_missing,
                                     struct error *err)
{
    size_t n = 0;
    rd_kafka_resp_err_t code = rd_kafka_event_error((rd_kafka_event_t *)(uintptr_t)e);
    const char *text = rd_kafka_event_error_string((rd_kafka_event_t *)(uintptr_t)e);
    const rd_kafka_ConfigResource_t **r = NULL;
    if (!code)
        r = rd_kafka_DescribeConfigs_result_resources(
            rd_kafka_event_DescribeConfigs_result((rd_kafka_event_t *)(uintptr_t)e), &n);
    if (!code && n == 1) {
        code = rd_kafka_ConfigResource_error(r[0]);
        text = rd_kafka_ConfigResource_error_string(r[0]);
    }
    if (code == RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE) {
        log_line(LOG_WARN, "sink.cursor_unchecked", "sink=%s topic=%s", k->opts.name,
                 k->cursor_name);
        return SINK_DONE;
    }
    *ret_missing = code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    if (!code && n == 1)
        return is_compacted(r[0], err) ? SINK_DONE : SINK_AWAY;
    error_set(err, -EIO, "settings of topic %s: %s", k->cursor_name,
              text ? text : rd_kafka_err2str(code));
    return SINK_AWAY;
}

static enum sink_outcome look_at_topic(struct kafka *k, rd_kafka_queue_t *queue, uint64_t end_ns,
                                       bool *ret_missing, struct error *err)
{
    rd_kafka_ConfigResource_t *r =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, k->cursor_name);
    rd_kafka_DescribeConfigs(k->producer, &r, 1, NULL, queue);
    rd_kafka_ConfigResource_destroy(r);
    rd_kafka_event_t *e = answer(k, queue, end_ns, "settings of the cursor's topic", err);
    if (!e)
        return SINK_AWAY;
    enum sink_outcome found = judge_topic(k, e, ret_missing, err);
    rd_kafka_event_destroy(e);
    return found;
}

/* The replication is what the broker makes topics with. */
static enum sink_outcome make_topic(struct kafka *k, rd_kafka_queue_t *queue, uint64_t end_ns,
                                    struct error *err)
{
    char why[TEXT_MAX];
    size_t n = 0;
    rd_kafka_NewTopic_t *t = rd_kafka_NewTopic_new(k->cursor_name, 1, -1, why, sizeof why);
    if (!t) {
        error_set(err, -EINVAL, "kafka.cursor_topic: %s", why);
        return SINK_AWAY;
    }
    rd_kafka_NewTopic_set_config(t, "cleanup.policy", "compact");
    rd_kafka_NewTopic_set_config(t, "segment.bytes", SEGMENT);
    rd_kafka_NewTopic_set_config(t, "min.cleanable.dirty.ratio", DIRTY);
    rd_kafka_CreateTopics(k->producer, &t, 1, NULL, queue);
    rd_kafka_NewTopic_destroy(t);
    rd_kafka_event_t *e = answer(k, queue, end_ns, "making the cursor's topic", err);
    if (!e)
        return SINK_AWAY;
    rd_kafka_resp_err_t code = rd_kafka_event_error(e);
    const char *text = rd_kafka_event_error_string(e);
    if (!code) {
        const rd_kafka_topic_result_t **r =
            rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(e), &n);
        code = n == 1 ? rd_kafka_topic_result_error(r[0]) : RD_KAFKA_RESP_ERR__FAIL;
        text = n == 1 ? rd_kafka_topic_result_error_string(r[0]) : NULL;
    }
    if (code)
        error_set(err, -EIO, "making topic %s: %s", k->cursor_name,
                  text ? text : rd_kafka_err2str(code));
    else
        log_line(LOG_INFO, "sink.cursor_made", "sink=%s topic=%s", k->opts.name, k->cursor_name);
    rd_kafka_event_destroy(e);
    return code ? SINK_AWAY : SINK_DONE;
}

/* To ask for a topic is to have it made, as the broker makes topics: so look first. */
static enum sink_outcome find_topic(struct kafka *k, struct error *err)
{
    uint64_t end_ns = clock_mono_ns() + k->opts.timeout_ns;
    bool missing = false;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(k->producer);
    enum sink_outcome found = look_at_topic(k, queue, end_ns, &missing, err);
    if (missing)
        found = make_topic(k, queue, end_ns, err);
    rd_kafka_queue_destroy(queue);
    k->topic_checked = found == SINK_DONE;
    return found;
}

enum sink_outcome kafka_cursor_prepare(struct kafka *k, struct error *err)
{
    if (!k->topic_checked && find_topic(k, err) != SINK_DONE)
        return SINK_AWAY;
    k->cursor_topic = rd_kafka_topic_new(k->producer, k->cursor_name, NULL);
    if (k->cursor_topic)
        return SINK_DONE;
    error_set(err, -EINVAL, "kafka.cursor_topic: %s", rd_kafka_err2str(rd_kafka_last_error()));
    return SINK_AWAY;
}

/* ---- writing --------------------------------------------------------------------------------- */

static enum sink_outcome put(struct kafka *k, struct slice key, uint64_t value, void *opaque,
                             struct error *err)
{
    buf_clear(&k->number);
    buf_put_dec(&k->number, value);
    const struct kafka_record record = {.topic = k->cursor_topic,
                                        .partition = PARTITION,
                                        .key = key,
                                        .value = buf_slice(&k->number),
                                        .opaque = opaque};
    return kafka_put(k, &record, clock_mono_ns() + k->opts.timeout_ns, err);
}

enum sink_outcome kafka_cursor_put(struct kafka *k, uint64_t next, struct error *err)
{
    return put(k, slice_str(k->cursor_key), next, &kafka_own_message, err);
}

/* Says that this self began, in a transaction of its own; never the same text twice. */
struct marker {
    char key[KAFKA_CURSOR_MAX + 8], text[24];
};

static enum sink_outcome mark(struct kafka *k, struct marker *ret, struct error *err)
{
    uint64_t now_us = (uint64_t)clock_wall_us();
    snprintf(ret->key, sizeof ret->key, "%s/opened", k->cursor_key);
    snprintf(ret->text, sizeof ret->text, "%llu", (unsigned long long)now_us);
    enum sink_outcome rc = kafka_begin(k, err);
    if (rc == SINK_DONE)
        rc = put(k, slice_str(ret->key), now_us, &kafka_own_message, err);
    if (rc == SINK_DONE)
        rc = kafka_commit(k, err);
    return rc == SINK_DONE ? rc : SINK_AWAY;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* The message is a cursor of this sink. False: it is none that can be understood. */
static bool take(const rd_kafka_message_t *m, uint64_t *position, struct error *err)
{
    char text[24] = "";
    char *end = text;
    if (m->len > 0 && m->len < sizeof text)
        memcpy(text, m->payload, m->len);
    unsigned long long value = strtoull(text, &end, 10);
    if (end == text || *end || m->len != strlen(text)) {
        error_set(err, -EINVAL, "topic %s, offset %lld: the cursor is no number",
                  rd_kafka_topic_name(m->rkt), (long long)m->offset);
        return false;
    }
    *position = value;
    return true;
}

static bool is(const rd_kafka_message_t *m, const char *key)
{
    return slice_eq(slice_of(m->key, m->key_len), slice_str(key));
}

/* Reads from where it was begun to the marker. */
static enum sink_outcome read_up_to(struct kafka *k, rd_kafka_t *c, rd_kafka_topic_t *topic,
                                    const struct marker *marker, uint64_t *position,
                                    bool *ret_found, struct error *err)
{
    uint64_t end_ns = clock_mono_ns() + k->opts.timeout_ns;
    bool over = false, understood = true;
    while (!over && understood) {
        rd_kafka_poll(c, 0);
        rd_kafka_message_t *m = rd_kafka_consume(topic, PARTITION, KAFKA_POLL_MS);
        if (m && m->err)
            snprintf(k->why, sizeof k->why, "%s", rd_kafka_message_errstr(m));
        else if (m && is(m, k->cursor_key))
            *ret_found = understood = take(m, position, err);
        over = m && !m->err && is(m, marker->key) &&
               slice_eq(slice_of(m->payload, m->len), slice_str(marker->text));
        if (m && !m->err) /* it is coming: as long as it takes */
            end_ns = clock_mono_ns() + k->opts.timeout_ns;
        if (m)
            rd_kafka_message_destroy(m);
        if (!over && understood && kafka_client_over(k, c, end_ns, "reading the cursor", err))
            return SINK_AWAY;
    }
    return understood ? SINK_DONE : SINK_AWAY;
}

/* Who leads the partition has to be known before it is read: else this librdkafka looks again only
 * half a second later. */
static bool find_leader(struct kafka *k, rd_kafka_t *c, rd_kafka_topic_t *topic, struct error *err)
{
    uint64_t end_ns = clock_mono_ns() + k->opts.timeout_ns;
    const struct rd_kafka_metadata *m;
    for (;;) {
        rd_kafka_poll(c, 0);
        if (rd_kafka_metadata(c, 0, topic, &m, KAFKA_POLL_MS) == RD_KAFKA_RESP_ERR_NO_ERROR) {
            rd_kafka_metadata_destroy(m);
            return true;
        }
        if (kafka_client_over(k, c, end_ns, "reading the cursor", err))
            return false;
    }
}

static enum sink_outcome read_back(struct kafka *k, const struct marker *marker, int64_t start,
                                   uint64_t *position, bool *ret_found, struct error *err)
{
    rd_kafka_t *c = kafka_client_consumer(k, err);
    if (!c)
        return SINK_AWAY;
    enum sink_outcome found = SINK_AWAY;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(c, k->cursor_name, NULL);
    if (topic && !find_leader(k, c, topic, err)) {
        found = SINK_AWAY;
    } else if (topic && rd_kafka_consume_start(topic, PARTITION, start) == 0) {
        found = read_up_to(k, c, topic, marker, position, ret_found, err);
        rd_kafka_consume_stop(topic, PARTITION);
    } else {
        error_set(err, -EIO, "reading the cursor: %s", rd_kafka_err2str(rd_kafka_last_error()));
    }
    if (topic)
        rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(c);
    return found;
}

enum sink_outcome kafka_cursor_find(struct kafka *k, uint64_t *position, struct error *err)
{
    struct marker marker;
    bool seen = false;
    enum sink_outcome found = mark(k, &marker, err);
    if (found == SINK_DONE)
        found = read_back(k, &marker, RD_KAFKA_OFFSET_TAIL(TAIL), position, &seen, err);
    if (found == SINK_DONE && !seen)
        found = read_back(k, &marker, RD_KAFKA_OFFSET_BEGINNING, position, &seen, err);
    return found;
}
