/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Profiles: to the profiler's thread and back. A request waits there as long as its profile takes;
 * its connection is read on meanwhile, so that a client that goes away is noticed, which ends it.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "pipeline_private.h"

struct prof_call {
    struct prof_ask ask;
};

static void unlist(struct job *j)
{
    struct job **at = &j->lane->profiles;
    while (*at != j)
        at = &(*at)->next;
    *at = j->next;
    j->next = NULL;
}

static void on_answered(struct job *j)
{
    struct exchange *x = job_exchange(j);
    struct prof_ask *ask = &j->prof->ask;
    char why[sizeof ask->why];
    enum reason reason = ask->reason;
    unlist(j);
    if (reason == REASON_ok && x->reply.body.failed) {
        reason = REASON_internal;
        snprintf(ask->why, sizeof ask->why, "the profile is larger than an answer: ask for less");
    }
    if (reason == REASON_ok)
        api_pprof_answered(ask, &x->reply);
    else
        x->reply.retry_ns = reason == REASON_profile_running ? ask->left_ns
                            : reason == REASON_busy          ? NS_PER_S
                                                             : 0;
    memcpy(why, ask->why, sizeof why);
    free(j->prof);
    j->prof = NULL;
    if (reason == REASON_ok)
        job_send(j);
    else
        job_refuse(j, reason, why);
}

static void on_done(struct prof_ask *ask)
{
    job_post(ask->owner, on_answered);
}

void prof_run(struct job *j)
{
    struct exchange *x = job_exchange(j);
    struct error err = {""};
    x->reply.no_store = true;
    if (api_pprof_page(&j->match, x)) {
        job_send(j);
        return;
    }
    if (x->request.method == METHOD_HEAD) { /* nobody wants to wait for that */
        buf_put_str(&x->reply.fields, "Allow: GET\r\n");
        job_refuse(j, REASON_method, NULL);
        return;
    }
    job_keep(j);
    struct prof_call *call = calloc(1, sizeof *call);
    CHECK(call);
    call->ask = (struct prof_ask){.out = &x->reply.body, .done = on_done, .owner = j};
    enum reason reason = api_pprof(&j->match, &x->request, &call->ask, &err);
    if (reason != REASON_ok) {
        free(call);
        job_refuse(j, reason, err.text);
        return;
    }
    x->request.start_ns = 0; /* what it takes tells nothing of the server */
    j->prof = call;
    j->next = j->lane->profiles;
    j->lane->profiles = j;
    prof_submit(j->lane->p->prof, &call->ask);
    exchange_release(x);
}

void prof_admit(struct job *j)
{
    enum pprof_access access = j->lane->p->pprof;
    switch (access) {
    case PPROF_OFF:
        job_refuse(j, REASON_not_found,
                   "not found - profiles are off; the setting debug.pprof turns them on, at a "
                   "reload too");
        return;
    case PPROF_KEY:
        turn_put_off(j);
        return;
    case PPROF_OPEN:
        prof_run(j);
        return;
    }
}

void prof_tick(struct lane *l)
{
    for (struct job *j = l->profiles; j; j = j->next)
        if (exchange_gone(job_exchange(j)))
            prof_give_up(l->p->prof, &j->prof->ask);
}
