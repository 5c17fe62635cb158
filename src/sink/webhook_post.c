/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/webhook_post.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "codec/text.h"
#include "flow/limits.h"

#define HEADER_BYTES 1024u
#define WAIT_NS      (1000 * NS_PER_MS)

_Static_assert(sizeof((struct post *)NULL)->why <= ATTEMPT_SAID_MAX, "nothing is cut off");

const uint32_t webhook_pauses_s[WEBHOOK_PAUSES] = {
    5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600};

void webhook_post_init(struct webhook_post *p)
{
    buf_init(&p->body, 8 * BATCH_BYTES_MAX);
    buf_init(&p->id, HEADER_BYTES);
    buf_init(&p->time, HEADER_BYTES);
    buf_init(&p->signature, HEADER_BYTES);
}

void webhook_post_fini(struct webhook_post *p)
{
    buf_fini(&p->body);
    buf_fini(&p->id);
    buf_fini(&p->time);
    buf_fini(&p->signature);
}

static const char *text_of(struct buf *header)
{
    buf_put_u8(header, 0);
    CHECK(!header->failed);
    return header->ptr;
}

void webhook_post_sign(struct webhook_post *p, const struct webhook_secrets *secrets,
                       const char *id)
{
    int64_t now_s = clock_wall_us() / US_PER_S;
    buf_clear(&p->id);
    buf_put_str(&p->id, "webhook-id: ");
    buf_put_str(&p->id, id);
    buf_clear(&p->time);
    buf_put_str(&p->time, "webhook-timestamp: ");
    buf_put_dec(&p->time, (uint64_t)now_s);
    buf_clear(&p->signature);
    buf_put_str(&p->signature, "webhook-signature: ");
    webhook_sign(secrets, slice_str(id), now_s, buf_slice(&p->body), &p->signature);
    p->post.headers[0] = text_of(&p->id);
    p->post.headers[1] = text_of(&p->time);
    p->post.headers[2] = text_of(&p->signature);
    p->post.body = buf_slice(&p->body);
}

void webhook_batch_begin(struct buf *body, int64_t us)
{
    buf_put_str(body, "{\"type\":\"batch\",\"timestamp\":\"");
    time_format_us(body, us);
    buf_put_str(body, "\",\"data\":[");
}

void webhook_batch_end(struct buf *body)
{
    buf_put_str(body, "]}");
}

void webhook_batch_id(char id[WEBHOOK_ID_BYTES], unsigned count)
{
    size_t len = strlen(id);
    if (count > 1)
        snprintf(id + len, WEBHOOK_ID_BYTES - len, "-%u", count);
}

enum webhook_fault webhook_fault(const struct post *post)
{
    unsigned s = post->status;
    if (post->end != POST_ANSWERED)
        return post->end == POST_TIMED_OUT ? WEBHOOK_DOUBTFUL : WEBHOOK_FAILED;
    if (s >= 200 && s < 300)
        return WEBHOOK_TAKEN;
    /* It says something about what was sent, not about who is there. */
    if (s == 400 || s == 413 || s == 415 || s == 422)
        return WEBHOOK_REFUSED;
    if (s == 410)
        return WEBHOOK_GONE;
    return s == 408 || (s >= 500 && (s < 502 || s > 504)) ? WEBHOOK_DOUBTFUL : WEBHOOK_FAILED;
}

struct attempt webhook_attempt(const struct post *post)
{
    struct attempt a = {.at_us = clock_wall_us(),
                        .took_ns = post->took_ns,
                        .status = post->end == POST_ANSWERED ? post->status : 0,
                        .taken = webhook_fault(post) == WEBHOOK_TAKEN};
    memcpy(a.said, post->why, sizeof post->why);
    return a;
}

unsigned webhook_width(unsigned events_max, unsigned blame)
{
    unsigned n = blame < 16 ? events_max >> blame : 0;
    return n ? n : 1;
}

void webhook_test(const struct posts_opts *opts, const char *url,
                  const struct webhook_secrets *secrets, struct attempt *ret)
{
    char id[WEBHOOK_ID_BYTES];
    struct webhook_post p = {.post = {.url = url}};
    struct posts *posts = posts_new(opts);
    int64_t now_us = clock_wall_us();
    webhook_post_init(&p);
    buf_put_str(&p.body, "{\"type\":\"webhook.test\",\"timestamp\":\"");
    time_format_us(&p.body, now_us);
    buf_put_str(&p.body, "\",\"data\":{}}");
    snprintf(id, sizeof id, "msg_test_%lld", (long long)now_us);
    webhook_post_sign(&p, secrets, id);
    posts_start(posts, &p.post);
    while (!posts_next(posts))
        posts_wait(posts, WAIT_NS);
    *ret = webhook_attempt(&p.post);
    posts_free(posts);
    webhook_post_fini(&p);
}
