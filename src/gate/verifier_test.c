/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/verifier.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gate/shield.h"

static void verifiers_are_judged(void **state)
{
    static const char *const good[] = {
        "$2b$10$abcdefghijklmnopqrstuuhP6Bh1WbE1SkpZ7ffUMk1kVVBDRaxBq",
        "$2a$04$abcdefghijklmnopqrstuuhP6Bh1WbE1SkpZ7ffUMk1kVVBDRaxBq",
        "$2y$16$abcdefghijklmnopqrstuuhP6Bh1WbE1SkpZ7ffUMk1kVVBDRaxBq",
    };
    static const char *const bad[] = {
        "",
        "$2b$",
        "secret",
        "$2b$10$",
        "$2x$10$abcdefghijklmnopqrstuuhP6Bh1WbE1SkpZ7ffUMk1kVVBDRaxBq",
        "$2b$17$abcdefghijklmnopqrstuuhP6Bh1WbE1SkpZ7ffUMk1kVVBDRaxBq",
        "$2b$31$abcdefghijklmnopqrstuuhP6Bh1WbE1SkpZ7ffUMk1kVVBDRaxBq",
        "$2b$03$abcdefghijklmnopqrstuuhP6Bh1WbE1SkpZ7ffUMk1kVVBDRaxBq",
        "$2b$1x$abcdefghijklmnopqrstuuhP6Bh1WbE1SkpZ7ffUMk1kVVBDRaxBq",
        "$2b$10$abcdefghijklmnopqrstuuhP6Bh1WbE1SkpZ7ffUMk1kVVBDRaxB",
        "$2b$10$abcdefghijklmnopqrstuuhP6Bh1WbE1SkpZ7ffUMk1kVVBDRax!q",
        "$y$",
        "$y$j9T$",
        "$y$j9T$abc$def",
        "$y$jzz$abcdefgh$abc",
        "$6$abc$def",
        "$y$j9T$abcdefgh",
    };
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++)
        assert_null(shield_verifier_problem(slice_str(good[i])));
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_non_null(shield_verifier_problem(slice_str(bad[i])));
    char made[VERIFIER_MAX];
    assert_int_equal(shield_crypt_new(SLICE("x"), "$y$", 1, made), 0);
    assert_null(shield_verifier_problem(slice_str(made)));
    assert_int_equal(shield_crypt_new(SLICE("x"), "$y$", 8, made), 0);
    assert_null(shield_verifier_problem(slice_str(made)));
    assert_int_equal(shield_crypt_new(SLICE("x"), "$y$", 9, made), -EINVAL);
    assert_int_equal(shield_crypt_new(SLICE("x"), "$2b$", 17, made), -EINVAL);
    assert_int_equal(shield_crypt_new(SLICE("x"), "$6$", 5, made), -EINVAL);
    assert_int_equal(shield_crypt_new(SLICE(""), "$2b$", 4, made), -EINVAL);
    assert_int_equal(shield_crypt_new(SLICE("a\0b"), "$2b$", 4, made), -EINVAL);
    char text[73];
    memset(text, 'a', sizeof text);
    assert_int_equal(shield_crypt_new(slice_of(text, 72), "$2b$", 4, made), 0);
    assert_int_equal(shield_crypt_new(slice_of(text, 73), "$2b$", 4, made), -EINVAL);
    assert_int_equal(shield_crypt_new(slice_of(text, 73), "$y$", 1, made), 0);
}

static void strong_secrets(void **state)
{
    assert_true(shield_secret_is_strong(SLICE("slu_0123456789abcdefghijABCDEFGHIJxy")));
    assert_true(shield_secret_is_strong(SLICE("aio_0123456789abcdefghijABCDEFGH")));
    assert_true(shield_secret_is_strong(SLICE("0123456789abcdef0123456789ABCDEF")));
    assert_false(shield_secret_is_strong(SLICE("0123456789abcdef0123456789ABCDEG")));
    assert_false(shield_secret_is_strong(SLICE("aio_0123456789abcdefghijABCDEFG")));
    assert_false(shield_secret_is_strong(SLICE("slu_0123456789abcdefghijABCDEFGHIJx!")));
    assert_false(shield_secret_is_strong(SLICE("correct horse battery staple")));
    assert_false(shield_secret_is_strong(SLICE("")));
    uint8_t a[32], b[32];
    static const uint8_t expect[4] = {0xf8, 0xa7, 0xf2, 0x15}; /* by hashlib */
    shield_fast_digest(SLICE("secret"), a);
    shield_fast_digest(SLICE("secret"), b);
    assert_memory_equal(a, b, 32);
    assert_memory_equal(a, expect, 4);
    shield_fast_digest(SLICE("secres"), b);
    assert_memory_not_equal(a, b, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verifiers_are_judged),
        cmocka_unit_test(strong_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
