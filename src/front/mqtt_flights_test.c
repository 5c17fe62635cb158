/* SPDX-License-Identifier: Apache-2.0 */
#include "front/mqtt_flights.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void over_out_of_order(void **state)
{
    (void)state;
    struct flights f = {0};
    for (unsigned i = 1; i <= 100; i++)
        assert_int_equal(flights_put(&f, i * 16, 1 + i % 2, FLIGHT_SENT)->id, i);
    assert_int_equal(flights_open(&f), 100);
    assert_true(flights_floor(&f, 5000) == 16);
    for (unsigned i = 100; i > 1; i--) {
        flights_set(&f, flights_find(&f, (uint16_t)i), FLIGHT_DONE);
        flights_forget(&f, flights_floor(&f, 5000));
        assert_true(flights_floor(&f, 5000) == 16); /* the first is still under way */
    }
    assert_null(flights_find(&f, 50));
    assert_int_equal(f.count, 100);
    assert_int_equal(flights_open(&f), 1);
    flights_set(&f, flights_find(&f, 1), FLIGHT_DONE);
    assert_true(flights_floor(&f, 5000) == 5000);
    flights_forget(&f, 5000);
    assert_int_equal(f.count + f.done, 0);
    flights_fini(&f);
}

static void released_is_had(void **state)
{
    (void)state;
    struct flights f = {0};
    flights_put(&f, 32, 2, FLIGHT_WAITS);
    assert_true(flights_floor(&f, 16) == 16);
    const enum flight_state states[] = {FLIGHT_SENT, FLIGHT_RELEASING, FLIGHT_RELEASED};
    for (unsigned i = 0; i < 3; i++) {
        flights_set(&f, flights_find(&f, 1), states[i]);
        assert_true(flights_floor(&f, 64) == (i == 2 ? 64 : 32));
        flights_forget(&f, 64);
        assert_int_equal(flights_open(&f), 1); /* its packet id is in use until PUBCOMP */
    }
    flights_fini(&f);
}

static void ids_in_use_are_passed_over(void **state)
{
    (void)state;
    struct flights f = {0};
    flights_restore(&f, &(struct flight){.place = 9, .id = 65534, .qos = 1, .state = FLIGHT_KEPT});
    flights_restore(&f, &(struct flight){.place = 3, .id = 1, .qos = 1, .state = FLIGHT_KEPT});
    flights_restore(&f, &(struct flight){.place = 5, .state = FLIGHT_DONE});
    assert_int_equal(flights_put(&f, 20, 1, FLIGHT_SENT)->id, 65535);
    assert_int_equal(flights_put(&f, 21, 1, FLIGHT_SENT)->id, 2);
    assert_int_equal(flights_open(&f), 2);
    const uint16_t ids[] = {1, 65534};
    for (unsigned i = 0; i < 2; i++) { /* again in the order of places */
        assert_int_equal(flights_kept(&f)->id, ids[i]);
        flights_set(&f, flights_kept(&f), FLIGHT_SENT);
    }
    assert_null(flights_kept(&f));
    assert_true(flights_floor(&f, 100) == 3);
    flights_set(&f, flights_find(&f, 1), FLIGHT_DONE);
    assert_true(flights_floor(&f, 100) == 9);
    flights_forget(&f, 9);
    assert_int_equal(f.count, 3);
    flights_fini(&f);
}

static void those_of_groups_are_aside(void **state)
{
    (void)state;
    struct flights f = {0};
    flights_put(&f, 5, 1, FLIGHT_SENT)->member = 7;
    flights_put(&f, 9, 1, FLIGHT_SENT);
    flights_put(&f, 20, 1, FLIGHT_SENT)->member = 7;
    assert_true(flights_floor(&f, 100) == 9);
    flights_set(&f, flights_find(&f, 3), FLIGHT_DONE);
    flights_forget(&f, 9);
    assert_int_equal(f.count, 2); /* above the floor, and nobody needs it */
    flights_set(&f, flights_find(&f, 2), FLIGHT_DONE);
    assert_true(flights_floor(&f, 100) == 100);
    flights_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_out_of_order),
        cmocka_unit_test(released_is_had),
        cmocka_unit_test(ids_in_use_are_passed_over),
        cmocka_unit_test(those_of_groups_are_aside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
