/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/recording.h - what `sluice capture` wrote: a request a line. Read line by line; one thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

#define RECORDING_FIELDS_MAX 100

struct recorded {
    uint64_t us; /* when it came, of some clock */
    struct slice method, target;
    unsigned fields_count;
    struct slice names[RECORDING_FIELDS_MAX], values[RECORDING_FIELDS_MAX];
    uint64_t body; /* its bytes */
};

/* Calls `each` for every request in order, until it returns something else than 0. What it gets is
 * good until it returns. 0, what `each` returned, or negative errno with a sentence that names file
 * and line; a file without a request is -EINVAL. */
int recording_read(const char *path, int (*each)(void *arg, const struct recorded *r), void *arg,
                   struct error *err);

/* Whether a value was replaced: '*' and nothing else. */
bool recorded_hidden(struct slice value);
/* The path of a target, with '*' for what names an account, a feed, a group or a datum: targets of
 * one kind are equal so. At most `size` bytes; how many. */
size_t recorded_path(struct slice target, char *out, size_t size);
