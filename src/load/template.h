/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/template.h - texts with places that are different in every message. A text is expanded once,
 * for its device; the places in it have fixed lengths and are written over for each message. Pure
 * but for the clock; one thread.
 */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/rand.h"

#define TEMPLATE_MARKS_MAX   4 /* further ones stay text */
#define TEMPLATE_SEQ_DIGITS  16
#define TEMPLATE_FEED_DIGITS 6
#define TEMPLATE_DUE_DIGITS  19

enum template_kind {
    TEMPLATE_SEQ,    /* %seq%: 1,000,000,000,000,000 + the message's sequence */
    TEMPLATE_TIME,   /* %time%: milliseconds since 1970, 13 digits */
    TEMPLATE_RANDOM, /* %random%: 10000 to 99999 */
    TEMPLATE_FEED,   /* %feed%: the number of a feed, 6 digits */
    TEMPLATE_DUE,    /* %due%: when it was due, nanoseconds of the monotonic clock, 19 digits */
};

struct template_mark {
    uint32_t at; /* bytes from the beginning of what it is in */
    uint32_t kind;
};

struct template_marks {
    struct template_mark list[TEMPLATE_MARKS_MAX];
    uint32_t count;
};

/* What is different in each message. */
struct template_values {
    uint64_t sequence;
    uint64_t due_ns;
    uint32_t feed;
    struct rand *rand;
};

/* Appends `text` with the device's id for %device%, and with digits for the marks, whose places in
 * `out` are added to `marks`. NULL: marks stay text. */
void template_expand(struct buf *out, struct slice text, struct slice device,
                     struct template_marks *marks);
/* Writes the digits of all marks. */
void template_fill(char *bytes, const struct template_marks *marks,
                   const struct template_values *values);
/* `digits` decimal digits of n. */
void template_digits(char *out, unsigned digits, uint64_t n);
/* The 16 digits of a sequence. */
void template_sequence(char out[TEMPLATE_SEQ_DIGITS], uint64_t sequence);
