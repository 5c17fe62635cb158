/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/webhook_sign.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/digest.h"
#include "base/digits.h"
#include "codec/text.h"

_Static_assert(WEBHOOK_KEY_BYTES_MAX <= DIGEST_KEY_MAX, "a key is used whole");

static int read_secret(struct slice line, unsigned number, struct webhook_secrets *s,
                       struct error *err)
{
    struct slice prefix = SLICE("whsec_");
    struct buf key;
    if (s->count == WEBHOOK_SECRETS_MAX)
        return error_set(err, -EINVAL, "there are more than %u secrets", WEBHOOK_SECRETS_MAX);
    if (!slice_starts(line, prefix))
        return error_set(err, -EINVAL, "line %u does not begin with \"whsec_\"", number);
    buf_init(&key, 4 * WEBHOOK_KEY_BYTES_MAX);
    bool good = base64_decode(slice_from(line, prefix.len), &key) && !key.failed &&
                key.len >= WEBHOOK_KEY_BYTES_MIN && key.len <= WEBHOOK_KEY_BYTES_MAX;
    if (good) {
        memcpy(s->at[s->count].key, key.ptr, key.len);
        s->at[s->count++].len = (uint8_t)key.len;
    }
    if (key.ptr)
        OPENSSL_cleanse(key.ptr, key.cap);
    buf_fini(&key);
    return good ? 0
                : error_set(err, -EINVAL, "line %u is not \"whsec_\" and %u to %u bytes in base64",
                            number, WEBHOOK_KEY_BYTES_MIN, WEBHOOK_KEY_BYTES_MAX);
}

int webhook_secrets_parse(struct slice text, struct webhook_secrets *ret, struct error *err)
{
    struct webhook_secrets s = {.count = 0};
    int rc = 0;
    for (unsigned number = 1; text.len && !rc; number++) {
        const char *end = memchr(text.ptr, '\n', text.len);
        struct slice line = slice_of(text.ptr, end ? (size_t)(end - text.ptr) : text.len);
        text = slice_from(text, line.len + (end != NULL));
        if (line.len && line.ptr[line.len - 1] == '\r')
            line.len--;
        line = slice_trim(line);
        if (line.len && line.ptr[0] != '#')
            rc = read_secret(line, number, &s, err);
    }
    if (!rc && !s.count)
        rc = error_set(err, -EINVAL, "there is no secret in it");
    if (!rc)
        *ret = s;
    webhook_secrets_wipe(&s);
    return rc;
}

void webhook_secrets_wipe(struct webhook_secrets *s)
{
    OPENSSL_cleanse(s, sizeof *s);
}

void webhook_sign(const struct webhook_secrets *s, struct slice id, int64_t time_s,
                  struct slice body, struct buf *out)
{
    char time[DIGITS_MAX + 2] = ".", *end = digits_put(time + 1, (uint64_t)time_s);
    *end++ = '.';
    for (unsigned i = 0; i < s->count; i++) {
        uint8_t mac[DIGEST_BYTES], text[4 * ((DIGEST_BYTES + 2) / 3) + 1];
        hmac_begin(s->at[i].key, s->at[i].len);
        hmac_put(id);
        hmac_put(slice_of(time, (size_t)(end - time)));
        hmac_put(body);
        hmac_end(mac);
        EVP_EncodeBlock(text, mac, sizeof mac);
        buf_put_str(out, i ? " v1," : "v1,");
        buf_put_str(out, (const char *)text);
    }
}
