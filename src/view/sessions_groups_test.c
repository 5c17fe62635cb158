/* SPDX-License-Identifier: Apache-2.0 */
/* How far groups of shared subscriptions are: by what their members say, and after a snapshot. */
#include "view/sessions.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/rand.h"
#include "base/varint.h"
#include "flow/limits.h"
#include "view/one_file_testing.h"

#define GROUP SLICE("$share/g/a/#")

/* ---- records --------------------------------------------------------------------------------- */

static uint64_t next;

static void event(struct sessions *t, uint64_t number, const struct session_record *e)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    session_record_encode(&b, e);
    sessions_apply(t,
                   &(struct record){.kind = RECORD_SESSION,
                                    .account = 1,
                                    .receive_us = 5,
                                    .producer.session = number,
                                    .payload = buf_slice(&b)},
                   next++);
    buf_fini(&b);
}

static void begin(struct sessions *t, uint64_t number, struct slice client, struct slice filter)
{
    event(t, number,
          &(struct session_record){.event = SESSION_OPENED, .client_id = client, .expiry_s = 9});
    event(t, number,
          &(struct session_record){.event = SESSION_SUBSCRIBED, .filter = {.filter = filter}});
}

static void tell(struct sessions *t, uint64_t number, enum session_event what, uint64_t floor,
                 uint64_t place, uint16_t packet_id, uint8_t qos)
{
    const struct session_item item = {place, packet_id, qos};
    event(t, number,
          &(struct session_record){.event = what,
                                   .filter = {.filter = GROUP},
                                   .floor = floor,
                                   .items = &item,
                                   .count = place != 0});
}

static struct sessions *open_table(uint64_t per_account)
{
    if (!file.len)
        next = 0;
    const struct sessions_opts opts = {.path = "/x/session.snap",
                                       .sessions_max = 1000,
                                       .sessions_per_account_max = 1000,
                                       .retained_max = 10,
                                       .retained_per_account_max = 10,
                                       .memory_max = 64 << 20,
                                       .memory_per_account_max = per_account};
    struct sessions *t;
    struct error err;
    uint64_t cursor;
    assert_int_equal(sessions_open(&opts, &t, &cursor, &err), 0);
    return t;
}

static struct sessions *again(struct sessions *t)
{
    struct sessions_stats before = sessions_stats(t);
    assert_int_equal(sessions_snapshot(t, next), 0);
    sessions_close(t);
    t = open_table(64 << 20);
    assert_true(sessions_stats(t).bytes <= before.bytes);
    return t;
}

static void expect(struct sessions *t, uint64_t floor, const uint64_t *places, uint32_t count)
{
    uint64_t got_floor;
    uint32_t got_count;
    assert_true(sessions_group_floor(t, 1, GROUP, &got_floor));
    assert_int_equal(got_floor, floor);
    got_floor = 0;
    uint64_t *got = sessions_group_given(t, 1, GROUP, &got_floor, &got_count);
    assert_int_equal(got_floor, floor);
    assert_int_equal(got_count, count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(got[i], places[i]);
    free(got);
}

static bool is_known(struct sessions *t)
{
    uint64_t floor;
    return sessions_group_floor(t, 1, GROUP, &floor);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void what_was_given_is_known(void **state)
{
    (void)state;
    struct sessions *t = open_table(64 << 20);
    assert_false(is_known(t));
    begin(t, 1, SLICE("x"), GROUP);
    begin(t, 2, SLICE("y"), GROUP);
    expect(t, 0, NULL, 0);
    tell(t, 1, SESSION_GIVEN, 100, session_place(103, 0), 1, 1);
    tell(t, 2, SESSION_GIVEN, 100, session_place(101, 2), 1, 2);
    tell(t, 2, SESSION_GIVEN, 0, session_place(102, 0), 2, 1);   /* the group is over */
    tell(t, 0, SESSION_GIVEN, 101, session_place(105, 0), 7, 1); /* without a session */
    tell(t, 2, SESSION_GIVEN, 100, session_place(99, 0), 3, 1);  /* told late */
    const uint64_t all[] = {session_place(101, 2), session_place(102, 0), session_place(103, 0),
                            session_place(105, 0)};
    expect(t, 101, all, 4);
    t = again(t);
    expect(t, 101, all, 4);
    tell(t, 2, SESSION_RETURNED, 101, session_place(102, 0), 2, 1);
    const uint64_t rest[] = {all[0], all[2], all[3]};
    expect(t, 101, rest, 3);
    struct session s;
    assert_true(sessions_get(t, 1, 2, &s));
    assert_non_null(session_sent(&s, 1));
    assert_null(session_sent(&s, 2)); /* which is not to send it again */
    session_fini(&s);
    tell(t, 1, SESSION_GIVEN, 104, 0, 0, 0);
    expect(t, 104, &all[3], 1);
    t = again(t);
    expect(t, 104, &all[3], 1);
    sessions_close(t);
    buf_clear(&file);
}

static void a_group_goes_with_its_sessions(void **state)
{
    (void)state;
    struct sessions *t = open_table(64 << 20);
    uint64_t empty = sessions_stats(t).bytes;
    tell(t, 1, SESSION_GIVEN, 100, session_place(103, 0), 1, 1); /* nobody's */
    begin(t, 1, SLICE("x"), GROUP);
    uint64_t one = sessions_stats(t).bytes - empty;
    begin(t, 1 + 1, SLICE("y"), GROUP);
    uint64_t more = sessions_stats(t).bytes - empty - one; /* and not the group, and its account */
    assert_true(one >= more + GROUP.len + 5 * sizeof(uint64_t));
    begin(t, 3, SLICE("z"), SLICE("a/#"));
    event(t, 1, &(struct session_record){.event = SESSION_SUBSCRIBED, .filter = {.filter = GROUP}});
    tell(t, 1, SESSION_GIVEN, 100, session_place(103, 0), 1, 1);
    event(t, 1,
          &(struct session_record){.event = SESSION_UNSUBSCRIBED, .filter = {.filter = GROUP}});
    t = again(t);
    assert_true(is_known(t));
    event(t, 2, &(struct session_record){.event = SESSION_ENDED, .end = SESSION_END_CLEAN});
    assert_false(is_known(t));
    begin(t, 4, SLICE("y"), GROUP); /* anew: nothing is known of it */
    expect(t, 0, NULL, 0);
    uint64_t since = next;
    tell(t, 4, SESSION_GIVEN, since - 3, 0, 0, 0); /* its server did not know that yet */
    expect(t, since, NULL, 0);
    begin(t, 5, SLICE("y"), SLICE("b")); /* in its place */
    assert_false(is_known(t));
    for (uint64_t i = 1; i <= 5; i++)
        event(t, i, &(struct session_record){.event = SESSION_ENDED, .end = SESSION_END_CLEAN});
    assert_int_equal(sessions_stats(t).bytes, empty);
    sessions_close(t);
    buf_clear(&file);
}

/* QoS 1 of a group stays with its session whatever its floor is, until its packet id is free. */
static void a_floor_does_not_end_it(void **state)
{
    (void)state;
    struct session s;
    struct sessions *t = open_table(64 << 20);
    begin(t, 1, SLICE("x"), GROUP);
    tell(t, 1, SESSION_GIVEN, 1, session_place(10, 0), 1, 1);
    const struct session_item own = {session_place(11, 0), 2, 1}, first = {0, 1, 1};
    event(t, 1, &(struct session_record){.event = SESSION_SENT, .items = &own, .count = 1});
    event(t, 1, &(struct session_record){.event = SESSION_ACKED, .floor = 50});
    t = again(t);
    assert_true(sessions_get(t, 1, 1, &s));
    assert_true(session_sent(&s, 1) && session_sent(&s, 1)->shared);
    assert_null(session_sent(&s, 2));
    session_fini(&s);
    event(t, 1, &(struct session_record){.event = SESSION_COMPLETED, .items = &first, .count = 1});
    assert_true(sessions_get(t, 1, 1, &s));
    assert_int_equal(s.out_count, 0);
    session_fini(&s);
    sessions_close(t);
    buf_clear(&file);
}

/* The session's own copy of a message is another one, also after a client has the group's. */
static void a_copy_of_a_group_is_not_its_own(void **state)
{
    (void)state;
    struct session s;
    struct sessions *t = open_table(64 << 20);
    const uint64_t place = session_place(1000, 0);
    const struct session_item group = {place, 1, 2}, own = {place, 2, 2};
    begin(t, 1, SLICE("x"), GROUP);
    for (unsigned released = 0; released < 2; released++) {
        if (!released)
            tell(t, 1, SESSION_GIVEN, 1, place, 1, 2);
        else
            event(t, 1,
                  &(struct session_record){.event = SESSION_PUBREL, .items = &group, .count = 1});
        t = again(t);
        assert_true(sessions_get(t, 1, 1, &s));
        assert_true(session_sent(&s, 1)->shared && session_sent(&s, 1)->qos == 2);
        assert_int_equal(session_sent(&s, 1)->pubrel, released);
        assert_false(session_has(&s, place));
        session_fini(&s);
    }
    event(t, 1, &(struct session_record){.event = SESSION_SENT, .items = &own, .count = 1});
    event(t, 1, &(struct session_record){.event = SESSION_PUBREL, .items = &own, .count = 1});
    t = again(t);
    assert_true(sessions_get(t, 1, 1, &s));
    assert_true(session_sent(&s, 1)->shared && !session_sent(&s, 2)->shared);
    assert_true(session_has(&s, place));
    session_fini(&s);
    sessions_close(t);
    buf_clear(&file);
}

/* By a plain array: random places in and out, floors that rise. */
static void random_places(void **state)
{
    (void)state;
    enum { POSITIONS = 200 };
    struct rand r = {.state = 11};
    struct sessions *t = open_table(64 << 20);
    bool given[POSITIONS] = {0};
    uint64_t floor = 2; /* behind the subscription */
    begin(t, 1, SLICE("x"), GROUP);
    for (unsigned i = 0; i < 4000; i++) {
        uint64_t at = rand_below(&r, POSITIONS);
        bool back = rand_below(&r, 4) == 0;
        if (rand_below(&r, 40) == 0 && floor < POSITIONS - 20)
            floor += rand_below(&r, 3);
        tell(t, 1, back ? SESSION_RETURNED : SESSION_GIVEN, floor, session_place(at, 1),
             (uint16_t)(1 + at), 1);
        given[at] = !back;
        if (i % 50 == 0)
            t = again(t);
        uint64_t want[POSITIONS];
        uint32_t count = 0;
        for (uint64_t k = floor; k < POSITIONS; k++) {
            if (given[k])
                want[count++] = session_place(k, 1);
        }
        expect(t, floor, want, count);
    }
    sessions_close(t);
    buf_clear(&file);
}

static void there_are_maxima(void **state)
{
    (void)state;
    uint32_t count;
    uint64_t floor;
    struct sessions *t = open_table(64 << 20);
    begin(t, 1, SLICE("x"), GROUP);
    const uint32_t more = 3 * SHARE_GIVEN_MAX;
    for (uint32_t i = 0; i < SHARE_GIVEN_MAX + more; i++)
        tell(t, 0, SESSION_GIVEN, 5, session_place(1000 + i, 0), 1, 1);
    free(sessions_group_given(t, 1, GROUP, &floor, &count));
    assert_int_equal(count, SHARE_GIVEN_MAX);
    assert_int_equal(sessions_stats(t).dropped, more);
    assert_true(sessions_group_floor(t, 1, GROUP, &floor));
    assert_int_equal(floor, 1000 + more); /* what was not settled below is nobody's any more */
    tell(t, 0, SESSION_GIVEN, 5, session_place(1000, 0), 1, 1); /* nor is it anybody's loss again */
    tell(t, 0, SESSION_GIVEN, 5, session_place(1000 + more + 7, 0), 1, 1);
    free(sessions_group_given(t, 1, GROUP, &floor, &count));
    assert_int_equal(count, SHARE_GIVEN_MAX); /* and what is there needs no room */
    assert_int_equal(sessions_stats(t).dropped, more);
    assert_int_equal(floor, 1000 + more);
    sessions_close(t);
    const uint64_t room = 20000;
    t = open_table(room);
    uint64_t empty = sessions_stats(t).bytes;
    begin(t, 1, SLICE("x"), GROUP);
    for (uint32_t i = 0; i < 10000; i++)
        tell(t, 0, SESSION_GIVEN, 5, session_place(1000 + i, 0), 1, 1);
    free(sessions_group_given(t, 1, GROUP, &floor, &count));
    assert_true(count >= 512 && sessions_stats(t).bytes <= empty + room);
    assert_true(sessions_group_floor(t, 1, GROUP, &floor));
    assert_int_equal(floor, 1000 + 10000 - count);
    sessions_close(t);
    buf_clear(&file);
}

/* It lies below what the client has, and is under way all the same until its id is free. */
static void a_retained_message_is_kept_by_its_id(void **state)
{
    (void)state;
    struct sessions *t = open_table(64 << 20);
    struct session s;
    next = 1000;
    begin(t, 1, SLICE("x"), SLICE("a/#"));
    for (uint16_t id = 1; id <= 2; id++) {
        const struct session_item item = {session_place(id, 0), id, (uint8_t)id};
        event(t, 1, &(struct session_record){.event = SESSION_GIVEN, .items = &item, .count = 1});
    }
    tell(t, 1, SESSION_GIVEN, 0, session_place(3, 0), 3, 1); /* these are a group's */
    tell(t, 1, SESSION_GIVEN, 0, session_place(4, 0), 4, 2);
    event(t, 1, &(struct session_record){.event = SESSION_ACKED, .floor = 1005});
    for (unsigned i = 0; i < 2; i++, t = again(t)) {
        assert_true(sessions_get(t, 1, 1, &s));
        assert_true(session_sent(&s, 1) && session_sent(&s, 2) && s.floor == 1005);
        for (uint16_t id = 1; id <= 4; id++) {
            const struct session_out *o = session_sent(&s, id);
            assert_true(o && o->shared && o->qos == (id % 2 ? 1 : 2));
            assert_int_equal(o->retained, id <= 2);
        }
        session_fini(&s);
    }
    const struct session_item one = {.packet_id = 1};
    event(t, 1, &(struct session_record){.event = SESSION_COMPLETED, .items = &one, .count = 1});
    assert_true(sessions_get(t, 1, 1, &s));
    assert_true(!session_sent(&s, 1) && session_sent(&s, 2));
    session_fini(&s);
    sessions_close(t);
    buf_clear(&file);
}

/* Whether a session is read whose one message to the client, of packet id 1, is `what`. */
static bool is_read(uint64_t what, struct session_out *ret)
{
    struct session s = {.closed_us = 1}, got;
    struct buf b;
    buf_init(&b, 1000);
    session_encode(&b, &s);
    b.len -= 2; /* no messages, either way */
    buf_put_varint(&b, 1);
    buf_put_varint(&b, 4 + what);
    buf_put_varint(&b, 77);
    buf_put_varint(&b, 0);
    bool good = session_decode(buf_slice(&b), &got);
    if (good) {
        struct buf same;
        buf_init(&same, 1000);
        assert_int_equal(got.out_count, 1);
        *ret = got.out[0];
        session_encode(&same, &got);
        assert_true(slice_eq(buf_slice(&same), buf_slice(&b)));
        buf_fini(&same);
        session_fini(&got);
    }
    buf_fini(&b);
    return good;
}

/* The numbers are those of snapshots: bits 0-1 and 18 as they always were, 19 came later. */
static void what_a_message_is(void **state)
{
    (void)state;
    const uint64_t group_2 = 1 << 18, retained = 1 << 19;
    const struct {
        uint64_t what;
        struct session_out is;
    } good[] = {
        {0, {.qos = 1}},
        {1, {.qos = 2}},
        {2, {.qos = 1, .shared = true}},
        {3, {.qos = 2, .pubrel = true}},
        {group_2 + 1, {.qos = 2, .shared = true}},
        {group_2 + 3, {.qos = 2, .shared = true, .pubrel = true}},
        {retained + 2, {.qos = 1, .shared = true, .retained = true}},
        {retained + group_2 + 1, {.qos = 2, .shared = true, .retained = true}},
        {retained + group_2 + 3, {.qos = 2, .shared = true, .pubrel = true, .retained = true}},
    };
    const uint64_t bad[] = {group_2,      group_2 + 2,   retained,
                            retained + 1, retained + 3,  retained + group_2,
                            1 << 20,      (1 << 20) + 2, retained + group_2 + 2};
    struct session_out o;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(is_read(good[i].what, &o));
        assert_true(o.packet_id == 1 && o.place == 77 && o.qos == good[i].is.qos);
        assert_true(o.pubrel == good[i].is.pubrel && o.shared == good[i].is.shared);
        assert_int_equal(o.retained, good[i].is.retained);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(is_read(bad[i], &o));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_given_is_known),
        cmocka_unit_test(a_group_goes_with_its_sessions),
        cmocka_unit_test(a_floor_does_not_end_it),
        cmocka_unit_test(random_places),
        cmocka_unit_test(a_copy_of_a_group_is_not_its_own),
        cmocka_unit_test(there_are_maxima),
        cmocka_unit_test(a_retained_message_is_kept_by_its_id),
        cmocka_unit_test(what_a_message_is),
    };
    buf_init(&file, 64 << 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    buf_fini(&file);
    return failed;
}
