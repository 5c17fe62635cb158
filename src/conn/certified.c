/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's streams whose client showed a certificate: one list of those that are believed, and
 * one of those that are to be judged by what is demanded now. Judging one takes some signatures, so
 * a turn of the loop does as many as it has time for, beside handshakes.
 */
#include "conn/certified.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "conn/stream_private.h"
#include "conn/tls_private.h"

static void put(struct stream **list, struct stream *s)
{
    s->certified_next = *list;
    if (*list)
        (*list)->certified_place = &s->certified_next;
    *list = s;
    s->certified_place = list;
}

void certified_add(struct stream *s)
{
    struct certified *c = worker_certified(s->worker);
    put(&c->good, s);
}

void certified_drop(struct stream *s)
{
    if (!s->certified_place)
        return;
    *s->certified_place = s->certified_next;
    if (s->certified_next)
        s->certified_next->certified_place = s->certified_place;
    s->certified_place = NULL;
}

static void end(struct certified *c)
{
    if (c->closed)
        log_line(LOG_INFO, "tls.clients_closed", "connections=%u why=\"%s\"", c->closed,
                 "their certificates are not believed any more");
    tls_set_unref(c->set);
    c->set = NULL;
    c->closed = 0;
}

void certified_judge(struct worker *w, struct tls_set *set)
{
    struct certified *c = worker_certified(w);
    struct stream *s;
    end(c);
    while ((s = c->good)) { /* those still doubted are judged by the newest */
        certified_drop(s);
        put(&c->doubted, s);
    }
    c->set = set ? tls_set_ref(set) : NULL;
    if (!c->doubted)
        end(c);
}

bool certified_go_on(struct worker *w)
{
    struct certified *c = worker_certified(w);
    struct stream *s = c->doubted;
    for (; s && worker_may_toil(w); s = c->doubted) {
        uint64_t begun = clock_mono_ns();
        certified_drop(s);
        if (c->set && tls_conn_believed(s->tls, c->set)) {
            put(&c->good, s);
        } else {
            c->closed++;
            metric_add(METRIC_tls_clients_closed, 1);
            stream_close(s);
        }
        worker_toiled(w, clock_mono_ns() - begun);
    }
    if (!s)
        end(c);
    return s != NULL;
}
