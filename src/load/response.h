/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/response.h - where an HTTP/1.1 response ends (RFC 9112 section 6.3), and its status. As
 * little as a load generator needs. Pure; slices borrow from the input.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

/* A response larger than this is refused: a load test wants many small ones. */
#define RESPONSE_BYTES_MAX (16u << 20)

struct response {
    unsigned status;   /* of the final response; interim ones (1xx) before it are skipped */
    bool close;        /* the server will close the connection */
    uint64_t retry_s;  /* Retry-After in seconds; 0: none, or a date */
    struct slice head; /* status line and fields */
    struct slice body; /* as on the wire: a chunked one still has its chunk lines */
    size_t len;        /* bytes of all, interim responses too */
};

enum response_outcome {
    RESPONSE_MORE, /* not complete yet */
    RESPONSE_DONE, /* `ret` is filled in */
    RESPONSE_BAD,  /* not HTTP/1.x, too large, or a body that only the connection's end would end */
};

/* Parses the response at the start of `in`, from scratch at each call. `to_head`: it answers HEAD,
 * so it has no body. */
enum response_outcome response_parse(struct slice in, bool to_head, struct response *ret);
/* The value of the first field of that name; empty if there is none. */
struct slice response_field(const struct response *r, struct slice name);
