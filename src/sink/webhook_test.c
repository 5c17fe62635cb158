/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/webhook.c"

#include "sink/receiver_testing.h"

#define COUNT 16

/* ---- a receiver that answers by the value of a message ------------------------------------------
 */

struct script {
    int status[COUNT]; /* of the message with that value; 0: 200 */
    bool hangs[COUNT];
    unsigned events_max; /* of a request, else 413; 0: any */
    const char *all;     /* the answer to every request, if not NULL */
};

static int value_in(const char *body, unsigned n)
{
    for (; body && n + 1; n--) {
        body = strstr(body, "\"number\":");
        body = body ? body + 9 : NULL;
    }
    return body ? (int)strtol(body, NULL, 10) : -1;
}

static const char *by_value(struct receiver *r, const struct receiver_request *q, bool *end)
{
    static char text[200];
    const struct script *s = r->arg;
    unsigned events = 0;
    int status = 200;
    for (int v; (v = value_in(q->body, events)) >= 0; events++) {
        if (s->hangs[v])
            return NULL;
        status = s->status[v] ? s->status[v] : status;
    }
    if (s->all)
        return s->all;
    if (s->events_max && events > s->events_max)
        status = 413;
    snprintf(text, sizeof text, "HTTP/1.1 %d X\r\nContent-Length: 4\r\n\r\nwhy!", status);
    return text;
}

/* ---- the bench ---------------------------------------------------------------------------------
 */

struct bench {
    struct script script;
    struct receiver *r;
    struct webhook *w;
    char url[100], secret_file[100];
    struct cidr loopback;
    struct sink_message messages[COUNT];
    char payloads[COUNT][8];
    struct error err;
};

static void write_secret(const struct bench *b, const char *text)
{
    FILE *f = fopen(b->secret_file, "w");
    assert_non_null(f);
    assert_int_equal(fputs(text, f) >= 0, 1);
    fclose(f);
}

static struct bench *bench_new(const struct webhook_opts *own)
{
    struct bench *b = calloc(1, sizeof *b);
    b->r = receiver_start(by_value, &b->script);
    snprintf(b->url, sizeof b->url, "http://127.0.0.1:%u/hook", b->r->port);
    snprintf(b->secret_file, sizeof b->secret_file, "/tmp/sluice-webhook-%d", (int)getpid());
    write_secret(b, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    assert_true(cidr_parse(SLICE("127.0.0.1"), &b->loopback));
    struct webhook_opts opts = {.url = b->url,
                                .secret_file = b->secret_file,
                                .ca_file = "",
                                .allowed = &b->loopback,
                                .allowed_count = 1,
                                .by_feed = own->by_feed,
                                .batch_max = own->batch_max ? own->batch_max : 1,
                                .messages_max = COUNT,
                                .at_once = 4,
                                .timeout_ns = own->timeout_ns ? own->timeout_ns : 20 * NS_PER_S};
    void *made = NULL;
    assert_int_equal(webhook_new(&opts, &made, NULL), 0);
    b->w = made;
    for (unsigned i = 0; i < COUNT; i++) {
        int n = snprintf(b->payloads[i] + 1, 7, "%u", i); /* flags: no place */
        b->messages[i] =
            (struct sink_message){.offset = 100 + 10 * i,
                                  .record = {.kind = RECORD_DATUM,
                                             .account = 1,
                                             .feed = 1 + i % 2,
                                             .payload = slice_of(b->payloads[i], (size_t)n + 1)},
                                  .names = {SLICE("ann"), SLICE("air"), SLICE("dev")}};
    }
    uint64_t position = 0;
    assert_int_equal(webhook_ops.open(b->w, &position, &b->err), SINK_DONE);
    return b;
}

static void bench_free(struct bench *b)
{
    webhook_ops.close(b->w);
    webhook_ops.free(b->w);
    receiver_stop(b->r);
    unlink(b->secret_file);
    free(b);
}

static enum sink_outcome send_some(struct bench *b, unsigned first, unsigned count)
{
    struct sink_batch batch = {.from = b->messages[first].offset,
                               .to = b->messages[first].offset + 10 * count,
                               .messages = b->messages + first,
                               .count = count};
    b->err.text[0] = 0;
    receiver_meet(b->r);
    enum sink_outcome found = webhook_ops.send(b->w, &batch, &b->err);
    receiver_meet(b->r);
    return found;
}

/* As if the runner came with other messages. */
static void forget(struct bench *b)
{
    for (unsigned i = 0; i < COUNT; i++) {
        b->messages[i].verdict = SINK_UNKNOWN;
        b->messages[i].own = 0;
    }
}

/* How often the message was received. */
static unsigned received(const struct bench *b, int value)
{
    unsigned n = 0;
    for (unsigned i = 0; i < b->r->count; i++)
        for (unsigned k = 0; value_in(b->r->seen[i].body, k) >= 0; k++)
            n += value_in(b->r->seen[i].body, k) == value;
    return n;
}

/* ---- tests -------------------------------------------------------------------------------------
 */

/* Each request is what Standard Webhooks says, with an id of its own; several are under way. */
static void each_message_is_a_signed_request(void **state)
{
    struct bench *b = bench_new(&(struct webhook_opts){0});
    struct webhook_secrets secrets;
    struct buf wanted;
    assert_int_equal(
        webhook_secrets_parse(SLICE("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), &secrets, NULL), 0);
    buf_init(&wanted, 4096);
    assert_int_equal(send_some(b, 0, COUNT), SINK_DONE);
    assert_int_equal(b->r->count, COUNT);
    assert_in_range(b->r->under_way_max, 2, 4);
    for (unsigned i = 0; i < COUNT; i++) {
        const struct receiver_request *q = &b->r->seen[i];
        char id[100], own[WEBHOOK_ID_BYTES];
        int value = value_in(q->body, 0);
        assert_int_equal(received(b, (int)i), 1);
        snprintf(id, sizeof id, "%.99s", receiver_header(q, "webhook-id"));
        webhook_event_id(own, &b->w->opts.source, b->messages[value].offset);
        assert_string_equal(id, own);
        int64_t time = strtoll(receiver_header(q, "webhook-timestamp"), NULL, 10);
        assert_in_range(clock_wall_us() / US_PER_S - time, 0, 60);
        buf_clear(&wanted);
        webhook_sign(&secrets, slice_str(id), time, slice_str(q->body), &wanted);
        buf_put_u8(&wanted, 0);
        assert_string_equal(receiver_header(q, "webhook-signature"), wanted.ptr);
    }
    buf_fini(&wanted);
    bench_free(b);
}

/* Each has its verdict, and what has one is not sent again. */
static void what_is_refused_is_told_of_each(void **state)
{
    struct bench *b = bench_new(&(struct webhook_opts){0});
    b->script.status[5] = 400;
    b->script.status[6] = 422;
    assert_int_equal(send_some(b, 0, COUNT), SINK_DONE);
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(b->messages[i].verdict, i == 5 || i == 6 ? SINK_REFUSED : SINK_TAKEN);
    assert_string_equal(b->messages[5].why, "HTTP 400: why!");
    assert_string_equal(b->messages[6].why, "HTTP 422: why!");
    assert_int_equal(b->r->count, COUNT);
    b->messages[6].verdict = SINK_UNKNOWN; /* there was no room for it */
    assert_int_equal(send_some(b, 0, COUNT), SINK_DONE);
    assert_int_equal(b->messages[6].verdict, SINK_REFUSED);
    assert_int_equal(b->r->count, COUNT + 1);
    bench_free(b);
}

/* An endpoint that fails gets no more requests, then one at a time, and nothing twice that it took.
 */
static void who_fails_is_spared(void **state)
{
    struct bench *b = bench_new(&(struct webhook_opts){0});
    b->script.all = "HTTP/1.1 429 X\r\nRetry-After: 77\r\nContent-Length: 0\r\n\r\n";
    assert_int_equal(send_some(b, 0, COUNT), SINK_AWAY);
    assert_in_range(b->r->count, 1, 4);
    assert_string_equal(b->err.text, "HTTP 429");
    assert_int_equal(webhook_ops.pause_ns(b->w), 77 * NS_PER_S);
    unsigned before = b->r->count;
    assert_int_equal(send_some(b, 0, COUNT), SINK_AWAY);
    assert_int_equal(b->r->count, before + 1);
    b->script.all = NULL;
    b->script.status[9] = 503;
    assert_int_equal(send_some(b, 0, COUNT), SINK_AWAY);
    assert_int_equal(webhook_ops.pause_ns(b->w), 0);
    b->script.status[9] = 0;
    before = b->r->count;
    assert_int_equal(send_some(b, 0, COUNT), SINK_DONE);
    assert_true(b->r->count > before && b->r->count - before < COUNT);
    bench_free(b);
}

static void statuses_mean(void **state)
{
    static const struct {
        int status;
        enum sink_outcome outcome;
    } cases[] = {{200, SINK_DONE}, {201, SINK_DONE},   {204, SINK_DONE},   {299, SINK_DONE},
                 {301, SINK_AWAY}, {302, SINK_AWAY},   {307, SINK_AWAY},   {400, SINK_POISON},
                 {401, SINK_AWAY}, {403, SINK_AWAY},   {404, SINK_AWAY},   {408, SINK_AWAY},
                 {410, SINK_GONE}, {413, SINK_POISON}, {415, SINK_POISON}, {422, SINK_POISON},
                 {429, SINK_AWAY}, {500, SINK_AWAY},   {502, SINK_AWAY},   {503, SINK_AWAY},
                 {504, SINK_AWAY}};
    struct bench *b = bench_new(&(struct webhook_opts){0});
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        b->script.status[0] = cases[i].status;
        b->messages[0].verdict = SINK_UNKNOWN;
        enum sink_outcome found = send_some(b, 0, 1);
        if (b->messages[0].verdict == SINK_REFUSED)
            found = SINK_POISON;
        if (found != cases[i].outcome)
            fail_msg("%d: %d", cases[i].status, found);
    }
    bench_free(b);
}

/* One that always makes the endpoint stumble holds up no other, and is a dead letter soon. */
static void one_bad_message_holds_up_no_others(void **state)
{
    for (unsigned how = 0; how < 2; how++) {
        struct bench *b =
            bench_new(&(struct webhook_opts){.timeout_ns = how ? 400 * NS_PER_MS : 0});
        unsigned sends = 0;
        if (how)
            b->script.hangs[2] = true;
        else
            b->script.status[2] = 500;
        while (send_some(b, 0, COUNT) == SINK_AWAY) {
            assert_true(++sends < 10);
            if (sends == 2) /* the first one stopped in the middle */
                for (int i = 0; i < COUNT; i++)
                    assert_true(received(b, i) >= 1);
        }
        assert_true(sends >= 3); /* but not at once */
        assert_int_equal(received(b, 2), sends + 1);
        assert_int_equal(received(b, 1), 1);
        for (unsigned i = 0; i < COUNT; i++)
            assert_int_equal(b->messages[i].verdict, i == 2 ? SINK_REFUSED : SINK_TAKEN);
        assert_non_null(strstr(b->messages[2].why, how ? "imeout" : "HTTP 500"));
        bench_free(b);
    }
}

/* Of each feed one after the other; one that fails stops its own feed only, and is never left out
 * for being slow. */
static void order_is_kept_on_request(void **state)
{
    struct bench *b = bench_new(&(struct webhook_opts){.by_feed = true});
    assert_int_equal(send_some(b, 0, COUNT), SINK_DONE);
    int last[2] = {-1, -1};
    assert_int_equal(b->r->under_way_max, 2);
    for (unsigned i = 0; i < COUNT; i++) {
        int v = value_in(b->r->seen[i].body, 0);
        assert_true(v > last[v % 2]);
        last[v % 2] = v;
    }
    b->script.status[2] = 500;
    forget(b);
    for (unsigned i = 0; i < 15; i++)
        assert_int_equal(send_some(b, 0, COUNT), SINK_AWAY);
    for (int i = 4; i < COUNT; i += 2)
        assert_int_equal(received(b, i), 1);
    b->script.status[2] = 400; /* that is a word */
    assert_int_equal(send_some(b, 0, COUNT), SINK_DONE);
    assert_int_equal(b->messages[2].verdict, SINK_REFUSED);
    assert_int_equal(received(b, 4), 2);
    bench_free(b);
}

static void batches_are_one_event(void **state)
{
    struct bench *b = bench_new(&(struct webhook_opts){.batch_max = 10});
    assert_int_equal(send_some(b, 0, COUNT), SINK_DONE);
    assert_int_equal(b->r->count, 2);
    assert_int_equal(b->r->under_way_max, 1);
    const struct receiver_request *q = &b->r->seen[0];
    assert_string_equal(receiver_header(q, "webhook-id"),
                        "msg_00000000000000000000000000000000_100-10");
    assert_int_equal(strncmp(q->body, "{\"type\":\"batch\",\"timestamp\":\"1970", 33), 0);
    assert_non_null(strstr(q->body,
                           "\"data\":[{\"id\":\"msg_00000000000000000000000000000000_100\","
                           "\"type\":\"datum.created\","));
    for (int i = 0; i < 10; i++)
        assert_int_equal(value_in(q->body, (unsigned)i), i);
    assert_int_equal(value_in(q->body, 10), -1);
    /* What is too much for one request is halved. */
    b->script.events_max = 4;
    forget(b);
    assert_int_equal(send_some(b, 0, 8), SINK_POISON);
    assert_int_equal(send_some(b, 0, 4), SINK_DONE);
    assert_int_equal(send_some(b, 4, 4), SINK_DONE);
    /* A damaged one is left out. */
    b->messages[10].record.payload = SLICE("\xff");
    b->script.events_max = 0;
    assert_int_equal(send_some(b, 8, 8), SINK_DONE);
    assert_int_equal(b->messages[10].verdict, SINK_REFUSED);
    assert_string_equal(b->messages[10].why, "its payload is damaged");
    for (int i = 8; i < COUNT; i++)
        assert_int_equal(received(b, i), 1 + (i != 10));
    bench_free(b);
}

/* Also where it comes with others: requests become smaller until it is alone. */
static void a_bad_message_is_found_in_a_batch(void **state)
{
    for (unsigned by_feed = 0; by_feed < 2; by_feed++) {
        struct bench *b = bench_new(&(struct webhook_opts){.batch_max = 8, .by_feed = by_feed});
        enum sink_outcome found = SINK_AWAY;
        b->script.status[3] = 500;
        for (unsigned i = 0; i < 40 && found == SINK_AWAY; i++)
            found = send_some(b, 0, COUNT);
        assert_int_equal(found, by_feed ? SINK_AWAY : SINK_DONE);
        for (unsigned i = 0; i < COUNT; i++)
            assert_int_equal(b->messages[i].verdict, by_feed && i >= 3 && i % 2 ? SINK_UNKNOWN
                                                     : i == 3                   ? SINK_REFUSED
                                                                                : SINK_TAKEN);
        bench_free(b);
    }
}

static void secrets_change_without_a_restart(void **state)
{
    struct bench *b = bench_new(&(struct webhook_opts){0});
    uint64_t position = 0;
    write_secret(b, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"
                    "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
    b->w->secrets_read_ns -= SECRETS_AGE_NS;
    assert_int_equal(send_some(b, 0, 1), SINK_DONE);
    assert_non_null(strstr(receiver_header(&b->r->seen[0], "webhook-signature"), " v1,"));
    write_secret(b, "whsec_short\n");
    b->w->secrets_read_ns -= SECRETS_AGE_NS;
    assert_int_equal(send_some(b, 1, 1), SINK_AWAY);
    assert_non_null(strstr(b->err.text, "webhook.secret_file"));
    unlink(b->secret_file);
    webhook_ops.close(b->w);
    assert_int_equal(webhook_ops.open(b->w, &position, &b->err), SINK_AWAY);
    assert_int_equal(b->r->count, 1);
    bench_free(b);
}

/* What the endpoint said is remembered, the newest first, and what is asked by hand too. */
static void attempts_are_remembered(void **state)
{
    struct bench *b = bench_new(&(struct webhook_opts){0});
    struct attempt a;
    assert_false(webhook_ops.attempt(b->w, 0, &a));
    assert_int_equal(send_some(b, 0, 2), SINK_DONE);
    b->script.status[2] = 503;
    assert_int_equal(send_some(b, 2, 1), SINK_AWAY);
    assert_true(webhook_ops.attempt(b->w, 0, &a));
    assert_int_equal(a.status, 503);
    assert_false(a.taken);
    assert_int_equal(a.count, 1);
    assert_int_equal(a.offset, b->messages[2].offset);
    assert_string_equal(a.said, "HTTP 503: why!");
    assert_in_range(clock_wall_us() - a.at_us, 0, 60 * US_PER_S);
    assert_true(webhook_ops.attempt(b->w, 2, &a) && a.taken);
    assert_false(webhook_ops.attempt(b->w, 3, &a));
    webhook_ops.test(b->w, 10 * NS_PER_S, &a);
    receiver_meet(b->r);
    assert_true(a.taken && a.status == 200 && a.count == 0);
    const struct receiver_request *q = &b->r->seen[b->r->count - 1];
    assert_int_equal(strncmp(q->body, "{\"type\":\"webhook.test\",", 23), 0);
    assert_int_equal(strncmp(receiver_header(q, "webhook-id"), "msg_test_", 9), 0);
    assert_true(webhook_ops.attempt(b->w, 3, &a));
    unlink(b->secret_file);
    webhook_ops.test(b->w, 10 * NS_PER_S, &a);
    assert_false(a.taken);
    assert_non_null(strstr(a.said, "webhook.secret_file"));
    bench_free(b);
}

static void only_so_many_attempts_are_remembered(void **state)
{
    struct attempts *all = attempts_new(ATTEMPTS_MAX);
    struct attempt a = {0};
    for (unsigned i = 0; i < 3 * ATTEMPTS_MAX + 5; i++) {
        a.offset = i;
        attempts_put(all, &a);
    }
    for (unsigned i = 0; i < ATTEMPTS_MAX; i++) {
        assert_true(attempts_get(all, i, &a));
        assert_int_equal(a.offset, 3 * ATTEMPTS_MAX + 4 - i);
    }
    assert_false(attempts_get(all, ATTEMPTS_MAX, &a));
    attempts_free(all);
    attempts_free(NULL);
}

static void *cancel_soon(void *of)
{
    struct bench *b = of;
    while (receiver_count(b->r) == 0)
        usleep(1000);
    webhook_ops.cancel(b->w);
    return NULL;
}

static void a_stop_waits_for_no_answer(void **state)
{
    struct bench *b = bench_new(&(struct webhook_opts){0});
    pthread_t thread;
    b->w->opts.timeout_ns = 0;
    for (unsigned i = 0; i < COUNT; i++)
        b->script.hangs[i] = true;
    pthread_create(&thread, NULL, cancel_soon, b);
    assert_int_equal(send_some(b, 0, COUNT), SINK_AWAY);
    pthread_join(thread, NULL);
    assert_int_equal(send_some(b, 0, COUNT), SINK_AWAY);
    assert_true(receiver_count(b->r) <= 4);
    bench_free(b);
}

static void settings_are_checked(void **state)
{
    void *w = NULL;
    struct error err = {""};
    struct webhook_opts opts = {.url = "ftp://x/", .secret_file = "x", .ca_file = ""};
    assert_int_equal(webhook_new(&opts, &w, &err), -EINVAL);
    assert_non_null(strstr(err.text, "webhook.url: "));
    opts.url = "https://example.com/";
    opts.secret_file = "";
    assert_int_equal(webhook_new(&opts, &w, &err), -EINVAL);
    assert_non_null(strstr(err.text, "webhook.secret_file: "));
    opts.secret_file = "x";
    opts.messages_max = WEBHOOK_MESSAGES_MAX + 1;
    assert_int_equal(webhook_new(&opts, &w, &err), -EINVAL);
    assert_non_null(strstr(err.text, "webhook.batch_max: "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_message_is_a_signed_request),
        cmocka_unit_test(what_is_refused_is_told_of_each),
        cmocka_unit_test(who_fails_is_spared),
        cmocka_unit_test(statuses_mean),
        cmocka_unit_test(one_bad_message_holds_up_no_others),
        cmocka_unit_test(order_is_kept_on_request),
        cmocka_unit_test(batches_are_one_event),
        cmocka_unit_test(a_bad_message_is_found_in_a_batch),
        cmocka_unit_test(secrets_change_without_a_restart),
        cmocka_unit_test(attempts_are_remembered),
        cmocka_unit_test(only_so_many_attempts_are_remembered),
        cmocka_unit_test(a_stop_waits_for_no_answer),
        cmocka_unit_test(settings_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
