/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/webhook_post.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "codec/text.h"
#include "flow/limits.h"

#define SIGNATURE_BYTES 1024u
#define WAIT_NS         (1000 * NS_PER_MS)

const uint32_t webhook_pauses_s[WEBHOOK_PAUSES] = {
    5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600};

void webhook_post_init(struct webhook_post *p)
{
    buf_init(&p->body, 8 * BATCH_BYTES_MAX);
    buf_init(&p->signature, SIGNATURE_BYTES);
}

void webhook_post_fini(struct webhook_post *p)
{
    buf_fini(&p->body);
    buf_fini(&p->signature);
}

void webhook_post_sign(struct webhook_post *p, const struct webhook_secrets *secrets,
                       const char *id)
{
    int64_t now_s = clock_wall_us() / US_PER_S;
    snprintf(p->id, sizeof p->id, "webhook-id: %s", id);
    snprintf(p->time, sizeof p->time, "webhook-timestamp: %lld", (long long)now_s);
    buf_clear(&p->signature);
    buf_put_str(&p->signature, "webhook-signature: ");
    webhook_sign(secrets, slice_str(id), now_s, buf_slice(&p->body), &p->signature);
    buf_put_u8(&p->signature, 0);
    CHECK(!p->signature.failed);
    p->post.headers[0] = p->id;
    p->post.headers[1] = p->time;
    p->post.headers[2] = p->signature.ptr;
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
    snprintf(a.said, sizeof a.said, "%s", post->why);
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
