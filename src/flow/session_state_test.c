/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/session_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void comes_back(void **state)
{
    (void)state;
    struct buf b;
    struct session_filter f = {.filter = SLICE("u/f/#"),
                               .qos = 2,
                               .retain_handling = 1,
                               .as_published = true,
                               .id = 268435455};
    struct session_item item = {.place = UINT64_MAX - 1, .packet_id = 65535, .qos = 2};
    buf_init(&b, SESSION_STATE_MAX);
    session_state_put(&b, &(struct session_state){
                              .number = 1ull << 40, .floor = UINT64_MAX >> 4, .present = true});
    session_state_put_received(&b, 258);
    session_state_put_sub(&b, &f, 77);
    session_state_put_sent(&b, &item, true, false, false);
    session_state_put_sent(&b, &(struct session_item){9, 3, 1}, false, true, true);
    session_state_put_acked(&b, 1ull << 63);
    assert_false(b.failed);

    struct slice rest = buf_slice(&b);
    struct session_state s = session_state_get(&rest);
    assert_true(s.number == 1ull << 40 && s.floor == UINT64_MAX >> 4 && s.present);
    struct session_state_item i;
    assert_true(session_state_next(&rest, &i));
    assert_true(i.kind == SESSION_STATE_RECEIVED && i.item.packet_id == 258);
    assert_true(session_state_next(&rest, &i));
    assert_true(i.kind == SESSION_STATE_SUB && i.since == 77 && i.filter.qos == 2);
    assert_true(i.filter.retain_handling == 1 && i.filter.as_published && !i.filter.no_local);
    assert_true(i.filter.id == 268435455 && slice_eq(i.filter.filter, f.filter));
    assert_true(session_state_next(&rest, &i));
    assert_true(i.kind == SESSION_STATE_SENT && i.pubrel && !i.shared && !i.retained &&
                i.item.qos == 2);
    assert_true(i.item.place == UINT64_MAX - 1 && i.item.packet_id == 65535);
    assert_true(session_state_next(&rest, &i));
    assert_true(i.kind == SESSION_STATE_SENT && !i.pubrel && i.shared && i.retained &&
                i.item.place == 9);
    assert_true(session_state_next(&rest, &i));
    assert_true(i.kind == SESSION_STATE_ACKED && i.item.place == 1ull << 63);
    assert_false(session_state_next(&rest, &i));
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(comes_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
