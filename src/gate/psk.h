/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/psk.h - pre-shared keys of devices (decision 0036). None is stored: each is derived from the
 * operator's key, the device's number, which is never used again, and what is stored of its secret.
 * So a new secret makes a new key, and catalog and backups alone give none away. Any thread.
 */
#pragma once

#include <stdbool.h>

#include "flow/principal.h"

#define PSK_BYTES        32u
#define PSK_MASTER_LEAST 32u

struct psk_master {
    bool given;
    uint8_t bytes[32];
};

/* From the contents of a file, PSK_MASTER_LEAST random bytes or more. False: they are fewer. */
bool psk_master_make(struct slice content, struct psk_master *ret);
/* The device's key. */
void psk_of_device(const struct psk_master *m, const struct credential *device,
                   uint8_t ret[PSK_BYTES]);
/* The key of an identity that is nobody's, which nobody has; it takes as long. */
void psk_of_nobody(const struct psk_master *m, struct slice identity, uint8_t ret[PSK_BYTES]);
