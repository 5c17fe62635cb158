/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/psk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct credential device(uint64_t number, uint8_t fast)
{
    struct credential c = {.number = number, .kind = CREDENTIAL_DEVICE};
    memset(c.fast, fast, sizeof c.fast);
    return c;
}

static struct psk_master master(char fill)
{
    char bytes[PSK_MASTER_LEAST];
    struct psk_master m = {0};
    memset(bytes, fill, sizeof bytes);
    assert_true(psk_master_make(slice_of(bytes, sizeof bytes), &m));
    return m;
}

static void needs_enough_bytes(void **state)
{
    (void)state;
    static const char zeroes[PSK_MASTER_LEAST];
    struct psk_master m = {0};
    assert_false(psk_master_make(slice_of(zeroes, PSK_MASTER_LEAST - 1), &m));
    assert_false(m.given);
    assert_true(psk_master_make(slice_of(zeroes, PSK_MASTER_LEAST), &m));
    assert_true(m.given);
}

/* The same for ever: devices have it. Computed apart, with Python's hmac:
 * hmac(sha256(b"sluice psk master 1" + b"a"*32), b"f" + (7).to_bytes(8, "little") +
 * sha256(b"\1"*32) + b"\1"). */
static void is_what_it_was(void **state)
{
    (void)state;
    static const uint8_t want[PSK_BYTES] = {0x53, 0x5a, 0x04, 0x92, 0xbd, 0x64, 0x26, 0xa7,
                                            0xce, 0x0d, 0xc4, 0x51, 0xda, 0x88, 0x8b, 0xb4,
                                            0xca, 0x19, 0xf7, 0x9c, 0x36, 0x5d, 0xbf, 0x19,
                                            0x70, 0x65, 0x96, 0x59, 0x52, 0x3a, 0xb0, 0xac};
    struct psk_master m = master('a');
    struct credential c = device(7, 1);
    uint8_t key[PSK_BYTES];
    psk_of_device(&m, &c, key);
    assert_memory_equal(key, want, PSK_BYTES);
}

/* Another number, secret, kind of secret or operator's key is another key; and nobody's is none of
 * theirs. */
static void are_all_different(void **state)
{
    (void)state;
    struct psk_master m = master('a'), other = master('b');
    struct credential c[] = {device(7, 1), device(8, 1), device(7, 2), device(7, 1)};
    static char same[32];
    uint8_t keys[6][PSK_BYTES];
    memset(same, 1, sizeof same);
    c[3].verifier_kind = VERIFIER_CRYPT;
    c[3].verifier = slice_of(same, sizeof same);
    for (unsigned i = 0; i < 4; i++)
        psk_of_device(&m, &c[i], keys[i]);
    psk_of_device(&other, &c[0], keys[4]);
    psk_of_nobody(&m, slice_of(same, sizeof same), keys[5]);
    for (unsigned i = 0; i < 6; i++) {
        for (unsigned k = 0; k < i; k++)
            assert_memory_not_equal(keys[i], keys[k], PSK_BYTES);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(needs_enough_bytes),
        cmocka_unit_test(is_what_it_was),
        cmocka_unit_test(are_all_different),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
