/* SPDX-License-Identifier: Apache-2.0 */
/*
 * METHOD_MISSED: what a session is to get of what is in the journal already, in the read pool. The
 * messages are made as those that are sent live are (make_messages), so both have the same places.
 * What the credential may not read (any more) is left out.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/search.h"
#include "codec/topic.h"
#include "flow/missed.h"
#include "flow/session_record.h"
#include "pipeline_private.h"
#include "view/sessions.h"

#define SLICE_BYTES (8u << 20) /* of the journal; then it is somebody else's turn */
#define TEXT_MAX    (VALUE_BIG_MAX * 6 + 4096)

/* ---- which messages -------------------------------------------------------------------------- */

struct looking {
    struct message_maker maker;
    const struct job *job;
    struct missed *missed;
    uint64_t client; /* that asks */
    uint64_t offset;
    uint16_t parts;
};

static bool on_wants(void *arg, uint64_t account)
{
    (void)arg;
    (void)account; /* the backlog has seen to it */
    return true;
}

static bool may_read(const struct job *j, struct slice feed_key)
{
    return (j->credential->permissions & PERM_data_read) &&
           (!feed_key.len || credential_covers(j->credential, feed_key));
}

static void on_topic(void *arg, const struct live_message *message)
{
    struct looking *l = arg;
    const struct missed *m = l->missed;
    if ((message->published && !message->qos) || message->place < m->from ||
        search_has(m->had, m->had_count, message->place) || !may_read(l->job, message->feed_key))
        return;
    for (unsigned i = 0; i < m->filters_count; i++) {
        const struct missed_filter *f = &m->filters[i];
        if (l->offset < f->since || (f->no_local && message->client == l->client) ||
            !topic_matches(f->filter, message->topic))
            continue;
        l->parts |= (uint16_t)(1u << message->place % SESSION_PARTS);
        return;
    }
}

static uint16_t on_match(void *arg, struct record *r, uint64_t offset)
{
    struct looking *l = arg;
    l->offset = offset;
    l->parts = 0;
    make_messages(&l->maker, r, offset);
    return l->parts;
}

static void take_places(struct missed *m, const struct backlog *b)
{
    free(m->places);
    m->places_count = backlog_left(b);
    m->places = calloc(m->places_count + 1ul, sizeof *m->places);
    CHECK(m->places);
    backlog_places(b, m->places);
}

static struct backlog_opts opts_of(const struct job *j, const struct missed *m)
{
    const struct pipeline_opts *o = &j->lane->p->opts;
    return (struct backlog_opts){.journal = o->api.journal,
                                 .keyring = o->keyring,
                                 .account = j->account->number,
                                 .from = m->from / SESSION_PARTS,
                                 .to = m->to,
                                 .messages_max = o->missed.messages_max,
                                 .bytes_max = o->missed.bytes_max,
                                 .scan_bytes = o->missed.scan_bytes};
}

static void fail(struct job *j, const char *what, int rc)
{
    log_line(LOG_ERROR, "session.backlog_failed", "what=%s error=\"%s\"", what, strerror(-rc));
    job_exchange(j)->reply.reason = REASON_busy;
    job_exchange(j)->reply.retry_ns = NS_PER_S;
}

/* What is under way to members of the group, or settled, is nobody else's. The floor may have risen
 * since this was asked: what is given below it is not known any more. */
static void take_given(const struct job *j, struct missed *m)
{
    uint64_t floor;
    free(m->had);
    m->had = sessions_group_given(j->lane->p->opts.sessions, j->account->number, m->group, &floor,
                                  &m->had_count);
    if (m->from < session_place(floor, 0))
        m->from = session_place(floor, 0);
}

/* Puts those in front that nobody has, and may be given. */
static void find_ungiven(const struct job *j, struct missed *m)
{
    take_given(j, m);
    m->places_read = 0;
    for (uint32_t i = 0; i < m->places_count; i++) {
        uint64_t place = m->places[i];
        if (place < m->from || search_has(m->had, m->had_count, place))
            continue;
        m->places[i] = m->places[m->places_read];
        m->places[m->places_read++] = place;
    }
}

/* False: there is more to look through, in another turn. */
static bool collect(struct job *j, struct missed *m)
{
    struct error err;
    struct looking l = {.maker = {.api = &j->lane->p->opts.api,
                                  .blind = true,
                                  .to = {.wants = on_wants, .publish = on_topic, .arg = &l}},
                        .job = j,
                        .missed = m,
                        .client = job_exchange(j)->request.client};
    if (!j->backlog && m->group.ptr)
        take_given(j, m);
    struct backlog_opts opts = opts_of(j, m);
    int rc = 0;
    opts.match = on_match;
    if (!j->backlog)
        rc = backlog_open(&opts, &j->backlog, &err);
    if (rc == 0) {
        backlog_look_for(j->backlog, &l);
        rc = backlog_collect(j->backlog, SLICE_BYTES);
    }
    if (rc == BACKLOG_MORE)
        return false;
    if (rc == BACKLOG_DONE)
        take_places(m, j->backlog);
    else
        fail(j, "collect", rc);
    backlog_close(j->backlog);
    j->backlog = NULL;
    return true;
}

/* ---- the messages ---------------------------------------------------------------------------- */

struct reading {
    struct message_maker maker;
    const struct job *job;
    struct missed *missed;
};

static void on_message(void *arg, const struct live_message *message)
{
    const struct reading *r = arg;
    if (!search_has(r->missed->places, r->missed->places_count, message->place))
        return;
    if (may_read(r->job, message->feed_key))
        missed_put(r->missed, message);
    else
        missed_bar(r->missed, message->place);
}

/* Until there are enough bytes for one reply. A record's messages are all in it, or none. */
static void read_messages(struct job *j, struct missed *m)
{
    struct error err;
    struct record r;
    uint64_t offset;
    struct buf text;
    struct backlog *b;
    struct reading reading = {
        .maker = {.api = &j->lane->p->opts.api,
                  .text = &text,
                  .to = {.wants = on_wants, .publish = on_message, .arg = &reading}},
        .job = j,
        .missed = m};
    struct backlog_opts opts = opts_of(j, m);
    opts.places = m->places;
    opts.places_count = m->places_count;
    opts.to = journal_durable(opts.journal);
    int rc = backlog_open(&opts, &b, &err);
    if (rc < 0) {
        fail(j, "open", rc);
        return;
    }
    buf_init(&text, TEXT_MAX);
    while ((rc = backlog_next(b, UINT64_MAX, &r, &offset)) == BACKLOG_MESSAGE) {
        r.key_id = 0; /* the backlog has opened it */
        make_messages(&reading.maker, &r, offset);
        if (m->messages.len > MISSED_READ_BYTES)
            break;
    }
    CHECK(!m->messages.failed);
    m->places_read = rc == BACKLOG_MESSAGE ? m->places_count - backlog_left(b) : m->places_count;
    if (rc < 0)
        fail(j, "read", rc);
    buf_fini(&text);
    backlog_close(b);
}

/* ---- the stage ------------------------------------------------------------------------------- */

static bool in_pool(struct job *j)
{
    struct exchange *x = job_exchange(j);
    struct missed *m = x->request.missed;
    x->reply.status = 200;
    if (m->what == MISSED_COLLECT)
        return collect(j, m);
    if (m->what == MISSED_UNGIVEN)
        find_ungiven(j, m);
    else
        read_messages(j, m);
    return true;
}

static void to_pool(struct job *j)
{
    read_in_pool(j, in_pool, job_send);
}

void missed_run(struct job *j)
{
    const struct missed *m = job_exchange(j)->request.missed;
    CHECK(m);
    job_keep(j);
    j->deadline_ns = worker_now_ns(j->lane->worker) + j->lane->tune.read_deadline_ns;
    if (m->group.ptr)
        wait_for_views(j, VIEW_SESSION, j->account->live->session_told, j->deadline_ns, to_pool);
    else
        to_pool(j);
}
