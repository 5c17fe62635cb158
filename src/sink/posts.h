/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/posts.h - HTTP POSTs to places that somebody else named, many at a time on one thread
 * (libcurl's multi interface). What such a place may do to us has an end: no answer is waited for
 * longer than a time, read further than a few kilobytes, or followed elsewhere; no address of a
 * special purpose (address_is_special) is connected to, whatever a name resolves to at that moment,
 * unless the operator allows its network; no proxy, cookie or password of the environment is used.
 *
 * Owned by a sink; its thread's, but posts_wake.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/slice.h"
#include "codec/address.h"

#define POST_HEADERS_MAX 4
#define POST_ANSWER_KEPT 160u          /* bytes of an answer that are shown */
#define POST_ANSWER_MAX  (64u << 10)   /* of its body, and of its head, that are read */
#define POST_RETRY_MAX_S (24 * 3600ll) /* for longer than a day nobody is left alone */

struct posts;
struct post_handle;

struct posts_opts {
    unsigned at_once; /* POSTs under way */
    uint64_t timeout_ns;
    const struct cidr *allowed; /* networks that may be connected to though they are special */
    unsigned allowed_count;
    const char *ca_file; /* certificates that are trusted; empty: the machine's */
    /* Tests only: resolves as curl's CURLOPT_RESOLVE does, "name:port:address". NULL: nothing. */
    const char *resolve;
};

enum post_end {
    POST_ANSWERED = 1,
    POST_TIMED_OUT, /* it was connected to, and did not answer in time */
    POST_FAILED,    /* it was not connected to, or the connection broke */
    POST_FORBIDDEN, /* its address is not allowed */
};

struct post {
    /* The caller's, until it is over: */
    const char *url;
    const char *headers[POST_HEADERS_MAX]; /* "name: value"; NULL: none */
    struct slice body;                     /* JSON */
    void *owner;
    /* Set when it is over: */
    enum post_end end;
    unsigned status;         /* ANSWERED */
    uint64_t retry_after_ns; /* what the answer asks for; 0: nothing */
    uint64_t took_ns;
    char why[POST_ANSWER_KEPT + 96]; /* for people: what the answer begins with, or what failed */
    /* posts.c's: */
    struct posts *posts;
    struct post_handle *handle;
    size_t head_bytes, body_bytes;
    char answer[POST_ANSWER_KEPT + 1];
    bool forbidden; /* an address of it is */
    bool tried;     /* another one is not */
    bool connected, too_long;
    uint64_t begun_ns;
};

/* Whether an URL may be posted to at all: http or https, a host, no user, no fragment. 0, or
 * -EINVAL with a sentence. */
int post_check_url(const char *url, struct error *err);

struct posts *posts_new(const struct posts_opts *opts);
/* Gives up what is under way. Accepts NULL. */
void posts_free(struct posts *p);
/* How many more may be started. */
unsigned posts_room(const struct posts *p);
/* There must be room. It ends in posts_next, however it goes. */
void posts_start(struct posts *p, struct post *post);
/* Lets those under way go on. One that is over, or NULL: none is. */
struct post *posts_next(struct posts *p);
/* Sleeps until something can go on, posts_wake is called, or `ns` passed. */
void posts_wait(struct posts *p, uint64_t ns);
/* Any thread. */
void posts_wake(struct posts *p);
/* Nothing is known of it any more, also not whether it arrived. */
void posts_abandon(struct posts *p, struct post *post);
