/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/ack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum ack_level level;
        const char *sink;
    } good[] = {{"received", ACK_RECEIVED, ""},
                {"durable", ACK_DURABLE, ""},
                {"applied", ACK_APPLIED, ""},
                {"delivered:kafka", ACK_DELIVERED, "kafka"},
                {"delivered:a-b_9", ACK_DELIVERED, "a-b_9"},
                {"delivered:123456789012345", ACK_DELIVERED, "123456789012345"}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct ack a;
        struct buf out;
        buf_init(&out, ACK_TEXT_MAX);
        assert_true(ack_parse(slice_str(good[i].text), &a));
        assert_int_equal(a.level, good[i].level);
        assert_string_equal(a.sink, good[i].sink);
        ack_format(&out, &a);
        assert_true(slice_eq(buf_slice(&out), slice_str(good[i].text)));
        buf_fini(&out);
    }
}

static void nothing_else_is(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "Durable",
                                      "durable ",
                                      "delivered",
                                      "delivered:",
                                      "delivered:x y",
                                      "delivered:KAFKA",
                                      "delivered:\"",
                                      "applied:kafka",
                                      "delivered:1234567890123456",
                                      "delivered:kafka,postgres"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ack a = {.level = ACK_APPLIED, .sink = "as it was"};
        assert_false(ack_parse(slice_str(bad[i]), &a));
        assert_int_equal(a.level, ACK_APPLIED);
        assert_string_equal(a.sink, "as it was");
    }
    struct ack a;
    assert_false(ack_parse(slice_of("durable\0", 8), &a));
    assert_false(ack_parse(slice_of("delivered:a\0b", 13), &a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(nothing_else_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
