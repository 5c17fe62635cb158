/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rand.h"

static void datum_round_trip(void **state)
{
    struct buf b;
    buf_init(&b, 4096);
    struct datum all[] = {
        {.value = SLICE("21.50")},
        {.value = SLICE(""), .has_place = true, .lat = -1.5, .lon = 180},
        {.value = SLICE("x"), .has_place = true, .has_ele = true, .lat = 1, .lon = 2, .ele = 3},
    };
    for (unsigned i = 0; i < 3; i++) {
        struct datum d;
        buf_clear(&b);
        datum_encode(&b, &all[i]);
        assert_true(datum_decode(buf_slice(&b), &d));
        assert_true(slice_eq(d.value, all[i].value));
        assert_true(d.has_place == all[i].has_place && d.has_ele == all[i].has_ele);
        assert_true(d.lat == all[i].lat && d.lon == all[i].lon && d.ele == all[i].ele);
        size_t head = b.len - d.value.len;
        for (size_t cut = 0; cut < head; cut++)
            assert_false(datum_decode(slice_of(b.ptr, cut), &d));
    }
    buf_fini(&b);
}

static void clients_have_a_number(void **state)
{
    uint64_t a = record_client(1, SLICE("a"));
    assert_true(a > 0 && a < 1ull << 49);
    assert_int_equal(a, record_client(1, SLICE("a")));
    assert_true(a != record_client(2, SLICE("a")) && a != record_client(1, SLICE("b")));
    assert_true(record_client(1, SLICE("")) != 0);
}

static void ids_sort_and_return(void **state)
{
    struct rand r = {.state = 7};
    char before[DATUM_ID_LEN + 1] = "";
    int64_t us = 0;
    for (int i = 0; i < 10000; i++) {
        us += 1000 + (int64_t)rand_below(&r, 1 << 20);
        uint64_t offset = rand_next(&r);
        uint16_t node = (uint16_t)rand_next(&r), node_back;
        char id[DATUM_ID_LEN + 1];
        int64_t ms;
        uint64_t offset_back;
        datum_id_format(id, us, node, offset);
        unsigned __int128 whole =
            (unsigned __int128)(us / 1000) << 80 | (unsigned __int128)node << 64 | offset;
        for (int k = DATUM_ID_LEN - 1; k >= 0; k--, whole >>= 5)
            assert_int_equal(id[k], "0123456789ABCDEFGHJKMNPQRSTVWXYZ"[(int)whole & 31]);
        assert_true(strcmp(before, id) < 0);
        assert_true(datum_id_parse(slice_str(id), &ms, &node_back, &offset_back));
        assert_true(ms == us / 1000 && node == node_back && offset == offset_back);
        memcpy(before, id, sizeof id);
    }
    int64_t ms;
    uint16_t node;
    uint64_t offset;
    assert_false(datum_id_parse(SLICE("8ZZZZZZZZZZZZZZZZZZZZZZZZZ"), &ms, &node, &offset));
    assert_false(datum_id_parse(SLICE("0ZZZZZZZZZZZZZZZZZZZZZZZZU"), &ms, &node, &offset));
    assert_false(datum_id_parse(SLICE("0"), &ms, &node, &offset));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(datum_round_trip),
        cmocka_unit_test(clients_have_a_number),
        cmocka_unit_test(ids_sort_and_return),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
