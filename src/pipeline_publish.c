/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages to topics that are no feeds: no shape is asked of them, and they are kept as they came,
 * with the properties that a subscriber is to have (flow/publish.h).
 */
#include "base/clock.h"
#include "base/metric.h"
#include "codec/mqtt.h"
#include "flow/publish.h"
#include "pipeline_private.h"

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
    uint32_t bytes = (uint32_t)(q->body.len + q->properties.len); /* of one packet */
    if (!j->passed && !job_throttle(j, 1, bytes))
        return;
    j->passed = true;
    j->now_us = clock_wall_us();
    if (!encode(l, q)) {
        metric_add(METRIC_shape_refused, 1);
        job_refuse(j, REASON_too_large, NULL);
        return;
    }
    write_publish(j, 0);
}
