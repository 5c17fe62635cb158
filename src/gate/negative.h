/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/negative.h - a small memory of wrong secrets, by tag. The tag holds the stored hash, so a
 * changed secret is another tag and nothing has to be cleared. A full set forgets what would be
 * forgotten first; good secrets live elsewhere and cannot be pushed out. Owned by the shield; any
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gate/mac.h"

struct negative;

/* Room for about `max` tags. NULL: no memory. */
struct negative *negative_new(unsigned max);
void negative_free(struct negative *n);
void negative_put(struct negative *n, const uint8_t tag[MAC_TAG_BYTES], uint64_t until_ns,
                  uint64_t now_ns);
bool negative_has(struct negative *n, const uint8_t tag[MAC_TAG_BYTES], uint64_t now_ns);
/* Tags remembered at now_ns. Looks through all: for status pages. */
uint64_t negative_count(struct negative *n, uint64_t now_ns);
