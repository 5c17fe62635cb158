/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/webhook_post.h - one POST of a webhook, as Standard Webhooks 1.0.0 has it: its headers, and
 * what its end means. Owned by whoever makes it; its thread's.
 */
#pragma once

#include "sink/attempts.h"
#include "sink/posts.h"
#include "sink/webhook_event.h"
#include "sink/webhook_sign.h"

#define WEBHOOK_BODY_BYTES (256u << 10) /* of a batch: enough; one message may have more */

struct webhook_post {
    struct post post;
    struct buf body, id, time, signature; /* the last three: texts of headers */
};

void webhook_post_init(struct webhook_post *p);
void webhook_post_fini(struct webhook_post *p);
/* Gives it headers for its body, signed as of now. */
void webhook_post_sign(struct webhook_post *p, const struct webhook_secrets *secrets,
                       const char *id);

/* Begins and ends the body of a batch; events with an "id" before each go between, with commas. */
void webhook_batch_begin(struct buf *body, int64_t us);
void webhook_batch_end(struct buf *body);
/* The batch's id, of its first event's: the same batch again is the same event, one that begins
 * alike and has another length is not. */
void webhook_batch_id(char id[WEBHOOK_ID_BYTES], unsigned count);

/* Whose fault it is that a POST came to nothing. */
enum webhook_fault {
    WEBHOOK_TAKEN = 1, /* it came to something */
    WEBHOOK_REFUSED,   /* the message's, for what it is */
    WEBHOOK_DOUBTFUL,  /* the endpoint's, or the message's */
    WEBHOOK_FAILED,    /* the endpoint's */
    WEBHOOK_GONE,      /* the endpoint wants no more */
};
enum webhook_fault webhook_fault(const struct post *post);
struct attempt webhook_attempt(const struct post *post);

/* Blame that a message collects by doubtful ends, until it is taken for the reason. */
#define WEBHOOK_BLAME_ALONE  1u
#define WEBHOOK_BLAME_OTHERS 3u /* others got through meanwhile */
#define WEBHOOK_BLAME_MAX    9u
/* How many messages may be in a request whose first one has that blame. */
unsigned webhook_width(unsigned events_max, unsigned blame);

/* The pauses of Standard Webhooks' example of a schedule, behind the first attempt. */
#define WEBHOOK_PAUSES 9
extern const uint32_t webhook_pauses_s[WEBHOOK_PAUSES];

/* POSTs an event of the type webhook.test, with a connection of its own. */
void webhook_test(const struct posts_opts *opts, const char *url,
                  const struct webhook_secrets *secrets, struct attempt *ret);
