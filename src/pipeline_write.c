/* SPDX-License-Identifier: Apache-2.0 */
/*
 * To the journal. Points become records in the lane's open batch (pipeline_batch.c), which comes
 * back when it is durable; then its requests are answered. A request whose feeds do not exist yet
 * first waits for the catalog.
 *
 * Invariant: all records of one request lie in one append.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "codec/text.h"
#include "pipeline_private.h"

#define TEXTS_MAX (1u << 20)

/* ---- answers ---- */

static void raise_to(_Atomic uint64_t *mark, uint64_t end)
{
    uint64_t was = atomic_load_explicit(mark, memory_order_relaxed);
    while (was < end && !atomic_compare_exchange_weak_explicit(
                            mark, &was, end, memory_order_relaxed, memory_order_relaxed))
        ;
}

void remember_told(struct account *a, uint64_t end)
{
    raise_to(&a->live->told, end);
}

void remember_session_told(struct account *a, uint64_t end)
{
    raise_to(&a->live->session_told, end);
}

void job_put_location(struct job *j)
{
    /* Of its last message: what has passed that has passed all of them. */
    struct buf *fields = &job_exchange(j)->reply.fields;
    buf_put_slice(fields, SLICE("Location: /v1/receipts/"));
    buf_put_dec(fields, j->end_offset - 1);
    buf_put_slice(fields, SLICE("\r\n"));
}

void job_put_accepted(struct job *j, const struct ack *ack, const char *more)
{
    struct exchange *x = job_exchange(j);
    struct buf *out = &x->reply.body;
    buf_put_slice(out, SLICE("{\"accepted\":"));
    buf_put_dec(out, j->count);
    if (ack->level != ACK_RECEIVED) {
        buf_put_slice(out, SLICE(",\"position\":{\"log\":\""));
        buf_put_str(out, j->lane->p->opts.api.log_id);
        buf_put_slice(out, SLICE("\",\"shard\":0,\"offset\":"));
        buf_put_dec(out, j->end_offset - j->count);
        buf_put_u8(out, '}');
    }
    buf_put_slice(out, SLICE(",\"ack\":\""));
    ack_format(out, ack);
    buf_put_u8(out, '"');
    buf_put_str(out, more);
    buf_put_u8(out, '}');
    x->reply.status = 202;
    if (ack->level != ACK_RECEIVED)
        job_put_location(j);
}

/* The ids were written without their offsets: now those are known. */
static void put_offsets(struct job *j, uint64_t first_offset)
{
    struct buf *out = &job_exchange(j)->reply.body;
    unsigned n = (unsigned)(j->ids.len / sizeof(size_t));
    for (unsigned i = 0; i < n && !out->failed; i++) {
        size_t at;
        memcpy(&at, j->ids.ptr + i * sizeof at, sizeof at);
        int64_t ms;
        uint16_t node;
        uint64_t none;
        char id[DATUM_ID_LEN + 1];
        CHECK(datum_id_parse(slice_of(out->ptr + at, DATUM_ID_LEN), &ms, &node, &none));
        datum_id_format(id, ms * 1000, node, first_offset + i);
        memcpy(out->ptr + at, id, DATUM_ID_LEN);
    }
}

void count_accepted(const struct lane *l, uint32_t count, uint64_t start_ns)
{
    metric_add(METRIC_messages_accepted, count);
    metric_observe(METRIC_accept_latency, worker_now_ns(l->worker) - start_ns);
}

void job_accepted(struct job *j)
{
    count_accepted(j->lane, j->count, job_exchange(j)->request.start_ns);
    job_send(j);
}

void job_durable(struct job *j, uint64_t first_offset)
{
    j->end_offset = first_offset + j->count;
    if (job_exchange(j)->request.session || j->match.route->class == ROUTE_SESSION)
        remember_session_told(j->account, j->end_offset);
    if (j->match.route->class == ROUTE_SESSION) {
        job_send(j);
        return;
    }
    remember_told(j->account, j->end_offset);
    bool telemetry = j->match.route->op == OP_TELEMETRY_POST;
    if (telemetry && j->ack != ACK_DELIVERED)
        job_put_accepted(j, &(struct ack){.level = j->ack}, "");
    else if (!telemetry && !route_is_publish(j->match.route))
        put_offsets(j, first_offset);
    if (j->ack == ACK_APPLIED)
        wait_for_views(j, VIEW_LATEST | VIEW_HISTORY, j->end_offset, j->deadline_ns, job_accepted);
    else if (__builtin_expect(j->ack == ACK_DELIVERED, 0))
        ack_wait(j);
    else
        job_accepted(j);
}

void job_not_durable(struct job *j, enum reason reason)
{
    struct exchange *x = job_exchange(j);
    buf_clear(&x->reply.body);
    x->reply.retry_ns = NS_PER_S;
    job_refuse(j, reason, NULL);
}

/* ---- points to records ---- */

/* Into the append, sealed if records are. A record that cannot be sealed is not put. */
static bool put_record(struct lane *l, struct batch *b, struct record *r)
{
    if (__builtin_expect(l->sealer != NULL, 0) && r->kind != RECORD_DELETED) {
        if (seal_record(l->sealer, r, &l->sealed) != SEAL_DONE)
            return false;
        metric_add(METRIC_sealed_records, 1);
    }
    return journal_put(&b->append, r);
}

static bool put_point(struct job *j, struct batch *b, const struct point *p, const struct feed *f,
                      const struct producer *named)
{
    struct lane *l = j->lane;
    struct datum d = {.value = p->value,
                      .has_place = p->has_place,
                      .has_ele = p->has_ele,
                      .lat = p->lat,
                      .lon = p->lon,
                      .ele = p->ele};
    buf_clear(&l->payload);
    datum_encode(&l->payload, &d);
    struct record r = {
        .kind = RECORD_DATUM,
        .flags = f->flags & FEED_NO_HISTORY ? RECORD_F_NO_HISTORY : 0,
        .account = j->account->number,
        .feed = f->number,
        .credential = j->credential->number,
        .client = job_exchange(j)->request.client,
        .event_us = p->has_time ? p->time_us : j->now_us,
        .receive_us = j->now_us,
        .payload = buf_slice(&l->payload),
    };
    if (named)
        r.producer = *named;
    if (named && job_exchange(j)->request.will)
        r.flags |= RECORD_F_WILL;
    if (named && job_exchange(j)->request.rule.ptr)
        r.flags |= RECORD_F_RULE;
    return put_record(l, b, &r);
}

/* All of a request or nothing. */
static bool put_all(struct job *j, struct batch *b, const struct producer *named)
{
    struct lane *l = j->lane;
    size_t len = b->append.body.len;
    uint32_t count = b->append.count;
    bool put = true;
    for (unsigned i = 0; put && i < l->points.count; i++)
        put = put_point(j, b, &l->points.list[i], l->feeds[i], i ? NULL : named);
    if (put && named && !named->session)
        put = journal_put_unit(&b->append, count, len);
    if (!put) {
        b->append.body.len = len;
        b->append.count = count;
        b->append.body.failed = false;
    }
    return put;
}

static bool put_points(struct job *j, struct batch *b)
{
    return put_all(j, b, NULL);
}

static bool put_points_once(struct job *j, struct batch *b)
{
    return put_all(j, b, &j->lane->producer);
}

/* A message of QoS 2 of a session that outlives its connection, or its will. */
static bool put_points_of_session(struct job *j, struct batch *b)
{
    const struct request *q = &job_exchange(j)->request;
    const struct producer from = {
        .session = q->session, .sequence = q->packet_id, .fingerprint = q->version};
    return put_all(j, b, &from);
}

static bool (*choose_put(const struct request *q, bool once))(struct job *j, struct batch *b)
{
    bool of_session = q->session && (q->packet_id || q->will);
    return once ? put_points_once : of_session ? put_points_of_session : put_points;
}

/* Lets go of the exchange if all that is left to be said is that the message is durable. */
static bool pledge(struct job *j, struct owed *o)
{
    struct exchange *x = job_exchange(j);
    if (j->ack != ACK_DURABLE || !route_is_publish(j->match.route) || !x->ops->pledge ||
        x->reply.body.len || once_asked(&x->request))
        return false;
    *o = (struct owed){.ops = x->ops,
                       .account = j->account,
                       .start_ns = x->request.start_ns,
                       .deadline_ns = j->deadline_ns,
                       .first_index = j->first_index,
                       .count = j->count,
                       .of_session = x->request.session != 0};
    j->account = NULL; /* its reference is there */
    o->pledge = job_pledge(j);
    return true;
}

/* Links the job to the batch that holds its records, or answers at once. */
static void join_batch(struct job *j, struct batch *b, uint32_t first)
{
    j->first_index = first;
    j->count = b->append.count - first;
    if (b->append.body.len > BATCH_BYTES_MAX / 2 || b->append.count > BATCH_RECORDS_MAX / 2)
        overload_hold_look(j->lane);
    /* While its cache line is still here; the answer needs only the account. */
    j->credential = credential_unref(j->credential);
    if (j->ack == ACK_RECEIVED) {
        b->received += j->count;
        metric_add(METRIC_messages_received_unacked, j->count);
        if (!route_is_publish(j->match.route))
            job_put_accepted(j, &(struct ack){.level = ACK_RECEIVED}, "");
        job_send(j);
        return;
    }
    j->deadline_ns = worker_now_ns(j->lane->worker) + j->lane->tune.ack_timeout_ns;
    if (b->owed_count ==
        b->owed_room) { /* a job has a record at least: BATCH_RECORDS_MAX bounds it */
        b->owed_room = b->owed_room ? b->owed_room * 2 : 64;
        b->owed = realloc(b->owed, b->owed_room * sizeof *b->owed);
        CHECK(b->owed);
    }
    struct owed *o = &b->owed[b->owed_count++];
    if (pledge(j, o))
        return;
    *o = (struct owed){.job = j, .deadline_ns = j->deadline_ns};
    ack_begin(j);
    exchange_release(job_exchange(j)); /* which may bring more, and then `o` lies elsewhere */
}

/*
 * Puts records into the open batch by `put`; when it is full, into the next one. NULL: there is no
 * room, *ret_reason says why. Nobody is answered in here: an answer may let the connection's next
 * request in at once, and that would use the lane's points and feeds while they are still needed.
 */
static struct batch *take_room(struct job *j, bool (*put)(struct job *j, struct batch *b),
                               uint32_t *ret_first, enum reason *ret_reason)
{
    struct lane *l = j->lane;
    *ret_reason = journal_accepts(l->p->opts.api.journal);
    if (*ret_reason != REASON_ok && *ret_reason != REASON_busy)
        return NULL;
    if (l->sealer && !keyring_key_of(l->p->opts.keyring, j->account->number)) {
        *ret_reason = REASON_disabled;
        return NULL;
    }
    for (int tries = 0; tries < 2; tries++) {
        struct batch *b = batch_open(l);
        *ret_first = b->append.count;
        if (put(j, b))
            return b;
        if (*ret_first == 0)
            break; /* larger than a whole batch */
        batch_submit(l);
        if (l->open == b) { /* the journal is busy, and this batch is full */
            *ret_reason = REASON_busy;
            return NULL;
        }
    }
    *ret_reason = REASON_too_large;
    return NULL;
}

static void end_append(struct job *j, struct batch *b, uint32_t first, enum reason reason)
{
    if (b) {
        join_batch(j, b, first);
    } else if (reason == REASON_too_large) {
        job_refuse(j, reason, NULL);
    } else {
        metric_add(METRIC_journal_refused, 1);
        job_not_durable(j, reason);
    }
}

/* ---- the reply of Adafruit's create data ---- */

void prepare_data_reply(struct job *j)
{
    struct exchange *x = job_exchange(j);
    struct lane *l = j->lane;
    bool batch = j->match.route->op != OP_DATA_CREATE;
    struct buf *out = &x->reply.body;
    x->reply.status = 200;
    buf_fini(&j->ids);
    buf_init(&j->ids, REQUEST_RECORDS_MAX * sizeof(size_t));
    if (batch)
        buf_put_u8(out, '[');
    for (unsigned i = 0; i < l->points.count; i++) {
        const struct point *p = &l->points.list[i];
        struct datum d = {.value = p->value,
                          .has_place = p->has_place,
                          .has_ele = p->has_ele,
                          .lat = p->lat,
                          .lon = p->lon,
                          .ele = p->ele};
        size_t at = 0;
        if (i)
            buf_put_u8(out, ',');
        api_format_datum(out, &l->p->opts.api, j->feed ? j->feed : l->feeds[i], &d,
                         p->has_time ? p->time_us : j->now_us, 0, &at);
        buf_put(&j->ids, &at, sizeof at);
    }
    if (batch)
        buf_put_u8(out, ']');
}

/* ---- feeds of the points ---- */

static void drop_feeds(struct lane *l, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        l->feeds[i] = feed_unref(l->feeds[i]);
}

/* Lower case, '-' for ' ' and '_': what a name becomes as a key, "feed" or "group.feed", each part
 * at most FEED_NAME_MAX long and the feed's with a letter in it. Into `out`, which the key fits.
 * False: no key comes of it. */
static bool fold_key(struct slice name, char *out)
{
    /* 0: not in a key; else what the byte becomes. */
    static const char folded[256] = {
        [' '] = '-',      ['-'] = '-',      ['_'] = '-',      ['.'] = '.',      ['0'] = '0',
        ['1'] = '1',      ['2'] = '2',      ['3'] = '3',      ['4'] = '4',      ['5'] = '5',
        ['6'] = '6',      ['7'] = '7',      ['8'] = '8',      ['9'] = '9',
#define LETTER(upper, lower) [upper] = lower, [lower] = lower
        LETTER('A', 'a'), LETTER('B', 'b'), LETTER('C', 'c'), LETTER('D', 'd'), LETTER('E', 'e'),
        LETTER('F', 'f'), LETTER('G', 'g'), LETTER('H', 'h'), LETTER('I', 'i'), LETTER('J', 'j'),
        LETTER('K', 'k'), LETTER('L', 'l'), LETTER('M', 'm'), LETTER('N', 'n'), LETTER('O', 'o'),
        LETTER('P', 'p'), LETTER('Q', 'q'), LETTER('R', 'r'), LETTER('S', 's'), LETTER('T', 't'),
        LETTER('U', 'u'), LETTER('V', 'v'), LETTER('W', 'w'), LETTER('X', 'x'), LETTER('Y', 'y'),
        LETTER('Z', 'z'),
#undef LETTER
    };
    unsigned dots = 0;
    size_t part = 0;
    bool letter = false;
    for (size_t i = 0; i < name.len; i++) {
        char c = folded[(unsigned char)name.ptr[i]];
        out[i] = c;
        if (c >= 'a') {
            letter = true;
        } else if (c == '.') {
            if (i == 0 || i + 1 == name.len || ++dots > 1 || part > FEED_NAME_MAX)
                return false;
            part = 0;
            letter = false;
            continue;
        } else if (!c) {
            return false;
        }
        part++;
    }
    return letter && part <= FEED_NAME_MAX;
}

/* The key a point names, whole: inside a group that comes in front. False: it is none. */
static bool point_key(const struct job *j, const struct point *p, char *key, struct slice *ret)
{
    size_t before = 0;
    /* A group that is published to may have to be made yet. */
    struct slice group = j->group ? j->group->key : j->match.group;
    *ret = (struct slice){0};
    if (p->feed.len > FEED_KEY_MAX)
        return false;
    bool dotted = p->feed.len && memchr(p->feed.ptr, '.', p->feed.len);
    if (dotted && group.len && !j->group)
        return false; /* it may name another group's */
    if (group.len && !slice_eq(group, SLICE("default")) && !dotted) {
        before = group.len + 1;
        if (before + p->feed.len > FEED_KEY_MAX || (!j->group && !fold_key(group, key)))
            return false;
        if (j->group)
            memcpy(key, group.ptr, group.len);
        key[before - 1] = '.';
    }
    if (!fold_key(p->feed, key + before))
        return false;
    *ret = slice_of(key, before + p->feed.len);
    return true;
}

static bool is_key_of_group(const struct group *g, struct slice key)
{
    if (slice_eq(g->key, SLICE("default")))
        return !memchr(key.ptr, '.', key.len);
    return slice_starts(key, g->key) && key.len > g->key.len && key.ptr[g->key.len] == '.';
}

/* The group's own feed of that key, else one that was added to it. */
static struct feed *feed_of_group(const struct job *j, const struct point *p, struct slice *key)
{
    struct catalog *c = j->lane->p->opts.api.catalog;
    char plain[FEED_KEY_MAX + 1];
    struct feed *f = catalog_feed(c, j->account->number, *key);
    if (!f && fold_key(p->feed, plain))
        f = catalog_feed(c, j->account->number, slice_of(plain, p->feed.len));
    if (f && !feed_in_group(f, j->group))
        f = feed_unref(f);
    if (!f && !is_key_of_group(j->group, *key))
        *key = (struct slice){0};
    return f;
}

static struct feed *feed_of(struct job *j, const struct point *p, char *key, struct slice *ret_key)
{
    if (j->feed)
        return feed_ref(j->feed);
    if (!point_key(j, p, key, ret_key))
        return NULL;
    if (j->group)
        return feed_of_group(j, p, ret_key);
    return catalog_feed(j->lane->p->opts.api.catalog, j->account->number, *ret_key);
}

bool write_reply_again(struct job *j)
{
    struct lane *l = j->lane;
    char key[FEED_KEY_MAX + 1];
    struct slice whole;
    unsigned found = 0;
    while (found < l->points.count &&
           (l->feeds[found] = feed_of(j, &l->points.list[found], key, &whole)))
        found++;
    if (found == l->points.count)
        prepare_data_reply(j);
    bool all = found == l->points.count;
    drop_feeds(l, found);
    return all;
}

enum resolved { RESOLVED, RESOLVE_REFUSED, RESOLVE_MISSING };

/* Finds every point's feed into lane->feeds. MISSING: *ret_missing of them do not exist yet. */
static enum resolved resolve(struct job *j, unsigned *ret_missing, enum reason *ret_reason,
                             struct error *err)
{
    struct lane *l = j->lane;
    char key[FEED_KEY_MAX + 1];
    *ret_missing = 0;
    for (unsigned i = 0; i < l->points.count; i++) {
        const struct point *p = &l->points.list[i];
        struct slice folded = {0};
        struct feed *f = feed_of(j, p, key, &folded);
        l->feeds[i] = f;
        *ret_reason = REASON_ok;
        if (!f && !folded.len && j->match.route->op == OP_PUBLISH_FEED) {
            error_set(err, 0, "%s", reason_info(REASON_bad_name)->text); /* Adafruit's words */
            *ret_reason = REASON_bad_name;
        } else if (!f && !folded.len) {
            error_set(err, 0,
                      j->group ? "element %u: \"%.*s\" is no key of a feed in this group"
                               : "element %u: \"%.*s\" is no feed key: use letters, digits, '-' "
                                 "and at most one '.'",
                      i, SLICE_ARG(p->feed));
            *ret_reason = REASON_bad_body;
        } else if (!credential_covers(j->credential, f ? f->key : folded)) {
            error_set(err, 0, "element %u: this credential may not use feed \"%.*s\"", i,
                      SLICE_ARG(p->feed));
            *ret_reason = REASON_forbidden;
        } else if (!f && !(j->credential->permissions & PERM_feed_write)) {
            error_set(err, 0,
                      "element %u: there is no feed \"%.*s\", and this credential may not "
                      "create it",
                      i, SLICE_ARG(p->feed));
            *ret_reason = REASON_forbidden;
        } else {
            *ret_reason = api_point_check(p, i, f, j->now_us, err);
            *ret_missing += f == NULL;
        }
        if (*ret_reason != REASON_ok) {
            drop_feeds(l, i + 1);
            return RESOLVE_REFUSED;
        }
    }
    return *ret_missing ? RESOLVE_MISSING : RESOLVED;
}

/* ---- feeds that must be made first ---- */

static void on_feeds_made(struct job *j);

static void on_ask_done(struct catalog_ask *ask)
{
    struct job *j = ask->owner;
    if (atomic_fetch_sub(&j->asks_left, 1) == 1)
        job_post(j, on_feeds_made);
}

static void fill_ask(struct job *j, struct catalog_ask *ask, const struct point *p)
{
    char *key = j->texts.ptr + j->texts.len;
    CHECK(point_key(j, p, key, &ask->key));
    j->texts.len += ask->key.len;
    ask->op = CATALOG_FEED_ADD;
    ask->actor = j->credential->name;
    ask->actor_credential = j->credential->number;
    ask->account_number = j->account->number;
    ask->feed_name = ask->key;
    const char *dot = memchr(key, '.', ask->key.len);
    if (dot)
        ask->feed_name = slice_from(ask->key, (size_t)(dot - key) + 1);
    ask->done = on_ask_done;
    ask->owner = j;
}

/* Asks the catalog for all missing feeds; the request comes back in on_feeds_made. */
static void make_feeds(struct job *j, unsigned missing)
{
    struct lane *l = j->lane;
    job_keep(j);
    j->asks = calloc(missing, sizeof *j->asks);
    buf_init(&j->texts, TEXTS_MAX);
    CHECK(j->asks && buf_reserve(&j->texts, (size_t)missing * (FEED_KEY_MAX + 1)));
    for (unsigned i = 0; i < l->points.count; i++) {
        if (!l->feeds[i])
            fill_ask(j, &j->asks[j->asks_count++], &l->points.list[i]);
    }
    drop_feeds(l, l->points.count);
    /* One more than there are, so that none of them can be the last before all are queued. */
    atomic_store(&j->asks_left, missing + 1);
    for (unsigned i = 0; i < missing; i++) {
        enum reason reason = catalog_submit(l->p->opts.api.catalog, &j->asks[i]);
        if (reason != REASON_ok) {
            j->asks[i].reason = reason;
            on_ask_done(&j->asks[i]);
        }
    }
    if (atomic_fetch_sub(&j->asks_left, 1) == 1)
        job_post(j, on_feeds_made);
}

static void on_feeds_made(struct job *j)
{
    enum reason reason = REASON_ok;
    char text[sizeof j->asks[0].text] = "";
    for (unsigned i = 0; i < j->asks_count; i++) {
        struct catalog_ask *ask = &j->asks[i];
        if (ask->reason != REASON_ok && reason == REASON_ok) {
            reason = ask->reason;
            memcpy(text, ask->text, sizeof text);
        }
    }
    job_drop_asks(j);
    if (reason != REASON_ok)
        job_refuse(j, reason == REASON_bad_request ? REASON_bad_body : reason, text);
    else
        write_run(j);
}

/* ---- the stage ---- */

/* False: refused and answered. */
static bool choose_ack(struct job *j)
{
    const struct request *q = &job_exchange(j)->request;
    ack_of_account(j);
    if (route_is_publish(j->match.route)) {
        if (q->no_answer)
            j->ack = ACK_RECEIVED;
        if (job_exchange(j)->request.rule.ptr)
            j->ack = ACK_DURABLE; /* what was told to be stored is owed no more */
        return true;
    }
    if (q->query.len && !ack_of_request(j))
        return false;
    if (j->match.route->op != OP_TELEMETRY_POST && j->ack == ACK_RECEIVED)
        j->ack = ACK_DURABLE; /* their answers name a datum's id, which only the journal knows */
    return true;
}

/* What limits in bytes count: the values as they will be stored. */
static uint32_t bytes_of(const struct points *p)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < p->count; i++)
        sum += p->list[i].value.len;
    return sum < UINT32_MAX ? (uint32_t)sum : UINT32_MAX;
}

void write_run(struct job *j)
{
    struct exchange *x = job_exchange(j);
    struct lane *l = j->lane;
    struct error err;
    err.text[0] = 0; /* not all of it: this is done for each message */
    if (!j->now_us)
        j->now_us = worker_wall_us(j->lane->worker);
    if (!choose_ack(j))
        return;
    bool once = once_asked(&x->request);
    if (once && !once_begin(j))
        return;
    enum reason reason = api_points(&j->match, &x->request, &l->points, &err);
    uint32_t cost = reason == REASON_ok && l->points.count ? l->points.count : 1;
    if (!j->passed && !job_throttle(j, cost, reason == REASON_ok ? bytes_of(&l->points) : 0))
        return;
    j->passed = true;
    if (reason == REASON_ok && !l->points.count) {
        error_set(&err, 0, "the body holds no data");
        reason = REASON_bad_body;
    }
    unsigned missing = 0;
    enum resolved resolved = RESOLVE_REFUSED;
    if (reason == REASON_ok)
        resolved = resolve(j, &missing, &reason, &err);
    if (reason != REASON_ok) {
        metric_add(METRIC_shape_refused, 1);
        job_refuse(j, reason, err.text);
        return;
    }
    if (resolved == RESOLVE_MISSING) {
        make_feeds(j, missing);
        return;
    }
    unsigned count = l->points.count;
    if (j->match.route->op != OP_TELEMETRY_POST && !route_is_publish(j->match.route)) {
        if (once)
            job_keep(j); /* the answer to a duplicate is made from the request again */
        prepare_data_reply(j);
    }
    uint32_t first = 0;
    struct batch *b = take_room(j, choose_put(&x->request, once), &first, &reason);
    drop_feeds(l, count);
    end_append(j, b, first, reason);
}

/* ---- deletions and changes ---- */

static bool put_about(struct job *j, struct batch *b, enum record_kind kind)
{
    struct record r = {
        .kind = kind,
        .account = j->account->number,
        .feed = j->feed->number,
        .credential = j->credential->number,
        .event_us = j->now_us,
        .receive_us = j->now_us,
        .payload = buf_slice(&j->lane->payload),
    };
    return put_record(j->lane, b, &r);
}

static bool put_deletion(struct job *j, struct batch *b)
{
    return put_about(j, b, RECORD_DELETED);
}

static bool put_changed(struct job *j, struct batch *b)
{
    return put_about(j, b, RECORD_CHANGED);
}

void write_about(struct job *j, enum record_kind kind, struct slice payload)
{
    buf_clear(&j->lane->payload);
    buf_put_slice(&j->lane->payload, payload);
    j->now_us = worker_wall_us(j->lane->worker);
    ack_of_account(j);
    if (j->ack == ACK_RECEIVED)
        j->ack = ACK_DURABLE;
    uint32_t first = 0;
    enum reason reason;
    struct batch *b =
        take_room(j, kind == RECORD_DELETED ? put_deletion : put_changed, &first, &reason);
    end_append(j, b, first, reason);
}

/* ---- messages to topics that are no feeds ---- */

static bool put_publish(struct job *j, struct batch *b)
{
    const struct request *q = &job_exchange(j)->request;
    struct record r = {.kind = RECORD_PUBLISH,
                       .flags = j->flags,
                       .account = j->account->number,
                       .credential = j->credential->number,
                       .client = q->client,
                       .event_us = j->now_us,
                       .receive_us = j->now_us,
                       .topic = q->path,
                       .payload = buf_slice(&j->lane->payload)};
    if (q->rule.ptr)
        r.producer = (struct producer){.key = q->rule};
    else if (q->session && (q->packet_id || q->will))
        r.producer = (struct producer){
            .session = q->session, .sequence = q->packet_id, .fingerprint = q->version};
    return put_record(j->lane, b, &r);
}

/* The same of a message that names itself. */
static bool put_publish_once(struct job *j, struct batch *b)
{
    size_t len = b->append.body.len;
    uint32_t count = b->append.count;
    if (!put_publish(j, b))
        return false;
    if (journal_put_unit(&b->append, count, len))
        return true;
    b->append.body.len = len;
    b->append.count = count;
    return false;
}

void write_publish(struct job *j, uint32_t flags)
{
    bool once = once_asked(&job_exchange(j)->request);
    uint32_t first = 0;
    enum reason reason;
    j->flags = flags;
    ack_of_account(j);
    if (once)
        j->ack = ACK_DURABLE;
    else if (job_exchange(j)->request.no_answer)
        j->ack = ACK_RECEIVED;
    struct batch *b = take_room(j, once ? put_publish_once : put_publish, &first, &reason);
    end_append(j, b, first, reason);
}

/* ---- sessions ---- */

static bool put_session(struct job *j, struct batch *b)
{
    struct record r = {
        .kind = RECORD_SESSION,
        .account = j->account->number,
        .credential = j->credential->number,
        .event_us = j->now_us,
        .receive_us = j->now_us,
        .producer = {.session = j->session, .fingerprint = job_exchange(j)->request.version},
        .payload = buf_slice(&j->lane->payload)};
    return put_record(j->lane, b, &r);
}

void write_session(struct job *j, uint64_t session)
{
    j->session = session;
    j->now_us = worker_wall_us(j->lane->worker);
    j->ack = ACK_DURABLE;
    uint32_t first = 0;
    enum reason reason;
    struct batch *b = take_room(j, put_session, &first, &reason);
    end_append(j, b, first, reason);
}
