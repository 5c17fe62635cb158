/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/session_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/rand.h"
#include "flow/publish.h"

#define ITEMS 20u

static bool of_group(enum session_event event)
{
    return event == SESSION_GIVEN || event == SESSION_RETURNED;
}

static void expect_items(const struct session_record *want, const struct session_record *got)
{
    struct slice list = got->list;
    struct session_item item = {0};
    assert_int_equal(got->count, want->count);
    for (unsigned i = 0; i < want->count; i++) {
        assert_true(session_next_item(got, &list, &item));
        if (want->event == SESSION_ACKED || want->event == SESSION_SENT || of_group(want->event))
            assert_int_equal(item.place, want->items[i].place);
        if (want->event != SESSION_ACKED)
            assert_int_equal(item.packet_id, want->items[i].packet_id);
        if (want->event == SESSION_SENT || of_group(want->event))
            assert_int_equal(item.qos, want->items[i].qos);
    }
    assert_false(session_next_item(got, &list, &item));
}

static void expect_same(const struct session_record *want, const struct session_record *got)
{
    assert_int_equal(got->event, want->event);
    assert_true(slice_eq(got->client_id, want->client_id));
    assert_int_equal(got->expiry_s, want->expiry_s);
    assert_true(slice_eq(got->will.topic, want->will.topic));
    assert_true(!got->will.topic.ptr == !want->will.topic.ptr);
    assert_true(got->will.retain == want->will.retain && got->will.delay_s == want->will.delay_s);
    assert_true(slice_eq(got->will.payload, want->will.payload));
    assert_true(got->keep_will == want->keep_will && got->end == want->end);
    assert_true(slice_eq(got->filter.filter, want->filter.filter));
    assert_int_equal(got->filter.qos, want->filter.qos);
    assert_int_equal(got->filter.retain_handling, want->filter.retain_handling);
    assert_true(got->filter.no_local == want->filter.no_local);
    assert_true(got->filter.as_published == want->filter.as_published);
    assert_int_equal(got->filter.id, want->filter.id);
    assert_int_equal(got->floor, want->floor);
    expect_items(want, got);
}

static struct session_record random_record(struct rand *r, struct session_item items[ITEMS])
{
    struct session_record s = {.event = (enum session_event)(1 + rand_below(r, 14))};
    bool yes = rand_below(r, 2);
    switch (s.event) {
    case SESSION_OPENED:
        s.client_id = yes ? SLICE("a client") : SLICE("");
        /* fall through */
    case SESSION_RESUMED:
        s.expiry_s = yes ? SESSION_NEVER : (uint32_t)rand_below(r, 100000);
        if (rand_below(r, 2))
            s.will = (struct session_will){.topic = SLICE("a/b"),
                                           .retain = yes,
                                           .delay_s = (uint32_t)rand_below(r, 1000),
                                           .payload = yes ? SLICE("") : SLICE("\0gone")};
        break;
    case SESSION_CLOSED:
        s.expiry_s = (uint32_t)rand_below(r, 100000);
        s.keep_will = yes;
        break;
    case SESSION_ENDED:
        s.end = (enum session_end)(1 + rand_below(r, 4));
        break;
    case SESSION_SUBSCRIBED:
        s.filter = (struct session_filter){.filter = SLICE("a/+/#"),
                                           .qos = (uint8_t)rand_below(r, 3),
                                           .retain_handling = (uint8_t)rand_below(r, 3),
                                           .no_local = yes,
                                           .as_published = rand_below(r, 2),
                                           .id = (uint32_t)rand_below(r, 268435456)};
        break;
    case SESSION_UNSUBSCRIBED:
        s.filter.filter = SLICE("b");
        break;
    default:
        s.items = items;
        s.count = (unsigned)rand_below(r, ITEMS + 1);
        if (s.event == SESSION_ACKED || of_group(s.event))
            s.floor = rand_next(r) >> (4 + rand_below(r, 50));
        if (of_group(s.event))
            s.filter.filter = yes                        ? SLICE("$share/g/a/#")
                              : s.event == SESSION_GIVEN ? SLICE("")
                                                         : SLICE("b");
        uint64_t place = session_place(s.floor, 1 + (unsigned)rand_below(r, 15));
        for (unsigned i = 0; i < s.count; i++) {
            items[i] = (struct session_item){.place = place,
                                             .packet_id = (uint16_t)(1 + rand_below(r, 65535)),
                                             .qos = (uint8_t)(1 + rand_below(r, 2))};
            place += s.event == SESSION_ACKED ? 1 + rand_below(r, 1000) : rand_next(r);
        }
        if (s.event == SESSION_ACKED && s.count && place < items[0].place)
            s.count = 0; /* they went round the end */
    }
    return s;
}

static void records_come_back(void **state)
{
    struct rand r = {.state = 5};
    struct buf b;
    buf_init(&b, 4096);
    for (unsigned i = 0; i < 20000; i++) {
        struct session_item items[ITEMS];
        struct session_record want = random_record(&r, items), got;
        buf_clear(&b);
        session_record_encode(&b, &want);
        assert_false(b.failed);
        assert_true(session_record_decode(buf_slice(&b), &got));
        expect_same(&want, &got);
        /* A shorter one may be another record, never one that reads beyond its end. */
        char *cut = malloc(b.len);
        for (size_t n = 0; n < b.len; n++) {
            memcpy(cut, b.ptr, n);
            session_record_decode(slice_of(cut, n), &got);
        }
        free(cut);
    }
    buf_fini(&b);
}

static void what_is_none_is_refused(void **state)
{
    static const struct slice bad[] = {
        SLICE(""),
        SLICE("\0"),                       /* no event has number 0 */
        SLICE("\xf"),                      /* nor 15 */
        SLICE("\1"),                       /* opened: nothing behind it */
        SLICE("\1\2\0\0"),                 /* retain without a will */
        SLICE("\1\0\0\2x"),                /* a client id longer than what is there */
        SLICE("\1\0\0\1xy"),               /* something behind the end */
        SLICE("\1\1\0\1x\0\0"),            /* a will without a topic */
        SLICE("\2\0\xff\xff\xff\xff\x10"), /* an expiry of 33 bits */
        SLICE("\3\2\0"),                   /* a flag that is none */
        SLICE("\4\0"),                     /* no reason to end */
        SLICE("\4\5"),
        SLICE("\5\3\0x"),   /* QoS 3 */
        SLICE("\5\x30\0x"), /* retain handling 3 */
        SLICE("\5\0\0"),    /* no filter */
        SLICE("\6"),
        SLICE("\7"),       /* no floor */
        SLICE("\7\0\0"),   /* place 0 */
        SLICE("\7\1\1\0"), /* a place twice */
        SLICE("\x8\0\0"),  /* packet id 0 */
        SLICE("\x8\2"),    /* no place */
        SLICE("\x9\0"),
        SLICE("\x9\x80\x80\x4"), /* packet id 65536 */
        SLICE("\x9\x80"),        /* a number without an end */
        SLICE("\xe\0\0\2\1"),    /* no filter */
        SLICE("\xe\0\2x"),       /* one that is longer than what is there */
        SLICE("\xd\0\1x\2"),     /* no place */
    };
    struct session_record got;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(session_record_decode(bad[i], &got));
}

static void messages_come_back(void **state)
{
    const struct publish all[] = {
        {.message = SLICE("")},
        {.qos = 2, .message = SLICE("\0 21")},
        {.qos = 1, .has_expiry = true, .expiry_s = UINT32_MAX, .message = SLICE("x")},
        {.has_expiry = true, .properties = SLICE("\x26\0\1a\0\1b"), .message = SLICE("")},
    };
    struct buf b;
    buf_init(&b, 4096);
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct publish got;
        buf_clear(&b);
        publish_encode(&b, &all[i]);
        assert_true(publish_decode(buf_slice(&b), &got));
        assert_true(got.qos == all[i].qos && got.has_expiry == all[i].has_expiry &&
                    got.expiry_s == all[i].expiry_s);
        assert_true(slice_eq(got.properties, all[i].properties));
        assert_true(slice_eq(got.message, all[i].message));
        for (size_t cut = 0; cut < b.len - got.message.len; cut++)
            assert_false(publish_decode(slice_of(b.ptr, cut), &got));
    }
    struct publish got;
    assert_false(publish_decode(SLICE("\3x"), &got));
    assert_false(publish_decode(SLICE("\x10x"), &got));
    assert_int_equal(publish_expires_us(&all[1], 7), INT64_MAX);
    assert_int_equal(publish_expires_us(&all[3], 7), 7);
    assert_int_equal(publish_expires_us(&all[2], 7), 4294967295000007);
    assert_int_equal(publish_expires_us(&all[2], INT64_MAX - 5), INT64_MAX);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back),
        cmocka_unit_test(what_is_none_is_refused),
        cmocka_unit_test(messages_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
