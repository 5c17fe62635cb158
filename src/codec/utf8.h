/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/utf8.h - UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing beyond
 * U+10FFFF. Pure functions; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

/* Bytes of the sequence at `p` (1 for ASCII); 0: none that is valid, or cut off by `end`. */
size_t utf8_sequence(const char *p, const char *end);
/* Whether all of it is UTF-8 without NUL: what may become a value. */
bool utf8_text(struct slice s);
/* Writes the code point, 1 to 4 bytes. */
size_t utf8_put(char out[4], uint32_t c);
