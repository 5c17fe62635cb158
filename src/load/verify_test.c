/* SPDX-License-Identifier: Apache-2.0 */
#include "load/verify.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static void a_value_holds_its_sequence(void **state)
{
    static const struct {
        const char *value;
        uint64_t sequence;
    } good[] = {
        {"1000000000000042", 42},
        {"0000012345678901234 1999999999999999 abcdef", LEDGER_SEQUENCES - 1},
        {"x1000000000000000y", 0},
        {"2000000000000000 1000000000000007", 7},
    };
    static const char *const bad[] = {
        "", "21.5", "100000000000004", "10000000000000421", "x", "0000000000000042"};
    uint64_t n;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(verify_sequence(slice_str(good[i].value), &n));
        assert_int_equal(n, good[i].sequence);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(verify_sequence(slice_str(bad[i]), &n));
}

static struct response with_link(const char *link)
{
    static char head[512];
    int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nA: b\r\nlink: %s\r\n\r\n", link);
    return (struct response){.status = 200, .head = slice_of(head, (size_t)n)};
}

static void the_next_page_is_where_the_link_says(void **state)
{
    struct buf target;
    buf_init(&target, 1024);
    struct response r = with_link("<http://h/a?b>;rel=\"next\", <http://h:1/c/d?e=f>");
    assert_true(next_page(&r, &target));
    assert_true(slice_eq(buf_slice(&target), SLICE("/c/d?e=f")));
    static const char *const none[] = {"<http://h/a?b>", "<http://h/a>;rel=\"next\", <>",
                                       "<http://h/a>;rel=\"next\", <http://h>",
                                       "<http://h/a>;rel=\"next\", <http://h/a", ""};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        r = with_link(none[i]);
        assert_false(next_page(&r, &target));
    }
    buf_fini(&target);
}

static void a_page_must_be_one(void **state)
{
    struct ledger l;
    struct ledger_verdict v;
    uint32_t count;
    assert_int_equal(ledger_init(&l, 5, 1, NULL), 0);
    ledger_sent(&l, 5);
    assert_int_equal(
        take_page(SLICE("[{\"value\":\"1000000000000005\"},{\"value\":\"x\"}]"), 0, &l, &count), 0);
    assert_int_equal(count, 2);
    ledger_judge(&l, &v);
    assert_int_equal(v.unknown_stored, 1);
    assert_int_equal(take_page(SLICE("[]"), 0, &l, &count), 0);
    assert_int_equal(count, 0);
    assert_int_equal(take_page(SLICE("{}"), 0, &l, &count), -EPROTO);
    assert_int_equal(take_page(SLICE("[{}]"), 0, &l, &count), -EPROTO);
    assert_int_equal(take_page(SLICE("[1]"), 0, &l, &count), -EPROTO);
    assert_int_equal(take_page(SLICE("[{\"value\":\"1\"}"), 0, &l, &count), -EPROTO);
    ledger_fini(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_holds_its_sequence),
        cmocka_unit_test(the_next_page_is_where_the_link_says),
        cmocka_unit_test(a_page_must_be_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
