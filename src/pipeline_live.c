/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the journal to subscribers. While anybody has subscribed, one thread reads the journal
 * behind the durable watermark and posts each batch, once copied and counted, to the workers that
 * have subscribers; a worker turns the records of accounts that somebody there wants into messages,
 * in all the forms that Adafruit IO's topics have, and hands them to its front.
 *
 * Invariants: 1. a subscriber gets what became durable after its subscription was counted: the
 * reader begins where the watermark was when the first one was. 2. Of each feed messages come in
 * the order of the journal. 3. At most LIVE_BYTES_MAX of batches are on their way; a worker that is
 * behind misses what comes on top, and that is counted.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "codec/topic.h"
#include "flow/publish.h"
#include "flow/session_record.h"
#include "pipeline_private.h"

#define WAIT_NS    (200 * NS_PER_MS)
#define TOPIC_ROOM 512u

/* Records on their way to some lanes. */
struct live_batch {
    _Atomic unsigned refs;
    struct live *live;
    struct journal_batch batch; /* its body is behind the struct */
    char bytes[];
};

/* The same for one of them. */
struct live_post {
    struct mail mail;
    struct lane *lane;
    struct live_batch *batch;
};

struct live {
    struct pipeline *p;
    struct journal_reader *reader; /* the thread's */
    pthread_t thread;
    pthread_mutex_t lock; /* of these: */
    pthread_cond_t wake;
    int interest;  /* subscriptions, all lanes */
    uint64_t from; /* where the watermark was when there was the first */
    bool stop;
    bool dropped;           /* the thread's: who waits for the last batch does not know yet */
    _Atomic uint64_t bytes; /* on their way */
};

/* ---- records to messages ---- */

struct made {
    const struct message_maker *maker;
    const struct feed *feed;
    const struct record *record;
    struct datum datum;
    uint64_t offset;
    enum body_form form;
    bool of_group;
};

static struct slice on_payload(void *arg)
{
    struct made *m = arg;
    struct buf *out = m->maker->text;
    CHECK(!m->maker->blind);
    if (!m->of_group && m->form == BODY_TEXT)
        return m->datum.value;
    buf_clear(out);
    if (m->of_group) {
        api_put_in_group(out, m->form, m->feed, &m->datum);
        api_end_group(out, m->form);
    } else {
        api_put_message(out, m->maker->api, m->form, m->feed, &m->datum, m->record->event_us,
                        m->offset);
    }
    return out->failed ? (struct slice){0} : buf_slice(out);
}

/* The topic's forms, each with its payload: parts `part` to `part` + 2. */
static void make_forms(struct made *m, const struct account *owner, const char *kind,
                       struct slice key, bool group, unsigned part)
{
    static const char *const tails[] = {"", "/json", "/csv"};
    static const enum body_form forms[] = {BODY_TEXT, BODY_JSON, BODY_CSV};
    const struct live_ops *to = &m->maker->to;
    char room[TOPIC_ROOM];
    for (unsigned i = 0; i < 3; i++) {
        int len = snprintf(room, sizeof room, "%.*s/%s/%.*s%s", SLICE_ARG(owner->name), kind,
                           SLICE_ARG(key), tails[i]);
        CHECK(len > 0 && (size_t)len < sizeof room); /* names and keys are bounded */
        m->form = forms[i];
        m->of_group = group;
        const struct live_message message = {.account = m->record->account,
                                             .client = m->record->client,
                                             .place = session_place(m->offset, part + i),
                                             .topic = slice_of(room, (size_t)len),
                                             .feed_key = m->feed->key,
                                             .permission = PERM_data_read,
                                             .payload = on_payload,
                                             .arg = m};
        to->publish(to->arg, &message);
    }
}

/* Parts 0 to 11: their numbers are in the journal (flow/session_record.h), so they stay. */
static void make_of_datum(const struct message_maker *maker, struct record *r, uint64_t offset)
{
    struct catalog *c = maker->api->catalog;
    struct made m = {.maker = maker, .record = r, .offset = offset};
    if (r->key_id && !maker->blind &&
        (!maker->sealer || unseal_record(maker->sealer, r, maker->opened) != SEAL_DONE))
        return; /* erased meanwhile, or the views have said what is wrong with it */
    struct account *owner = catalog_account_by_number(c, r->account);
    struct feed *feed = owner ? catalog_feed_by_number(c, r->feed) : NULL;
    if (feed && (maker->blind || datum_decode(r->payload, &m.datum))) {
        m.feed = feed;
        make_forms(&m, owner, "feeds", feed->key, false, 0);
        make_forms(&m, owner, "f", feed->key, false, 3);
        struct slice group = feed->group_key.len ? feed->group_key : SLICE("default");
        make_forms(&m, owner, "groups", group, true, 6);
        make_forms(&m, owner, "g", group, true, 9);
    }
    feed_unref(feed);
    account_unref(owner);
}

static struct slice on_message(void *arg)
{
    return *(const struct slice *)arg;
}

/* A message to a topic that is no feed. */
static void make_of_publish(const struct message_maker *maker, struct record *r, uint64_t offset)
{
    struct publish p = {.qos = 2}; /* as far as who is blind can see */
    bool blind = r->key_id && maker->blind;
    if (r->key_id && !blind &&
        (!maker->sealer || unseal_record(maker->sealer, r, maker->opened) != SEAL_DONE))
        return; /* as above */
    if (!blind && !publish_decode(r->payload, &p))
        return;
    const struct live_message m = {.account = r->account,
                                   .client = r->client,
                                   .place = session_place(offset, 0),
                                   .topic = r->topic,
                                   .payload = on_message,
                                   .arg = &p.message,
                                   .published = true,
                                   .permission = PERM_data_read,
                                   .retain = r->flags & RECORD_F_RETAIN,
                                   .qos = p.qos,
                                   .expires_us = publish_expires_us(&p, r->receive_us),
                                   .properties = p.properties};
    maker->to.publish(maker->to.arg, &m);
}

void make_messages(const struct message_maker *maker, struct record *r, uint64_t offset)
{
    bool is_datum = r->kind == RECORD_DATUM;
    if ((!is_datum && r->kind != RECORD_PUBLISH) || !maker->to.wants(maker->to.arg, r->account))
        return;
    if (is_datum)
        make_of_datum(maker, r, offset);
    else
        make_of_publish(maker, r, offset);
}

static void batch_unref(struct live_batch *b)
{
    if (atomic_fetch_sub(&b->refs, 1) != 1)
        return;
    atomic_fetch_sub(&b->live->bytes, b->batch.body.len);
    free(b);
}

static void on_batch(struct mail *mail)
{
    struct live_post *post = (struct live_post *)((char *)mail - offsetof(struct live_post, mail));
    struct lane *l = post->lane;
    const struct journal_batch *b = &post->batch->batch;
    const struct message_maker maker = {.api = &l->p->opts.api,
                                        .sealer = l->sealer,
                                        .text = &l->live_text,
                                        .opened = &l->live_opened,
                                        .to = l->live};
    uint64_t offset = b->first_offset;
    struct record r;
    size_t at = 0;
    if (l->live.begin)
        l->live.begin(l->live.arg, offset);
    while (l->live.wants && journal_batch_record(b, &at, &r) > 0)
        make_messages(&maker, &r, offset++);
    if (l->live.end)
        l->live.end(l->live.arg, b->first_offset + b->count);
    batch_unref(post->batch);
    free(post);
}

/* ---- what is not in the journal ---- */

/* A message on its way to another lane: its topic, then its payload, behind the struct. */
struct live_note {
    struct mail mail;
    struct lane *lane;
    struct live_message message;
    struct slice payload;
    char bytes[];
};

static struct slice on_note_payload(void *arg)
{
    return ((struct live_note *)arg)->payload;
}

static size_t note_bytes(const struct live_note *n)
{
    return sizeof *n + n->message.topic.len + n->payload.len;
}

static void on_note(struct mail *mail)
{
    struct live_note *n = (struct live_note *)((char *)mail - offsetof(struct live_note, mail));
    struct lane *l = n->lane;
    l->live.publish(l->live.arg, &n->message);
    atomic_fetch_sub(&l->p->live->bytes, note_bytes(n));
    free(n);
}

static void post_note(struct lane *l, const struct live_message *m, struct slice payload)
{
    struct live *live = l->p->live;
    struct live_note *n = malloc(sizeof *n + m->topic.len + payload.len);
    CHECK(n);
    *n = (struct live_note){.mail.run = on_note, .lane = l, .message = *m};
    memcpy(n->bytes, m->topic.ptr, m->topic.len);
    if (payload.len)
        memcpy(n->bytes + m->topic.len, payload.ptr, payload.len);
    n->message.topic = slice_of(n->bytes, m->topic.len);
    n->message.payload = on_note_payload;
    n->message.arg = n;
    n->payload = slice_of(n->bytes + m->topic.len, payload.len);
    if (atomic_fetch_add(&live->bytes, note_bytes(n)) + note_bytes(n) > LIVE_BYTES_MAX) {
        atomic_fetch_sub(&live->bytes, note_bytes(n));
        metric_add(METRIC_live_notes_dropped, 1);
        free(n);
        return;
    }
    worker_post(l->worker, &n->mail);
}

void lane_tell(void *lane, const struct live_message *m)
{
    struct lane *l = lane;
    if (l->live.wants(l->live.arg, m->account))
        l->live.publish(l->live.arg, m);
    for (unsigned i = 0; i < l->p->lanes_count; i++) {
        struct lane *other = l->p->lanes[i];
        if (other != l && other->interest > 0)
            post_note(other, m, m->payload(m->arg));
    }
}

/* ---- the thread ---- */

static void post_batch(struct live *live, const struct journal_batch *b)
{
    struct pipeline *p = live->p;
    unsigned lanes = p->lanes_count, wanted = 0;
    for (unsigned i = 0; i < lanes; i++)
        wanted += p->lanes[i]->interest > 0;
    if (!wanted)
        return;
    if (live->bytes + b->body.len > LIVE_BYTES_MAX) {
        metric_add(METRIC_live_batches_dropped, 1);
        live->dropped = true;
        return;
    }
    live->dropped = false;
    struct live_batch *copy = malloc(sizeof *copy + b->body.len);
    CHECK(copy);
    copy->refs = lanes + 1;
    copy->live = live;
    copy->batch = *b;
    copy->batch.body = slice_of(copy->bytes, b->body.len);
    memcpy(copy->bytes, b->body.ptr, b->body.len);
    atomic_fetch_add(&live->bytes, b->body.len);
    for (unsigned i = 0; i < lanes; i++) {
        struct live_post *post = p->lanes[i]->interest > 0 ? malloc(sizeof *post) : NULL;
        if (!post) {
            batch_unref(copy);
            continue;
        }
        *post = (struct live_post){.mail.run = on_batch, .lane = p->lanes[i], .batch = copy};
        worker_post(post->lane->worker, &post->mail);
    }
    batch_unref(copy);
}

/* Sessions read what was dropped from the journal when they hear of what is behind it. */
static void wait_for_more(struct live *live)
{
    const struct journal_batch none = {.first_offset = journal_reader_offset(live->reader),
                                       .body = slice_str("")};
    if (live->dropped)
        post_batch(live, &none);
    journal_reader_wait(live->reader, WAIT_NS);
}

/* Reads until nobody is interested any more. */
static void read_on(struct live *live, uint64_t from)
{
    struct error err;
    struct journal_batch b;
    struct journal_reader_opts opts = {.has_start = true, .start = from};
    bool failed = journal_reader_open(live->p->opts.api.journal, &opts, &live->reader, &err) < 0;
    if (failed)
        log_line(LOG_ERROR, "live.reader_failed", "error=\"%s\"", err.text);
    for (bool on = true; on;) {
        int next = failed ? JOURNAL_WAIT : journal_reader_next(live->reader, &b);
        if (next == JOURNAL_BATCH)
            post_batch(live, &b);
        else if (failed)
            clock_sleep_ns(WAIT_NS);
        else if (next != JOURNAL_GAP)
            wait_for_more(live);
        pthread_mutex_lock(&live->lock);
        on = live->interest > 0 && !live->stop;
        pthread_mutex_unlock(&live->lock);
    }
    if (!failed)
        journal_reader_close(live->reader);
    live->reader = NULL;
}

static void run(void *arg)
{
    struct live *live = arg;
    pthread_mutex_lock(&live->lock);
    while (!live->stop) {
        if (live->interest == 0) {
            pthread_cond_wait(&live->wake, &live->lock);
            continue;
        }
        uint64_t from = live->from;
        pthread_mutex_unlock(&live->lock);
        read_on(live, from);
        pthread_mutex_lock(&live->lock);
    }
    pthread_mutex_unlock(&live->lock);
}

void lane_interest(void *lane, int change)
{
    struct lane *l = lane;
    struct live *live = l->p->live;
    if (!change)
        return;
    pthread_mutex_lock(&live->lock);
    if (live->interest == 0)
        live->from = journal_durable(l->p->opts.api.journal);
    live->interest += change;
    l->interest += change;
    pthread_cond_signal(&live->wake);
    pthread_mutex_unlock(&live->lock);
}

uint64_t lane_durable(void *lane)
{
    return journal_durable(((struct lane *)lane)->p->opts.api.journal);
}

void lane_set_live(struct lane *l, struct live_ops ops)
{
    l->live = ops;
}

void pipeline_live_start(struct pipeline *p)
{
    struct live *live = calloc(1, sizeof *live);
    CHECK(live);
    live->p = p;
    pthread_mutex_init(&live->lock, NULL);
    pthread_cond_init(&live->wake, NULL);
    p->live = live;
    live->thread = thread_start("live", run, live);
}

void pipeline_live_stop(struct pipeline *p)
{
    struct live *live = p->live;
    if (!live || live->stop)
        return;
    pthread_mutex_lock(&live->lock);
    live->stop = true;
    pthread_cond_signal(&live->wake);
    pthread_mutex_unlock(&live->lock);
    pthread_join(live->thread, NULL);
}

void live_free(struct live *live)
{
    if (!live)
        return;
    CHECK(live->stop && !live->bytes);
    pthread_mutex_destroy(&live->lock);
    pthread_cond_destroy(&live->wake);
    free(live);
}

/* ---- who may ---- */

/* What lies under the account's own name, and where the account has any topics all but those that
 * begin with '$'; what it is about is looked at with each message. */
enum reason lane_may_subscribe(void *lane, struct principal *p, struct slice filter,
                               uint64_t *ret_account)
{
    struct slice rest = filter;
    struct slice first = topic_level(&rest);
    if (!p->credential || !lane_vouches(lane, p))
        return REASON_revoked;
    const struct account *account = p->credential->account;
    bool own = slice_eq(first, account->name), any = account->topics == TOPICS_ANY;
    bool servers = filter.ptr[0] == '$' || (!any && slice_eq(first, SLICE("time")));
    *ret_account = servers && !own ? LIVE_OF_NOBODY : account->number;
    if (servers && !own)
        return service_may_subscribe(lane, p, filter);
    if (!(p->credential->permissions & PERM_data_read))
        return REASON_forbidden;
    if (own && rest.ptr)
        return REASON_ok;
    if (!own && any) {
        const struct topic_rules *rules = p->credential->topics;
        bool may = !rules || topic_rules_cover(rules->subscribe, p->credential->name, filter);
        return may ? REASON_ok : REASON_forbidden;
    }
    return !own && topic_name_valid(first) && rest.ptr ? REASON_not_available : REASON_bad_topic;
}
