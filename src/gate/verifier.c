/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/verifier.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/digest.h"
#include "base/rand.h"
#include "gate/mac.h"
#include "gate/shield.h"

#define BCRYPT_LEN          60
#define YESCRYPT_COST_MAX   8  /* of crypt_gensalt: 128 MiB and a second */
#define YESCRYPT_LOG2_MAX   20 /* of N * r, the same */
#define YESCRYPT_SALT_CHARS 22

static const char digits64[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* crypt(3)'s own base 64; -1: none of its digits. */
static int digit64(char c)
{
    const char *at = c ? strchr(digits64, c) : NULL;
    return at ? (int)(at - digits64) : -1;
}

static bool all_digits64(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (digit64(s.ptr[i]) < 0)
            return false;
    }
    return s.len > 0;
}

static struct verifier_cost bcrypt_cost(struct slice s)
{
    struct verifier_cost c = {.class = VERIFIER_BAD};
    if (s.len != BCRYPT_LEN || !memchr("aby", s.ptr[2], 3) || s.ptr[3] != '$' || s.ptr[6] != '$')
        return c;
    if (s.ptr[4] < '0' || s.ptr[4] > '9' || s.ptr[5] < '0' || s.ptr[5] > '9')
        return c;
    if (!all_digits64(slice_from(s, 7)))
        return c;
    c.class = VERIFIER_BCRYPT;
    c.cost = (unsigned)((s.ptr[4] - '0') * 10 + s.ptr[5] - '0');
    return c;
}

/* "$y$j9T$salt$hash": flavour j, N = 2^(1 + digit), r = 1 + digit (libxcrypt's alg-yescrypt).
 * Longer parameter lists are legal and nobody's default; they are refused. */
static struct verifier_cost yescrypt_cost(struct slice s)
{
    struct verifier_cost c = {.class = VERIFIER_BAD};
    if (s.len < 9 || s.len >= VERIFIER_MAX || s.ptr[3] != 'j' || s.ptr[6] != '$')
        return c;
    int log2_n = digit64(s.ptr[4]) + 1, r = digit64(s.ptr[5]) + 1;
    struct slice salt = slice_from(s, 7);
    const char *end = memchr(salt.ptr, '$', salt.len);
    if (log2_n < 1 || r < 1 || !end)
        return c;
    struct slice hash = slice_from(salt, (size_t)(end - salt.ptr) + 1);
    salt.len = (size_t)(end - salt.ptr);
    if (!all_digits64(salt) || hash.len != 43 || !all_digits64(hash))
        return c;
    c.class = VERIFIER_YESCRYPT;
    c.cost = (unsigned)log2_n;
    while (r > 1) {
        c.cost++;
        r /= 2;
    }
    memcpy(c.params, s.ptr + 3, 3);
    return c;
}

struct verifier_cost verifier_cost(struct slice stored)
{
    if (slice_starts(stored, SLICE("$2")))
        return bcrypt_cost(stored);
    if (slice_starts(stored, SLICE("$y$")))
        return yescrypt_cost(stored);
    return (struct verifier_cost){.class = VERIFIER_BAD};
}

bool verifier_cost_eq(struct verifier_cost a, struct verifier_cost b)
{
    return a.class == b.class && a.cost == b.cost && memcmp(a.params, b.params, 3) == 0;
}

uint64_t verifier_estimate_ns(struct verifier_cost c)
{
    return c.class == VERIFIER_BCRYPT     ? (uint64_t)45000 << c.cost
           : c.class == VERIFIER_YESCRYPT ? (uint64_t)115 << c.cost
                                          : 0;
}

void verifier_setting(struct verifier_cost c, char ret[VERIFIER_MAX])
{
    uint8_t random[YESCRYPT_SALT_CHARS];
    char salt[YESCRYPT_SALT_CHARS + 1] = {0};
    rand_secret(random, sizeof random);
    for (unsigned i = 0; i < YESCRYPT_SALT_CHARS; i++)
        salt[i] = digits64[random[i] % 64];
    salt[YESCRYPT_SALT_CHARS - 1] = '.'; /* both algorithms leave bits of the last digit unused */
    if (c.class == VERIFIER_BCRYPT)
        snprintf(ret, VERIFIER_MAX, "$2b$%02u$%s", c.cost, salt);
    else
        snprintf(ret, VERIFIER_MAX, "$y$%s$%s$", c.params, salt);
}

bool verifier_can_check(struct verifier_cost c, struct slice secret)
{
    size_t max = c.class == VERIFIER_BCRYPT ? BCRYPT_SECRET_MAX : SECRET_MAX;
    return secret.len > 0 && secret.len <= max && !memchr(secret.ptr, 0, secret.len);
}

bool verifier_check(const char *secret, const char *stored, struct crypt_data *scratch)
{
    const char *made = crypt_rn(secret, stored, scratch, sizeof *scratch);
    size_t len = strlen(stored);
    bool right = made && strlen(made) == len && CRYPTO_memcmp(made, stored, len) == 0;
    explicit_bzero(scratch, sizeof *scratch);
    return right;
}

/* ---- what gate/shield.h exports ------------------------------------------------------------- */

void shield_fast_digest(struct slice secret, uint8_t ret[32])
{
    static const char domain[] = "sluice-fast-v1"; /* its NUL is part of it */
    const struct slice fields[] = {slice_of(domain, sizeof domain), secret};
    sha256_of(fields, 2, ret);
}

int shield_crypt_new(struct slice secret, const char *prefix, unsigned cost, char ret[VERIFIER_MAX])
{
    bool bcrypt = strcmp(prefix, "$2b$") == 0;
    if (!bcrypt && strcmp(prefix, "$y$") != 0)
        return -EINVAL;
    if (bcrypt ? cost < BCRYPT_COST_MIN || cost > BCRYPT_COST_MAX
               : cost < 1 || cost > YESCRYPT_COST_MAX)
        return -EINVAL;
    struct verifier_cost class = {.class = bcrypt ? VERIFIER_BCRYPT : VERIFIER_YESCRYPT};
    if (!verifier_can_check(class, secret))
        return -EINVAL;
    char random[16], setting[CRYPT_GENSALT_OUTPUT_SIZE], text[SECRET_MAX + 1] = {0};
    rand_secret(random, sizeof random);
    if (!crypt_gensalt_rn(prefix, cost, random, sizeof random, setting, sizeof setting))
        return -EINVAL;
    struct crypt_data *scratch = calloc(1, sizeof *scratch);
    if (!scratch)
        return -ENOMEM;
    memcpy(text, secret.ptr, secret.len);
    const char *made = crypt_rn(text, setting, scratch, sizeof *scratch);
    int rc = made && strlen(made) < VERIFIER_MAX ? 0 : -EINVAL;
    if (rc == 0)
        memcpy(ret, made, strlen(made) + 1);
    explicit_bzero(text, sizeof text);
    explicit_bzero(scratch, sizeof *scratch);
    free(scratch);
    return rc;
}

const char *shield_verifier_problem(struct slice stored)
{
    struct verifier_cost c = verifier_cost(stored);
    if (slice_starts(stored, SLICE("$2x$")))
        return "$2x$ marks hashes of a broken bcrypt; set a new secret";
    if (c.class == VERIFIER_BAD)
        return "not a well-formed bcrypt ($2a$, $2b$, $2y$) or yescrypt ($y$j..$) hash";
    if (c.class == VERIFIER_BCRYPT && (c.cost < BCRYPT_COST_MIN || c.cost > BCRYPT_COST_MAX))
        return "the bcrypt cost must be 4 to 16";
    if (c.class == VERIFIER_YESCRYPT && c.cost > YESCRYPT_LOG2_MAX)
        return "the yescrypt cost is over 128 MiB of memory";
    return NULL;
}

static bool all_in(struct slice s, bool hex)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool digit = c >= '0' && c <= '9';
        char end_lower = hex ? 'f' : 'z', end_upper = hex ? 'F' : 'Z';
        if (!digit && !(c >= 'a' && c <= end_lower) && !(c >= 'A' && c <= end_upper))
            return false;
    }
    return true;
}

bool shield_secret_is_strong(struct slice secret)
{
    if (slice_starts(secret, SLICE("slu_")))
        return secret.len == 4 + 32 && all_in(slice_from(secret, 4), false);
    if (slice_starts(secret, SLICE("aio_")))
        return secret.len == 4 + 28 && all_in(slice_from(secret, 4), false);
    return secret.len == 32 && all_in(secret, true);
}
