/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What backups hold of webhooks.json: a file beside it that is written whenever that is, and read
 * when there is none, as behind a restore. The secrets are never in it in plain. With a keyring
 * each webhook is sealed by its account's key, which no backup holds: who has both has all as it
 * was, and an account that was erased has none any more. Without one there is nothing to seal by:
 * then the secrets are left out, and a webhook that was restored waits for a new one.
 */
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "codec/text.h"
#include "sink/hooks_own.h"

#define ABOUT     SLICE("webhook")
#define TEXT_MAX  16384u  /* of one webhook */
#define NUMBERS   1000000 /* that are left out behind a restore: some were given since the backup */
#define NO_SECRET "its secret is in no backup: rotate it, tell the receiver, and resume"

#define U(v) (unsigned long long)(v)

/* ---- writing --------------------------------------------------------------------------------- */

/* Bytes, as text. */
static json_t *text_of(struct slice bytes)
{
    char *text = malloc(bytes.len / 3 * 4 + 5);
    CHECK(text);
    int n =
        EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)bytes.ptr, (int)bytes.len);
    json_t *ret = json_stringn(text, (size_t)n);
    free(text);
    return ret;
}

/* NULL: it cannot be sealed. */
static json_t *sealed(struct hooks *h, uint64_t account, json_t *o)
{
    uint32_t key = keyring_key_of(h->opts.keyring, account);
    char *text = key ? json_dumps(o, JSON_COMPACT) : NULL;
    struct buf out;
    json_t *ret = NULL;
    buf_init(&out, TEXT_MAX);
    if (text && seal_bytes(h->sealer, key, ABOUT, slice_str(text), &out) == SEAL_DONE &&
        !out.failed)
        ret = json_pack("{s:I, s:o}", "key", (json_int_t)key, "sealed", text_of(buf_slice(&out)));
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
    buf_fini(&out);
    return ret;
}

int hooks_save_copy(struct hooks *h)
{
    json_t *list = json_array();
    for (const struct hook *k = h->all; k; k = k->next) {
        json_t *o = hook_to_json(k);
        json_t *kept = h->sealer ? sealed(h, k->account, o) : NULL;
        if (!kept && !h->sealer) {
            json_object_del(o, "secrets");
            kept = json_incref(o);
        }
        if (kept) /* else its account is being erased */
            json_array_append_new(list, kept);
        json_decref(o);
    }
    return hooks_write_json(h, h->copy_path,
                            json_pack("{s:i, s:I, s:o}", "format", 1, "next_id",
                                      (json_int_t)h->next_id, "webhooks", list));
}

/* ---- reading --------------------------------------------------------------------------------- */

/* NULL: nobody can read it any more, or not here. */
static json_t *opened(struct hooks *h, const json_t *o)
{
    const char *text = json_string_value(json_object_get(o, "sealed"));
    uint32_t key = (uint32_t)json_integer_value(json_object_get(o, "key"));
    struct buf bytes, plain;
    json_t *ret = NULL;
    buf_init(&bytes, TEXT_MAX);
    buf_init(&plain, TEXT_MAX);
    if (text && h->sealer && base64_decode(slice_str(text), &bytes) && !bytes.failed &&
        unseal_bytes(h->sealer, key, ABOUT, buf_slice(&bytes), &plain) == SEAL_DONE &&
        !plain.failed)
        ret = json_loadb(plain.ptr, plain.len, 0, NULL);
    if (plain.ptr)
        explicit_bzero(plain.ptr, plain.len);
    buf_fini(&plain);
    buf_fini(&bytes);
    return ret;
}

static struct hook *without_secret(const json_t *o)
{
    char secret[HOOK_SECRET_MAX];
    json_t *whole = json_copy((json_t *)(uintptr_t)o);
    hook_make_secret(secret); /* which nobody is told */
    json_object_set_new(whole, "secrets", json_pack("[s]", secret));
    struct hook *k = hook_from_json(whole);
    if (k)
        snprintf(k->disabled, sizeof k->disabled, "%s", NO_SECRET);
    explicit_bzero(secret, sizeof secret);
    json_decref(whole);
    return k;
}

static struct hook *restored(struct hooks *h, const json_t *o)
{
    if (!json_object_get(o, "sealed"))
        return without_secret(o);
    json_t *plain = opened(h, o);
    struct hook *k = plain ? hook_from_json(plain) : NULL;
    json_decref(plain);
    return k;
}

int hooks_load_copy(struct hooks *h, struct error *err)
{
    json_t *file = NULL;
    unsigned lost = 0;
    int rc = hooks_read_json(h->opts.disk, h->copy_path, &file, err);
    if (rc || !file)
        return rc;
    const json_t *list = json_object_get(file, "webhooks");
    for (size_t i = json_array_size(list); i-- > 0;) {
        struct hook *k = restored(h, json_array_get(list, i));
        if (k)
            hooks_prepend(h, k);
        else
            lost++;
    }
    h->next_id = (uint64_t)json_integer_value(json_object_get(file, "next_id")) + NUMBERS;
    json_decref(file);
    hooks_list_owners(h);
    log_line(lost ? LOG_WARN : LOG_INFO, "hooks.restored", "webhooks=%u unreadable=%u", h->count,
             lost);
    rc = hooks_save(h);
    return rc ? error_set(err, rc, "%s: %s", h->path, strerror(-rc)) : 0;
}
