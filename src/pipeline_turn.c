/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The requests of a turn are worked on together. Each touches records of its own - device, feed,
 * windows - which of ten thousand devices are rarely in the cache; one after the other, a request
 * waits for memory half of its time. So what arrives is put off until the worker settles, and then
 * goes through in groups: for all of a group the first cache line is asked for, then for all the
 * second, which the first leads to, and so on; only then is each decided, in order of arrival.
 *
 * Invariant: only lane_settle's last step decides. The steps before it find and fetch, and a wrong
 * guess in them costs time only.
 */
#include "base/check.h"
#include "codec/topic.h"
#include "pipeline_private.h"

#define GROUP 16u /* more lines on their way than a core can wait for at a time */

/* The feed of the first point, as well as a glance can tell: {"FEED" ... */
static struct slice guess_feed(const struct job *j, const struct request *q)
{
    if (j->match.feed.ptr)
        return j->match.feed;
    size_t at = 0;
    while (at < q->body.len && q->body.ptr[at] != '"' && at < 8)
        at++;
    struct slice rest = slice_from(q->body, at + 1);
    const char *end = rest.len ? memchr(rest.ptr, '"', rest.len) : NULL;
    return end ? slice_of(rest.ptr, (size_t)(end - rest.ptr)) : (struct slice){0};
}

static void fetch_device(struct job *j, bool place_is_here)
{
    if (j->device_hash)
        catalog_fetch_device(j->lane->p->opts.api.catalog, j->device_hash, place_is_here);
}

/* The record is here: looks the device up, and asks for what it leads to. */
static void fetch_account(struct job *j)
{
    const struct api *a = &j->lane->p->opts.api;
    const struct presented *p = &job_exchange(j)->request.presented;
    if (p->kind != PRESENTED_DEVICE)
        return;
    struct credential *c = j->credential = catalog_device(a->catalog, p->id);
    if (!c)
        return;
    __builtin_prefetch(c->account);
    if (c->verifier_kind == VERIFIER_CRYPT)
        __builtin_prefetch(c->live, 1);
    throttle_prefetch(a->throttle, (struct throttle_subject){THROTTLE_CREDENTIAL, c->number},
                      THROTTLE_PLACE);
}

static const struct credential *credential_of(const struct job *j)
{
    const struct principal *p = job_exchange((struct job *)j)->request.principal;
    return p ? p->credential : j->credential;
}

static void fetch_feed_place(struct job *j)
{
    const struct api *a = &j->lane->p->opts.api;
    const struct credential *c = credential_of(j);
    if (!c)
        return;
    throttle_prefetch(a->throttle, (struct throttle_subject){THROTTLE_CREDENTIAL, c->number},
                      THROTTLE_HEAD);
    struct slice feed = guess_feed(j, &job_exchange(j)->request);
    if (!feed.len)
        return;
    j->feed_hash = catalog_feed_hash(a->catalog, c->account->number, feed);
    catalog_fetch_feed(a->catalog, j->feed_hash, false);
}

static void fetch_feed(struct job *j)
{
    const struct api *a = &j->lane->p->opts.api;
    const struct credential *c = credential_of(j);
    if (!c)
        return;
    throttle_prefetch(a->throttle, (struct throttle_subject){THROTTLE_CREDENTIAL, c->number},
                      THROTTLE_WINDOWS);
    if (j->feed_hash)
        catalog_fetch_feed(a->catalog, j->feed_hash, true);
}

uint64_t lane_glance(void *lane, const struct principal *p, struct slice topic)
{
    struct catalog *c = ((struct lane *)lane)->p->opts.api.catalog;
    (void)topic_level(&topic); /* whose they are: the principal's, or it will be refused */
    struct slice kind = topic.ptr ? topic_level(&topic) : (struct slice){0};
    struct slice key = topic.ptr ? topic_level(&topic) : (struct slice){0};
    if (!p->credential || !key.len || kind.ptr[0] != 'f')
        return 0;
    uint64_t hash = catalog_feed_hash(c, p->credential->account->number, key);
    catalog_fetch_feed(c, hash, false);
    return hash;
}

void lane_glance_again(void *lane, uint64_t hint)
{
    if (hint)
        catalog_fetch_feed(((struct lane *)lane)->p->opts.api.catalog, hint, true);
}

void turn_put_off(struct job *j)
{
    struct lane *l = j->lane;
    const struct presented *p = &job_exchange(j)->request.presented;
    if ((p->kind == PRESENTED_DEVICE || p->kind == PRESENTED_BASIC) && p->id.len <= DEVICE_ID_MAX) {
        j->device_hash = catalog_device_hash(l->p->opts.api.catalog, p->id);
        fetch_device(j, false);
    }
    j->next = NULL;
    *l->put_off_last = j;
    l->put_off_last = &j->next;
}

/* Takes the oldest ones off the list. */
static unsigned take_group(struct lane *l, struct job *group[GROUP])
{
    unsigned n = 0;
    while (n < GROUP && l->put_off) {
        struct job *j = group[n++] = l->put_off;
        l->put_off = j->next;
        j->next = NULL;
    }
    if (!l->put_off)
        l->put_off_last = &l->put_off;
    return n;
}

void lane_settle(void *lane)
{
    struct lane *l = lane;
    struct job *group[GROUP];
    unsigned n;
    while ((n = take_group(l, group)) > 0) {
        if (n > 1) { /* a lone request has nothing to do meanwhile */
            for (unsigned i = 0; i < n; i++)
                fetch_device(group[i], true);
            for (unsigned i = 0; i < n; i++)
                fetch_account(group[i]);
            for (unsigned i = 0; i < n; i++)
                fetch_feed_place(group[i]);
            for (unsigned i = 0; i < n; i++)
                fetch_feed(group[i]);
        }
        for (unsigned i = 0; i < n; i++)
            job_authenticate(group[i]);
    }
}
