/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front/reply_why.h - why a request was refused, as a sentence, for protocols that have no body to
 * put it in. Pure; any thread.
 */
#pragma once

#include "flow/exchange.h"

/* The sentence of the refusal at the end of `out`: the reply's own, or the table's. */
void reply_put_why(struct buf *out, const struct reply *r);
