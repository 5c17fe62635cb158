/* SPDX-License-Identifier: Apache-2.0 */
#include "api/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void topics(void **state)
{
    (void)state;
    static const struct {
        const char *topic;
        enum route_op op; /* OP_CONNECT: none of Adafruit's */
        const char *user, *feed, *group;
        enum body_form form;
    } all[] = {
        {"u/feeds/k", OP_PUBLISH_FEED, "u", "k", "", BODY_TEXT},
        {"u/f/g.k", OP_PUBLISH_FEED, "u", "g.k", "", BODY_TEXT},
        {"u/feeds/k/json", OP_PUBLISH_FEED, "u", "k", "", BODY_JSON},
        {"u/f/k/csv", OP_PUBLISH_FEED, "u", "k", "", BODY_CSV},
        {"u/groups/g", OP_PUBLISH_GROUP, "u", "", "g", BODY_TEXT},
        {"u/g/g/csv", OP_PUBLISH_GROUP, "u", "", "g", BODY_CSV},
        {"u/g/g/json", OP_PUBLISH_GROUP, "u", "", "g", BODY_JSON},
        {"u/feeds/k/get", OP_GET_FEED, "u", "k", "", BODY_TEXT},
        {"u/f/g.k/json/get", OP_GET_FEED, "u", "g.k", "", BODY_JSON},
        {"u/f/get/csv/get", OP_GET_FEED, "u", "get", "", BODY_CSV},
        {"u/f/get", OP_PUBLISH_FEED, "u", "get", "", BODY_TEXT},
        {"u/groups/g/get", OP_GET_GROUP, "u", "", "g", BODY_TEXT},
        {"u/g/g/csv/get", OP_GET_GROUP, "u", "", "g", BODY_CSV},
        {"u/g/g/get/csv", OP_CONNECT},
        {"u/g/g/get/get", OP_CONNECT},
        {"u/f/k/csv/json", OP_CONNECT},
        {"u/f/k/csv/", OP_CONNECT},
        {"u/get", OP_CONNECT},
        {"", OP_CONNECT},
        {"u", OP_CONNECT},
        {"u/feeds", OP_CONNECT},
        {"u/feeds/", OP_CONNECT},
        {"/feeds/k", OP_CONNECT},
        {"u/feed/k", OP_CONNECT},
        {"u/feeds/k/", OP_CONNECT},
        {"u/feeds/k/xml", OP_CONNECT},
        {"u/feeds/k/json/", OP_CONNECT},
        {"u/feeds/k/csv/x", OP_CONNECT},
        {"u/errors", OP_CONNECT},
        {"time/seconds", OP_CONNECT},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct request q = {.method = METHOD_PUBLISH, .path = slice_str(all[i].topic)};
        struct route_match m = {0};
        assert_int_equal(route_find(&q, &m, NULL), ROUTE_FOUND);
        if (all[i].op == OP_CONNECT) {
            assert_true(m.route->op == OP_PUBLISH_TOPIC && m.route->class == ROUTE_TOPIC);
            assert_null(m.username.ptr);
            continue;
        }
        bool writes = route_is_publish(m.route);
        assert_int_equal(m.route->op, all[i].op);
        assert_int_equal(m.route->class, writes ? ROUTE_WRITE : ROUTE_READ);
        assert_int_equal(m.route->permission, writes ? PERM_data_write : PERM_data_read);
        assert_true(slice_eq(m.username, slice_str(all[i].user)));
        assert_true(slice_eq(m.feed, slice_str(all[i].feed)));
        assert_true(slice_eq(m.group, slice_str(all[i].group)));
        assert_int_equal(m.form, all[i].form);
    }
    struct request q = {.method = METHOD_CONNECT};
    struct route_match m = {0};
    assert_int_equal(route_find(&q, &m, NULL), ROUTE_FOUND);
    assert_true(m.route->op == OP_CONNECT && m.route->permission == 0);
}

/* What topics mean in an account "u" that has Adafruit's, and in one that has any. */
static void topics_of_accounts(void **state)
{
    (void)state;
    enum { FEED = REASON_ok, TOPIC = -1 };
    static char long_topic[TOPIC_MAX + 2];
    memset(long_topic, 'x', sizeof long_topic - 1);
    const struct {
        const char *topic;
        int adafruit, any;
    } all[] = {
        {"u/feeds/k", FEED, FEED},
        {"u/g/k/json", FEED, FEED},
        {"o/feeds/k", REASON_not_your_topic, TOPIC},
        {"o/g/k/csv", REASON_not_your_topic, TOPIC},
        {"u", REASON_bad_topic, REASON_bad_topic},
        {"u/errors", REASON_bad_topic, REASON_bad_topic},
        {"u/feeds/k/xml", REASON_bad_topic, REASON_bad_topic},
        {"U/errors", REASON_bad_topic, TOPIC},
        {"a/b/c", REASON_bad_topic, TOPIC},
        {"/", REASON_bad_topic, TOPIC},
        {"feeds/k", REASON_bad_topic, TOPIC},
        {"$SYS/x", REASON_bad_topic, REASON_bad_topic},
        {"$", REASON_bad_topic, REASON_bad_topic},
        {"a/$x", REASON_bad_topic, TOPIC},
        {long_topic + 1, REASON_bad_topic, TOPIC},
        {long_topic, REASON_bad_topic, REASON_bad_topic},
    };
    for (unsigned i = 0; i < 2 * sizeof all / sizeof *all; i++) {
        struct slice topic = slice_str(all[i / 2].topic);
        struct account a = {.name = SLICE("u"), .topics = i % 2 ? TOPICS_ANY : TOPICS_ADAFRUIT};
        struct request q = {.method = METHOD_PUBLISH, .path = topic};
        struct route_match m = {0};
        int wanted = i % 2 ? all[i / 2].any : all[i / 2].adafruit;
        assert_int_equal(route_find(&q, &m, NULL), ROUTE_FOUND);
        assert_int_equal(topic_settle(&a, topic, &m), wanted == TOPIC ? REASON_ok : wanted);
        if (wanted == FEED)
            assert_true(m.route->class == ROUTE_WRITE && slice_eq(m.username, a.name));
        if (wanted == TOPIC) {
            assert_true(m.route->op == OP_PUBLISH_TOPIC && m.route->class == ROUTE_TOPIC);
            assert_true(!m.username.ptr && !m.feed.ptr && !m.group.ptr);
            assert_int_equal(m.route->permission, PERM_data_write);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(topics),
                                       cmocka_unit_test(topics_of_accounts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
