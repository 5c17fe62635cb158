/* SPDX-License-Identifier: Apache-2.0 */
/* Webhooks over a stepped journal on a simulated disk, and a real receiver: /N is webhook N's. */
#include "sink/hooks.c"

#include "journal/fixture.h"
#include "sink/receiver_testing.h"

#define HOOKS 8

/* ---- the receiver ------------------------------------------------------------------------------
 */

struct script {
    int status[HOOKS]; /* what the webhook of that number is told; 0: 200; -1: nothing */
    int refused;       /* the message with that value is, by 422; -1: none */
};

static unsigned webhook_of(const struct receiver_request *q)
{
    return (unsigned)strtoul(q->head + 6, NULL, 10); /* "POST /" */
}

static int value_in(const char *body, unsigned n)
{
    for (; body && n + 1; n--) {
        body = strstr(body, "\"number\":");
        body = body ? body + 9 : NULL;
    }
    return body ? (int)strtol(body, NULL, 10) : -1;
}

static const char *answer(struct receiver *r, const struct receiver_request *q, bool *end)
{
    static char text[200];
    const struct script *s = r->arg;
    int status = s->status[webhook_of(q)];
    if (status < 0)
        return NULL;
    for (unsigned i = 0; value_in(q->body, i) >= 0; i++)
        if (value_in(q->body, i) == s->refused)
            status = 422;
    snprintf(text, sizeof text, "HTTP/1.1 %d X\r\n%sContent-Length: 2\r\n\r\nno",
             status ? status : 200, status == 429 ? "Retry-After: 30\r\n" : "");
    return text;
}

/* ---- the bench ---------------------------------------------------------------------------------
 */

struct bench {
    struct fixture *f;
    struct hooks_opts opts;
    struct hooks *h;
    struct script script;
    struct receiver *r;
    struct cidr loopback;
    uint64_t gone; /* an account */
    bool wide;     /* messages are long */
    char secret[HOOK_SECRET_MAX];
};

/* From now on the webhook of that number is told so; 0: all are. */
static void tell_status(struct bench *b, uint64_t id, int status)
{
    pthread_mutex_lock(&b->r->lock);
    for (unsigned i = 0; i < HOOKS; i++)
        if (id == 0 || i == id)
            b->script.status[i] = status;
    pthread_mutex_unlock(&b->r->lock);
}

static void refuse_value(struct bench *b, int value)
{
    pthread_mutex_lock(&b->r->lock);
    b->script.refused = value;
    pthread_mutex_unlock(&b->r->lock);
}

static void give_names(void *arg, const struct record *r, struct sink_names *ret)
{
    *ret = (struct sink_names){SLICE("ann"), r->feed == 1 ? SLICE("air") : SLICE("water"),
                               SLICE("dev")};
}

static bool has_account(void *arg, uint64_t account)
{
    return account != ((const struct bench *)arg)->gone;
}

static void bench_open(struct bench *b)
{
    struct error err = {""};
    assert_int_equal(fixture_open(b->f), 0);
    b->opts.journal = b->f->j;
    if (make(&b->opts, &b->h, &err) < 0)
        fail_msg("%s", err.text);
}

static struct bench *bench_with(uint64_t timeout_ns)
{
    struct bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    log_set_level(LOG_ERROR + 1);
    b->script.refused = -1;
    b->r = receiver_start(answer, &b->script);
    assert_true(cidr_parse(SLICE("127.0.0.1"), &b->loopback));
    b->f = fixture_new(65536);
    b->opts = (struct hooks_opts){.disk = disk_sim_disk(b->f->sim),
                                  .dir = "log",
                                  .copy = "log/webhooks.snap",
                                  .names = give_names,
                                  .has_account = has_account,
                                  .arg = b,
                                  .max = HOOKS,
                                  .account_max = 4,
                                  .at_once = 16,
                                  .timeout_ns = timeout_ns,
                                  .retry_max_ns = 200 * NS_PER_MS,
                                  .give_up_ns = 3600 * NS_PER_S,
                                  .hold_bytes = 1 << 30,
                                  .allowed = &b->loopback,
                                  .allowed_count = 1,
                                  .ca_file = ""};
    bench_open(b);
    return b;
}

static struct bench *bench_new(void)
{
    return bench_with(20 * NS_PER_S);
}

static void bench_free(struct bench *b)
{
    hooks_abandon(b->h, NULL);
    destroy(b->h);
    fixture_free(b->f);
    receiver_stop(b->r);
    free(b);
    log_set_level(LOG_INFO);
}

/* kill -9, or a power cut: what was not written down is forgotten. */
static void crash(struct bench *b, bool cut)
{
    hooks_abandon(b->h, NULL);
    destroy(b->h);
    fixture_die(b->f, cut);
    bench_open(b);
}

static uint64_t add_one(struct bench *b, uint64_t account, struct hook_settings set)
{
    struct error err = {""};
    char url[100];
    uint64_t id = 0;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/%llu", b->r->port, U(b->h->next_id + 1));
    set.url = slice_str(url);
    if (hooks_add(b->h, account, &set, &id, b->secret, &err) < 0)
        fail_msg("%s", err.text);
    return id;
}

/* Data of an account, values from `first` on, of feeds 1 and 2 in turns. */
static void append(struct bench *b, uint64_t account, int first, unsigned count)
{
    struct journal_append a = {.done = fixture_done, .owner = b->f};
    struct buf payload;
    buf_init(&payload, 1000);
    buf_init(&a.body, BATCH_BYTES_MAX);
    for (unsigned i = 0; i < count; i++) {
        char text[300];
        int n = b->wide ? snprintf(text, sizeof text, "%d.%0250d", first + (int)i, 0)
                        : snprintf(text, sizeof text, "%d", first + (int)i);
        buf_clear(&payload);
        datum_encode(&payload, &(struct datum){.value = slice_of(text, (size_t)n)});
        struct record r = {.kind = RECORD_DATUM,
                           .account = account,
                           .feed = 1 + i % 2,
                           .receive_us = 5,
                           .event_us = 5,
                           .payload = buf_slice(&payload)};
        assert_true(journal_put(&a, &r));
    }
    assert_int_equal(journal_submit(b->f->j, &a), REASON_ok);
    assert_true(journal_step(b->f->j));
    buf_fini(&a.body);
    buf_fini(&payload);
}

/* What the thread does. */
static void turn(struct bench *b)
{
    uint64_t now_ns = clock_mono_ns();
    receiver_meet(b->r);
    do_wishes(b->h);
    make_room(b->h, now_ns);
    look(b->h, now_ns);
    bool any = hooks_read(b->h, now_ns);
    any |= hooks_send(b->h, now_ns);
    publish(b->h);
    if (!any)
        posts_wait(b->h->posts, NS_PER_MS);
    receiver_meet(b->r);
}

static struct hook_info info(struct bench *b, uint64_t id)
{
    struct hook_info k;
    assert_true(hooks_next(b->h, id, 0, &k) && k.id == id);
    return k;
}

static void turns(struct bench *b, uint64_t ns)
{
    for (uint64_t end = clock_mono_ns() + ns; clock_mono_ns() < end;)
        turn(b);
}

/* Until the webhook is at the end of the journal. */
static void arrive(struct bench *b, uint64_t id)
{
    for (uint64_t end = clock_mono_ns() + 60 * NS_PER_S; info(b, id).lag;) {
        turn(b);
        assert_true(clock_mono_ns() < end);
    }
}

/* How often the webhook was sent the message. */
static unsigned received(struct bench *b, uint64_t id, int value)
{
    unsigned n = 0;
    receiver_meet(b->r);
    for (unsigned i = 0; i < receiver_count(b->r); i++)
        for (unsigned k = 0;
             webhook_of(&b->r->seen[i]) == id && value_in(b->r->seen[i].body, k) >= 0; k++)
            n += value_in(b->r->seen[i].body, k) == value;
    return n;
}

/* Waits until the webhook was sent the message so often, and has settled it. */
static void come(struct bench *b, uint64_t id, int value, unsigned times)
{
    for (uint64_t end = clock_mono_ns() + 60 * NS_PER_S; received(b, id, value) < times;) {
        turn(b);
        assert_true(clock_mono_ns() < end);
    }
    turns(b, 20 * NS_PER_MS);
    assert_int_equal(received(b, id, value), times);
}

static void become(struct bench *b, uint64_t id, enum hook_state state)
{
    for (uint64_t end = clock_mono_ns() + 60 * NS_PER_S; info(b, id).state != state;) {
        turn(b);
        assert_true(clock_mono_ns() < end);
    }
}

/* ---- tests -------------------------------------------------------------------------------------
 */

/* Each gets its account's, from when it was made, and only the feeds it wants; signed by its own
 * secret. */
static void each_gets_its_own(void **state)
{
    struct bench *b = bench_new();
    append(b, 7, 0, 10);
    uint64_t all = add_one(b, 7, (struct hook_settings){.by_feed = -1});
    uint64_t air = add_one(b, 7, (struct hook_settings){.by_feed = -1, .feeds = SLICE("air,x*")});
    uint64_t other = add_one(b, 8, (struct hook_settings){.by_feed = -1});
    char secret[HOOK_SECRET_MAX];
    memcpy(secret, b->secret, sizeof secret);
    turn(b);
    append(b, 7, 10, 10);
    append(b, 8, 100, 3);
    append(b, 9, 200, 3);
    arrive(b, all);
    arrive(b, air);
    arrive(b, other);
    for (int v = 0; v < 20; v++) {
        assert_int_equal(received(b, all, v), v >= 10);
        assert_int_equal(received(b, air, v), v >= 10 && v % 2 == 0);
        assert_int_equal(received(b, other, v), 0);
    }
    assert_int_equal(received(b, other, 101), 1);
    assert_int_equal(b->r->count, 10 + 5 + 3);
    struct webhook_secrets keys;
    struct buf wanted;
    assert_int_equal(webhook_secrets_parse(slice_str(secret), &keys, NULL), 0);
    buf_init(&wanted, 1000);
    for (unsigned i = 0; i < b->r->count; i++) {
        const struct receiver_request *q = &b->r->seen[i];
        char id[100];
        snprintf(id, sizeof id, "%.99s", receiver_header(q, "webhook-id"));
        int64_t time = strtoll(receiver_header(q, "webhook-timestamp"), NULL, 10);
        buf_clear(&wanted);
        webhook_sign(&keys, slice_str(id), time, slice_str(q->body), &wanted);
        buf_put_u8(&wanted, 0);
        bool same = !strcmp(receiver_header(q, "webhook-signature"), wanted.ptr);
        assert_int_equal(same, webhook_of(q) == other);
    }
    buf_fini(&wanted);
    assert_int_equal(hooks_stats(b->h).delivered, 18);
    bench_free(b);
}

/* One that hangs, one that fails and one that is gone cost the others nothing; each comes back by
 * itself, or when somebody says so, and then nothing is missing. */
static void none_holds_up_another(void **state)
{
    struct bench *b = bench_with(300 * NS_PER_MS);
    uint64_t id[4];
    for (unsigned i = 0; i < 4; i++)
        id[i] = add_one(b, 7, (struct hook_settings){.by_feed = -1});
    tell_status(b, id[0], -1);
    tell_status(b, id[1], 503);
    tell_status(b, id[2], 410);
    turn(b);
    uint64_t begun = clock_mono_ns();
    for (int i = 0; i < 20; i++) {
        append(b, 7, 10 * i, 10);
        turn(b);
    }
    arrive(b, id[3]);
    assert_true(clock_mono_ns() - begun < 50 * NS_PER_S);
    for (int v = 0; v < 200; v++)
        assert_int_equal(received(b, id[3], v), 1);
    become(b, id[0], HOOK_FAILING);
    become(b, id[1], HOOK_FAILING);
    become(b, id[2], HOOK_DISABLED);
    assert_string_equal(info(b, id[1]).error, "HTTP 503: no");
    assert_int_equal(info(b, id[2]).state, HOOK_DISABLED);
    assert_string_equal(info(b, id[2]).error, "HTTP 410: no");
    assert_true(info(b, id[0]).lag >= 200 && info(b, id[1]).lag >= 200);
    assert_int_equal(hooks_stats(b->h).behind, 3);
    tell_status(b, 0, 0);
    crash(b, true);
    assert_int_equal(info(b, id[2]).state, HOOK_DISABLED);
    turns(b, 100 * NS_PER_MS);
    assert_int_equal(info(b, id[2]).delivered, 0);
    assert_int_equal(hooks_pause(b->h, id[2], false, NULL), 0);
    for (unsigned i = 0; i < 4; i++) {
        arrive(b, id[i]);
        for (int v = 0; v < 200; v++)
            assert_true(received(b, id[i], v) >= 1);
        assert_int_equal(info(b, id[i]).state, HOOK_RUNNING);
    }
    bench_free(b);
}

/* Whatever is killed when: nothing is lost, and what comes again has the same id. */
static void nothing_is_lost_by_crashes(void **state)
{
    struct bench *b = bench_new();
    struct rand r = {5};
    uint64_t id[3];
    int values = 0;
    for (unsigned i = 0; i < 3; i++)
        id[i] = add_one(b, 7, (struct hook_settings){.by_feed = -1, .events_max = i == 1 ? 5 : 1});
    for (unsigned round = 0; round < 12; round++) {
        for (unsigned i = 0; i < 3; i++)
            tell_status(b, id[i], rand_below(&r, 3) == 0 ? 500 + (int)rand_below(&r, 4) : 0);
        for (unsigned i = 0; i < 3; i++) {
            unsigned count = 1 + (unsigned)rand_below(&r, 12);
            append(b, 7, values, count);
            values += (int)count;
            for (uint64_t n = rand_below(&r, 30); n; n--)
                turn(b);
        }
        crash(b, rand_below(&r, 2));
    }
    tell_status(b, 0, 0);
    for (unsigned i = 0; i < 3; i++) {
        arrive(b, id[i]);
        unsigned most = 0;
        for (int v = 0; v < values; v++) {
            unsigned times = received(b, id[i], v);
            assert_true(times >= 1);
            most = times > most ? times : most;
        }
        assert_int_equal(info(b, id[i]).gaps, 0);
    }
    bench_free(b);
}

/* Refused, it is tried again by the schedule, over a restart too, and then it is dead; others go
 * on. Somebody may have it tried before. */
static void what_is_refused_is_owed(void **state)
{
    struct bench *b = bench_new();
    unsigned count;
    uint64_t id = add_one(b, 7, (struct hook_settings){.by_feed = -1});
    turn(b);
    refuse_value(b, 3);
    append(b, 7, 0, 10);
    arrive(b, id);
    assert_int_equal(info(b, id).owed, 1);
    assert_int_equal(info(b, id).state, HOOK_RUNNING);
    assert_int_equal(received(b, id, 3), 1);
    assert_int_equal(received(b, id, 9), 1);
    struct owed *o = &hooks_find(b->h, id)->owed[0];
    assert_in_range(o->due_us - clock_wall_us(), 1 * US_PER_S, 6 * US_PER_S);
    b->h->looked_ns = 0;
    turn(b); /* it is written down */
    crash(b, true);
    assert_int_equal(info(b, id).owed, 1);
    for (unsigned i = 1; i <= WEBHOOK_PAUSES; i++) {
        assert_int_equal(info(b, id).dead, 0);
        hooks_find(b->h, id)->owed[0].due_us = clock_wall_us() - 1;
        come(b, id, 3, 1 + i);
    }
    assert_int_equal(info(b, id).dead, 1);
    assert_int_equal(info(b, id).owed, 0);
    turns(b, 50 * NS_PER_MS);
    assert_int_equal(received(b, id, 3), 1 + WEBHOOK_PAUSES);
    refuse_value(b, -1);
    assert_int_equal(hooks_retry(b->h, id, &count, NULL), 0);
    assert_int_equal(count, 1);
    come(b, id, 3, 2 + WEBHOOK_PAUSES);
    turns(b, 50 * NS_PER_MS);
    assert_int_equal(info(b, id).dead + info(b, id).owed, 0);
    assert_int_equal(hooks_stats(b->h).dead, 1);
    bench_free(b);
}

static void order_is_kept_on_request(void **state)
{
    struct bench *b = bench_new();
    uint64_t id = add_one(b, 7, (struct hook_settings){.by_feed = 1});
    turn(b);
    append(b, 7, 0, 60);
    arrive(b, id);
    int last[2] = {-1, -1};
    assert_int_equal(b->r->under_way_max, 2);
    for (unsigned i = 0; i < b->r->count; i++) {
        int v = value_in(b->r->seen[i].body, 0);
        assert_true(v > last[v % 2]);
        last[v % 2] = v;
    }
    assert_int_equal(b->r->count, 60);
    refuse_value(b, 62);
    append(b, 7, 60, 6);
    arrive(b, id);
    assert_int_equal(info(b, id).dead, 1); /* nothing overtakes: it is for people */
    assert_int_equal(received(b, id, 64), 1);
    bench_free(b);
}

/* Where no more can be owed it fails like one that is away: slower and slower. */
static void too_much_that_is_owed_is_waited_for(void **state)
{
    struct bench *b = bench_new();
    unsigned count;
    uint64_t id = add_one(b, 7, (struct hook_settings){.by_feed = -1});
    turn(b);
    tell_status(b, id, 422);
    append(b, 7, 0, HOOK_OWED_MAX + 8);
    become(b, id, HOOK_FAILING);
    struct hook *k = hooks_find(b->h, id);
    int64_t since_us = k->failing_since_us;
    for (uint64_t end = clock_mono_ns() + 20 * NS_PER_S; k->failures < 4;) {
        turn(b);
        assert_true(clock_mono_ns() < end);
    }
    assert_int_equal(k->failing_since_us, since_us);
    assert_int_equal(info(b, id).owed, HOOK_OWED_MAX);
    assert_non_null(strstr(info(b, id).error, "too many of its messages"));
    tell_status(b, id, 0);
    arrive(b, id);
    assert_int_equal(hooks_retry(b->h, id, &count, NULL), 0);
    for (uint64_t end = clock_mono_ns() + 20 * NS_PER_S; info(b, id).owed;) {
        turn(b);
        assert_true(clock_mono_ns() < end);
    }
    for (int v = 0; v < (int)HOOK_OWED_MAX + 8; v++)
        assert_true(received(b, id, v) >= 1);
    bench_free(b);
}

/* Those that fail, hang or are paused have each a queue of long messages, and memory is short: that
 * is no reason for one that works to get nothing. */
static void none_has_the_memory_of_all(void **state)
{
    struct bench *b = bench_with(300 * NS_PER_MS);
    struct error err = {""};
    uint64_t id[7];
    destroy(b->h);
    b->opts.queue_bytes = 3000; /* four messages */
    b->opts.retry_max_ns = 5 * NS_PER_S;
    assert_int_equal(make(&b->opts, &b->h, &err), 0);
    b->wide = true;
    for (unsigned i = 0; i < 7; i++)
        id[i] = add_one(b, i < 4 ? 7 : i < 6 ? 9 : 8, (struct hook_settings){.by_feed = -1});
    for (unsigned i = 0; i < 6; i++)
        tell_status(b, id[i], i % 3 == 0 ? -1 : 503);
    turn(b);
    append(b, 7, 0, 40);
    append(b, 9, 100, 40);
    turns(b, 100 * NS_PER_MS);
    assert_int_equal(hooks_pause(b->h, id[2], true, NULL), 0);
    assert_int_equal(hooks_pause(b->h, id[5], true, NULL), 0);
    append(b, 8, 500, 20);
    for (uint64_t end = clock_mono_ns() + 20 * NS_PER_S; info(b, id[6]).lag;) {
        turn(b);
        assert_true(b->h->queue_bytes < 3000 + 1000);
        if (clock_mono_ns() > end)
            fail_msg("it still lags by %llu", U(info(b, id[6]).lag));
    }
    for (int v = 500; v < 520; v++)
        assert_int_equal(received(b, id[6], v), 1);
    tell_status(b, 0, 0);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(hooks_pause(b->h, id[i], false, NULL), 0);
    for (unsigned i = 0; i < 6; i++) {
        arrive(b, id[i]);
        for (int v = 0; v < 40; v++)
            assert_true(received(b, id[i], i < 4 ? v : 100 + v) >= 1);
    }
    assert_int_equal(b->h->queue_bytes, 0);
    bench_free(b);
}

/* Three that work and are slow have more than half of the memory, but not all. */
static struct bench *bench_crowded(void)
{
    struct bench *b = bench_new();
    struct error err = {""};
    destroy(b->h);
    b->opts.queue_bytes = 4000;
    assert_int_equal(make(&b->opts, &b->h, &err), 0);
    b->wide = true;
    for (unsigned i = 0; i < 3; i++)
        tell_status(b, add_one(b, 7, (struct hook_settings){.by_feed = -1}), -1);
    turn(b);
    append(b, 7, 0, 3);
    turns(b, 50 * NS_PER_MS);
    assert_in_range(b->h->queue_bytes, 2000, 3000);
    return b;
}

/* Who failed once while others have the memory gets on when he works again. */
static void who_failed_is_not_starved(void **state)
{
    struct bench *b = bench_crowded();
    uint64_t id = add_one(b, 8, (struct hook_settings){.by_feed = -1});
    turn(b);
    tell_status(b, id, 503);
    append(b, 8, 500, 10);
    become(b, id, HOOK_FAILING);
    tell_status(b, id, 0);
    for (uint64_t end = clock_mono_ns() + 10 * NS_PER_S; info(b, id).lag;) {
        turn(b);
        assert_true(clock_mono_ns() < end);
    }
    for (int v = 500; v < 510; v++)
        assert_true(received(b, id, v) >= 1);
    assert_true(b->h->queue_bytes >= 2000); /* they still have it */
    bench_free(b);
}

/* Nor is it forgotten meanwhile that a message is to blame. */
static void blame_outlives_a_lack_of_memory(void **state)
{
    struct bench *b = bench_crowded();
    uint64_t id = add_one(b, 8, (struct hook_settings){.by_feed = -1});
    turn(b);
    tell_status(b, id, 500);
    append(b, 8, 500, 1);
    for (uint64_t end = clock_mono_ns() + 10 * NS_PER_S; !info(b, id).owed;) {
        turn(b);
        assert_true(clock_mono_ns() < end);
    }
    assert_true(b->h->queue_bytes >= 2000);
    bench_free(b);
}

static void who_asks_for_time_gets_it(void **state)
{
    struct bench *b = bench_new();
    uint64_t id = add_one(b, 7, (struct hook_settings){.by_feed = -1});
    turn(b);
    tell_status(b, id, 429);
    append(b, 7, 0, 1);
    come(b, id, 0, 1);
    turns(b, 600 * NS_PER_MS); /* three times the longest pause of ours */
    assert_int_equal(receiver_count(b->r), 1);
    assert_in_range(hooks_find(b->h, id)->next_try_ns - clock_mono_ns(), 25 * NS_PER_S,
                    30 * NS_PER_S);
    tell_status(b, id, 0);
    assert_int_equal(hooks_pause(b->h, id, false, NULL), 0);
    arrive(b, id);
    assert_int_equal(b->r->count, 2);
    bench_free(b);
}

static void who_fails_for_too_long_is_disabled(void **state)
{
    struct bench *b = bench_new();
    uint64_t id = add_one(b, 7, (struct hook_settings){.by_feed = -1});
    turn(b);
    tell_status(b, id, 503);
    append(b, 7, 0, 1);
    become(b, id, HOOK_FAILING);
    struct hook *k = hooks_find(b->h, id);
    k->failing_since_us -= 3601 * US_PER_S; /* somebody set the clock on by an hour */
    for (unsigned n = k->failures; k->failures < n + 2;)
        turn(b);
    assert_int_equal(info(b, id).state, HOOK_FAILING);
    k->failing_since_ns = 0; /* so long ago, before a restart */
    become(b, id, HOOK_DISABLED);
    assert_non_null(strstr(info(b, id).error, "it failed for 1 h: HTTP 503"));
    bench_free(b);
}

static void a_replay_delivers_again(void **state)
{
    struct bench *b = bench_new();
    uint64_t id = add_one(b, 7, (struct hook_settings){.by_feed = -1});
    turn(b);
    append(b, 7, 0, 50);
    arrive(b, id);
    assert_int_equal(hooks_replay(b->h, id, 20, NULL), 0);
    assert_true(info(b, id).lag > 0);
    append(b, 7, 50, 5);
    arrive(b, id);
    for (int v = 0; v < 55; v++)
        assert_int_equal(received(b, id, v), 1 + (v >= 20 && v < 50));
    assert_int_equal(hooks_replay(b->h, id, 1000, NULL), 0); /* nothing lies there */
    assert_int_equal(info(b, id).lag, 0);
    bench_free(b);
}

static void batches_and_both_secrets(void **state)
{
    struct bench *b = bench_new();
    uint64_t id = add_one(b, 7, (struct hook_settings){.by_feed = -1, .events_max = 10});
    char secret[HOOK_SECRET_MAX];
    turn(b);
    assert_int_equal(hooks_rotate(b->h, id, secret, NULL), 0);
    assert_string_not_equal(secret, b->secret);
    crash(b, true);
    refuse_value(b, 4);
    append(b, 7, 0, 20);
    arrive(b, id);
    for (int v = 0; v < 20; v++)
        assert_true(received(b, id, v) >= 1);
    assert_int_equal(info(b, id).owed, 1);
    assert_int_equal(info(b, id).secrets, 2);
    const struct receiver_request *q = &b->r->seen[0];
    assert_int_equal(value_in(q->body, 9), 9);
    assert_non_null(strstr(receiver_header(q, "webhook-id"), "_0-10"));
    assert_non_null(strchr(receiver_header(q, "webhook-signature"), ' '));
    bench_free(b);
}

/* Its file is as it was said, also after a power cut; who is gone leaves nothing. */
static void what_is_said_lasts(void **state)
{
    struct bench *b = bench_new();
    struct error err = {""};
    uint64_t id[5];
    const char *bytes;
    size_t len;
    for (unsigned i = 0; i < 4; i++)
        id[i] = add_one(b, 7, (struct hook_settings){.by_feed = i == 1, .feeds = SLICE("a,b*")});
    struct hook_settings set = {.url = SLICE("https://example.com/x"), .by_feed = -1};
    assert_int_equal(hooks_add(b->h, 7, &set, &id[4], b->secret, &err), -ENOSPC);
    assert_int_equal(hooks_change(b->h, id[1], &set, NULL), 0);
    assert_int_equal(hooks_pause(b->h, id[2], true, NULL), 0);
    assert_true(hooks_has(b->h, id[3], 7));
    assert_int_equal(hooks_remove(b->h, id[3], NULL), 0);
    assert_int_equal(hooks_remove(b->h, id[3], &err), -ENOENT);
    assert_false(hooks_has(b->h, id[3], 7));
    assert_true(hooks_has(b->h, id[2], 7) && !hooks_has(b->h, id[2], 8));
    set.url = SLICE("ftp://example.com/x");
    assert_int_equal(hooks_change(b->h, id[1], &set, &err), -EINVAL);
    assert_non_null(strstr(err.text, "url: "));
    crash(b, true);
    assert_int_equal(b->h->count, 3);
    assert_true(hooks_has(b->h, id[0], 7) && !hooks_has(b->h, id[3], 7));
    assert_string_equal(info(b, id[1]).url, "https://example.com/x");
    assert_string_equal(info(b, id[1]).feeds, "a,b*");
    assert_true(info(b, id[1]).by_feed && !info(b, id[0]).by_feed);
    assert_int_equal(info(b, id[2]).state, HOOK_PAUSED);
    assert_true(add_one(b, 8, (struct hook_settings){.by_feed = -1}) > id[3]); /* none twice */
    turn(b);
    b->gone = 7;
    b->h->looked_ns = 0;
    turn(b);
    assert_int_equal(b->h->count, 1);
    assert_int_equal(disk_sim_peek(b->f->sim, "log/webhooks.json", &bytes, &len), 0);
    assert_null(memmem(bytes, len, "example.com", 11));
    b->gone = 8;
    b->h->looked_ns = 0;
    turn(b);
    turn(b);
    assert_false(b->h->reading);
    bench_free(b);
}

/* As behind a restore: of all that was written only the copy is there. */
static void restore(struct bench *b)
{
    struct disk *d = b->opts.disk;
    hooks_abandon(b->h, NULL);
    destroy(b->h);
    assert_int_equal(d->unlink(d, "log/webhooks.json"), 0);
    assert_int_equal(d->unlink(d, "log/webhooks.at"), 0);
    assert_int_equal(d->sync_dir(d, "log"), 0);
    fixture_die(b->f, true);
    bench_open(b);
}

static bool copy_holds(struct bench *b, const char *text)
{
    const char *bytes;
    size_t len;
    assert_int_equal(disk_sim_peek(b->f->sim, "log/webhooks.snap", &bytes, &len), 0);
    return memmem(bytes, len, text, strlen(text)) != NULL;
}

static void a_backup_has_them_sealed(void **state)
{
    struct bench *b = bench_new();
    struct master_key master;
    struct error err = {""};
    char secret[HOOK_SECRET_MAX];
    assert_true(master_key_make(SLICE("0123456789abcdef0123456789abcdef"), &master));
    hooks_abandon(b->h, NULL);
    destroy(b->h);
    fixture_die(b->f, true);
    assert_int_equal(keyring_open(b->opts.disk, "log/keyring", &master, &b->opts.keyring, &err), 0);
    assert_int_equal(keyring_make(b->opts.keyring, 7), 0);
    assert_int_equal(keyring_make(b->opts.keyring, 8), 0);
    bench_open(b);
    uint64_t erased = add_one(b, 8, (struct hook_settings){.by_feed = -1});
    uint64_t id = add_one(b, 7, (struct hook_settings){.by_feed = 1, .feeds = SLICE("a,b*")});
    memcpy(secret, b->secret, sizeof secret);
    assert_int_equal(hooks_pause(b->h, id, true, NULL), 0);
    assert_false(copy_holds(b, secret) || copy_holds(b, "127.0.0.1") || copy_holds(b, "b*"));
    assert_true(copy_holds(b, "sealed"));
    assert_int_equal(keyring_destroy(b->opts.keyring, 8), 0);
    restore(b);
    assert_int_equal(b->h->count, 1); /* that of the account that was erased is no more */
    assert_false(hooks_has(b->h, erased, 8));
    assert_true(hooks_has(b->h, id, 7));
    assert_int_equal(info(b, id).state, HOOK_PAUSED);
    assert_string_equal(info(b, id).feeds, "a,b*");
    assert_true(info(b, id).by_feed);
    assert_string_equal(hooks_find(b->h, id)->secrets[0], secret);
    assert_true(add_one(b, 7, (struct hook_settings){.by_feed = -1}) > id + 1000);
    crash(b, true); /* it is written down as any */
    assert_int_equal(b->h->count, 2);
    /* Without the key nobody can read it, and nobody is told that there is none. */
    struct keyring *keyring = b->opts.keyring;
    b->opts.keyring = NULL;
    restore(b);
    assert_int_equal(b->h->count, 0);
    keyring_close(keyring);
    bench_free(b);
}

static void a_backup_in_plain_has_no_secret(void **state)
{
    struct bench *b = bench_new();
    char secret[HOOK_SECRET_MAX], fresh[HOOK_SECRET_MAX];
    uint64_t id = add_one(b, 7, (struct hook_settings){.by_feed = -1, .feeds = SLICE("a")});
    memcpy(secret, b->secret, sizeof secret);
    assert_true(copy_holds(b, "127.0.0.1"));
    assert_false(copy_holds(b, "whsec_"));
    restore(b);
    assert_int_equal(info(b, id).state, HOOK_DISABLED);
    assert_non_null(strstr(info(b, id).error, "rotate"));
    assert_string_not_equal(hooks_find(b->h, id)->secrets[0], secret);
    assert_int_equal(hooks_rotate(b->h, id, fresh, NULL), 0);
    assert_int_equal(hooks_pause(b->h, id, false, NULL), 0);
    assert_int_equal(info(b, id).state, HOOK_RUNNING);
    assert_string_equal(info(b, id).feeds, "a");
    bench_free(b);
}

/* The journal keeps what the last of them has not got, but no more than it may. */
static void they_hold_back_only_so_much(void **state)
{
    struct bench *b = bench_new();
    uint64_t id = add_one(b, 7, (struct hook_settings){.by_feed = -1, .events_max = 100});
    destroy(b->h);
    fixture_die(b->f, false);
    b->f->opts.retain_bytes = 65536;
    b->opts.hold_bytes = 4 * 65536;
    bench_open(b);
    tell_status(b, id, 503);
    turn(b);
    int values = 0;
    b->wide = true;
    while (journal_hold_from(b->f->j, b->opts.hold_bytes) < 300) {
        append(b, 7, values, 100);
        values += 100;
        b->h->looked_ns = 0;
        turn(b);
        keeper_look(b->f->j);
        assert_true(journal_stats(b->f->j).disk_bytes <= 7 * 65536);
    }
    assert_true(info(b, id).gaps > 0);
    tell_status(b, id, 0);
    assert_int_equal(hooks_pause(b->h, id, false, NULL), 0);
    arrive(b, id);
    assert_int_equal(received(b, id, values - 1), 1);
    bench_free(b);
}

/* With its own thread, which reads for long without a rest: who asks for something is answered
 * meanwhile, not behind all of it. */
static void who_asks_is_answered(void **state)
{
    struct bench *b = bench_new();
    struct error err = {""};
    struct hook_info k;
    uint64_t seen = 0;
    unsigned places = 0; /* where it was seen to be, on its way */
    destroy(b->h);
    for (unsigned i = 0; i < 600; i++)
        append(b, 9, 0, 500);
    assert_int_equal(hooks_open(&b->opts, &b->h, &err), 0);
    uint64_t id = add_one(b, 7, (struct hook_settings){.by_feed = -1});
    add_one(b, 9, (struct hook_settings){.by_feed = -1, .feeds = SLICE("none")});
    while (info(b, id).lag)
        clock_sleep_ns(NS_PER_MS);
    assert_int_equal(hooks_replay(b->h, id, 0, &err), 0);
    while (hooks_next(b->h, id, 0, &k) && k.lag) {
        places += k.position > seen;
        seen = k.position;
    }
    if (places < 3)
        fail_msg("seen at %u places", places);
    hooks_close(b->h);
    assert_int_equal(make(&b->opts, &b->h, &err), 0);
    bench_free(b);
}

/* With its own thread: a stop waits for no answer, and a test goes beside everything else. */
static bool beyond(struct bench *b, const char *text, uint64_t end, uint64_t *ret)
{
    struct disk *d = b->opts.disk;
    assert_int_equal(disk_replace(d, "log/other.at", text, strlen(text)), 0);
    return hooks_beyond(d, "log/other.at", b->opts.log_id, end, ret);
}

/* For whoever opens the journal. What waits for its time was read; what is damaged, or of another
 * log, says nothing. */
static void they_say_how_far_they_have_read(void **state)
{
    static const char whole[] = "{\"log\": \"07000000000000000000000000000000\", \"webhooks\": ["
                                "{\"id\": 1, \"at\": 5, \"owed\": [[3, 0, 1], [8, 0, 1]]},"
                                "{\"id\": 2, \"at\": 6, \"owed\": [\"x\"]},"
                                "{\"id\": 3, \"at\": -4}]}";
    struct bench *b = bench_new();
    uint64_t at = 77;
    assert_false(hooks_beyond(b->opts.disk, "log/webhooks.at", b->opts.log_id, 0, &at));
    uint64_t id = add_one(b, 7, (struct hook_settings){.by_feed = -1});
    turn(b);
    append(b, 7, 0, 10);
    arrive(b, id);
    assert_int_equal(hooks_save_positions(b->h), 0);
    uint64_t end = journal_durable(b->f->j);
    assert_true(hooks_beyond(b->opts.disk, "log/webhooks.at", b->opts.log_id, end - 1, &at));
    assert_int_equal(at, end);
    assert_false(hooks_beyond(b->opts.disk, "log/webhooks.at", b->opts.log_id, end, &at));
    b->opts.log_id[0] = 7;
    assert_true(beyond(b, whole, 8, &at));
    assert_int_equal(at, 9);
    assert_false(beyond(b, whole, 9, &at));
    assert_false(beyond(b, "{\"log\": 7, \"webhooks\": 8}", 0, &at));
    assert_false(beyond(b, "{\"log\"", 0, &at));
    assert_false(beyond(b, "[]", 0, &at));
    b->opts.log_id[0] = 8;
    assert_false(beyond(b, whole, 0, &at));
    bench_free(b);
}

static void it_runs_and_stops(void **state)
{
    struct bench *b = bench_new();
    struct attempt a;
    struct error err = {""};
    destroy(b->h);
    assert_int_equal(hooks_open(&b->opts, &b->h, &err), 0);
    uint64_t id = add_one(b, 7, (struct hook_settings){.by_feed = -1});
    assert_int_equal(hooks_test(b->h, id, 5 * NS_PER_S, &a, &err), 0);
    assert_true(a.taken);
    assert_int_equal(hooks_test(b->h, 99, 5 * NS_PER_S, &a, &err), -ENOENT);
    for (unsigned i = 0; i < 5000 && info(b, id).delivered < 10; i++) {
        if (i == 0)
            append(b, 7, 0, 10);
        clock_sleep_ns(NS_PER_MS);
    }
    assert_int_equal(info(b, id).delivered, 10);
    assert_true(hooks_attempt(b->h, id, 10, &a) && a.count == 0);
    assert_false(hooks_attempt(b->h, id, 11, &a));
    receiver_meet(b->r);
    tell_status(b, id, -1);
    receiver_meet(b->r);
    append(b, 7, 10, 1);
    while (receiver_count(b->r) < 12)
        clock_sleep_ns(NS_PER_MS);
    uint64_t begun = clock_mono_ns();
    hooks_close(b->h);
    hooks_close(NULL);
    assert_true(clock_mono_ns() - begun < 10 * NS_PER_S); /* it was not waited for: that is 20 s */
    assert_int_equal(make(&b->opts, &b->h, &err), 0);
    assert_int_equal(info(b, id).lag, 1);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_gets_its_own),
        cmocka_unit_test(none_holds_up_another),
        cmocka_unit_test(nothing_is_lost_by_crashes),
        cmocka_unit_test(what_is_refused_is_owed),
        cmocka_unit_test(too_much_that_is_owed_is_waited_for),
        cmocka_unit_test(none_has_the_memory_of_all),
        cmocka_unit_test(who_failed_is_not_starved),
        cmocka_unit_test(blame_outlives_a_lack_of_memory),
        cmocka_unit_test(order_is_kept_on_request),
        cmocka_unit_test(who_asks_for_time_gets_it),
        cmocka_unit_test(who_fails_for_too_long_is_disabled),
        cmocka_unit_test(a_replay_delivers_again),
        cmocka_unit_test(batches_and_both_secrets),
        cmocka_unit_test(what_is_said_lasts),
        cmocka_unit_test(a_backup_has_them_sealed),
        cmocka_unit_test(a_backup_in_plain_has_no_secret),
        cmocka_unit_test(they_hold_back_only_so_much),
        cmocka_unit_test(who_asks_is_answered),
        cmocka_unit_test(they_say_how_far_they_have_read),
        cmocka_unit_test(it_runs_and_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
