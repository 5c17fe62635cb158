/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/http1.h - HTTP/1.1 requests from bytes (RFC 9112), strictly: whatever the RFC calls
 * ambiguous, or two parsers could read differently, is refused. Pure functions; no allocation; all
 * slices borrow from the input.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define HTTP1_HEADERS_MAX 100

enum http1_method {
    HTTP1_GET,
    HTTP1_HEAD,
    HTTP1_POST,
    HTTP1_PUT,
    HTTP1_PATCH,
    HTTP1_DELETE,
    HTTP1_OPTIONS,
    HTTP1_OTHER, /* a valid token we serve nowhere */
};

struct http1_field {
    struct slice name, value; /* value without blanks around it */
};

struct http1_limits {
    size_t head_bytes; /* request line and fields together */
    size_t target_bytes;
    unsigned fields;     /* at most HTTP1_HEADERS_MAX */
    uint64_t body_bytes; /* a larger Content-Length gives status 413 */
};

struct http1_request {
    enum http1_method method;
    struct slice method_text;
    struct slice path;  /* of the target, still percent-encoded; absolute-form is reduced to it */
    struct slice query; /* without '?', empty if none */
    uint8_t minor;      /* HTTP/1.minor */
    unsigned fields_count;
    struct http1_field fields[HTTP1_HEADERS_MAX];
    bool has_body; /* a Content-Length above 0, or chunked */
    bool chunked;
    uint64_t content_length;
    bool keep_alive; /* what the version and Connection say together */
    bool expect_continue;
    size_t head_len; /* bytes of the head, with its last CRLF */
    /* Fields found on the way, empty if absent: */
    struct slice host, content_type, content_encoding, authorization;
};

enum http1_outcome { HTTP1_MORE, HTTP1_DONE, HTTP1_BAD };

/*
 * Parses one request head at the start of `in`. HTTP1_MORE: not complete; *scanned (0 at first)
 * remembers how far was looked, so that growing input is not searched again. HTTP1_BAD: *ret_status
 * is the status to answer before closing (400, 413, 414, 417, 431, 501, 505) and *ret_why a
 * constant sentence; it is also said as early as possible, before the head is complete, when the
 * bytes so far can no longer become a request or exceed a limit. The verdict is the same however
 * the input was cut. *ret is filled only by HTTP1_DONE (and scribbled upon otherwise); then
 * *scanned is 0 again. A path that the target left out is "/", a constant.
 */
enum http1_outcome http1_parse(struct slice in, const struct http1_limits *limits, size_t *scanned,
                               struct http1_request *ret, unsigned *ret_status,
                               const char **ret_why);

/* The value of the first field of that name, or an empty slice with ptr NULL. */
struct slice http1_field(const struct http1_request *r, struct slice name);

/* ---- chunked transfer coding (RFC 9112 section 7.1) ---- */
/* All zero before the first byte of a body. */
struct http1_chunked {
    uint8_t state;
    uint64_t left;    /* bytes of the chunk in hand */
    uint64_t total;   /* bytes of body so far */
    uint32_t line;    /* bytes of the size line or trailers so far */
    uint16_t names;   /* forbidden trailer names that the name in hand may still become */
    uint8_t name_len; /* bytes of that name */
};

/*
 * Decodes in place: body bytes of `in` are moved to its front. *ret_used: bytes of input consumed;
 * *ret_body: body bytes now at the front. MORE: all of `in` was used up. DONE: the last chunk and
 * its trailers were read (trailer fields are checked and dropped). BAD as above (400, 413, 431).
 */
enum http1_outcome http1_dechunk(struct http1_chunked *c, char *in, size_t len,
                                 uint64_t body_bytes_max, size_t *ret_used, size_t *ret_body,
                                 unsigned *ret_status, const char **ret_why);
