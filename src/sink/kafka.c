/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch is one transaction: its messages, and the cursor as one more, in a topic of Sluice's own
 * (kafka_cursor.c). Who reads what is committed sees all of it or nothing. When the outcome of a
 * commit is unknown, the next open settles it: it fences our former self off, waits until its last
 * transaction is over one way or the other, and reads the cursor back.
 *
 * A replay moves no cursor. Kafka cannot replace what it has: a replay puts the messages there once
 * more, with the header `again`.
 */
#include "sink/kafka.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "sink/kafka_own.h"

#define U(v) (unsigned long long)(v)

static enum sink_outcome on_open(void *of, uint64_t *position, struct error *err)
{
    struct kafka *k = of;
    enum sink_outcome rc = kafka_client_open(k, err);
    if (rc == SINK_DONE)
        rc = kafka_cursor_prepare(k, err);
    if (rc == SINK_DONE)
        rc = kafka_cursor_find(k, position, err);
    if (rc != SINK_DONE)
        k->topic_checked = false; /* somebody may have removed it */
    k->next = *position;
    return rc == SINK_DONE ? rc : SINK_AWAY;
}

static void on_close(void *of)
{
    kafka_client_close(of);
}

/* Hears what librdkafka has to say, lest it heap up. */
static enum sink_outcome on_tend(void *of, struct error *err)
{
    return kafka_client_tend(of, err);
}

static void on_cancel(void *of)
{
    kafka_client_cancel(of);
}

/* What belongs into the transaction. */
static enum sink_outcome fill(struct kafka *k, const struct sink_batch *b, struct error *err)
{
    uint64_t end_ns = clock_mono_ns() + k->opts.timeout_ns;
    enum sink_outcome rc = SINK_DONE;
    for (unsigned i = 0; i < b->count && rc == SINK_DONE; i++)
        rc = kafka_message_put(k, &b->messages[i], b->again, end_ns, err);
    if (rc == SINK_DONE && !b->again)
        rc = kafka_cursor_put(k, b->to, err);
    return rc;
}

/* The broker refused a message. This librdkafka leaves a gap in the sequence numbers of its
 * partition then, for which the next batch would be refused: a new producer has none. */
static enum sink_outcome begin_anew(struct kafka *k, struct error *err)
{
    struct error why = {""};
    uint64_t expected = k->next, position = expected;
    if (on_open(k, &position, &why) != SINK_DONE) {
        error_set(err, -EIO, "%s", why.text);
        return SINK_AWAY;
    }
    if (position == expected)
        return SINK_POISON;
    error_set(err, -ESTALE, "its cursor is at %llu, not at %llu", U(position), U(expected));
    return SINK_MOVED;
}

static enum sink_outcome on_send(void *of, const struct sink_batch *b, struct error *err)
{
    struct kafka *k = of;
    if (!b->again && b->from != k->next) {
        error_set(err, -ESTALE, "its cursor is at %llu, not at %llu", U(k->next), U(b->from));
        return SINK_MOVED;
    }
    enum sink_outcome rc = kafka_begin(k, err);
    if (rc != SINK_DONE)
        return rc;
    rc = fill(k, b, err);
    if (rc == SINK_DONE)
        rc = kafka_commit(k, err);
    if (rc == SINK_DONE && !b->again)
        k->next = b->to;
    if (rc == SINK_DONE || rc == SINK_MOVED)
        return rc;
    bool refused = rc == SINK_POISON && k->bad;
    if (!kafka_abort(k))
        return SINK_AWAY;
    return refused ? begin_anew(k, err) : rc;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void on_free(void *of)
{
    struct kafka *k = of;
    if (!k)
        return;
    kafka_client_close(k);
    buf_fini(&k->name);
    buf_fini(&k->key);
    buf_fini(&k->number);
    free(k);
}

const struct sink_ops kafka_ops = {
    .kind = "kafka",
    .transactional = true,
    .open = on_open,
    .send = on_send,
    .tend = on_tend,
    .close = on_close,
    .cancel = on_cancel,
    .free = on_free,
};

int kafka_new(const struct kafka_opts *opts, void **ret, struct error *err)
{
    struct kafka *k = calloc(1, sizeof *k);
    struct error why = {""};
    CHECK(k);
    k->opts = *opts;
    for (unsigned i = 0; i < 16; i++)
        snprintf(k->log_id + 2 * i, 3, "%02x", opts->log_id[i]);
    snprintf(k->cursor_key, sizeof k->cursor_key, "%s/%s", k->log_id, opts->name);
    snprintf(k->transactional_id, sizeof k->transactional_id, "sluice-%s-%s", k->log_id,
             opts->name);
    buf_init(&k->name, 4 * KAFKA_KEY_MAX);
    buf_init(&k->key, 4 * KAFKA_KEY_MAX);
    buf_init(&k->number, 64);
    int rc = kafka_template_check(opts->topic, err);
    int n = snprintf(k->cursor_name, sizeof k->cursor_name, "%s.%s", opts->cursor_topic, k->log_id);
    if (rc == 0 && (n >= (int)sizeof k->cursor_name || strchr(k->cursor_name, '{') ||
                    kafka_template_check(opts->cursor_topic, &why) < 0))
        rc = error_set(err, -EINVAL, "kafka.cursor_topic: '%.64s' cannot begin a topic's name",
                       opts->cursor_topic);
    if (rc == 0 && kafka_client_check(k, &why) < 0)
        rc = error_set(err, -EINVAL, "kafka: %s", why.text);
    if (rc < 0) {
        on_free(k);
        return rc;
    }
    *ret = k;
    return 0;
}
