/* SPDX-License-Identifier: Apache-2.0 */
#include "api/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static enum route_found find(enum method method, enum surface surface, const char *path,
                             struct route_match *m, struct buf *allow)
{
    struct request q = {.method = method, .surface = surface, .path = slice_str(path)};
    buf_clear(allow);
    return route_find(&q, m, allow);
}

static void finds_what_is_served(void **state)
{
    struct route_match m;
    struct buf allow;
    buf_init(&allow, 1000);
    assert_int_equal(find(METHOD_POST, SURFACE_PUBLIC, "/v1/telemetry", &m, &allow), ROUTE_FOUND);
    assert_int_equal(m.route->op, OP_TELEMETRY_POST);
    assert_int_equal(find(METHOD_GET, SURFACE_PUBLIC, "/v1/telemetry", &m, &allow), ROUTE_FOUND);
    assert_int_equal(allow.len, 0);
    assert_int_equal(find(METHOD_HEAD, SURFACE_PUBLIC, "/api/v2/u/feeds/g.k/data/last", &m, &allow),
                     ROUTE_FOUND);
    assert_int_equal(m.route->op, OP_DATA_LAST);
    assert_true(slice_eq(m.username, SLICE("u")) && slice_eq(m.feed, SLICE("g.k")));
    assert_int_equal(find(METHOD_GET, SURFACE_PUBLIC, "/api/v2/u/feeds/k/data/0E.json", &m, &allow),
                     ROUTE_FOUND);
    assert_true(slice_eq(m.id, SLICE("0E")));
    assert_int_equal(find(METHOD_POST, SURFACE_ADMIN, "/v1/admin/device/add", &m, &allow),
                     ROUTE_FOUND);
    assert_true(slice_eq(m.rest, SLICE("device/add")));
    buf_fini(&allow);
}

static void refuses_the_rest(void **state)
{
    struct route_match m;
    struct buf allow;
    buf_init(&allow, 1000);
    static const char *const none[] = {"/",
                                       "",
                                       "/v1",
                                       "/v1/telemetry/x",
                                       "/v1/telemetryx",
                                       "/api/v2/u/feeds/k/data/last/x",
                                       "/metrics",
                                       "/v1/status",
                                       "/v1/administer",
                                       "x/v1/telemetry",
                                       "/api/v2"};
    for (unsigned i = 0; i < sizeof none / sizeof *none; i++)
        assert_int_equal(find(METHOD_GET, SURFACE_PUBLIC, none[i], &m, &allow), ROUTE_NO_PATH);
    assert_int_equal(find(METHOD_PUT, SURFACE_PUBLIC, "/v1/telemetry", &m, &allow),
                     ROUTE_NO_METHOD);
    assert_true(slice_eq(buf_slice(&allow), SLICE("Allow: POST, GET\r\n")));
    assert_int_equal(find(METHOD_POST, SURFACE_OPERATOR, "/v1/telemetry", &m, &allow),
                     ROUTE_NO_PATH);
    assert_int_equal(find(METHOD_GET, SURFACE_OPERATOR, "/healthz", &m, &allow), ROUTE_FOUND);
    buf_fini(&allow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_is_served),
        cmocka_unit_test(refuses_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
