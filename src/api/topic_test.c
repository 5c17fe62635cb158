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
        enum route_op op; /* OP_CONNECT: it is none */
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
        enum route_found found = route_find(&q, &m, NULL);
        assert_int_equal(found, all[i].op == OP_CONNECT ? ROUTE_NO_PATH : ROUTE_FOUND);
        if (found != ROUTE_FOUND)
            continue;
        assert_true(m.route->op == all[i].op && m.route->class == ROUTE_WRITE);
        assert_int_equal(m.route->permission, PERM_data_write);
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(topics)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
