/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/ask.h - reads from the server that was loaded: one GET after the other on a connection of
 * its own, waiting for each. Beside the load it would be in its own way, so before and after. One
 * thread.
 */
#pragma once

#include <signal.h>

#include "base/buf.h"
#include "base/error.h"
#include "codec/json.h"
#include "load/response.h"
#include "load/tls_client.h"
#include "load/url.h"

struct ask {
    const struct url *url; /* whose target is not used */
    const char *key;       /* X-AIO-Key */
    uint64_t timeout_ns;   /* of one question, with all its attempts */
    SSL_CTX *tls;          /* NULL: none */
    SSL *ssl;
    int fd;
    struct buf in;
    const volatile sig_atomic_t *stop; /* once that is not 0, a signal ends the waiting; or NULL */
};

/* Opens nothing yet; borrows `url` and `key`. TLS as the options have it. 0, or negative errno with
 * a sentence. */
int ask_init(struct ask *a, const struct load_opts *opts, const struct url *url, const char *key,
             struct error *err);
/* Accepts a zeroed one. */
void ask_fini(struct ask *a);

/*
 * The answer to GET `target`, or to POST of `body` as JSON if that is not empty; it borrows from
 * `a` until the next question. A connection that cannot be opened, a GET whose connection breaks,
 * and the answers 429 and 503 are tried again until the options' time-out: the server may just be
 * starting. 0, or negative errno with a sentence; -EINTR: `stop`.
 */
int ask(struct ask *a, struct slice target, struct slice body, struct response *ret,
        struct error *err);

/* The text of that member of an answer that is a JSON object, at the end of `out`. False: there is
 * none. */
bool ask_text(const struct response *r, struct slice name, struct buf *out);
/* The member of that name. False: there is none, or `v` is no object. */
bool ask_member(struct json v, struct slice name, struct json *ret);
