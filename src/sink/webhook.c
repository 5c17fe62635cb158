/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch is sent as requests, several under way at a time. The model:
 *
 * 1. What is delivered or refused has its verdict at once, so a batch that comes again, because
 *    something of it failed, is only its rest. A crash forgets that: then all of it is sent again,
 *    with the same ids.
 * 2. Each answer says whose fault it is. The message's (REFUSING): it is a dead letter. The
 *    endpoint's: nothing more is begun, and the batch comes again after a pause; then one request
 *    goes ahead of the others, until one is delivered. Nobody knows (an error 500, no answer in
 *    time): the endpoint's, but the message collects blame (`own`), more of it while others get
 *    through. With BLAME_MAX it is a dead letter. What has less blame goes first, so one bad
 * message holds up no others.
 * 3. by_feed: a message is sent when the one before it of its feed is delivered or dead. Blame
 *    would let the next one overtake, so there is none.
 */
#include "sink/webhook.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/check.h"
#include "base/clock.h"
#include "sink/webhook_post.h"

#define SECRETS_AGE_NS (5 * NS_PER_S)
#define SECRETS_BYTES  4096u
#define ATTEMPTS       256u
#define WAIT_NS        (1000 * NS_PER_MS)

/* What is going on with a message that has no verdict. */
enum state { WAITING, UNDER_WAY, FAILED };

struct request {
    struct webhook_post it;
    bool used;
    unsigned first, count; /* messages of the batch */
};

struct webhook {
    struct webhook_opts opts;
    struct cidr *allowed;
    struct posts *posts;
    struct request *requests; /* at_once of them */
    struct webhook_secrets secrets;
    uint64_t secrets_read_ns;
    uint8_t *states;   /* of a batch: enum state */
    uint64_t *keys;    /* by_feed: the same for the same feed */
    struct buf whys;   /* texts of refusals */
    bool cautious;     /* the endpoint failed: one request goes ahead */
    uint64_t pause_ns; /* that it asked for */
    struct attempts *attempts;
    atomic_bool cancelled;
};

/* A batch on its way. */
struct sending {
    struct webhook *w;
    const struct sink_batch *b;
    unsigned next; /* no message before it is waiting */
    unsigned done; /* delivered of it, now */
    bool failed, gone, too_much;
    struct error *err;
};

static struct posts_opts posts_of(const struct webhook_opts *opts, unsigned at_once)
{
    return (struct posts_opts){.at_once = at_once,
                               .timeout_ns = opts->timeout_ns,
                               .allowed = opts->allowed,
                               .allowed_count = opts->allowed_count,
                               .ca_file = opts->ca_file,
                               .resolve = opts->resolve};
}

/* ---- secrets --------------------------------------------------------------------------------- */

static int read_secrets(const struct webhook_opts *opts, struct webhook_secrets *ret,
                        struct error *err)
{
    const char *path = opts->secret_file;
    struct error why = {""};
    struct buf text;
    buf_init(&text, SECRETS_BYTES);
    int rc = disk_read_file(disk_posix(), path, &text);
    if (rc < 0)
        rc = error_set(err, rc, "webhook.secret_file: %s: %s", path, disk_strerror(rc));
    else if ((rc = webhook_secrets_parse(buf_slice(&text), ret, &why)) < 0)
        error_set(err, rc, "webhook.secret_file: %s: %s", path, why.text);
    if (text.ptr)
        explicit_bzero(text.ptr, text.cap);
    buf_fini(&text);
    return rc;
}

static int renew_secrets(struct webhook *w, uint64_t now_ns, struct error *err)
{
    if (w->secrets.count && now_ns - w->secrets_read_ns < SECRETS_AGE_NS)
        return 0;
    int rc = read_secrets(&w->opts, &w->secrets, err);
    if (rc == 0)
        w->secrets_read_ns = now_ns;
    return rc;
}

/* ---- what is sent next ----------------------------------------------------------------------- */

static uint64_t key_of(const struct sink_message *m)
{
    const struct record *r = &m->record;
    return r->kind == RECORD_PUBLISH ? XXH3_64bits_withSeed(r->topic.ptr, r->topic.len, r->account)
                                     : r->feed;
}

static bool is_waiting(const struct sending *s, unsigned i)
{
    return s->b->messages[i].verdict == SINK_UNKNOWN && s->w->states[i] == WAITING;
}

/* In a request that begins with `first`. */
static bool has_its_turn(const struct sending *s, unsigned i, unsigned first)
{
    if (!s->w->opts.by_feed)
        return true;
    for (unsigned k = i; k-- > 0;)
        if (s->w->keys[k] == s->w->keys[i])
            return k >= first || s->b->messages[k].verdict != SINK_UNKNOWN;
    return true;
}

/* The first message with the least blame. False: none may be sent now. */
static bool choose(struct sending *s, unsigned *ret)
{
    const struct sink_message *m = s->b->messages;
    bool found = false;
    while (s->next < s->b->count && !is_waiting(s, s->next))
        s->next++;
    for (unsigned i = s->next; i < s->b->count && !(found && m[*ret].own == 0); i++) {
        if (!is_waiting(s, i) || (found && m[i].own >= m[*ret].own) || !has_its_turn(s, i, i))
            continue;
        *ret = i;
        found = true;
    }
    return found;
}

/* How many may be under way now. */
static unsigned breadth(const struct webhook *w)
{
    return w->cautious || w->opts.batch_max > 1 ? 1 : w->opts.at_once;
}

/* ---- requests -------------------------------------------------------------------------------- */

/* One event, or as many as are waiting, as one. */
static bool put_body(struct sending *s, struct request *r)
{
    const struct webhook *w = s->w;
    const struct sink_message *m = &s->b->messages[r->first];
    unsigned most = webhook_width(w->opts.batch_max, m->own);
    struct buf *body = &r->it.body;
    char id[WEBHOOK_ID_BYTES];
    buf_reuse(body, WEBHOOK_BODY_BYTES);
    if (w->opts.batch_max == 1) {
        buf_put_u8(body, '{');
        bool good = webhook_event_put(body, &w->opts.source, m);
        buf_put_u8(body, '}');
        r->count = 1;
        return good && !body->failed;
    }
    webhook_batch_begin(body, m->record.receive_us);
    for (r->count = 0; r->first + r->count < s->b->count && r->count < most; r->count++, m++) {
        unsigned i = r->first + r->count;
        if (r->count &&
            (!is_waiting(s, i) || !has_its_turn(s, i, r->first) || body->len >= WEBHOOK_BODY_BYTES))
            break;
        size_t before = body->len;
        webhook_event_id(id, &w->opts.source, m->offset);
        buf_put_str(body, r->count ? ",{\"id\":\"" : "{\"id\":\"");
        buf_put_str(body, id);
        buf_put_str(body, "\",");
        if (!webhook_event_put(body, &w->opts.source, m)) {
            if (r->count == 0)
                return false;
            body->len = before; /* it comes first next time, and is found out */
            break;
        }
        buf_put_u8(body, '}');
    }
    webhook_batch_end(body);
    return !body->failed;
}

static void mark(struct sending *s, const struct request *r, enum state state)
{
    memset(s->w->states + r->first, state, r->count);
}

static void judge(struct sending *s, const struct request *r, enum sink_verdict verdict,
                  const char *why)
{
    size_t at = s->w->whys.len;
    buf_put(&s->w->whys, why, strlen(why) + 1);
    CHECK(!s->w->whys.failed);
    for (unsigned i = r->first; i < r->first + r->count; i++) {
        s->b->messages[i].verdict = verdict;
        s->b->messages[i].why = s->w->whys.ptr + at;
    }
}

static void start(struct sending *s, unsigned first)
{
    struct webhook *w = s->w;
    struct request *r = w->requests;
    char id[WEBHOOK_ID_BYTES];
    while (r->used)
        r++;
    r->first = first;
    if (!put_body(s, r)) {
        r->count = 1;
        judge(s, r, SINK_REFUSED, "its payload is damaged");
        return;
    }
    webhook_event_id(id, &w->opts.source, s->b->messages[first].offset);
    webhook_batch_id(id, r->count);
    webhook_post_sign(&r->it, &w->secrets, id);
    mark(s, r, UNDER_WAY);
    r->it.post.url = w->opts.url;
    r->it.post.owner = r;
    r->used = true;
    posts_start(w->posts, &r->it.post);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* Whether the message is the one to blame, by now. */
static bool is_to_blame(struct sending *s, const struct request *r)
{
    struct sink_message *m = &s->b->messages[r->first];
    for (unsigned i = 0; i < r->count; i++)
        if (m[i].own < WEBHOOK_BLAME_MAX)
            m[i].own += s->done ? WEBHOOK_BLAME_OTHERS : WEBHOOK_BLAME_ALONE;
    return r->count == 1 && !s->w->opts.by_feed && m->own >= WEBHOOK_BLAME_MAX;
}

static void conclude(struct sending *s, struct request *r)
{
    const struct post *post = &r->it.post;
    enum webhook_fault fault = webhook_fault(post);
    struct attempt a = webhook_attempt(post);
    a.offset = s->b->messages[r->first].offset;
    a.count = r->count;
    attempts_put(s->w->attempts, &a);
    r->used = false;
    mark(s, r, FAILED);
    if (fault == WEBHOOK_TAKEN) {
        judge(s, r, SINK_TAKEN, "");
        s->done += r->count;
        s->w->cautious = false;
        return;
    }
    error_set(s->err, 0, "%s", post->why);
    if (fault == WEBHOOK_DOUBTFUL && is_to_blame(s, r))
        fault = WEBHOOK_REFUSED;
    if (fault == WEBHOOK_REFUSED && r->count > 1) {
        s->too_much = true;
    } else if (fault == WEBHOOK_REFUSED) {
        judge(s, r, SINK_REFUSED, post->why);
    } else {
        s->failed = true;
        s->gone |= fault == WEBHOOK_GONE;
        if (post->retry_after_ns > s->w->pause_ns)
            s->w->pause_ns = post->retry_after_ns;
    }
}

/* ---- a batch --------------------------------------------------------------------------------- */

static void abandon(struct sending *s)
{
    for (unsigned i = 0; i < s->w->opts.at_once; i++) {
        struct request *r = &s->w->requests[i];
        if (!r->used)
            continue;
        posts_abandon(s->w->posts, &r->it.post);
        r->used = false;
        mark(s, r, WAITING);
    }
}

static bool stopped(const struct sending *s)
{
    return s->failed || s->too_much || atomic_load(&s->w->cancelled);
}

/* Until all was sent, or it makes no sense to go on; what is under way is waited for. */
static void send_all(struct sending *s)
{
    struct posts *p = s->w->posts;
    unsigned under_way = 0, next = 0;
    for (;;) {
        while (under_way < breadth(s->w) && !stopped(s) && choose(s, &next)) {
            start(s, next);
            under_way = s->w->opts.at_once - posts_room(p);
        }
        if (!under_way)
            return;
        if (atomic_load(&s->w->cancelled)) {
            abandon(s);
            error_set(s->err, 0, "it was stopped");
            return;
        }
        struct post *post = posts_next(p);
        if (post)
            conclude(s, post->owner);
        else
            posts_wait(p, WAIT_NS);
        under_way = s->w->opts.at_once - posts_room(p);
    }
}

static enum sink_outcome outcome(struct sending *s)
{
    unsigned owed = 0;
    for (unsigned i = 0; i < s->b->count; i++)
        owed += s->b->messages[i].verdict == SINK_UNKNOWN;
    if (s->gone)
        return SINK_GONE;
    if (s->too_much && !s->failed)
        return SINK_POISON; /* halved, it is smaller */
    s->w->cautious = owed;
    return owed ? SINK_AWAY : SINK_DONE;
}

static enum sink_outcome on_send(void *of, const struct sink_batch *b, struct error *err)
{
    struct webhook *w = of;
    struct sending s = {.w = w, .b = b, .err = err};
    w->pause_ns = 0;
    if (renew_secrets(w, clock_mono_ns(), err) < 0)
        return SINK_AWAY;
    CHECK(b->count <= w->opts.messages_max);
    memset(w->states, WAITING, b->count);
    for (unsigned i = 0; i < b->count && w->opts.by_feed; i++)
        w->keys[i] = key_of(&b->messages[i]);
    buf_clear(&w->whys);
    send_all(&s);
    return outcome(&s);
}

/* ---- life ------------------------------------------------------------------------------------ */

static enum sink_outcome on_open(void *of, uint64_t *position, struct error *err)
{
    struct webhook *w = of;
    w->secrets.count = 0;
    w->pause_ns = 0;
    return renew_secrets(w, clock_mono_ns(), err) < 0 ? SINK_AWAY : SINK_DONE;
}

/* Connections are kept by libcurl, for a while. */
static void on_close(void *of)
{
    webhook_secrets_wipe(&((struct webhook *)of)->secrets);
}

static void on_cancel(void *of)
{
    struct webhook *w = of;
    atomic_store(&w->cancelled, true);
    posts_wake(w->posts);
}

static void on_test(void *of, uint64_t patience_ns, struct attempt *ret)
{
    struct webhook *w = of;
    struct posts_opts opts = posts_of(&w->opts, 1);
    struct webhook_secrets secrets;
    struct error err = {""};
    *ret = (struct attempt){.at_us = clock_wall_us()};
    if (opts.timeout_ns > patience_ns)
        opts.timeout_ns = patience_ns;
    if (read_secrets(&w->opts, &secrets, &err) < 0) {
        snprintf(ret->said, sizeof ret->said, "%.*s", (int)sizeof ret->said - 1, err.text);
        return;
    }
    webhook_test(&opts, w->opts.url, &secrets, ret);
    webhook_secrets_wipe(&secrets);
    attempts_put(w->attempts, ret);
}

static bool on_attempt(void *of, unsigned n, struct attempt *ret)
{
    return attempts_get(((struct webhook *)of)->attempts, n, ret);
}

static uint64_t on_pause(void *of)
{
    return ((const struct webhook *)of)->pause_ns;
}

static void on_free(void *of)
{
    struct webhook *w = of;
    posts_free(w->posts);
    for (unsigned i = 0; i < w->opts.at_once; i++)
        webhook_post_fini(&w->requests[i].it);
    webhook_secrets_wipe(&w->secrets);
    free(w->allowed);
    attempts_free(w->attempts);
    buf_fini(&w->whys);
    free(w->states);
    free(w->keys);
    free(w->requests);
    free(w);
}

const struct dead_schedule webhook_schedule = {webhook_pauses_s, WEBHOOK_PAUSES};

const struct sink_ops webhook_ops = {
    .kind = "webhook",
    .open = on_open,
    .send = on_send,
    .close = on_close,
    .cancel = on_cancel,
    .pause_ns = on_pause,
    .test = on_test,
    .attempt = on_attempt,
    .free = on_free,
};

int webhook_new(const struct webhook_opts *opts, void **ret, struct error *err)
{
    struct error why = {""};
    if (post_check_url(opts->url, &why) < 0)
        return error_set(err, -EINVAL, "webhook.url: %s", why.text);
    if (!opts->secret_file[0])
        return error_set(err, -EINVAL, "webhook.secret_file: it must name a file with a secret");
    if (opts->messages_max > WEBHOOK_MESSAGES_MAX)
        return error_set(err, -EINVAL, "webhook.batch_max: it can be %u at most",
                         WEBHOOK_MESSAGES_MAX);
    struct webhook *w = calloc(1, sizeof *w);
    CHECK(w);
    w->opts = *opts;
    w->allowed = calloc(opts->allowed_count + 1, sizeof *w->allowed);
    CHECK(w->allowed);
    for (unsigned i = 0; i < opts->allowed_count; i++)
        w->allowed[i] = opts->allowed[i];
    w->states = calloc(opts->messages_max, sizeof *w->states);
    w->keys = calloc(opts->messages_max, sizeof *w->keys);
    w->requests = calloc(opts->at_once, sizeof *w->requests);
    CHECK(w->states && w->keys && w->requests);
    /* All that a batch may have, so that it never moves. */
    size_t most = opts->messages_max * sizeof w->requests->it.post.why;
    buf_init(&w->whys, most);
    CHECK(buf_reserve(&w->whys, most));
    for (unsigned i = 0; i < opts->at_once; i++)
        webhook_post_init(&w->requests[i].it);
    w->opts.allowed = w->allowed;
    struct posts_opts posts = posts_of(&w->opts, opts->at_once);
    w->posts = posts_new(&posts);
    w->attempts = attempts_new(ATTEMPTS);
    *ret = w;
    return 0;
}
