/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_keyring.h - the keyring as the settings want it. Called on the main thread, and by
 * commands that look at the files; what they read is wiped after use.
 */
#pragma once

#include "catalog/catalog.h"
#include "config.h"
#include "seal/keyring.h"

/* The master key that the settings name. 0: *ret_given says whether they name one; -EINVAL or
 * another negative errno and a sentence. */
int master_key_load(const struct config *config, struct master_key *ret, bool *ret_given,
                    struct error *err);
/* Opens data/keyring; NULL in *ret when nothing is to be sealed. A keyring without a master key is
 * refused: what it sealed could not be read. `only_read`: as keyring_read, and no file is no error.
 */
int server_keyring_open(const struct config *config, struct disk *disk, bool only_read,
                        struct keyring **ret, struct error *err);
/* As keyring_refresh; wrapped by another master key meanwhile, it is opened by the one that the
 * settings name, as that is now. */
int server_keyring_refresh(const struct config *config, struct keyring *k, struct error *err);
/* An account from before there was a keyring gets its key before anybody can send for it; later
 * ones when their first record enters the journal, which is before they are shown to anybody. 0 or
 * a negative errno with a sentence. */
int server_keyring_make(struct keyring *k, struct catalog *c, struct error *err);
