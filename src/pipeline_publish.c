/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages to topics that are no feeds: no shape is asked of them, and they are kept as they came,
 * with the properties that a subscriber is to have (flow/publish.h).
 */
#include "base/clock.h"
#include "base/metric.h"
#include "codec/mqtt.h"
#include "codec/topic.h"
#include "flow/publish.h"
#include "flow/session_record.h"
#include "pipeline_private.h"
#include "view/sessions.h"

/* Into the lane's payload. False: it fits no batch. */
static bool encode(struct lane *l, const struct request *q)
{
    buf_clear(&l->properties);
    mqtt_put_passed(&l->properties, q->properties);
    const struct publish p = {.qos = q->qos,
                              .has_expiry = q->has_expiry,
                              .expiry_s = q->expiry_s,
                              .properties = buf_slice(&l->properties),
                              .message = q->body};
    buf_reuse(&l->payload, VALUE_BIG_MAX);
    publish_encode(&l->payload, &p);
    return !l->payload.failed && !l->properties.failed;
}

void publish_run(struct job *j)
{
    struct lane *l = j->lane;
    const struct request *q = &job_exchange(j)->request;
    const struct topic_rules *rules = j->credential->topics;
    if (rules && !topic_rules_cover(rules->publish, j->credential->name, q->path)) {
        metric_add(METRIC_permission_refused, 1);
        job_refuse(j, REASON_forbidden, NULL);
        return;
    }
    uint32_t bytes = (uint32_t)(q->body.len + q->properties.len); /* of one packet */
    if (!j->passed && !job_throttle(j, 1, bytes))
        return;
    j->passed = true;
    j->now_us = worker_wall_us(l->worker);
    if (!encode(l, q)) {
        metric_add(METRIC_shape_refused, 1);
        job_refuse(j, REASON_too_large, NULL);
        return;
    }
    if (q->retain && q->body.len &&
        !sessions_have_retained_room(l->p->opts.sessions, j->account->number, q->path,
                                     l->payload.len)) {
        job_refuse(j, REASON_retained_full, NULL);
        return;
    }
    write_publish(j, (q->retain ? RECORD_F_RETAIN : 0) | (q->will ? RECORD_F_WILL : 0) |
                         (q->rule.ptr ? RECORD_F_RULE : 0));
}

/* ---- retained messages ---- */

/* Whatever was stored before the request, the view has applied when it is answered. */
void retained_run(struct job *j)
{
    struct lane *l = j->lane;
    job_exchange(j)->reply.status = 200;
    wait_for_views(j, VIEW_SESSION, journal_durable(l->p->opts.api.journal),
                   worker_now_ns(l->worker) + l->tune.read_deadline_ns, job_send);
}

enum live_step lane_next_retained(void *lane, const struct principal *p, struct slice filter,
                                  struct slice after, uint64_t below, struct buf *storage,
                                  struct live_message *ret, struct slice *ret_payload)
{
    struct lane *l = lane;
    struct retained r;
    struct publish m;
    uint64_t account = p->credential->account->number;
    enum retained_step step = sessions_next_retained(l->p->opts.sessions, account, filter, after,
                                                     clock_wall_us(), storage, &r);
    if (step == RETAINED_END)
        return LIVE_END;
    *ret = (struct live_message){.account = account, .topic = r.topic};
    if (step == RETAINED_MORE || r.offset >= below || !publish_decode(r.payload, &m))
        return LIVE_MORE;
    ret->client = r.client;
    ret->place = session_place(r.offset, 0);
    ret->published = ret->retain = ret->retained = true;
    ret->qos = m.qos;
    ret->expires_us = publish_expires_us(&m, r.receive_us);
    ret->properties = m.properties;
    *ret_payload = m.message;
    return LIVE_ONE;
}
