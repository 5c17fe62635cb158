/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/rand.h"

static uint64_t any_number(struct rand *r)
{
    uint64_t bits = rand_below(r, 65);
    return bits == 0 ? 0 : rand_next(r) >> (64 - bits);
}

static struct slice any_bytes(struct rand *r, size_t max)
{
    static const char pool[4096];
    return slice_of(pool + rand_below(r, 64), (size_t)rand_below(r, max));
}

static struct record any_record(struct rand *r)
{
    struct record rec = {
        .kind = (enum record_kind)(1 + rand_below(r, RECORD_RULE)),
        .flags = (uint32_t)any_number(r),
        .account = any_number(r),
        .feed = any_number(r),
        .credential = any_number(r),
        .client = any_number(r),
        .receive_us = (int64_t)any_number(r),
        .key_id = (uint32_t)any_number(r),
        .producer = {any_number(r), any_number(r), any_number(r), any_bytes(r, 60)},
        .topic = any_bytes(r, 300),
        .payload = any_bytes(r, 2000)};
    rec.event_us = rand_below(r, 2) ? rec.receive_us : (int64_t)any_number(r);
    return rec;
}

static void assert_same(const struct record *a, const struct record *b)
{
    assert_true(a->kind == b->kind && a->flags == b->flags && a->account == b->account);
    assert_true(a->feed == b->feed && a->credential == b->credential && a->key_id == b->key_id);
    assert_true(a->event_us == b->event_us && a->receive_us == b->receive_us);
    assert_true(a->client == b->client);
    assert_true(a->producer.session == b->producer.session);
    assert_true(a->producer.sequence == b->producer.sequence);
    assert_true(a->producer.fingerprint == b->producer.fingerprint);
    assert_true(slice_eq(a->producer.key, b->producer.key) && slice_eq(a->topic, b->topic));
    assert_true(slice_eq(a->payload, b->payload));
}

static void round_trip(void **state)
{
    struct rand r = {.state = 3};
    struct buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 5000; i++) {
        struct record in[3], out;
        buf_clear(&b);
        for (int k = 0; k < 3; k++) {
            in[k] = any_record(&r);
            assert_true(record_encode(&b, &in[k]));
        }
        struct slice rest = buf_slice(&b);
        for (int k = 0; k < 3; k++) {
            size_t n = record_decode(rest, &out);
            assert_true(n > 0 && n == record_skip(rest));
            bool plain = in[k].kind == RECORD_DATUM && !in[k].producer.session;
            assert_int_equal(record_skip_datum(rest), plain ? n : 0);
            assert_same(&in[k], &out);
            rest = slice_from(rest, n);
        }
        assert_int_equal(rest.len, 0);
    }
    buf_fini(&b);
}

static void typical_datum_is_small(void **state)
{
    struct buf b;
    buf_init(&b, 4096);
    struct record r = {.kind = RECORD_DATUM,
                       .account = 1000,
                       .feed = 100000,
                       .credential = 5000,
                       .receive_us = 1700000000000000,
                       .event_us = 1700000000000000,
                       .payload = SLICE("\0"
                                        "21.50")};
    assert_true(record_encode(&b, &r));
    assert_true(b.len <= 6 + 22);
    buf_fini(&b);
}

/* Written before records named their client. */
static void older_records_are_read(void **state)
{
    static const char bytes[] = "\x0c\x01\x87\x04\x05\x06\x01\x02\x03\x09\0ab";
    struct record out;
    assert_int_equal(record_decode(slice_of(bytes, 13), &out), 13);
    assert_true(out.kind == RECORD_DATUM && out.account == 5 && out.receive_us == 3);
    assert_true(out.flags == 1 && out.feed == 2 && out.credential == 3 && out.client == 0);
    assert_true(out.producer.fingerprint == 9 && slice_eq(out.payload, slice_of(bytes + 10, 3)));
}

/* Every proper prefix is refused; the copy is exactly as long, so a sanitizer sees a byte too far.
 */
static void truncated_at_every_byte(void **state)
{
    struct rand r = {.state = 4};
    struct buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 200; i++) {
        struct record in = any_record(&r), out;
        buf_clear(&b);
        assert_true(record_encode(&b, &in));
        for (size_t cut = 0; cut < b.len; cut++) {
            char *copy = malloc(cut ? cut : 1);
            memcpy(copy, b.ptr, cut);
            assert_int_equal(record_decode(slice_of(copy, cut), &out), 0);
            assert_int_equal(record_skip(slice_of(copy, cut)), 0);
            assert_int_equal(record_skip_datum(slice_of(copy, cut)), 0);
            free(copy);
        }
    }
    buf_fini(&b);
}

static void any_bytes_are_safe(void **state)
{
    struct rand r = {.state = 5};
    for (int i = 0; i < 200000; i++) {
        size_t len = (size_t)rand_below(&r, 64);
        char *bytes = malloc(len ? len : 1);
        struct record out;
        for (size_t k = 0; k < len; k++)
            bytes[k] = (char)rand_next(&r);
        if (len && rand_below(&r, 2))
            bytes[0] = (char)(len - 1);
        size_t n = record_decode(slice_of(bytes, len), &out);
        assert_true(n <= len);
        if (n) {
            assert_true(out.payload.len <= len && out.topic.len <= len);
            assert_true(out.kind >= RECORD_DATUM && out.kind <= RECORD_RULE);
        }
        free(bytes);
    }
}

static void full_buffer_is_unchanged(void **state)
{
    struct buf b;
    struct record r = {.kind = RECORD_AUDIT, .payload = SLICE("0123456789")};
    buf_init(&b, 40);
    assert_true(record_encode(&b, &r));
    size_t before = b.len;
    while (record_encode(&b, &r))
        before = b.len;
    assert_int_equal(b.len, before);
    assert_false(b.failed);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(typical_datum_is_small),
        cmocka_unit_test(older_records_are_read),
        cmocka_unit_test(truncated_at_every_byte),
        cmocka_unit_test(any_bytes_are_safe),
        cmocka_unit_test(full_buffer_is_unchanged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
