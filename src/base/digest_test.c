/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/digest.h"

/* RFC 4231, test cases 1 and 2; in turn, so that neither is answered with the other's key, and
 * again with the key that is kept. */
static void hmacs(void **state)
{
    static const uint8_t one[DIGEST_BYTES] = {0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53,
                                              0x5c, 0xa8, 0xaf, 0xce, 0xaf, 0x0b, 0xf1, 0x2b,
                                              0x88, 0x1d, 0xc2, 0x00, 0xc9, 0x83, 0x3d, 0xa7,
                                              0x26, 0xe9, 0x37, 0x6c, 0x2e, 0x32, 0xcf, 0xf7};
    static const uint8_t two[DIGEST_BYTES] = {0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e,
                                              0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7,
                                              0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83,
                                              0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43};
    uint8_t key[20], got[DIGEST_BYTES];
    memset(key, 0x0b, sizeof key);
    for (unsigned i = 0; i < 8; i++) {
        bool first = i & 2;
        if (first) {
            hmac_begin(key, sizeof key);
            hmac_put(SLICE("Hi There"));
        } else {
            hmac_begin((const uint8_t *)"Jefe", 4);
            hmac_put(SLICE("what do ya want "));
            hmac_put(SLICE("for nothing?"));
        }
        hmac_end(got);
        assert_memory_equal(got, first ? one : two, sizeof got);
    }
}

/* FIPS 180-2, appendix B.1, whole and in parts. */
static void sha256(void **state)
{
    static const uint8_t abc[DIGEST_BYTES] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea,
                                              0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
                                              0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c,
                                              0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
    const struct slice whole = SLICE("abc"), parts[] = {SLICE("a"), SLICE(""), SLICE("bc")};
    uint8_t got[DIGEST_BYTES];
    sha256_of(&whole, 1, got);
    assert_memory_equal(got, abc, sizeof got);
    sha256_of(parts, 3, got);
    assert_memory_equal(got, abc, sizeof got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(hmacs), cmocka_unit_test(sha256)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
