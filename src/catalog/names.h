/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog/names.h - what names, keys and texts may look like. Pure; any thread.
 * Feed names and keys follow Adafruit IO (learn.adafruit.com/naming-things-in-adafruit-io).
 */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/slice.h"

/* Letters, digits, '-', '_'; 1 to USERNAME_MAX. Case matters. */
bool name_is_username(struct slice s);
/* A username that would hide a topic or path: "time", "user", "webhooks", in any case. */
bool name_is_reserved(struct slice s);
/* 1 to DEVICE_ID_MAX printable ASCII characters without blank, and without ':', which ends the user
 * of Basic credentials (RFC 7617). */
bool name_is_device_id(struct slice s);
/* UTF-8 without control characters, 1 to DEVICE_ID_MAX bytes: a key's label. */
bool name_is_label(struct slice s);
/* Letters, digits, blank, '-', '_', '.'; at least one letter; 1 to FEED_NAME_MAX. */
bool name_is_feed(struct slice s);
/* UTF-8 without NUL of at most `max` bytes; may be empty. */
bool name_is_text(struct slice s, size_t max);
/* What crypt(3) may have written: printable ASCII without blank or ':', below VERIFIER_MAX. */
bool name_is_verifier(struct slice s);
/* Part of a feed key: a-z, 0-9, '-'; 1 to 128. */
bool name_is_key_part(struct slice s);

/* Takes "feed" or "group.feed" apart; a key without group is in "default", and "default.feed" is
 * the same feed as "feed", which is its `ret_key`. False: no feed key. */
bool name_split_key(struct slice key, struct slice *ret_group, struct slice *ret_feed,
                    struct slice *ret_key);

/* Checks comma-separated patterns (a feed key, '*' at the end matches) and appends them in the form
 * they are stored in, without blanks. False: one of them is none, or there are too many. */
bool name_parse_patterns(struct slice s, struct buf *out);
