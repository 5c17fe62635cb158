/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/ask.h - reads from the server that was loaded: one GET after the other on a connection of
 * its own, waiting for each. Beside the load it would be in its own way, so before and after. One
 * thread.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "load/response.h"
#include "load/url.h"

struct ask {
    const struct url *url; /* whose target is not used */
    const char *key;       /* X-AIO-Key */
    uint64_t timeout_ns;   /* of one question, with all its attempts */
    int fd;
    struct buf in;
};

/* Opens nothing yet; borrows both. */
void ask_init(struct ask *a, const struct url *url, const char *key, uint64_t timeout_ns);
/* Accepts a zeroed one. */
void ask_fini(struct ask *a);

/*
 * The answer to GET `target`; it borrows from `a` until the next question. A connection that cannot
 * be opened or breaks, and the answers 429 and 503, are tried again until the time-out: the server
 * may just be starting. 0, or negative errno with a sentence.
 */
int ask_get(struct ask *a, struct slice target, struct response *ret, struct error *err);
