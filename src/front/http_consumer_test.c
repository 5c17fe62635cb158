/* SPDX-License-Identifier: Apache-2.0 */
#include "front/http_consumer.c"

#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

static void what_clients_say(void **state)
{
    static const struct {
        const char *message, *what, *body, *id;
        uint32_t credit;
    } good[] = {
        {"{\"ack\":{\"tokens\":[\"1-1\"]}}", "ack", "{\"tokens\":[\"1-1\"]}", "", 0},
        {" { \"id\" : 7 , \"nack\" : { \"tokens\" : [] , \"delay\":1 } } ", "nack",
         "{ \"tokens\" : [] , \"delay\":1 }", "7", 0},
        {"{\"extend\":{},\"id\":\"a\\\"b\"}", "extend", "{}", "\"a\\\"b\"", 0},
        {"{\"credit\":0}", "credit", "0", "", 0},
        {"{\"credit\":1000,\"id\":-1.5e3}", "credit", "1000", "-1.5e3", 1000},
        {"{\"credit\":1e2,\"id\":\"\"}", "credit", "1e2", "\"\"", 100},
    };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct said s = {0};
        const char *why = understand(slice_str(good[i].message), &s);
        if (why)
            fail_msg("%s: %s", good[i].message, why);
        assert_string_equal(s.what, good[i].what);
        assert_true(slice_eq(s.body, slice_str(good[i].body)));
        assert_true(slice_eq(s.id, slice_str(good[i].id)));
        assert_int_equal(s.credit, good[i].credit);
    }
}

static void what_is_not_understood(void **state)
{
    static const char *const bad[] = {
        "",
        "ack",
        "[]",
        "{}",
        "{\"id\":1}",
        "{\"ack\":{}",
        "{\"ack\":{}} x",
        "{\"ack\":null}",
        "{\"ack\":\"1-1\"}",
        "{\"ack\":{},\"ack\":{}}",
        "{\"ack\":{},\"credit\":1}",
        "{\"ack\":{},\"Id\":1}",
        "{\"fetch\":{}}",
        "{\"ack\":{},\"id\":true}",
        "{\"ack\":{},\"id\":{}}",
        "{\"credit\":-1}",
        "{\"credit\":1001}",
        "{\"credit\":0.5}",
        "{\"credit\":1e99}",
        "{\"credit\":\"1\"}",
    };
    char message[400];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct said s = {0};
        if (!understand(slice_str(bad[i]), &s))
            fail_msg("%s was understood", bad[i]);
    }
    /* An id may have so many bytes, and not one more. */
    for (int more = 0; more < 2; more++) {
        struct said s = {0};
        int n = snprintf(message, sizeof message, "{\"ack\":{},\"id\":\"%0*d\"}",
                         (int)CONSUME_ID_BYTES + more, 0);
        assert_true(n > 0 && (size_t)n < sizeof message);
        assert_int_equal(understand(slice_str(message), &s) != NULL, more);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_clients_say),
        cmocka_unit_test(what_is_not_understood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
