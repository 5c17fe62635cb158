/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/webhook_sign.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* The secret of the example that Standard Webhooks' own libraries are tested with. */
#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define OTHER  "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static struct webhook_secrets secrets(const char *text)
{
    struct webhook_secrets s;
    struct error err = {""};
    if (webhook_secrets_parse(slice_str(text), &s, &err) < 0)
        fail_msg("%s", err.text);
    return s;
}

static void signs_as_the_specification_says(void **state)
{
    struct webhook_secrets s = secrets(SECRET);
    struct buf out;
    buf_init(&out, 4096);
    webhook_sign(&s, SLICE("msg_p5jXN8AQM9LWM0D4loKWxJek"), 1614265330,
                 SLICE("{\"test\": 2432232314}"), &out);
    buf_put_u8(&out, 0);
    assert_string_equal(out.ptr, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    buf_fini(&out);
}

/* While a secret is replaced both sign, and a receiver that has either is content. */
static void each_secret_signs(void **state)
{
    struct webhook_secrets s = secrets("# new\n" OTHER "\n\n# old\r\n  " SECRET "  \r\n");
    struct buf out;
    buf_init(&out, 4096);
    assert_int_equal(s.count, 2);
    assert_int_equal(s.at[0].len, 32);
    assert_int_equal(s.at[1].len, 24);
    webhook_sign(&s, SLICE("msg_p5jXN8AQM9LWM0D4loKWxJek"), 1614265330,
                 SLICE("{\"test\": 2432232314}"), &out);
    buf_put_u8(&out, 0);
    assert_int_equal(strncmp(out.ptr, "v1,", 3), 0);
    assert_ptr_equal(strchr(out.ptr, ' '), strrchr(out.ptr, ' '));
    assert_string_equal(strchr(out.ptr, ' '), " v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    buf_fini(&out);
    webhook_secrets_wipe(&s);
    assert_int_equal(s.count, 0);
}

static void put_signature(const char *secret, struct buf *out)
{
    struct webhook_secrets s = secrets(secret);
    buf_clear(out);
    webhook_sign(&s, SLICE("msg_p5jXN8AQM9LWM0D4loKWxJek"), 1614265330,
                 SLICE("{\"test\": 2432232314}"), out);
    buf_put_u8(out, 0);
    webhook_secrets_wipe(&s);
}

/* A thread keeps the last secret: that must neither stay too long nor be forgotten too soon. */
static void secrets_take_turns(void **state)
{
    static const char expected[] = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    struct buf out;
    buf_init(&out, 4096);
    for (unsigned i = 0; i < 3; i++) {
        put_signature(SECRET, &out);
        assert_string_equal(out.ptr, expected);
    }
    put_signature(OTHER, &out);
    assert_string_not_equal(out.ptr, expected);
    put_signature(SECRET, &out);
    assert_string_equal(out.ptr, expected);
    buf_fini(&out);
}

static void refuses_what_is_no_secret(void **state)
{
    static const char *const bad[] = {
        "",
        "\n# only a comment\n",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLSw=", /* 23 bytes */
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS*",
        "whsec_MfKQ9r8GKYqrTwjUPD8I LPZIo2LaLaSw",
        "whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        /* 66 bytes */
        "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        "AAAA",
        SECRET "\n" SECRET "\n" SECRET "\n" SECRET "\n" SECRET,
        SECRET "\nx",
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct webhook_secrets s = {.count = 77};
        struct error err = {""};
        if (webhook_secrets_parse(slice_str(bad[i]), &s, &err) == 0)
            fail_msg("taken: %s", bad[i]);
        assert_int_equal(s.count, 77);
        assert_null(strstr(err.text, "MfKQ"));
        assert_true(err.text[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs_as_the_specification_says),
        cmocka_unit_test(each_secret_signs),
        cmocka_unit_test(secrets_take_turns),
        cmocka_unit_test(refuses_what_is_no_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
