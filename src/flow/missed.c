/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/missed.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "flow/limits.h"

static void *room_for(size_t count, size_t size)
{
    void *ptr = calloc(count + 1, size);
    CHECK(ptr);
    return ptr;
}

struct missed *missed_new(unsigned filters, uint32_t had, uint32_t places)
{
    struct missed *m = calloc(1, sizeof *m);
    CHECK(m);
    m->filters = room_for(filters, sizeof *m->filters);
    m->had = room_for(had, sizeof *m->had);
    m->places = room_for(places, sizeof *m->places);
    buf_init(&m->messages, MISSED_READ_BYTES + MISSED_MESSAGE_MAX);
    return m;
}

void missed_free(struct missed *m)
{
    if (!m)
        return;
    for (unsigned i = 0; i < m->filters_count; i++)
        free((char *)(uintptr_t)m->filters[i].filter.ptr);
    free((char *)(uintptr_t)m->group.ptr);
    free(m->filters);
    free(m->had);
    free(m->places);
    free(m->barred);
    buf_fini(&m->messages);
    free(m);
}

static struct slice copy_of(struct slice s)
{
    char *text = malloc(s.len + 1);
    CHECK(text);
    memcpy(text, s.ptr, s.len);
    return slice_of(text, s.len);
}

void missed_add_filter(struct missed *m, const struct missed_filter *f)
{
    struct missed_filter *to = &m->filters[m->filters_count++];
    *to = *f;
    to->filter = copy_of(f->filter);
}

void missed_bar(struct missed *m, uint64_t place)
{
    if (!m->barred)
        m->barred = room_for(m->places_count, sizeof *m->barred);
    CHECK(m->barred_count < m->places_count);
    m->barred[m->barred_count++] = place;
}

bool missed_bars(const struct missed *m, uint64_t place)
{
    uint32_t i = 0;
    while (i < m->barred_count && m->barred[i] != place)
        i++;
    return i < m->barred_count;
}

void missed_set_group(struct missed *m, struct slice group)
{
    m->group = copy_of(group);
}

/* In front of the texts of a message. */
struct head {
    uint64_t account, client, place;
    int64_t expires_us;
    uint32_t topic, payload, properties;
    uint8_t published, retain, qos;
};

void missed_put(struct missed *m, const struct live_message *message)
{
    struct slice payload = message->payload(message->arg);
    const struct head h = {.account = message->account,
                           .client = message->client,
                           .place = message->place,
                           .expires_us = message->expires_us,
                           .topic = (uint32_t)message->topic.len,
                           .payload = (uint32_t)payload.len,
                           .properties = (uint32_t)message->properties.len,
                           .published = message->published,
                           .retain = message->retain,
                           .qos = message->qos};
    buf_put(&m->messages, &h, sizeof h);
    buf_put_slice(&m->messages, message->topic);
    buf_put_slice(&m->messages, message->properties);
    buf_put_slice(&m->messages, payload);
}

static struct slice take(struct slice *rest, size_t len)
{
    struct slice taken = slice_of(rest->ptr, len);
    CHECK(rest->len >= len);
    *rest = slice_from(*rest, len);
    return taken;
}

bool missed_next(struct slice *rest, struct live_message *ret, struct slice *ret_payload)
{
    struct head h;
    if (!rest->len)
        return false;
    memcpy(&h, take(rest, sizeof h).ptr, sizeof h);
    *ret = (struct live_message){.account = h.account,
                                 .client = h.client,
                                 .place = h.place,
                                 .expires_us = h.expires_us,
                                 .published = h.published,
                                 .retain = h.retain,
                                 .qos = h.qos};
    ret->topic = take(rest, h.topic);
    ret->properties = take(rest, h.properties);
    *ret_payload = take(rest, h.payload);
    return true;
}
