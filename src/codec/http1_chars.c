/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target set is wider than RFC 3986 by "[]^`{|}": URL parsers leave them as they are in queries
 * (the WHATWG query percent-encode set), no two parsers read them differently, and firmware in the
 * field sends them. '\' stays out: some parsers turn it into '/'. ',' is no part of a host here:
 * it would look like a list of hosts to whoever joins fields.
 */
#include "codec/http1_chars.h"

#define T CHAR_TOKEN
#define G CHAR_TARGET
#define V CHAR_VALUE
#define H CHAR_HOST

const uint8_t http1_chars[256] = {
    ['\t'] = V,
    [' '] = V,
    ['!'] = T | G | V | H,
    ['"'] = V,
    ['#'] = T | V,
    ['$' ... '\''] = T | G | V | H,
    ['('] = G | V | H,
    [')'] = G | V | H,
    ['*'] = T | G | V | H,
    ['+'] = T | G | V | H,
    [','] = G | V,
    ['-'] = T | G | V | H,
    ['.'] = T | G | V | H,
    ['/'] = G | V,
    ['0' ... '9'] = T | G | V | H,
    [':'] = G | V,
    [';'] = G | V | H,
    ['<'] = V,
    ['='] = G | V | H,
    ['>'] = V,
    ['?'] = G | V,
    ['@'] = G | V,
    ['A' ... 'Z'] = T | G | V | H,
    ['['] = G | V,
    ['\\'] = V,
    [']'] = G | V,
    ['^'] = T | G | V,
    ['_'] = T | G | V | H,
    ['`'] = T | G | V,
    ['a' ... 'z'] = T | G | V | H,
    ['{'] = G | V,
    ['|'] = T | G | V,
    ['}'] = G | V,
    ['~'] = T | G | V | H,
    [0x80 ... 0xff] = V,
};
