/* SPDX-License-Identifier: Apache-2.0 */
#include "view/sessions.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/rand.h"
#include "base/thread.h"
#include "flow/limits.h"
#include "flow/publish.h"
#include "journal/format.h"

/* ---- a disk of one file in memory ------------------------------------------------------------ */

static struct {
    char *bytes;
    size_t len;
    int error;
    unsigned replaced;
} file;
static struct disk mem_disk;

int disk_read_file(struct disk *d, const char *path, struct buf *out)
{
    assert_ptr_equal(d, &mem_disk);
    if (file.error || !file.bytes)
        return file.error ? file.error : -ENOENT;
    buf_put(out, file.bytes, file.len);
    return 0;
}

/* Others of the library use these two; here nothing does. */
int disk_sync_parent(struct disk *d, const char *path)
{
    return -EIO;
}

int disk_write_full(struct disk *d, struct disk_file *f, const struct iovec *v, int n, uint64_t at)
{
    return -EIO;
}

int disk_replace(struct disk *d, const char *path, const void *ptr, size_t len)
{
    if (file.error)
        return file.error;
    free(file.bytes);
    file.bytes = malloc(len);
    memcpy(file.bytes, ptr, len);
    file.len = len;
    file.replaced++;
    return 0;
}

static void forget_file(void)
{
    free(file.bytes);
    memset(&file, 0, sizeof file);
}

static struct sessions_opts opts_of(uint64_t log_id)
{
    return (struct sessions_opts){.disk = &mem_disk,
                                  .path = "/x/session.snap",
                                  .log_id = {log_id, 2},
                                  .sessions_max = 1000,
                                  .sessions_per_account_max = 1000,
                                  .retained_max = 1000,
                                  .retained_per_account_max = 1000,
                                  .memory_max = 64 << 20,
                                  .memory_per_account_max = 64 << 20};
}

static struct sessions *open_with(const struct sessions_opts *opts, uint64_t *ret_cursor)
{
    struct sessions *t;
    struct error err;
    assert_int_equal(sessions_open(opts, &t, ret_cursor, &err), 0);
    return t;
}

static struct sessions *open_file(uint64_t *ret_cursor)
{
    struct sessions_opts opts = opts_of(1);
    return open_with(&opts, ret_cursor);
}

/* ---- records, kept so that they can be applied again ----------------------------------------- */

enum { LOG_MAX = 4096 };

static struct {
    struct record r[LOG_MAX];
    unsigned count;
} journal;

static char *copy_bytes(struct slice s)
{
    char *copy = malloc(s.len + 1);
    if (s.len)
        memcpy(copy, s.ptr, s.len);
    return copy;
}

/* Returns its offset. */
static uint64_t append(struct record r, const struct buf *payload)
{
    assert_true(journal.count < LOG_MAX);
    r.payload = slice_of(copy_bytes(buf_slice(payload)), payload->len);
    r.topic = slice_of(copy_bytes(r.topic), r.topic.len);
    journal.r[journal.count] = r;
    return journal.count++;
}

static void forget_journal(void)
{
    for (unsigned i = 0; i < journal.count; i++) {
        free((char *)(uintptr_t)journal.r[i].payload.ptr);
        free((char *)(uintptr_t)journal.r[i].topic.ptr);
    }
    journal.count = 0;
}

static void replay(struct sessions *t, uint64_t from)
{
    for (uint64_t i = from; i < journal.count; i++)
        sessions_apply(t, &journal.r[i], i);
}

static uint64_t append_event(uint64_t account, uint64_t number, int64_t us,
                             const struct session_record *event)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    session_record_encode(&b, event);
    uint64_t offset = append((struct record){.kind = RECORD_SESSION,
                                             .account = account,
                                             .credential = number * 3,
                                             .receive_us = us,
                                             .event_us = us,
                                             .producer.session = number},
                             &b);
    buf_fini(&b);
    return offset;
}

static uint64_t append_publish(struct record r, const struct publish *p)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    publish_encode(&b, p);
    r.kind = RECORD_PUBLISH;
    uint64_t offset = append(r, &b);
    buf_fini(&b);
    return offset;
}

/* ---- the model: plain arrays, nothing shared with the code under test -------------------------
 */

enum { ACCOUNTS = 3, CLIENTS = 4, FILTERS = 6, IDS = 12, PLACES = 512, TOPICS = 5 };

struct model_session {
    bool here, will, will_retain;
    uint64_t number, credential, floor;
    uint32_t expiry, will_delay;
    int64_t closed;
    struct {
        bool here, no_local;
        uint8_t qos;
        uint32_t id;
        uint64_t since;
    } subs[FILTERS];
    bool acked[PLACES];
    struct {
        uint64_t place;
        uint8_t qos; /* 0: free */
        bool pubrel;
    } out[IDS];
    bool in[IDS];
};

static struct {
    struct model_session s[ACCOUNTS][CLIENTS];
    uint64_t retained[ACCOUNTS][TOPICS]; /* offset + 1; 0: none */
    uint64_t retained_by[ACCOUNTS][TOPICS];
    uint64_t numbers;
} model;

static const char *const filters[FILTERS] = {"a", "a/+", "#", "$share/g/a", "b/#", "+/+"};
static const char *const topics[TOPICS] = {"a", "a/b", "a/c", "b", "b/a"};

static bool model_has(const struct model_session *m, uint64_t place)
{
    return place < session_place(m->floor, 0) || m->acked[place];
}

static void model_free_ids(struct model_session *m)
{
    for (unsigned i = 0; i < IDS; i++)
        if (m->out[i].qos == 1 && model_has(m, m->out[i].place))
            m->out[i].qos = 0;
}

/* ---- one random step: a record, and what it does to the model ---------------------------------
 */

static struct slice client_name(unsigned c, char text[16])
{
    return slice_of(text, (size_t)snprintf(text, 16, "client%u", c));
}

static struct session_will random_will(struct rand *r)
{
    if (rand_below(r, 2))
        return (struct session_will){0};
    return (struct session_will){.topic = SLICE("will"),
                                 .retain = rand_below(r, 2),
                                 .delay_s = (uint32_t)rand_below(r, 3),
                                 .payload = SLICE("\0bye")};
}

static void model_set_will(struct model_session *m, const struct session_will *w)
{
    m->will = w->topic.ptr != NULL;
    m->will_retain = w->retain;
    m->will_delay = w->delay_s;
}

static void step_open(struct rand *r, unsigned account, unsigned client, int64_t now)
{
    char text[16];
    struct session_record e = {.event = SESSION_OPENED,
                               .client_id = client_name(client, text),
                               .expiry_s = 100 + (uint32_t)rand_below(r, 2),
                               .will = random_will(r)};
    struct model_session *m = &model.s[account][client];
    uint64_t number = ++model.numbers, offset = append_event(account, number, now, &e);
    *m = (struct model_session){.here = true,
                                .number = number,
                                .credential = number * 3,
                                .expiry = e.expiry_s,
                                .floor = offset + 1};
    model_set_will(m, &e.will);
}

static void step_connection(struct rand *r, unsigned account, struct model_session *m, int64_t now)
{
    bool open = rand_below(r, 2);
    struct session_record e = {.event = open ? SESSION_RESUMED : SESSION_CLOSED,
                               .expiry_s = (uint32_t)rand_below(r, 4) * 100,
                               .keep_will = rand_below(r, 2)};
    if (open)
        e.will = random_will(r);
    append_event(account, m->number, now, &e);
    m->expiry = e.expiry_s;
    m->closed = open ? 0 : now;
    if (open)
        model_set_will(m, &e.will);
    else
        m->will = m->will && e.keep_will;
    if (!open && !e.expiry_s && !m->will)
        m->here = false;
}

static void step_filter(struct rand *r, unsigned account, struct model_session *m, int64_t now)
{
    unsigned f = (unsigned)rand_below(r, FILTERS);
    struct session_record e = {.event =
                                   rand_below(r, 3) ? SESSION_SUBSCRIBED : SESSION_UNSUBSCRIBED,
                               .filter = {.filter = slice_str(filters[f]),
                                          .qos = (uint8_t)rand_below(r, 3),
                                          .no_local = rand_below(r, 2),
                                          .id = (uint32_t)rand_below(r, 1000)}};
    uint64_t offset = append_event(account, m->number, now, &e);
    if (e.event == SESSION_UNSUBSCRIBED) {
        m->subs[f].here = false;
        return;
    }
    if (!m->subs[f].here)
        m->subs[f].since = offset;
    m->subs[f].here = true;
    m->subs[f].qos = e.filter.qos;
    m->subs[f].no_local = e.filter.no_local;
    m->subs[f].id = e.filter.id;
}

static void step_acked(struct rand *r, unsigned account, struct model_session *m, int64_t now)
{
    struct session_item items[8];
    struct session_record e = {.event = SESSION_ACKED, .items = items};
    /* A floor that is behind what is known already must not move anything back. */
    e.floor = m->floor + rand_below(r, 4);
    e.floor -= e.floor && rand_below(r, 3) == 0;
    uint64_t place = session_place(e.floor, 0) + 1;
    while (e.count < 8 && rand_below(r, 3) && place < PLACES) {
        items[e.count++].place = place;
        place += 1 + rand_below(r, 40);
    }
    if (session_place(e.floor, 0) >= PLACES)
        return;
    append_event(account, m->number, now, &e);
    for (unsigned i = 0; i < e.count; i++)
        m->acked[items[i].place] = true;
    m->floor = e.floor > m->floor ? e.floor : m->floor;
    for (uint64_t p = 0; p < session_place(m->floor, 0); p++)
        m->acked[p] = false;
    model_free_ids(m);
}

static void step_sent(struct rand *r, unsigned account, struct model_session *m, int64_t now)
{
    struct session_item items[4];
    struct session_record e = {.event = SESSION_SENT, .items = items};
    while (e.count < 4 && (e.count == 0 || rand_below(r, 2))) {
        unsigned id = 1 + (unsigned)rand_below(r, IDS - 1);
        items[e.count] = (struct session_item){.packet_id = (uint16_t)id,
                                               .qos = (uint8_t)(1 + rand_below(r, 2)),
                                               .place = 1 + rand_below(r, PLACES - 1)};
        m->out[id].place = items[e.count].place;
        m->out[id].qos = items[e.count].qos;
        m->out[id].pubrel = false;
        e.count++;
    }
    append_event(account, m->number, now, &e);
}

static void step_ids(struct rand *r, unsigned account, struct model_session *m, int64_t now)
{
    struct session_item items[4];
    struct session_record e = {.event = (enum session_event)(SESSION_PUBREL + rand_below(r, 4)),
                               .items = items};
    while (e.count < 4 && (e.count == 0 || rand_below(r, 2))) {
        unsigned id = 1 + (unsigned)rand_below(r, IDS - 1);
        items[e.count++].packet_id = (uint16_t)id;
        if (e.event == SESSION_PUBREL && m->out[id].qos == 2) {
            m->out[id].pubrel = true;
            if (!model_has(m, m->out[id].place))
                m->acked[m->out[id].place] = true;
        }
        if (e.event == SESSION_COMPLETED)
            m->out[id].qos = 0;
        if (e.event == SESSION_RECEIVED || e.event == SESSION_RELEASED)
            m->in[id] = e.event == SESSION_RECEIVED;
    }
    append_event(account, m->number, now, &e);
}

/* A message: of nobody, of a session with QoS 2, its will; retained or not. */
static void step_message(struct rand *r, unsigned account, struct model_session *m, int64_t now)
{
    unsigned topic = (unsigned)rand_below(r, TOPICS), id = 1 + (unsigned)rand_below(r, IDS - 1);
    bool from = rand_below(r, 2), will = from && rand_below(r, 4) == 0, retain = rand_below(r, 2),
         empty = rand_below(r, 4) == 0;
    struct record record = {.account = account,
                            .credential = 7,
                            .client = rand_below(r, 2) * (1 + topic),
                            .receive_us = now,
                            .event_us = now,
                            .flags = (retain ? RECORD_F_RETAIN : 0) | (will ? RECORD_F_WILL : 0),
                            .topic = slice_str(topics[topic])};
    if (from)
        record.producer.session = m->number;
    if (from && !will)
        record.producer.sequence = id;
    uint64_t offset = append_publish(
        record, &(struct publish){.qos = 2, .message = empty ? SLICE("") : SLICE("on")});
    if (will)
        m->will = false;
    else if (from)
        m->in[id] = true;
    if (retain)
        model.retained[account][topic] = empty ? 0 : offset + 1;
    model.retained_by[account][topic] = retain ? record.client : model.retained_by[account][topic];
}

static void step(struct rand *r, int64_t now)
{
    unsigned account = (unsigned)rand_below(r, ACCOUNTS), client = (unsigned)rand_below(r, CLIENTS);
    struct model_session *m = &model.s[account][client];
    uint64_t dice = rand_below(r, 200);
    if (!m->here || dice < 10) {
        step_open(r, account, client, now);
    } else if (dice < 12) {
        append_event(account, 0, now,
                     &(struct session_record){.event = SESSION_ENDED, .end = SESSION_END_ERASED});
        memset(model.s[account], 0, sizeof model.s[account]);
        memset(model.retained[account], 0, sizeof model.retained[account]);
    } else if (dice < 16) {
        append_event(account, m->number, now,
                     &(struct session_record){.event = SESSION_ENDED, .end = SESSION_END_CLEAN});
        m->here = false;
    } else if (dice < 20) { /* of a session that is no more */
        append_event(
            account, model.numbers + 100, now,
            &(struct session_record){.event = SESSION_SUBSCRIBED, .filter.filter = SLICE("x")});
    } else if (dice < 50) {
        step_connection(r, account, m, now);
    } else if (dice < 80) {
        step_filter(r, account, m, now);
    } else if (dice < 110) {
        step_acked(r, account, m, now);
    } else if (dice < 140) {
        step_sent(r, account, m, now);
    } else if (dice < 170) {
        step_ids(r, account, m, now);
    } else {
        step_message(r, account, m, now);
    }
}

/* ---- comparing ------------------------------------------------------------------------------- */

static void expect_lists(const struct model_session *m, const struct session *s)
{
    unsigned subs = 0, acked = 0, out = 0, in = 0;
    for (unsigned f = 0; f < FILTERS; f++)
        subs += m->subs[f].here;
    assert_int_equal(s->subs_count, subs);
    for (unsigned i = 0; i < s->subs_count; i++) {
        const struct session_sub *sub = &s->subs[i];
        unsigned f = 0;
        while (!slice_eq(sub->filter.filter, slice_str(filters[f])))
            assert_true(++f < FILTERS);
        assert_true(m->subs[f].here && m->subs[f].qos == sub->filter.qos);
        assert_true(m->subs[f].no_local == sub->filter.no_local);
        assert_int_equal(m->subs[f].id, sub->filter.id);
        assert_int_equal(m->subs[f].since, sub->since);
    }
    for (uint64_t p = 0; p < PLACES; p++) {
        acked += m->acked[p];
        assert_true(session_has(s, p) == model_has(m, p));
    }
    assert_int_equal(s->acked_count, acked);
    for (uint16_t id = 1; id < IDS; id++) {
        const struct session_out *o = session_sent(s, id);
        out += m->out[id].qos != 0;
        in += m->in[id];
        assert_true((o != NULL) == (m->out[id].qos != 0));
        assert_true(!o || (o->place == m->out[id].place && o->qos == m->out[id].qos &&
                           o->pubrel == m->out[id].pubrel));
        assert_true(session_has_received(s, id) == m->in[id]);
    }
    assert_int_equal(s->out_count, out);
    assert_int_equal(s->in_count, in);
}

static void expect_session(struct sessions *t, unsigned account, unsigned client, int64_t now)
{
    const struct model_session *m = &model.s[account][client];
    char text[16];
    struct session s;
    bool gone = !m->here || (m->closed && m->closed + (int64_t)m->expiry * US_PER_S <= now);
    assert_true(sessions_find(t, account, client_name(client, text), now, &s) == !gone);
    if (m->here && gone && m->will) { /* waits for its will only */
        assert_true(sessions_get(t, account, m->number, &s));
        session_fini(&s);
    }
    if (gone)
        return;
    assert_true(slice_eq(s.client_id, client_name(client, text)));
    assert_true(s.number == m->number && s.account == account && s.credential == m->credential);
    assert_true(s.expiry_s == m->expiry && s.closed_us == m->closed && s.floor == m->floor);
    assert_true((s.will.topic.ptr != NULL) == m->will);
    if (m->will) {
        assert_true(slice_eq(s.will.topic, SLICE("will")));
        assert_true(slice_eq(s.will.payload, SLICE("\0bye")));
        assert_true(s.will.retain == m->will_retain && s.will.delay_s == m->will_delay);
    }
    expect_lists(m, &s);
    assert_int_equal(s.dropped, 0);
    session_fini(&s);
}

static void expect_retained(struct sessions *t, unsigned account, int64_t now)
{
    struct buf storage;
    struct retained got;
    struct slice after = {0};
    char last[64];
    buf_init(&storage, TOPIC_MAX + RETAINED_MAX);
    for (unsigned i = 0; i < TOPICS; i++) { /* `topics` is in order */
        if (!model.retained[account][i])
            continue;
        assert_int_equal(sessions_next_retained(t, account, SLICE("#"), after, now, &storage, &got),
                         RETAINED_ONE);
        assert_true(slice_eq(got.topic, slice_str(topics[i])));
        assert_true(slice_eq(got.payload, SLICE("\2on")));
        assert_int_equal(got.offset + 1, model.retained[account][i]);
        assert_int_equal(got.client, model.retained_by[account][i]);
        memcpy(last, got.topic.ptr, got.topic.len);
        after = slice_of(last, got.topic.len);
    }
    assert_int_equal(sessions_next_retained(t, account, SLICE("#"), after, now, &storage, &got),
                     RETAINED_END);
    buf_fini(&storage);
}

static void expect_model(struct sessions *t, int64_t now)
{
    for (unsigned a = 0; a < ACCOUNTS; a++) {
        for (unsigned c = 0; c < CLIENTS; c++)
            expect_session(t, a, c, now);
        expect_retained(t, a, now);
    }
}

/* The process dies after every record; what comes back from the newest snapshot and the journal is
 * the model, and so is what never died. */
static void a_crash_at_every_record(void **state)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct rand r = {.state = seed};
        uint64_t cursor;
        int64_t now = 1000 * US_PER_S;
        struct sessions *t = open_file(&cursor);
        memset(&model, 0, sizeof model);
        for (unsigned i = 0; i < 150; i++) {
            now += (int64_t)rand_below(&r, 20) * US_PER_S;
            uint64_t from = journal.count;
            step(&r, now);
            replay(t, from);
            expect_model(t, now);
            struct sessions *back = open_file(&cursor);
            replay(back, cursor);
            expect_model(back, now);
            assert_true(sessions_new_number(back) > model.numbers);
            assert_int_equal(sessions_stats(back).bytes, sessions_stats(t).bytes);
            if (rand_below(&r, 20) == 0)
                assert_int_equal(sessions_snapshot(rand_below(&r, 2) ? t : back, journal.count), 0);
            if (rand_below(&r, 3) == 0) { /* the one that lived ends */
                sessions_close(t);
                t = back;
            } else {
                sessions_close(back);
            }
        }
        sessions_close(t);
        forget_journal();
        forget_file();
    }
}

static void bad_snapshots_are_refused(void **state)
{
    struct rand r = {.state = 3};
    uint64_t cursor;
    struct sessions *t = open_file(&cursor);
    struct sessions_opts opts = opts_of(1);
    struct error err;
    memset(&model, 0, sizeof model);
    for (unsigned i = 0; i < 100; i++)
        step(&r, US_PER_S);
    replay(t, 0);
    assert_int_equal(sessions_snapshot(t, 100), 0);
    sessions_close(t);
    opts.log_id[0] = 2;
    assert_int_equal(sessions_open(&opts, &t, &cursor, &err), -ESTALE);
    opts.log_id[0] = 1;
    for (size_t i = 0; i < file.len; i++) {
        file.bytes[i] ^= 0x10;
        int code = sessions_open(&opts, &t, &cursor, &err);
        assert_true(code == -EBADMSG || (code == -ENOTSUP && i >= 8 && i < 12));
        assert_non_null(strstr(err.text, "/x/session.snap"));
        file.bytes[i] ^= 0x10;
    }
    size_t whole = file.len;
    for (file.len = 0; file.len < whole; file.len++)
        assert_int_equal(sessions_open(&opts, &t, &cursor, &err), -EBADMSG);
    file.error = -EIO;
    assert_int_equal(sessions_open(&opts, &t, &cursor, &err), -EIO);
    file.error = 0;
    assert_int_equal(sessions_open(&opts, &t, &cursor, &err), 0);
    expect_model(t, US_PER_S);
    sessions_close(t);
    forget_journal();
    forget_file();
}

/* ---- limits ---------------------------------------------------------------------------------- */

static void open_one(struct sessions *t, uint64_t account, uint64_t number, const char *client)
{
    uint64_t from = journal.count;
    append_event(account, number, 5,
                 &(struct session_record){
                     .event = SESSION_OPENED, .client_id = slice_str(client), .expiry_s = 100});
    replay(t, from);
}

static void event_on(struct sessions *t, uint64_t account, uint64_t number,
                     const struct session_record *event)
{
    uint64_t from = journal.count;
    append_event(account, number, 5, event);
    replay(t, from);
}

static bool is_there(struct sessions *t, uint64_t account, uint64_t number)
{
    struct session s;
    bool found = sessions_get(t, account, number, &s);
    if (found)
        session_fini(&s);
    return found;
}

static void sessions_have_limits(void **state)
{
    struct sessions_opts opts = opts_of(1);
    opts.sessions_max = 4;
    opts.sessions_per_account_max = 3;
    uint64_t cursor;
    struct sessions *t = open_with(&opts, &cursor);
    open_one(t, 1, 1, "a");
    open_one(t, 1, 2, "b");
    assert_true(sessions_have_room(t, 1));
    open_one(t, 1, 3, "c");
    assert_false(sessions_have_room(t, 1));
    open_one(t, 1, 4, "d");
    assert_false(is_there(t, 1, 4));
    assert_int_equal(sessions_stats(t).dropped, 1);
    open_one(t, 1, 5, "c"); /* it takes the place of the one before it */
    assert_true(is_there(t, 1, 5) && !is_there(t, 1, 3));
    assert_true(sessions_have_room(t, 2));
    open_one(t, 2, 6, "a");
    assert_false(sessions_have_room(t, 3));
    open_one(t, 3, 7, "a");
    assert_false(is_there(t, 3, 7));
    assert_false(is_there(t, 1, 6)); /* another account's */
    char longer[SESSION_NAME_MAX + 2] = {0};
    memset(longer, 'x', SESSION_NAME_MAX + 1);
    event_on(t, 2, 6, &(struct session_record){.event = SESSION_ENDED, .end = SESSION_END_CLEAN});
    open_one(t, 2, 8, longer);
    assert_false(is_there(t, 2, 8));
    open_one(t, 2, 9, longer + 1);
    assert_true(is_there(t, 2, 9));
    assert_int_equal(sessions_snapshot(t, journal.count), 0);
    sessions_close(t);
    opts.sessions_max = 2; /* a smaller limit than the snapshot was written under */
    t = open_with(&opts, &cursor);
    assert_int_equal(sessions_stats(t).sessions, 2);
    assert_int_equal(sessions_stats(t).dropped, 2);
    sessions_close(t);
    forget_journal();
    forget_file();
}

static void lists_have_limits(void **state)
{
    uint64_t cursor;
    struct sessions *t = open_file(&cursor);
    struct session s;
    struct session_item item = {.qos = 2};
    struct session_record event = {.items = &item, .count = 1};
    open_one(t, 1, 1, "a");
    for (unsigned i = 0; i < SESSION_SUBS_MAX + 2; i++) {
        char filter[16];
        snprintf(filter, sizeof filter, "f%u", i);
        event_on(t, 1, 1,
                 &(struct session_record){.event = SESSION_SUBSCRIBED,
                                          .filter.filter = slice_str(filter)});
    }
    for (unsigned i = 1; i <= SESSION_OUT_MAX + 3; i++) {
        item.packet_id = (uint16_t)i;
        item.place = 5000 + i;
        event.event = SESSION_SENT;
        event_on(t, 1, 1, &event);
        event.event = SESSION_RECEIVED;
        event_on(t, 1, 1, &event);
    }
    assert_true(sessions_get(t, 1, 1, &s));
    assert_int_equal(s.subs_count, SESSION_SUBS_MAX);
    assert_int_equal(s.out_count, SESSION_OUT_MAX);
    assert_int_equal(s.in_count, SESSION_IN_MAX);
    assert_false(session_has_received(&s, SESSION_IN_MAX + 1));
    assert_int_equal(sessions_stats(t).dropped, 2 + 3 + 3);
    session_fini(&s);
    sessions_close(t);
    forget_journal();
}

static void acked_places_have_a_limit(void **state)
{
    struct session s;
    struct record r = {.producer.session = 1};
    struct buf b;
    buf_init(&b, 1 << 20);
    session_init(&s, &r, &(struct session_record){.client_id = SLICE("a")}, 9);
    for (unsigned i = 0; i < SESSION_ACKED_MAX + 5; i++) {
        struct session_item item = {.place = 1000 + 2 * i};
        struct session_record e;
        buf_clear(&b);
        session_record_encode(
            &b, &(struct session_record){.event = SESSION_ACKED, .items = &item, .count = 1});
        assert_true(session_record_decode(buf_slice(&b), &e));
        assert_int_equal(session_apply(&s, &r, &e, 10 + i), SESSION_GOES_ON);
    }
    assert_int_equal(s.acked_count, SESSION_ACKED_MAX);
    assert_int_equal(s.dropped, 5);
    assert_true(session_has(&s, 1000) && !session_has(&s, 1001) && session_has(&s, 159));
    assert_false(session_has(&s, 160));
    session_fini(&s);
    buf_fini(&b);
}

static void put_retained_message(struct sessions *t, uint64_t account, const char *topic,
                                 struct slice message, uint32_t expiry_s)
{
    uint64_t from = journal.count;
    append_publish(
        (struct record){.account = account,
                        .flags = RECORD_F_RETAIN,
                        .receive_us = 5,
                        .event_us = 5,
                        .topic = slice_str(topic)},
        &(struct publish){.has_expiry = expiry_s, .expiry_s = expiry_s, .message = message});
    replay(t, from);
}

static bool next(struct sessions *t, const char *filter, const char *after, int64_t now,
                 const char *want)
{
    struct buf storage;
    struct retained got;
    buf_init(&storage, TOPIC_MAX + RETAINED_MAX);
    bool found = sessions_next_retained(t, 1, slice_str(filter), slice_str(after), now, &storage,
                                        &got) == RETAINED_ONE;
    if (found && want)
        assert_true(slice_eq(got.topic, slice_str(want)));
    buf_fini(&storage);
    return found;
}

/* Format 1 had no retained messages that say who published them. */
static void an_older_snapshot_is_read(void **state)
{
    uint64_t cursor;
    struct sessions *t = open_file(&cursor);
    put_retained_message(t, 1, "a", SLICE("1"), 0);
    assert_int_equal(sessions_snapshot(t, 1), 0);
    sessions_close(t);
    size_t end = file.len - 4;
    file.bytes[8] = 1;
    le32_put((char *)file.bytes + end, crc32c(0, file.bytes, end));
    t = open_file(&cursor);
    assert_true(cursor == 1 && next(t, "#", "", 6, "a"));
    sessions_close(t);
    forget_journal();
    forget_file();
}

static void retained_messages_have_limits(void **state)
{
    struct sessions_opts opts = opts_of(1);
    static char big[RETAINED_MAX + 1];
    opts.retained_per_account_max = 3;
    opts.memory_per_account_max = RETAINED_MAX + 50000;
    uint64_t cursor;
    struct sessions *t = open_with(&opts, &cursor);
    put_retained_message(t, 1, "a/b", SLICE("1"), 0);
    put_retained_message(t, 1, "a", SLICE("2"), 1);
    put_retained_message(t, 1, "b", SLICE("3"), 0);
    assert_true(sessions_have_retained_room(t, 1, SLICE("b"), 10));
    assert_false(sessions_have_retained_room(t, 1, SLICE("c"), 10));
    put_retained_message(t, 1, "c", SLICE("4"), 0);
    assert_int_equal(sessions_stats(t).dropped, 1);
    assert_true(next(t, "#", NULL, 5, "a") && next(t, "#", "a", 5, "a/b") &&
                next(t, "#", "a/b", 5, "b"));
    assert_false(next(t, "#", "b", 5, NULL));
    assert_true(next(t, "a/+", NULL, 5, "a/b") && next(t, "a/#", "a", 5, "a/b"));
    assert_true(next(t, "a/#", NULL, 5, "a") && next(t, "+/b", NULL, 5, "a/b"));
    assert_true(next(t, "+", "a", 5, "b"));
    assert_false(next(t, "a/+", "a/b", 5, NULL) || next(t, "c", NULL, 5, NULL));
    assert_true(next(t, "a", NULL, 5, "a") && !next(t, "a", "a", 5, NULL));
    assert_true(next(t, "#", NULL, 5 + US_PER_S, "a/b")); /* "a" has expired */
    /* What is too large replaces nothing, and what was there is the last one no more. */
    put_retained_message(t, 1, "b", slice_of(big, sizeof big), 0);
    assert_false(next(t, "b", NULL, 5, NULL));
    put_retained_message(t, 1, "b", slice_of(big, sizeof big - 2), 0);
    assert_true(next(t, "b", NULL, 5, "b"));
    assert_false(sessions_have_retained_room(t, 1, SLICE("a"), 60000));
    assert_true(sessions_have_retained_room(t, 1, SLICE("b"), sizeof big - 2));
    put_retained_message(t, 1, "a/b", slice_of(big, 60000), 0);
    assert_false(next(t, "a/b", NULL, 5, NULL));
    assert_int_equal(sessions_stats(t).dropped, 3);
    sessions_close(t);
    forget_journal();
}

/* One look is bounded, and the next goes on where it ended. */
static void many_retained_messages_are_looked_through_in_parts(void **state)
{
    enum { COUNT = 3 * RETAINED_LOOKS };
    struct sessions_opts opts = opts_of(1);
    struct buf storage;
    struct retained got;
    char topic[32], at[64];
    uint64_t cursor;
    opts.retained_per_account_max = opts.retained_max = COUNT;
    struct sessions *t = open_with(&opts, &cursor);
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(topic, sizeof topic, "%06u/%s", i, i % 500 == 499 ? "x" : "y");
        put_retained_message(t, 1, topic, SLICE("1"), 0);
    }
    buf_init(&storage, TOPIC_MAX + RETAINED_MAX);
    struct slice after = {0};
    unsigned found = 0, calls = 0;
    for (enum retained_step step; (step = sessions_next_retained(t, 1, SLICE("+/x"), after, 5,
                                                                 &storage, &got)) != RETAINED_END;
         calls++) {
        found += step == RETAINED_ONE;
        assert_true(step == RETAINED_MORE || slice_eq(got.topic, SLICE("000499/x")));
        memcpy(at, got.topic.ptr, got.topic.len);
        after = slice_of(at, got.topic.len);
    }
    assert_int_equal(found, 1);
    assert_in_range(calls, 3, 4);
    buf_fini(&storage);
    sessions_close(t);
    forget_journal();
}

/* ---- time ------------------------------------------------------------------------------------ */

/* One asker at a time gets it: when it is due, or the session is replaced. */
static void a_will_is_taken_once(void **state)
{
    const struct session_will will = {.topic = SLICE("w"), .delay_s = 10, .payload = SLICE("\0x")};
    uint64_t cursor;
    struct sessions *t = open_file(&cursor);
    struct session_due due[4];
    struct session s = {0};
    append_event(1, 1, 5,
                 &(struct session_record){.event = SESSION_OPENED,
                                          .client_id = SLICE("c"),
                                          .expiry_s = SESSION_NEVER,
                                          .will = will});
    replay(t, 0);
    assert_false(sessions_take_will(t, 1, SLICE("c"), US_PER_S, true, &s)); /* it is connected */
    sessions_cut_off(t, 50 * US_PER_S);
    assert_false(sessions_take_will(t, 1, SLICE("c"), 51 * US_PER_S, false, &s));
    assert_false(sessions_take_will(t, 2, SLICE("c"), 51 * US_PER_S, true, &s));
    assert_true(sessions_take_will(t, 1, SLICE("c"), 51 * US_PER_S, true, &s));
    assert_true(s.number == 1 && slice_eq(s.will.topic, SLICE("w")) && s.will.delay_s == 10);
    session_fini(&s);
    assert_false(sessions_take_will(t, 1, SLICE("c"), 52 * US_PER_S, true, &s));
    unsigned told = 0;
    for (unsigned i = 0; i < SESSIONS_SWEEP; i++)
        told += sessions_wills_due(t, 60 * US_PER_S, due, 4); /* told a moment ago */
    assert_int_equal(told, 0);
    assert_true(sessions_take_will(t, 1, SLICE("c"), 62 * US_PER_S, false, &s));
    session_fini(&s);
    /* Given up: nobody may publish it. */
    assert_false(
        sessions_take_will(t, 1, SLICE("c"), 60 * US_PER_S + SESSION_WILL_KEPT_US, false, &s));
    sessions_close(t);
    forget_journal();
}

static void sessions_and_wills_have_their_time(void **state)
{
    struct clock_fake clock = {.wall_us = 50 * US_PER_S};
    clock_set_fake(&clock);
    uint64_t cursor, ns = NS_PER_S;
    struct sessions *t = open_file(&cursor);
    struct session_due due[4] = {0};
    struct session s;
    const struct session_will none = {.topic = {.ptr = NULL}},
                              will = {.topic = SLICE("w"), .delay_s = 10, .payload = SLICE("\0x")};
    for (uint64_t n = 1; n <= 3; n++) {
        char name[8];
        snprintf(name, sizeof name, "c%u", (unsigned)n);
        append_event(1, n, 5,
                     &(struct session_record){.event = SESSION_OPENED,
                                              .client_id = slice_str(name),
                                              .expiry_s = n == 3 ? SESSION_NEVER : 20,
                                              .will = n == 1 ? will : none});
    }
    replay(t, 0);
    assert_int_equal(sessions_stats(t).connected, 3);
    assert_int_equal(sessions_cut_off(t, 50 * US_PER_S), 3);
    assert_int_equal(sessions_stats(t).connected, 0);
    unsigned told = 0;
    for (unsigned i = 0; i < 2 * SESSIONS_SWEEP; i++)
        told += sessions_wills_due(t, 59 * US_PER_S, due, 4);
    assert_int_equal(told, 0);
    for (unsigned i = 0; i < 2 * SESSIONS_SWEEP; i++)
        told += sessions_wills_due(t, 60 * US_PER_S, due, 4);
    assert_int_equal(told, 1);
    assert_true(due[0].account == 1 && due[0].number == 1 && due[0].credential == 3);
    /* Its time is over, but for the will. */
    clock.wall_us = 70 * US_PER_S;
    for (unsigned i = 0; i < 2 * SESSIONS_SWEEP; i++)
        sessions_tick(t, journal.count, 0, ns += NS_PER_S);
    assert_false(sessions_find(t, 1, SLICE("c1"), clock.wall_us, &s));
    assert_true(is_there(t, 1, 1) && !is_there(t, 1, 2) && is_there(t, 1, 3));
    uint64_t from = journal.count;
    append_publish(
        (struct record){
            .account = 1, .flags = RECORD_F_WILL, .topic = SLICE("w"), .producer.session = 1},
        &(struct publish){.message = SLICE("x")});
    replay(t, from);
    for (unsigned i = 0; i < 2 * SESSIONS_SWEEP; i++)
        sessions_tick(t, journal.count, 0, ns += NS_PER_S);
    assert_false(is_there(t, 1, 1));
    clock.wall_us = INT64_MAX / 2;
    for (unsigned i = 0; i < 2 * SESSIONS_SWEEP; i++)
        sessions_tick(t, journal.count, 0, ns += NS_PER_S);
    assert_true(is_there(t, 1, 3));
    assert_true(file.replaced >= 1); /* and the ticks have written it down */
    sessions_close(t);
    clock_set_fake(NULL);
    forget_journal();
    forget_file();
}

/* ---- threads --------------------------------------------------------------------------------- */

struct race {
    struct sessions *t;
    _Atomic bool stop;
    _Atomic uint64_t found;
};

/* A copy is of one moment: each record sets expiry and delay to the same. */
static void read_race(void *arg)
{
    struct race *c = arg;
    for (uint64_t n = 1; !c->stop; n = n % 20 + 1) {
        struct session s;
        if (sessions_get(c->t, 1, n, &s)) {
            char name[16];
            assert_true(slice_eq(s.client_id, client_name((unsigned)n, name)));
            assert_int_equal(s.expiry_s, s.will.delay_s);
            session_fini(&s);
            c->found++;
        }
    }
}

static void readers_see_whole_sessions(void **state)
{
    uint64_t cursor;
    struct race c = {0};
    c.t = open_file(&cursor);
    pthread_t reader = thread_start("reader", read_race, &c);
    struct rand r = {.state = 8};
    struct buf b;
    buf_init(&b, 4096);
    for (uint64_t offset = 0; offset < 30000 || c.found < 1000; offset++) {
        unsigned n = 1 + (unsigned)rand_below(&r, 20);
        char name[16];
        uint32_t same = (uint32_t)rand_below(&r, 1000);
        struct session_record event = {
            .event = offset % 3 ? SESSION_RESUMED : SESSION_OPENED,
            .client_id = client_name(n, name),
            .expiry_s = same,
            .will = {.topic = SLICE("w"), .delay_s = same, .payload = SLICE("\0x")}};
        if (offset % 7 == 0)
            event = (struct session_record){.event = SESSION_ENDED, .end = SESSION_END_CLEAN};
        buf_clear(&b);
        session_record_encode(&b, &event);
        sessions_apply(c.t,
                       &(struct record){.kind = RECORD_SESSION,
                                        .account = 1,
                                        .producer.session = n,
                                        .payload = buf_slice(&b)},
                       offset);
    }
    c.stop = true;
    pthread_join(reader, NULL);
    buf_fini(&b);
    sessions_close(c.t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_at_every_record),
        cmocka_unit_test(bad_snapshots_are_refused),
        cmocka_unit_test(an_older_snapshot_is_read),
        cmocka_unit_test(sessions_have_limits),
        cmocka_unit_test(lists_have_limits),
        cmocka_unit_test(acked_places_have_a_limit),
        cmocka_unit_test(retained_messages_have_limits),
        cmocka_unit_test(many_retained_messages_are_looked_through_in_parts),
        cmocka_unit_test(a_will_is_taken_once),
        cmocka_unit_test(sessions_and_wills_have_their_time),
        cmocka_unit_test(readers_see_whole_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
