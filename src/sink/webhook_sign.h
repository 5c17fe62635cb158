/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/webhook_sign.h - secrets and signatures of Standard Webhooks 1.0.0 (github.com/
 * standard-webhooks/standard-webhooks, spec/standard-webhooks.md): v1, HMAC-SHA256. Plain values
 * of the caller, who wipes them; any thread, which keeps the secret that it signed with last until
 * it ends.
 */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/slice.h"

#define WEBHOOK_SECRETS_MAX   4u /* that sign at a time: the old one and the new one, mostly */
#define WEBHOOK_KEY_BYTES_MIN 24u
#define WEBHOOK_KEY_BYTES_MAX 64u

struct webhook_secrets {
    struct {
        uint8_t key[WEBHOOK_KEY_BYTES_MAX];
        uint8_t len;
    } at[WEBHOOK_SECRETS_MAX];
    unsigned count;
};

/* Reads secrets, "whsec_" and base64, one a line; empty lines and those that begin with '#' are
 * passed over. 0; -EINVAL with a sentence that has nothing of a secret in it. */
int webhook_secrets_parse(struct slice text, struct webhook_secrets *ret, struct error *err);
void webhook_secrets_wipe(struct webhook_secrets *s);

/* Appends the value of webhook-signature: one "v1,..." for each secret, blanks between. Neither
 * `id` nor the time has a full stop in it. */
void webhook_sign(const struct webhook_secrets *s, struct slice id, int64_t time_s,
                  struct slice body, struct buf *out);
