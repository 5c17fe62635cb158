/* SPDX-License-Identifier: Apache-2.0 */
/* All of a session counts: its will, and what its client has, is being sent and has sent. */
#include "view/sessions.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "flow/limits.h"
#include "flow/publish.h"
#include "view/one_file_testing.h"

enum { SESSIONS = 20, STEPS = 40, LEFT = 60000 };

/* ---- records --------------------------------------------------------------------------------- */

static uint64_t next;

static void apply(struct sessions *t, struct record r, struct buf *payload)
{
    r.account = 1;
    r.receive_us = r.event_us = 5;
    r.payload = buf_slice(payload);
    sessions_apply(t, &r, next++);
    buf_fini(payload);
}

static void event(struct sessions *t, uint64_t number, const struct session_record *e)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    session_record_encode(&b, e);
    apply(t, (struct record){.kind = RECORD_SESSION, .producer.session = number}, &b);
}

static void message(struct sessions *t, uint64_t number, uint64_t packet_id)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    publish_encode(&b, &(struct publish){.message = SLICE("m")});
    apply(t,
          (struct record){.kind = RECORD_PUBLISH,
                          .topic = SLICE("t"),
                          .producer = {.session = number, .sequence = packet_id}},
          &b);
}

/* Opens the session, or goes on with it. */
static void step(struct sessions *t, unsigned number, unsigned k)
{
    static const enum session_event kinds[] = {SESSION_ACKED, SESSION_SENT, SESSION_RECEIVED,
                                               SESSION_PUBREL, SESSION_ACKED};
    static char text[4000];
    struct session_item items[64];
    char client[16];
    snprintf(client, sizeof client, "c%u", number);
    struct session_record e = {
        .event = SESSION_RESUMED,
        .will = {.topic = SLICE("t"), .payload = slice_of(text, sizeof text)}};
    if (k == 0) {
        e.event = SESSION_OPENED;
        e.client_id = slice_str(client);
        e.expiry_s = 100;
        if (number % 3)
            memset(&e.will, 0, sizeof e.will);
    } else if (k == 2) {
        e = (struct session_record){.event = SESSION_SUBSCRIBED, .filter.filter = SLICE("a/+/b")};
    } else if (k > 2) {
        for (unsigned i = 0; i < 64; i++)
            items[i] = (struct session_item){.packet_id = (uint16_t)(1 + i + 64 * (k / 4)),
                                             .place = 100000 + i + 64ull * k,
                                             .qos = 2};
        e = (struct session_record){.event = kinds[k % 5], .items = items, .count = 64};
    }
    if (k > 2 && k % 5 == 0)
        message(t, number, 1000 + k);
    else
        event(t, number, &e);
}

static struct sessions *open_with(const struct sessions_opts *opts)
{
    struct sessions *t;
    struct error err;
    uint64_t cursor;
    assert_int_equal(sessions_open(opts, &t, &cursor, &err), 0);
    return t;
}

/* Fills it, gives back, loads it again, ends all. */
static void run(const struct sessions_opts *opts, uint64_t empty)
{
    struct sessions *t = open_with(opts);
    for (unsigned i = 1; i <= SESSIONS; i++)
        for (unsigned k = 0; k < STEPS; k++) {
            step(t, i, k);
            assert_true(sessions_stats(t).bytes <= empty + LEFT);
        }
    struct sessions_stats full = sessions_stats(t);
    assert_true(full.bytes > empty + LEFT / 2 && full.dropped > 100);
    /* What is done is given back, and so the memory is there again. */
    for (unsigned i = 1; i <= SESSIONS; i++)
        event(t, i, &(struct session_record){.event = SESSION_ACKED, .floor = 1 << 20});
    struct sessions_stats kept = sessions_stats(t);
    assert_true(kept.bytes < full.bytes);
    assert_int_equal(sessions_snapshot(t, next), 0);
    sessions_close(t);
    t = open_with(opts);
    assert_int_equal(sessions_stats(t).bytes, kept.bytes);
    assert_int_equal(sessions_stats(t).sessions, kept.sessions);
    for (unsigned i = 1; i <= SESSIONS; i++)
        event(t, i, &(struct session_record){.event = SESSION_ENDED, .end = SESSION_END_CLEAN});
    assert_int_equal(sessions_stats(t).bytes, empty);
    sessions_close(t);
    buf_clear(&file);
}

static void memory_has_a_limit(void **state)
{
    struct sessions_opts opts = {.path = "/x/session.snap",
                                 .sessions_max = 1000,
                                 .sessions_per_account_max = 1000,
                                 .retained_max = 10,
                                 .retained_per_account_max = 10,
                                 .memory_max = 64 << 20,
                                 .memory_per_account_max = LEFT};
    buf_init(&file, 64 << 20);
    struct sessions *t = open_with(&opts);
    uint64_t empty = sessions_stats(t).bytes;
    sessions_close(t);
    run(&opts, empty);
    opts.memory_max = empty + LEFT;
    opts.memory_per_account_max = 64 << 20;
    run(&opts, empty);
    buf_fini(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(memory_has_a_limit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
