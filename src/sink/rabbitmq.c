/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch is published as a whole and then waited for; the broker's answers are read meanwhile:
 *
 *   basic.ack       it is safe: on the disks of its queues, or nobody wants it (mandatory off)
 *   basic.return    no queue takes it; its ack comes behind. A dead letter
 *   basic.nack      the broker could not, or a queue is full: the whole is tried again later
 *   channel.close   of a publish, 406: one is too large, and who knows which: halving finds it
 *
 * Each message that has its answer is marked, so that after a failure only the others are sent
 * again. On a new connection a first message is waited for alone: a broker that is low on memory or
 * disk reads what we send only once it has recovered, also long after we gave up, and then all
 * attempts are there.
 */
#include "sink/rabbitmq.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/search.h"
#include "sink/password.h"
#include "sink/rabbitmq_own.h"

#define PLACE_DONE UINT32_MAX
#define LOOK_EVERY 32u /* messages published between two looks at what came */

/* ---- connecting ------------------------------------------------------------------------------ */

/* Makes what is missing. A command that asks only whether it is there needs no right to make it. */
static int make_exchange(struct rabbitmq *p, struct error *err)
{
    amqp_connection_state_t conn = p->link.conn;
    amqp_bytes_t name = amqp_cstring_bytes(p->opts.exchange);
    for (int asked = 1; asked >= 0; asked--) {
        amqp_exchange_declare(conn, AMQP_CHANNEL, name, amqp_cstring_bytes("topic"), asked, 1, 0, 0,
                              amqp_empty_table);
        int code = amqp_link_reply(&p->link, "rabbitmq.exchange", err);
        if (code != AMQP_NOT_FOUND || !asked)
            return code;
        if (amqp_link_reopen(&p->link, err) != SINK_DONE)
            return -1;
    }
    return -1;
}

static int make_queue(struct rabbitmq *p, struct error *err)
{
    amqp_table_entry_t quorum = {amqp_cstring_bytes("x-queue-type"),
                                 {AMQP_FIELD_KIND_UTF8, {.bytes = amqp_cstring_bytes("quorum")}}};
    const amqp_table_t arguments = {1, &quorum};
    amqp_connection_state_t conn = p->link.conn;
    amqp_bytes_t name = amqp_cstring_bytes(p->opts.queue);
    amqp_queue_declare(conn, AMQP_CHANNEL, name, 1, 0, 0, 0, amqp_empty_table);
    int code = amqp_link_reply(&p->link, "rabbitmq.queue", err);
    if (code == AMQP_NOT_FOUND) {
        if (amqp_link_reopen(&p->link, err) != SINK_DONE)
            return -1;
        amqp_queue_declare(conn, AMQP_CHANNEL, name, 0, 1, 0, 0, arguments);
        code = amqp_link_reply(&p->link, "rabbitmq.queue", err);
    }
    if (code || !p->opts.exchange[0])
        return code;
    amqp_queue_bind(conn, AMQP_CHANNEL, name, amqp_cstring_bytes(p->opts.exchange),
                    amqp_cstring_bytes("#"), amqp_empty_table);
    return amqp_link_reply(&p->link, "rabbitmq.queue", err);
}

/* From now on each message on the channel is confirmed, and counted from 1. */
static int confirm(struct rabbitmq *p, struct error *err)
{
    amqp_confirm_select(p->link.conn, AMQP_CHANNEL);
    p->link.tag = 1;
    p->returning = false;
    return amqp_link_reply(&p->link, "confirm.select", err);
}

static enum sink_outcome on_open(void *of, uint64_t *position, struct error *err)
{
    struct rabbitmq *p = of;
    struct buf password;
    enum sink_outcome rc = SINK_AWAY;
    if (password_read("rabbitmq.password_file", p->opts.password_file, &password, err) == 0)
        rc = amqp_link_open(&p->link, &p->target, p->opts.password_file[0] ? password.ptr : "guest",
                            p->opts.ca_file, err);
    password_forget(&password);
    p->confirmed = false;
    if (rc != SINK_DONE || (p->opts.exchange[0] && make_exchange(p, err) != 0) ||
        (p->opts.queue[0] && make_queue(p, err) != 0) || confirm(p, err) != 0)
        return SINK_AWAY;
    return SINK_DONE;
}

static void on_close(void *of)
{
    struct rabbitmq *p = of;
    amqp_link_close(&p->link);
}

static void on_cancel(void *of)
{
    struct rabbitmq *p = of;
    amqp_link_cancel(&p->link);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void settle_one(struct rabbitmq *p, unsigned at, bool taken)
{
    if (p->places[at] == PLACE_DONE)
        return;
    struct sink_message *m = &p->batch->messages[p->places[at]];
    if (taken && m->verdict == SINK_UNKNOWN) /* else it was returned */
        m->verdict = SINK_TAKEN;
    p->nacked += !taken;
    p->places[at] = PLACE_DONE;
    p->settled++;
}

/* ack or nack. False: of something that was not sent. */
static bool settle(struct rabbitmq *p, uint64_t tag, bool multiple, bool taken)
{
    if (tag == 0 && multiple)
        tag = p->first_tag + p->published - 1; /* all there are */
    if (!p->batch || tag < p->first_tag || tag - p->first_tag >= p->published)
        return false;
    unsigned last = (unsigned)(tag - p->first_tag);
    for (unsigned i = multiple ? p->low : last; i <= last; i++)
        settle_one(p, i, taken);
    while (p->low < p->published && p->places[p->low] == PLACE_DONE)
        p->low++;
    p->confirmed = true;
    return true;
}

/* The message with that offset. */
static void refuse(struct rabbitmq *p, uint64_t offset)
{
    if (!p->batch)
        return;
    struct sink_message *list = p->batch->messages;
    size_t i = SEARCH_FROM(list, p->batch->count, offset, offset);
    if (i < p->batch->count && list[i].offset == offset) {
        list[i].verdict = SINK_REFUSED;
        list[i].why = "returned: no queue is bound to the exchange for its routing key";
    }
}

/* What a message that was returned consists of. */
static void take_content(struct rabbitmq *p, const amqp_frame_t *f)
{
    uint64_t offset;
    if (!p->returning)
        return;
    if (f->frame_type == AMQP_FRAME_HEADER) {
        const amqp_basic_properties_t *its = f->payload.properties.decoded;
        p->body_left = f->payload.properties.body_size;
        if (f->payload.properties.class_id == AMQP_BASIC_CLASS &&
            its->_flags & AMQP_BASIC_MESSAGE_ID_FLAG &&
            rabbitmq_message_offset(p, its->message_id, &offset))
            refuse(p, offset);
    } else {
        size_t n = f->payload.body_fragment.len;
        p->body_left -= n < p->body_left ? n : p->body_left;
    }
    p->returning = p->body_left > 0;
}

/* The channel is closed; 406 of a publish: for what one of the messages is. */
static enum sink_outcome closed(struct rabbitmq *p, const amqp_channel_close_t *m,
                                struct error *err)
{
    bool publish =
        m->class_id == AMQP_BASIC_CLASS && m->method_id == (AMQP_BASIC_PUBLISH_METHOD & 0xffff);
    p->link.channel = false;
    error_set(err, -EIO, "%d %.*s", m->reply_code,
              m->reply_text.len < 300 ? (int)m->reply_text.len : 300,
              (const char *)m->reply_text.bytes);
    return publish && m->reply_code == AMQP_PRECONDITION_FAILED ? SINK_POISON : SINK_AWAY;
}

static enum sink_outcome take_method(struct rabbitmq *p, const amqp_method_t *method,
                                     struct error *err)
{
    const amqp_basic_ack_t *ack = method->decoded;
    const amqp_basic_nack_t *nack = method->decoded;
    const amqp_connection_close_t *bye = method->decoded;
    bool ok = true;
    switch (method->id) {
    case AMQP_BASIC_ACK_METHOD:
        ok = settle(p, ack->delivery_tag, ack->multiple, true);
        break;
    case AMQP_BASIC_NACK_METHOD:
        ok = settle(p, nack->delivery_tag, nack->multiple, false);
        break;
    case AMQP_BASIC_RETURN_METHOD:
        p->returning = true;
        p->body_left = UINT64_MAX;
        break;
    case AMQP_CHANNEL_CLOSE_METHOD:
        return closed(p, method->decoded, err);
    case AMQP_CONNECTION_BLOCKED_METHOD:
        p->link.blocked = true;
        break;
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
        p->link.blocked = false;
        break;
    case AMQP_CONNECTION_CLOSE_METHOD:
        p->link.healthy = false;
        error_set(err, -EIO, "the broker closes: %d %.*s", bye->reply_code,
                  bye->reply_text.len < 300 ? (int)bye->reply_text.len : 300,
                  (const char *)bye->reply_text.bytes);
        return SINK_AWAY;
    default: /* new ones may be */
        break;
    }
    if (!ok) {
        p->link.healthy = false;
        error_set(err, -EPROTO, "the broker confirms what was not sent");
    }
    return ok ? SINK_DONE : SINK_AWAY;
}

/* Takes one frame; *ret_has false: none came. */
static enum sink_outcome take(struct rabbitmq *p, bool wait, bool *ret_has, struct error *err)
{
    amqp_frame_t f;
    enum sink_outcome rc = amqp_link_frame(&p->link, wait, &f, ret_has, err);
    if (rc != SINK_DONE || !*ret_has)
        return rc;
    if (f.frame_type == AMQP_FRAME_METHOD)
        return take_method(p, &f.payload.method, err);
    if (f.frame_type == AMQP_FRAME_HEADER || f.frame_type == AMQP_FRAME_BODY)
        take_content(p, &f);
    return SINK_DONE;
}

static enum sink_outcome take_all(struct rabbitmq *p, struct error *err)
{
    bool has = true;
    enum sink_outcome rc = SINK_DONE;
    while (rc == SINK_DONE && has)
        rc = take(p, false, &has, err);
    return rc;
}

static enum sink_outcome late(struct rabbitmq *p, const char *what, struct error *err)
{
    p->link.healthy = false;
    if (amqp_link_cancelled(&p->link))
        error_set(err, -ECANCELED, "%s: the sink stops", what);
    else if (p->link.blocked)
        error_set(err, -EAGAIN, "the broker is low on memory or disk and takes no messages");
    else
        error_set(err, -ETIMEDOUT, "%s: no answer within %llu s", what,
                  (unsigned long long)(p->opts.timeout_ns / NS_PER_S));
    return SINK_AWAY;
}

/* Waits until all that is published is settled. The time runs from the last answer. */
static enum sink_outcome take_rest(struct rabbitmq *p, struct error *err)
{
    enum sink_outcome rc = SINK_DONE;
    uint64_t end_ns = clock_mono_ns() + p->opts.timeout_ns;
    while (rc == SINK_DONE && p->settled < p->published) {
        unsigned before = p->settled;
        bool has;
        rc = take(p, true, &has, err);
        if (p->settled > before)
            end_ns = clock_mono_ns() + p->opts.timeout_ns;
        else if (rc == SINK_DONE && clock_mono_ns() >= end_ns)
            rc = late(p, "confirmation", err);
    }
    return rc;
}

/* ---- a batch --------------------------------------------------------------------------------- */

static enum sink_outcome publish(struct rabbitmq *p, unsigned at, struct error *err)
{
    struct rabbitmq_message out;
    struct sink_message *m = &p->batch->messages[at];
    m->why = rabbitmq_message(p, m, &out);
    if (m->why) {
        m->verdict = SINK_REFUSED;
        return SINK_DONE;
    }
    if (!amqp_link_writable(&p->link, clock_mono_ns() + p->opts.timeout_ns))
        return late(p, "publishing", err);
    int status = amqp_basic_publish(
        p->link.conn, AMQP_CHANNEL, amqp_cstring_bytes(p->opts.exchange),
        (amqp_bytes_t){out.key_len, out.key}, p->opts.mandatory, 0, &out.properties, out.body);
    if (status != AMQP_STATUS_OK)
        return amqp_link_lost(&p->link, "publishing", status, err);
    p->places[p->published++] = at;
    p->link.tag++;
    return SINK_DONE;
}

static enum sink_outcome publish_all(struct rabbitmq *p, struct error *err)
{
    enum sink_outcome rc = SINK_DONE;
    for (unsigned i = 0; i < p->batch->count && rc == SINK_DONE; i++) {
        if (p->batch->messages[i].verdict != SINK_UNKNOWN)
            continue;
        rc = publish(p, i, err);
        if (rc == SINK_DONE && !p->confirmed)
            rc = take_rest(p, err);
        else if (rc == SINK_DONE && p->published % LOOK_EVERY == 0)
            rc = take_all(p, err);
    }
    return rc == SINK_DONE ? take_rest(p, err) : rc;
}

static enum sink_outcome on_send(void *of, const struct sink_batch *b, struct error *err)
{
    struct rabbitmq *p = of;
    CHECK(b->count <= p->opts.batch_max);
    if (!p->link.channel && (amqp_link_reopen(&p->link, err) != SINK_DONE || confirm(p, err) != 0))
        return SINK_AWAY;
    p->batch = b;
    p->first_tag = p->link.tag;
    p->published = p->settled = p->low = p->nacked = 0;
    enum sink_outcome rc = publish_all(p, err);
    p->batch = NULL;
    if (rc == SINK_DONE && p->nacked) {
        error_set(err, -EBUSY, "the broker did not take %u of %u: a queue is full, or failed",
                  p->nacked, p->published);
        return SINK_AWAY;
    }
    return rc;
}

static enum sink_outcome on_tend(void *of, struct error *err)
{
    struct rabbitmq *p = of;
    return take_all(p, err) == SINK_DONE ? SINK_DONE : SINK_AWAY;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void on_free(void *of)
{
    struct rabbitmq *p = of;
    amqp_link_fini(&p->link);
    free(p->places);
    free(p);
}

const struct sink_ops rabbitmq_ops = {
    .kind = "rabbitmq",
    .open = on_open,
    .send = on_send,
    .tend = on_tend,
    .close = on_close,
    .cancel = on_cancel,
    .free = on_free,
};

int rabbitmq_new(const struct rabbitmq_opts *opts, void **ret, struct error *err)
{
    struct amqp_target target;
    struct error why = {""};
    if (amqp_target_parse(opts->url, &target, &why) < 0)
        return error_set(err, -EINVAL, "rabbitmq.url: %s", why.text);
    if (strlen(opts->exchange) > RABBITMQ_NAME_MAX || strlen(opts->queue) > RABBITMQ_NAME_MAX)
        return error_set(err, -EINVAL, "rabbitmq.%s: it is too long",
                         strlen(opts->queue) > RABBITMQ_NAME_MAX ? "queue" : "exchange");
    int rc = rabbitmq_check_key(opts->routing_key, err);
    if (rc)
        return rc;
    struct rabbitmq *p = calloc(1, sizeof *p);
    CHECK(p);
    p->opts = *opts;
    p->places = calloc(opts->batch_max, sizeof *p->places);
    CHECK(p->places);
    amqp_target_parse(opts->url, &p->target, NULL); /* it points into itself */
    for (unsigned i = 0; i < 16; i++)
        snprintf(p->log_id + 2 * i, 3, "%02x", opts->log_id[i]);
    amqp_link_init(&p->link, opts->timeout_ns, opts->heartbeat_s);
    *ret = p;
    return 0;
}
