/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/catalog_testing.h"
#include "pipeline_private.h"

/* Time stands still: a turn has one. */
#define NOW (1000 * NS_PER_S)
static uint64_t test_now_ns(const struct worker *w)
{
    (void)w;
    return NOW;
}
#define worker_now_ns test_now_ns
#include "pipeline_throttle.c"

#define KEY   7u
#define BYTES 100u /* of each message */

/* One lane, and one account with a key, whose messages come as the pipeline gets them. */
struct world {
    void *fixture; /* the catalog's */
    struct catalog *catalog;
    struct pipeline pipeline;
    struct lane lane;
    struct exchange *exchange;
    unsigned refused;
};

static struct world *world; /* of the test at hand */

static void on_sent(struct exchange *x)
{
    assert_int_not_equal(x->reply.reason, REASON_ok);
    world->refused++;
}

static const struct exchange_ops exchange_ops = {.send = on_sent};

static int begin(void **state)
{
    struct world *w = world = calloc(1, sizeof *w);
    set_up(&w->fixture);
    w->catalog = ((struct fixture *)w->fixture)->catalog;
    w->exchange = calloc(1, sizeof *w->exchange + sizeof(struct job));
    w->exchange->magic = EXCHANGE_MAGIC;
    w->exchange->ops = &exchange_ops;
    buf_init(&w->exchange->reply.body, 4096);
    buf_init(&w->exchange->reply.fields, 4096);
    w->lane.p = &w->pipeline;
    struct api *a = &w->pipeline.opts.api;
    a->catalog = w->catalog;
    a->throttle = throttle_new(&(struct throttle_opts){.subjects_max = 64, .memory_max = 16 << 20});
    a->shares = shares_new(a->throttle);
    a->refusals = refusals_new();
    *state = w;
    return 0;
}

static int end(void **state)
{
    struct world *w = *state;
    struct api *a = &w->pipeline.opts.api;
    assert_null(w->lane.tab.account);
    assert_null(w->lane.tab.credential);
    refusals_free(a->refusals);
    shares_free(a->shares);
    throttle_free(a->throttle);
    buf_fini(&w->exchange->reply.body);
    buf_fini(&w->exchange->reply.fields);
    free(w->exchange);
    forget_last();
    tear_down(&w->fixture);
    free(w);
    return 0;
}

/* Empty limits: none. */
static void add_sender(struct world *w, const char *name, uint64_t key, const char *limits,
                       const char *device_limits)
{
    struct fixture *f = w->fixture;
    struct buf plans;
    buf_init(&plans, 4096);
    (void)ASK(f, PLAN_ADD, .name = SLICE("none"), .ret_list = &plans); /* or it is there */
    buf_fini(&plans);
    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = slice_str(name), .plan = SLICE("none"),
                         .limits = slice_str(limits), .device_limits = slice_str(device_limits)),
                     REASON_ok);
    assert_int_equal(add_key(f, name, "main", key), REASON_ok);
}

static void change_limits(struct world *w, const char *limits, const char *device_limits)
{
    assert_int_equal(ASK((struct fixture *)w->fixture, ACCOUNT_LIMITS, .account = SLICE("ann"),
                         .limits = slice_str(limits), .device_limits = slice_str(device_limits)),
                     REASON_ok);
}

static struct credential *find(struct world *w, uint64_t key)
{
    struct catalog_ask a = {0};
    set_digest(&a, key);
    return catalog_key(w->catalog, a.digest);
}

static bool send_one(struct world *w, uint64_t key, uint32_t cost)
{
    struct job *j = (struct job *)w->exchange->stage;
    *j = (struct job){.magic = JOB_MAGIC, .lane = &w->lane, .credential = find(w, key)};
    assert_non_null(j->credential);
    j->account = account_ref(j->credential->account);
    unsigned refused = w->refused;
    bool let = job_throttle(j, cost, cost * BYTES);
    assert_int_equal(w->refused - refused, !let);
    if (let) { /* else both went with the reply */
        account_unref(j->account);
        credential_unref(j->credential);
    }
    return let;
}

static void come(struct world *w, unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        assert_true(send_one(w, KEY, 1));
}

/* Of the first window that the account has now, or its credentials. */
static uint32_t used(struct world *w, enum throttle_kind kind)
{
    struct credential *c = find(w, KEY);
    struct throttle_ask ask = {{kind, c->number}, &c->account->device_limits};
    if (kind == THROTTLE_ACCOUNT)
        ask = (struct throttle_ask){{kind, c->account->number}, &c->account->limits};
    uint32_t n = throttle_used(w->pipeline.opts.api.throttle, &ask, 0, NOW);
    credential_unref(c);
    return n;
}

static void what_is_on_a_tab_is_counted_when_the_turn_ends(void **state)
{
    struct world *w = *state;
    add_sender(w, "ann", KEY, "100000/60s", "50000/60s");
    uint64_t allowed = metric_sum(METRIC_throttle_allowed);
    come(w, 10);
    assert_int_equal(used(w, THROTTLE_ACCOUNT), 2); /* the others are on it */
    throttle_settle(&w->lane);                      /* who asks for it meanwhile */
    assert_int_equal(used(w, THROTTLE_ACCOUNT), 10);
    assert_int_equal(used(w, THROTTLE_CREDENTIAL), 10);
    come(w, 3);
    assert_int_equal(used(w, THROTTLE_ACCOUNT), 11);
    throttle_turn_end(&w->lane);
    assert_int_equal(used(w, THROTTLE_ACCOUNT), 13);
    come(w, 1); /* the next turn's first is decided */
    assert_int_equal(used(w, THROTTLE_ACCOUNT), 14);
    assert_int_equal(metric_sum(METRIC_throttle_allowed) - allowed, 14);
    come(w, 200); /* more than fit on one */
    throttle_turn_end(&w->lane);
    assert_int_equal(used(w, THROTTLE_ACCOUNT), 214);
    assert_int_equal(used(w, THROTTLE_CREDENTIAL), 214);
}

static void another_sender_ends_it(void **state)
{
    struct world *w = *state;
    add_sender(w, "ann", KEY, "100000/60s", "50000/60s");
    add_sender(w, "bob", KEY + 1, "100000/60s", "50000/60s");
    come(w, 10);
    assert_true(send_one(w, KEY + 1, 1));
    assert_int_equal(used(w, THROTTLE_ACCOUNT), 10);
    throttle_turn_end(&w->lane);
}

/* 10 messages, 8 of them on a tab, and then the limits are changed. */
static void limits_that_change_while_it_is_open(void **state)
{
    static const struct {
        const char *limits, *device_limits;
        uint32_t used, of_device;
        bool next; /* whether one more is let in */
    } rows[] = {
        {"20000/60s", "50000/60s", 10, 10, true},
        {"100000/60s", "20000/60s", 10, 10, true},
        {"20000/1h", "50000/60s", 8, 10, true}, /* a new window knows what came since */
        {"5/60s", "50000/60s", 5, 10, false},
        {"100000/60s", "8/60s", 10, 8, false},
        {"1MB/60s", "50000/60s", 8 * BYTES, 10, true},
        {"token_bucket 5/60s", "", 5, 0, false},
        {"100000/60s, distance=10s", "50000/60s", 10, 10, false},
        {"", "50000/60s", 0, 10, true},
        {"", "", 0, 0, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        void *own = NULL;
        begin(&own);
        struct world *w = own;
        add_sender(w, "ann", KEY, "100000/60s", "50000/60s");
        come(w, 10);
        change_limits(w, rows[i].limits, rows[i].device_limits);
        throttle_turn_end(&w->lane);
        assert_int_equal(used(w, THROTTLE_ACCOUNT), rows[i].used);
        assert_int_equal(used(w, THROTTLE_CREDENTIAL), rows[i].of_device);
        assert_int_equal(send_one(w, KEY, 1), rows[i].next);
        end(&own);
    }
}

static void limits_that_there_were_none_of(void **state)
{
    struct world *w = *state;
    add_sender(w, "ann", KEY, "", "50000/60s");
    come(w, 10);
    change_limits(w, "100000/60s", "50000/60s");
    come(w, 1); /* of the account as it is now: another sender */
    assert_int_equal(used(w, THROTTLE_ACCOUNT), 8 + 1);
    assert_int_equal(used(w, THROTTLE_CREDENTIAL), 11);
    throttle_turn_end(&w->lane);
}

static void an_account_that_goes_away(void **state)
{
    struct world *w = *state;
    add_sender(w, "ann", KEY, "100000/60s", "50000/60s");
    come(w, 10);
    struct credential *c = find(w, KEY);
    struct throttle_ask whose = {{THROTTLE_ACCOUNT, c->account->number}, &c->account->limits};
    assert_int_equal(ASK((struct fixture *)w->fixture, ACCOUNT_REMOVE, .account = SLICE("ann")),
                     REASON_ok);
    throttle_turn_end(&w->lane);
    assert_int_equal(throttle_used(w->pipeline.opts.api.throttle, &whose, 0, NOW), 2);
    credential_unref(c);
}

/* Whom the table has no room for is in its metric message by message. */
static void a_table_that_is_full(void **state)
{
    struct world *w = *state;
    struct limit_set l = {.windows = {{10, 60000}}, .windows_count = 1};
    add_sender(w, "ann", KEY, "100000/60s", "50000/60s");
    for (uint64_t i = 0; i < 64; i++) {
        struct throttle_ask other = {{THROTTLE_ADDRESS, 1000 + i}, &l};
        throttle_charge(w->pipeline.opts.api.throttle, &other, 10, NOW);
    }
    assert_int_equal(throttle_stats(w->pipeline.opts.api.throttle).subjects, 64);
    uint64_t full = metric_sum(METRIC_throttle_table_full);
    come(w, 10);
    throttle_turn_end(&w->lane);
    assert_int_equal(metric_sum(METRIC_throttle_table_full) - full, 10 * 2);
}

static void limits_of_an_address(void **state)
{
    struct world *w = *state;
    add_sender(w, "ann", KEY, "100000/60s", "");
    w->exchange->request.source = 4711;
    w->lane.tune.address_limits =
        (struct limit_set){.windows = {{20000, 60000}}, .windows_count = 1};
    come(w, 10);
    throttle_turn_end(&w->lane);
    struct throttle_ask ask = {{THROTTLE_ADDRESS, 4711}, &w->lane.tune.address_limits};
    assert_int_equal(throttle_used(w->pipeline.opts.api.throttle, &ask, 0, NOW), 10);
    /* A distance alone is one too. */
    w->lane.tune.address_limits = (struct limit_set){.min_distance_ms = 1000};
    w->exchange->request.source = 4712;
    assert_true(send_one(w, KEY, 1));
    assert_false(send_one(w, KEY, 1));
}

#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(what_is_on_a_tab_is_counted_when_the_turn_ends),
        WORLD_TEST(another_sender_ends_it),
        cmocka_unit_test(limits_that_change_while_it_is_open),
        WORLD_TEST(limits_that_there_were_none_of),
        WORLD_TEST(an_account_that_goes_away),
        WORLD_TEST(a_table_that_is_full),
        WORLD_TEST(limits_of_an_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
