/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/http1_chars.h - which bytes may stand where in an HTTP/1.1 message. Private to the http1
 * files; constant, any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    CHAR_TOKEN = 1,  /* RFC 9110 section 5.6.2: method, field name */
    CHAR_TARGET = 2, /* request target: visible ASCII without '"', '#', '<', '>', '\' */
    CHAR_VALUE = 4,  /* field value: visible, blank, tab, obs-text; no control byte */
    CHAR_HOST = 8,   /* reg-name of RFC 3986 section 3.2.2, without ',' */
};

extern const uint8_t http1_chars[256];

static inline bool http1_is(char c, unsigned set)
{
    return (http1_chars[(uint8_t)c] & set) != 0;
}
