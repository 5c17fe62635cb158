/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Retained messages: per account an array ascending by topic, so that those a filter can match lie
 * together behind its constant front. All with the table's lock held, but for the two that readers
 * call.
 */
#include <stdlib.h>

#include "base/check.h"
#include "codec/topic.h"
#include "flow/publish.h"
#include "view/sessions_own.h"

enum { RETAINED_FIRST = 4 };

static int compare(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n ? memcmp(a.ptr, b.ptr, n) : 0;
    return order ? order : a.len < b.len ? -1 : a.len > b.len;
}

/* The first one that is not below the topic. */
static uint32_t find(const struct session_account *a, struct slice topic)
{
    uint32_t low = 0, high = a->retained_count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (compare(a->retained[mid]->topic, topic) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static size_t bytes_of(size_t topic, size_t payload)
{
    return sizeof(struct retained_entry) + sizeof(struct retained_entry *) + topic + payload;
}

static bool is_at(const struct session_account *a, uint32_t at, struct slice topic)
{
    return at < a->retained_count && slice_eq(a->retained[at]->topic, topic);
}

static void forget_at(struct sessions *t, struct session_account *a, uint32_t at)
{
    struct retained_entry *e = a->retained[at];
    sessions_count(t, a, -(int64_t)bytes_of(e->topic.len, e->payload.len));
    a->retained_count--;
    t->stats.retained--;
    memmove(a->retained + at, a->retained + at + 1, (a->retained_count - at) * sizeof *a->retained);
    free(e);
}

static bool room(const struct sessions *t, const struct session_account *a, struct slice topic,
                 size_t payload)
{
    uint64_t bytes = bytes_of(topic.len, payload), freed = 0;
    uint32_t at = a ? find(a, topic) : 0;
    bool there = a && is_at(a, at, topic);
    if (there)
        freed = bytes_of(topic.len, a->retained[at]->payload.len);
    return topic.len <= TOPIC_MAX && payload <= RETAINED_MAX &&
           (there || (t->stats.retained < t->opts.retained_max &&
                      (a ? a->retained_count : 0) < t->opts.retained_per_account_max)) &&
           t->stats.bytes - freed + bytes <= t->opts.memory_max &&
           (a ? a->bytes : 0) - freed + bytes <= t->opts.memory_per_account_max;
}

static struct retained_entry *copy_of(const struct retained_entry *e)
{
    struct retained_entry *copy = malloc(sizeof *copy + e->topic.len + e->payload.len);
    CHECK(copy);
    char *text = (char *)(copy + 1);
    *copy = *e;
    memcpy(text, e->topic.ptr, e->topic.len);
    copy->topic = slice_of(text, e->topic.len);
    text += e->topic.len;
    if (e->payload.len)
        memcpy(text, e->payload.ptr, e->payload.len);
    copy->payload = slice_of(text, e->payload.len);
    return copy;
}

bool retained_put(struct sessions *t, uint64_t account, const struct retained_entry *e)
{
    struct session_account *a = sessions_account(t, account, true);
    if (!room(t, a, e->topic, e->payload.len)) {
        sessions_drop_account(t, a);
        return false;
    }
    uint32_t at = find(a, e->topic);
    if (is_at(a, at, e->topic))
        forget_at(t, a, at);
    uint32_t count = a->retained_count;
    if ((count & (count - 1)) == 0) { /* as many places as the next power of two, at least */
        a->retained =
            realloc(a->retained, (count ? count * 2ul : RETAINED_FIRST) * sizeof *a->retained);
        CHECK(a->retained);
    }
    memmove(a->retained + at + 1, a->retained + at, (count - at) * sizeof *a->retained);
    a->retained[at] = copy_of(e);
    a->retained_count++;
    t->stats.retained++;
    sessions_count(t, a, (int64_t)bytes_of(e->topic.len, e->payload.len));
    return true;
}

/* MQTT 5.0, section 3.3.1.3: an empty message removes what was retained. One that finds no room
 * does so too, since what was there is not the topic's last any more. */
void retained_apply(struct sessions *t, const struct record *r, uint64_t offset)
{
    struct publish p;
    if (!publish_decode(r->payload, &p) || !r->topic.len)
        return;
    struct retained_entry e = {.topic = r->topic,
                               .payload = r->payload,
                               .offset = offset,
                               .credential = r->credential,
                               .client = r->client,
                               .receive_us = r->receive_us,
                               .expires_us = publish_expires_us(&p, r->receive_us),
                               .key_id = r->key_id};
    if (p.message.len && retained_put(t, r->account, &e))
        return;
    sessions_drop(t, p.message.len != 0);
    struct session_account *a = sessions_account(t, r->account, false);
    uint32_t at = a ? find(a, r->topic) : 0;
    if (!a || !is_at(a, at, r->topic))
        return;
    forget_at(t, a, at);
    sessions_drop_account(t, a);
}

void retained_clear_account(struct sessions *t, struct session_account *a)
{
    while (a->retained_count)
        forget_at(t, a, a->retained_count - 1);
    sessions_drop_account(t, a);
}

void retained_forget(struct sessions *t, struct session_account *a, int64_t now_us)
{
    for (uint32_t i = a->retained_count; i-- > 0;)
        if (a->retained[i]->expires_us <= now_us)
            forget_at(t, a, i);
    sessions_drop_account(t, a);
}

/* ---- reading --------------------------------------------------------------------------------- */

bool sessions_have_retained_room(struct sessions *t, uint64_t account, struct slice topic,
                                 size_t payload_bytes)
{
    pthread_mutex_lock(&t->lock);
    bool found = room(t, sessions_account(t, account, false), topic, payload_bytes);
    pthread_mutex_unlock(&t->lock);
    return found;
}

/* What all topics that the filter matches begin with. */
static struct slice constant_front(struct slice filter)
{
    size_t len = 0;
    while (len < filter.len && filter.ptr[len] != '+' && filter.ptr[len] != '#')
        len++;
    if (len && len < filter.len && filter.ptr[len] == '#')
        len--; /* "a/#" matches "a" too */
    return slice_of(filter.ptr, len);
}

/* The first match at or behind *at, which moves to where the look ended. */
static const struct retained_entry *look(const struct session_account *a, struct slice filter,
                                         int64_t now_us, uint32_t *at)
{
    struct slice front = constant_front(filter);
    bool exact = front.len == filter.len;
    for (unsigned i = 0; i < RETAINED_LOOKS; i++, ++*at) {
        if (*at == a->retained_count || !slice_starts(a->retained[*at]->topic, front) ||
            (exact && a->retained[*at]->topic.len > filter.len)) {
            *at = a->retained_count;
            return NULL;
        }
        const struct retained_entry *e = a->retained[*at];
        if (e->expires_us > now_us && topic_matches(filter, e->topic))
            return e;
    }
    return NULL;
}

enum retained_step sessions_next_retained(struct sessions *t, uint64_t account, struct slice filter,
                                          struct slice after, int64_t now_us, struct buf *storage,
                                          struct retained *ret)
{
    struct slice front = constant_front(filter);
    const struct retained_entry *e = NULL, *shown = NULL;
    buf_clear(storage);
    pthread_mutex_lock(&t->lock);
    const struct session_account *a = sessions_account(t, account, false);
    if (a) {
        uint32_t at = find(a, after.ptr && compare(after, front) > 0 ? after : front);
        if (after.ptr && is_at(a, at, after))
            at++;
        shown = e = look(a, filter, now_us, &at);
        if (!e && at < a->retained_count)
            shown = a->retained[at - 1];
    }
    if (shown)
        buf_put_slice(storage, shown->topic);
    if (e) {
        buf_put_slice(storage, e->payload);
        *ret = (struct retained){.offset = e->offset,
                                 .credential = e->credential,
                                 .client = e->client,
                                 .receive_us = e->receive_us};
    }
    size_t topic_len = shown ? shown->topic.len : 0;
    pthread_mutex_unlock(&t->lock);
    if (!shown || storage->failed)
        return RETAINED_END;
    ret->topic = slice_of(storage->ptr, topic_len);
    ret->payload = slice_from(buf_slice(storage), topic_len);
    return e ? RETAINED_ONE : RETAINED_MORE;
}
