/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/rule_when.h - what a rule waits for, as people write it. Pure functions; any thread.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "flow/rule.h"

#define RULE_WHEN_FORMS                                                                            \
    "\"above 30\", \"above 30 clear 28\", \"below 5\", \"below 5 clear 6\", \"change\", "          \
    "\"change 0.5\" or \"silence 10m\""

/* One of RULE_WHEN_FORMS: sets `when`, `limit`, `clear` (= limit if it is not said) and
 * `silence_ms` of *ret. 0, or -EINVAL with a sentence. */
int rule_when_parse(struct slice text, struct rule *ret, struct error *err);
/* Appends the text, which reads back as the same. */
void rule_when_format(struct buf *out, const struct rule *r);
