/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When accepted is said: the level that a request is answered at, and how an answer waits until a
 * sink is past its messages (decision 0058).
 *
 * Such an answer waits in its lane, in a list per sink, by offset. The sink's thread tells all
 * lanes when its position has moved; a lane then looks at the front of the list only. Whatever
 * happens, the answer leaves within ack.delivered_timeout, and says what is true of its messages
 * then: they are durable in any case.
 */
#include <stdio.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "codec/text.h"
#include "pipeline_private.h"

/* ---- which level ---- */

static uint8_t find_sink(const struct pipeline *p, struct slice name)
{
    uint8_t i = 0;
    while (i < p->opts.sinks_count && !slice_eq(slice_str(sink_name(p->opts.sinks[i])), name))
        i++;
    return i < p->opts.sinks_count ? i : NO_SINK;
}

static void take(struct job *j, const struct ack *ack)
{
    j->ack = ack->level;
    j->sink = NO_SINK;
    if (ack->level == ACK_DELIVERED)
        j->sink = find_sink(j->lane->p, slice_str(ack->sink));
}

void ack_of_account(struct job *j)
{
    take(j, &j->account->ack);
}

static void put_names(struct buf *out, const struct pipeline *p)
{
    bool any = false;
    for (unsigned i = 0; i < p->opts.sinks_count; i++) {
        if (sink_is_disabled(p->opts.sinks[i]))
            continue;
        buf_printf(out, "%s%s", any ? ", " : "; there are: ", sink_name(p->opts.sinks[i]));
        any = true;
    }
    if (!any)
        buf_put_str(out, "; there is none");
}

/* Why a request may not wait for that sink; empty: it may. */
static void put_wrong(struct buf *out, const struct job *j, const char *name)
{
    const struct pipeline *p = j->lane->p;
    if (j->sink == NO_SINK)
        buf_printf(out, "ack: there is no sink \"%s\"", name);
    else if (sink_is_disabled(p->opts.sinks[j->sink]))
        buf_printf(out, "ack: the sink \"%s\" is disabled, as its target wants no more", name);
    else
        return;
    put_names(out, p);
}

/* As a query has it. */
static bool parse(struct slice value, struct ack *ret)
{
    struct buf text;
    buf_init(&text, ACK_TEXT_MAX);
    bool known = percent_decode(value, true, &text) && !text.failed;
    known = known && ack_parse(buf_slice(&text), ret);
    buf_fini(&text);
    return known;
}

static bool take_asked(struct job *j, const struct ack *ack)
{
    struct buf wrong;
    take(j, ack);
    if (ack->level != ACK_DELIVERED)
        return true;
    buf_init(&wrong, 512);
    put_wrong(&wrong, j, ack->sink);
    bool refused = wrong.len > 0;
    if (refused) {
        buf_put_u8(&wrong, 0);
        job_refuse(j, REASON_bad_request, wrong.ptr);
    }
    buf_fini(&wrong);
    return !refused;
}

/* ?receipt=: the number of a webhook of the account. */
static bool take_receipt(struct job *j, struct slice value)
{
    uint64_t n = 0;
    bool good = value.len > 0 && value.len < 16;
    for (size_t i = 0; good && i < value.len; i++) {
        good = value.ptr[i] >= '0' && value.ptr[i] <= '9';
        n = n * 10 + (uint64_t)(value.ptr[i] - '0');
    }
    struct hooks *hooks = j->lane->p->opts.hooks;
    j->receipt = n;
    if (good && n && hooks && hooks_has(hooks, n, j->account->number))
        return true;
    job_refuse(j, REASON_bad_request, "receipt: there is no such webhook of this account");
    return false;
}

/* There is nothing to be late with. */
static bool receipt_has_sense(struct job *j)
{
    if (!j->receipt || j->ack == ACK_DELIVERED)
        return true;
    job_refuse(j, REASON_bad_request,
               "receipt: it tells of what is delivered late; ask for ack=delivered:SINK too");
    return false;
}

bool ack_of_request(struct job *j)
{
    struct slice rest = job_exchange(j)->request.query, name, value;
    struct ack ack;
    while (rest.len && query_next(&rest, &name, &value)) {
        if (slice_eq(name, SLICE("receipt")) && !take_receipt(j, value))
            return false;
        if (!slice_eq(name, SLICE("ack")))
            continue;
        bool known = parse(value, &ack);
        if (!known || (ack.level == ACK_RECEIVED && j->match.route->op != OP_TELEMETRY_POST)) {
            job_refuse(j, REASON_bad_request, "ack must be " ACK_WORDS);
            return false;
        }
        if (!take_asked(j, &ack))
            return false;
    }
    return receipt_has_sense(j);
}

/* ---- what is told ---- */

enum { PENDING = FATE_FAILED + 1, NO_SUCH_SINK, STATES };

/* What became of messages for whose delivery somebody waited: the least good of them. */
static const char *const sentences[STATES] = {
    [FATE_DELIVERED] = NULL,
    [FATE_UNKNOWN] = "accepted; the sink is past it for so long that it does not know whether it "
                     "was delivered",
    [FATE_NOT_SELECTED] = "accepted, not delivered: it is not for that sink",
    [FATE_GIVEN_UP] = "accepted, not delivered: the sink has given it up",
    [FATE_UNREADABLE] = "accepted, not delivered: it cannot be opened any more",
    [FATE_FAILED] = "accepted, not delivered: refused there, and kept as a dead letter",
    [PENDING] = "accepted, not yet delivered",
    [NO_SUCH_SINK] = "accepted, not delivered: there is no such sink any more",
};

static const char *state_name(unsigned state)
{
    return state == PENDING        ? "pending"
           : state == NO_SUCH_SINK ? "no_sink"
                                   : fate_name((enum fate)state);
}

static void put_delivery_fields(struct job *j, unsigned state, bool location)
{
    struct buf *fields = &job_exchange(j)->reply.fields;
    buf_printf(fields, "X-Sluice-Delivery: %s\r\n", state_name(state));
    if (location)
        job_put_location(j);
}

/* The reply says what is true now, and leaves. */
static void answer(struct job *j, unsigned state, uint32_t delivered)
{
    struct exchange *x = job_exchange(j);
    struct ack ack = {.level = state == FATE_DELIVERED ? ACK_DELIVERED : ACK_DURABLE};
    const char *sink =
        j->sink == NO_SINK ? j->account->ack.sink : sink_name(j->lane->p->opts.sinks[j->sink]);
    bool telemetry = j->match.route->op == OP_TELEMETRY_POST;
    metric_add(state == FATE_DELIVERED ? METRIC_ack_delivered : METRIC_ack_not_delivered, j->count);
    if (route_is_publish(j->match.route)) {
        if (sentences[state])
            buf_printf(&x->reply.body, "%s: %s (/v1/receipts/%llu)", sink, sentences[state],
                       (unsigned long long)(j->end_offset - 1));
    } else {
        put_delivery_fields(j, state, !telemetry && state != FATE_DELIVERED);
        if (state != FATE_DELIVERED)
            x->reply.status = 202;
    }
    if (telemetry) {
        char more[256];
        if (state == FATE_DELIVERED)
            snprintf(ack.sink, sizeof ack.sink, "%s", sink);
        snprintf(more, sizeof more,
                 ",\"delivery\":{\"sink\":\"%s\",\"state\":\"%s\",\"delivered\":%u}", sink,
                 state_name(state), delivered);
        job_put_accepted(j, &ack, more);
    }
    job_accepted(j);
}

static void answer_passed(struct job *j)
{
    uint32_t delivered;
    uint64_t first = j->end_offset - j->count;
    enum fate fate = sink_fate(j->lane->p->opts.sinks[j->sink], first, j->count, &delivered);
    answer(j, fate, delivered);
}

/* Its time is over. Of those that the sink is past it is known what became of them. */
static void answer_pending(struct job *j)
{
    const struct sink *s = j->lane->p->opts.sinks[j->sink];
    uint64_t first = j->end_offset - j->count, position = sink_position(s);
    uint64_t to = position < j->end_offset ? position : j->end_offset; /* it moves meanwhile */
    uint32_t delivered = 0;
    if (to > first)
        sink_fate(s, first, (uint32_t)(to - first), &delivered);
    late_put(j);
    answer(j, PENDING, delivered);
}

/* ---- waiting ---- */

void ack_begin(struct job *j)
{
    if (j->ack != ACK_DELIVERED || j->sink == NO_SINK)
        return;
    sink_waiters(j->lane->p->opts.sinks[j->sink], 1);
    j->awaits = true;
}

void ack_end(struct job *j)
{
    if (j->awaits)
        sink_waiters(j->lane->p->opts.sinks[j->sink], -1);
    j->awaits = false;
}

/* Into the list, behind those that wait for less: as a rule, for all. */
static void put(struct awaiting *list, struct job *j)
{
    struct job **at = &list->first;
    if (list->last && list->last->need <= j->need)
        at = &list->last->next;
    while (*at && (*at)->need <= j->need)
        at = &(*at)->next;
    j->next = *at;
    *at = j;
    if (!j->next)
        list->last = j;
}

/* Takes those out that the sink has passed and, if `late`, those whose time is over, and appends
 * them to *ret_last. */
static void take_out(struct lane *l, unsigned sink, bool late, struct job ***ret_last)
{
    struct awaiting *list = &l->awaiting[sink];
    uint64_t now_ns = worker_now_ns(l->worker);
    uint64_t position = sink_position(l->p->opts.sinks[sink]);
    bool quits = atomic_load(&l->p->quits);
    struct job *last = NULL;
    for (struct job **at = &list->first; *at && (late || (*at)->need <= position);) {
        struct job *j = *at;
        if (j->need > position && !quits && now_ns < j->deadline_ns) {
            last = j;
            at = &j->next;
            continue;
        }
        *at = j->next;
        j->next = NULL;
        **ret_last = j;
        *ret_last = &j->next;
        l->awaiting_count--;
    }
    if (late || !list->first)
        list->last = last;
}

/* Answers them. An answer may let in the next request, which then waits in turn: those that are
 * answered are out of the lists before. */
static void look(struct lane *l, bool late)
{
    struct job *ready = NULL, **last = &ready;
    for (unsigned i = 0; i < l->p->opts.sinks_count; i++)
        take_out(l, i, late, &last);
    while (ready) {
        struct job *j = ready;
        ready = j->next;
        j->next = NULL;
        if (sink_position(l->p->opts.sinks[j->sink]) >= j->need)
            answer_passed(j);
        else
            answer_pending(j);
    }
    if (l->late_count)
        late_look(l);
}

void ack_wait(struct job *j)
{
    struct lane *l = j->lane;
    if (j->sink == NO_SINK) {
        answer(j, NO_SUCH_SINK, 0);
        return;
    }
    const struct sink *s = l->p->opts.sinks[j->sink];
    j->need = j->end_offset;
    if (sink_position(s) >= j->need) {
        answer_passed(j);
        return;
    }
    if (l->awaiting_count >= AWAITING_MAX || sink_is_disabled(s) || atomic_load(&l->p->quits)) {
        answer_pending(j);
        return;
    }
    j->deadline_ns = worker_now_ns(l->worker) + l->tune.delivered_timeout_ns;
    put(&l->awaiting[j->sink], j);
    l->awaiting_count++;
    /* It may have got there between the look and the registration: then nobody would wake us. The
     * count is visible now, so one more look settles it. */
    if (sink_position(s) >= j->need)
        look(l, false);
}

static void on_moved(struct mail *m)
{
    struct lane *l = (struct lane *)((char *)m - offsetof(struct lane, moved));
    atomic_store(&l->moved_posted, false);
    look(l, false);
}

void pipeline_on_delivered(void *pipeline)
{
    struct pipeline *p = pipeline;
    for (unsigned i = 0; i < p->lanes_count; i++) {
        struct lane *l = p->lanes[i];
        bool waits = atomic_load(&l->awaiting_count) || atomic_load(&l->late_count);
        if (waits && !atomic_exchange(&l->moved_posted, true)) {
            l->moved.run = on_moved;
            worker_post(l->worker, &l->moved);
        }
    }
}

void ack_quit(struct pipeline *p)
{
    atomic_store(&p->quits, true);
}

void ack_tick(struct lane *l)
{
    if (l->awaiting_count || l->late_count)
        look(l, true);
}
