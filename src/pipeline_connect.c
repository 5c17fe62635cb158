/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that last say once who they are. What they turned out to be, the principal, stays
 * with the connection; each request compares one number, the catalog's generation, and only when
 * that has moved looks its credential up again. A secret that was replaced, a credential that was
 * disabled or removed, and an account likewise, end it; anything else of the new record (role,
 * limits, patterns) is in force from then on.
 */
#include "base/check.h"
#include "base/metric.h"
#include "pipeline_private.h"

static bool same_secret(const struct credential *a, const struct credential *b)
{
    if (a->verifier_kind != b->verifier_kind)
        return false;
    return a->verifier_kind == VERIFIER_FAST ? memcmp(a->fast, b->fast, sizeof a->fast) == 0
                                             : slice_eq(a->verifier, b->verifier);
}

/* The generation is read first: a change behind it is seen the next time. */
static bool look_again(struct catalog *c, struct principal *p, uint64_t generation)
{
    struct credential *now = catalog_credential(c, p->credential->number);
    if (!now || now->disabled || now->account->disabled || !same_secret(now, p->credential)) {
        credential_unref(now);
        return false;
    }
    credential_unref(p->credential);
    p->credential = now;
    p->generation = generation;
    return true;
}

bool lane_vouches(void *lane, struct principal *p)
{
    struct catalog *c = ((struct lane *)lane)->p->opts.api.catalog;
    uint64_t generation = catalog_generation(c);
    return !p->credential || p->generation == generation || look_again(c, p, generation);
}

bool connect_identify(struct job *j)
{
    const struct request *q = &job_exchange(j)->request;
    struct principal *p = q->principal;
    bool vouched = q->own || (p && p->credential && lane_vouches(j->lane, p));
    if (!vouched) {
        job_refuse(j, REASON_revoked, NULL);
        return false;
    }
    j->credential = credential_ref(p->credential);
    return true;
}

void connect_run(struct job *j)
{
    struct exchange *x = job_exchange(j);
    struct principal *p = x->request.principal;
    CHECK(p && !p->credential);
    /* Not the catalog's generation of now: the record was looked up some time ago. */
    p->generation = 0;
    p->credential = credential_ref(j->credential);
    x->reply.status = 200;
    job_send(j);
}

void lane_flood(void *lane, const struct principal *p, uint64_t source, enum flood what,
                struct flood_verdict *ret)
{
    struct lane *l = lane;
    bool refused = what == FLOOD_REFUSED;
    const struct limit_set *limits = refused ? l->tune.refusals : l->tune.subscribes;
    const struct throttle_ask asks[] = {
        {{refused ? THROTTLE_REFUSED_CREDENTIAL : THROTTLE_SUBSCRIBE_CREDENTIAL,
          p->credential ? p->credential->number : 0},
         &limits[0],
         0},
        {{refused ? THROTTLE_REFUSED_ADDRESS : THROTTLE_SUBSCRIBE_ADDRESS, source}, &limits[1], 0},
    };
    struct throttle_verdict v;
    throttle_decide(l->p->opts.api.throttle, asks, 2, 1, worker_now_ns(l->worker), &v);
    *ret = (struct flood_verdict){v.allow, v.remaining, v.window_ms};
    if (!v.allow)
        metric_add(refused ? METRIC_mqtt_floods_closed : METRIC_mqtt_floods_refused, 1);
}
