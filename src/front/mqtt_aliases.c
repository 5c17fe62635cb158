/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Topic aliases to a client of 5.0 that takes some (section 3.3.2.3.4). The first topics that it is
 * sent get one each, for as long as the connection lasts; others are sent as they are. So nothing
 * is allocated once these are given, and a client that is sent more topics than that is not told an
 * alias with each message for nothing.
 *
 * An alias is put into a packet when that leaves, not when it is made: packets that wait are
 * overtaken by others, and what sets an alias has to be there before what uses it.
 */
#define XXH_INLINE_ALL
#include <stdlib.h>
#include <xxhash.h>

#include "base/check.h"
#include "flow/limits.h"
#include "front/mqtt_private.h"

#define SHORTEST 4u /* bytes of a topic: an alias takes three */

struct given {
    char *topic;
    uint16_t len;
    uint32_t hash;
};

struct mqtt_given {
    uint16_t count;
    struct given list[MQTT_ALIASES_MAX];
};

/* 0: it has none. */
static uint16_t find(const struct mqtt_given *g, struct slice topic, uint32_t hash)
{
    for (uint16_t i = 0; g && i < g->count; i++) {
        const struct given *at = &g->list[i];
        if (at->hash == hash && slice_eq(slice_of(at->topic, at->len), topic))
            return (uint16_t)(i + 1);
    }
    return 0;
}

static bool may_give(const struct mqtt_conn *c, struct slice topic)
{
    return (!c->given || c->given->count < c->alias_max) && topic.len >= SHORTEST &&
           topic.len <= TOPIC_MAX;
}

static void give(struct mqtt_conn *c, struct slice topic, uint32_t hash)
{
    struct given *to = &c->given->list[c->given->count++];
    *to = (struct given){malloc(topic.len), (uint16_t)topic.len, hash};
    CHECK(to->topic);
    memcpy(to->topic, topic.ptr, topic.len);
}

static struct slice with_alias(struct mqtt_conn *c, struct slice packet, struct slice topic)
{
    struct buf *out = &c->front->aliased;
    uint32_t hash = (uint32_t)XXH3_64bits(topic.ptr, topic.len);
    uint16_t alias = find(c->given, topic, hash);
    bool is_new = !alias;
    if (is_new && !may_give(c, topic))
        return packet;
    if (!c->given)
        c->given = calloc(1, sizeof *c->given);
    CHECK(c->given);
    if (is_new)
        alias = (uint16_t)(c->given->count + 1);
    buf_clear(out);
    if (!mqtt_put_aliased(out, packet, alias, is_new, c->packet_max))
        return packet;
    CHECK(!out->failed); /* it is hardly longer than a packet */
    if (is_new)
        give(c, topic, hash);
    return buf_slice(out);
}

void mqtt_send_messages(struct mqtt_conn *c, struct slice packets)
{
    struct slice packet, topic;
    if (!c->alias_max) {
        mqtt_send_later(c, packets);
        return;
    }
    while (mqtt_next_publish(&packets, &packet, &topic))
        mqtt_send_later(c, with_alias(c, packet, topic));
}

void mqtt_aliases_free(struct mqtt_conn *c)
{
    for (uint16_t i = 0; c->given && i < c->given->count; i++)
        free(c->given->list[i].topic);
    free(c->given);
    c->given = NULL;
}
