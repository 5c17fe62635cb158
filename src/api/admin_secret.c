/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New and imported secrets. A generated one has 32 (28) characters of 62, over 128 random bits, so
 * a plain digest protects it; what people chose gets bcrypt (gate/shield.h).
 */
#include "api/admin_ops.h"

#include <stdio.h>

#include "base/rand.h"
#include "gate/shield.h"

#define DEVICE_SECRET_RANDOM 32
#define KEY_RANDOM           28

/* Writes `prefix` and `n` characters of A-Z a-z 0-9, each as likely as the other: bytes beyond the
 * last whole multiple of 62 are thrown away. */
static void generate(struct admin_secret *s, const char *prefix, size_t n)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    const uint8_t whole = 256 / 62 * 62;
    size_t at = (size_t)snprintf(s->text, sizeof s->text, "%s", prefix);
    for (size_t end = at + n; at < end;) {
        uint8_t byte;
        rand_secret(&byte, 1);
        if (byte < whole)
            s->text[at++] = alphabet[byte % 62];
    }
    s->text[at] = 0;
    s->generated = true;
}

static void digest(struct admin_secret *s, struct slice secret)
{
    shield_fast_digest(secret, s->digest);
    s->has_digest = true;
}

void admin_secret_new_key(struct admin_secret *ret)
{
    *ret = (struct admin_secret){0};
    generate(ret, "aio_", KEY_RANDOM);
    digest(ret, slice_str(ret->text));
}

enum reason admin_secret_of_key(struct admin_call *call, struct admin_secret *ret)
{
    struct slice given = admin_arg(call, "key");
    *ret = (struct admin_secret){0};
    if (given.len && !shield_secret_is_strong(given))
        return admin_refuse(call, REASON_bad_request,
                            "that is no key: it must be \"aio_\" and 28 letters or digits, or 32 "
                            "hexadecimal digits, chosen at random");
    if (given.len)
        digest(ret, given);
    else
        admin_secret_new_key(ret);
    return REASON_ok;
}

static enum reason import_hash(struct admin_call *call, struct slice hash, struct admin_secret *ret)
{
    const char *problem =
        hash.len >= sizeof ret->verifier ? "it is too long" : shield_verifier_problem(hash);
    if (problem)
        return admin_refuse(call, REASON_bad_request, "that hash cannot be used: %s", problem);
    memcpy(ret->verifier, hash.ptr, hash.len);
    return REASON_ok;
}

enum reason admin_secret_of_device(struct admin *a, struct admin_call *call,
                                   struct admin_secret *ret)
{
    struct slice secret = admin_arg(call, "secret"), hash = admin_arg(call, "hash");
    *ret = (struct admin_secret){0};
    if (hash.len && (secret.len || admin_switch(call, "bcrypt")))
        return admin_refuse(call, REASON_bad_request,
                            "give either a hash or a secret: a hash is stored as it is");
    if (hash.len)
        return import_hash(call, hash, ret);
    if (secret.len > SECRET_MAX)
        return admin_refuse(call, REASON_bad_request, "a secret has at most %d bytes", SECRET_MAX);
    if (!secret.len) {
        generate(ret, "slu_", DEVICE_SECRET_RANDOM);
        secret = slice_str(ret->text);
    }
    if (!admin_switch(call, "bcrypt") && shield_secret_is_strong(secret)) {
        digest(ret, secret);
        return REASON_ok;
    }
    if (shield_crypt_new(secret, "$2b$", admin_opts(a)->bcrypt_cost, ret->verifier))
        return admin_refuse(call, REASON_bad_request,
                            "bcrypt takes secrets of at most %d bytes without NUL",
                            BCRYPT_SECRET_MAX);
    return REASON_ok;
}

void admin_secret_wipe(struct admin_secret *s)
{
    explicit_bzero(s, sizeof *s);
}
