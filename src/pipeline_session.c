/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MQTT sessions that outlive their connection: what happens to one becomes a record in the journal,
 * and whoever asked is answered when it is durable.
 *
 * Opening: the front has the client id to itself (front/mqtt_session.h) and comes here before it
 * answers the CONNECT. Everything that an earlier connection said of the session is durable by
 * then, since it lets the client id go only behind its SESSION_CLOSED; so the view has to have
 * applied what the account's last session record was (account_live.session_told), and then knows it
 * all.
 *
 * The answer to an opening is for the front: flow/session_state.h.
 */
#include "base/check.h"
#include "base/clock.h"
#include "flow/session_state.h"
#include "pipeline_private.h"
#include "view/sessions.h"

static void reply_open(struct job *j, uint64_t number, const struct session *s)
{
    struct reply *r = &job_exchange(j)->reply;
    struct buf *out = &r->body;
    buf_clear(out);
    session_state_put(out, &(struct session_state){
                               .number = number, .present = s != NULL, .floor = s ? s->floor : 0});
    for (uint32_t i = 0; s && i < s->in_count; i++)
        session_state_put_received(out, s->in[i]);
    for (uint32_t i = 0; s && i < s->subs_count; i++)
        session_state_put_sub(out, &s->subs[i].filter, s->subs[i].since);
    for (uint32_t i = 0; s && i < s->out_count; i++)
        session_state_put_sent(
            out, &(struct session_item){s->out[i].place, s->out[i].packet_id, s->out[i].qos},
            s->out[i].pubrel, s->out[i].shared, s->out[i].retained);
    for (uint32_t i = 0; s && i < s->acked_count; i++)
        session_state_put_acked(out, s->acked[i]);
    CHECK(!out->failed); /* a session's lists have maxima */
    r->status = 200;
}

static void append(struct job *j, uint64_t number, const struct session_record *event)
{
    struct buf *payload = &j->lane->payload;
    buf_clear(payload);
    session_record_encode(payload, event);
    CHECK(!payload->failed); /* no longer than what the front was sent */
    job_exchange(j)->reply.session = number;
    job_exchange(j)->reply.session_found = event->event == SESSION_RESUMED;
    write_session(j, number);
}

/* A key may do everything in its account; a device gets only the session that is its own. */
static bool may_resume(const struct job *j, const struct session *s)
{
    return s->credential == j->credential->number || j->credential->kind == CREDENTIAL_KEY;
}

static bool has_room(const struct job *j, bool found)
{
    return found || sessions_have_room(j->lane->p->opts.sessions, j->account->number);
}

/* The view has all that was said of the account's sessions. A session that ends with its connection
 * is one only for its will's sake, so that this is published if the server dies. */
static void open_session(struct job *j)
{
    const struct request *q = &job_exchange(j)->request;
    struct sessions *sessions = j->lane->p->opts.sessions;
    struct session_record event;
    struct session s;
    CHECK(session_record_decode(q->body, &event));
    bool clean = event.event == SESSION_OPENED;
    bool found = sessions_find(sessions, j->account->number, q->path, clock_wall_us(), &s);
    wills_before(j->lane, j->account->number, q->path, clean || (found && !may_resume(j, &s)));
    if (found && !clean && may_resume(j, &s)) {
        reply_open(j, s.number, &s);
        append(j, s.number, &event);
    } else if (event.expiry_s || (event.will.topic.ptr && has_room(j, found))) {
        if (!found && !sessions_have_room(sessions, j->account->number)) {
            job_refuse(j, REASON_sessions_full, NULL);
            return;
        }
        event.event = SESSION_OPENED; /* in place of one that was found */
        event.client_id = q->path;
        uint64_t number = sessions_new_number(sessions);
        reply_open(j, number, NULL);
        append(j, number, &event);
    } else {
        reply_open(j, 0, NULL);
        if (found)
            append(j, s.number,
                   &(struct session_record){.event = SESSION_ENDED, .end = SESSION_END_CLEAN});
        else
            job_send(j);
    }
    if (found)
        session_fini(&s);
}

void session_identify(struct job *j)
{
    const struct principal *p = job_exchange(j)->request.principal;
    CHECK(p && p->credential);
    j->credential = credential_ref(p->credential);
    j->account = account_ref(p->credential->account);
}

void session_run(struct job *j)
{
    struct exchange *x = job_exchange(j);
    const struct request *q = &x->request;
    struct session_record event;
    bool good = session_record_decode(q->body, &event);
    CHECK(good); /* the front wrote it */
    bool opens = event.event == SESSION_OPENED || event.event == SESSION_RESUMED;
    if (opens && !q->session) { /* a client's: it may have one, or gets a number */
        job_keep(j);
        wait_for_views(j, VIEW_SESSION, j->account->live->session_told,
                       worker_now_ns(j->lane->worker) + j->lane->tune.read_deadline_ns,
                       open_session);
        return;
    }
    x->reply.status = 200;
    buf_clear(&j->lane->payload);
    buf_put_slice(&j->lane->payload, q->body);
    write_session(j, q->session);
}
