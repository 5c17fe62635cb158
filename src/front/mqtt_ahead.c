/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking ahead in what one read brought. Many messages lie in it, each for a feed that is rarely
 * in the cache, and each is worked on before the next one is looked at (mqtt_conn.c), so they would
 * wait for memory one after the other. So the topics of those behind it are glanced at first: the
 * pipeline is told of them MQTT_AHEAD messages ahead, and again HALF of that, when what it asked
 * for at first has come and leads to the next line.
 *
 * Nothing is decided here: a packet that is none, or a topic that means nothing, only costs time.
 */
#include "front/mqtt_private.h"

#define HALF (MQTT_AHEAD / 2)

/* The topic of the PUBLISH at the start of `in`, if it is one. Returns the packet's size; 0: it is
 * not whole, or its length is not what a message has here. */
static size_t glance(struct slice in, struct slice *ret_topic)
{
    const uint8_t *p = (const uint8_t *)in.ptr;
    size_t head = 2, len;
    *ret_topic = (struct slice){0};
    if (in.len < 4)
        return 0;
    len = p[1];
    if (len & 0x80) {
        len = (len & 0x7f) | (size_t)p[2] << 7;
        head = 3;
    }
    if (len > 0x3fff || len + head > in.len)
        return 0;
    if (p[0] >> 4 == MQTT_PUBLISH && len >= 2) {
        size_t topic = (size_t)p[head] << 8 | p[head + 1];
        if (topic + 2 <= len)
            *ret_topic = slice_of(p + head + 2, topic);
    }
    return head + len;
}

void mqtt_look_ahead(struct mqtt_conn *c, struct mqtt_ahead *a, struct slice in)
{
    const struct mqtt_opts *o = &c->front->opts;
    if (c->state != MQTT_UP)
        return;
    while (a->seen < a->taken + MQTT_AHEAD && !a->blind) {
        struct slice topic;
        size_t size = glance(slice_from(in, a->at), &topic);
        a->blind = size == 0;
        a->at += size;
        a->hints[a->seen++ % MQTT_AHEAD] = topic.len ? o->glance(o->arg, &c->principal, topic) : 0;
    }
    unsigned half = a->taken + HALF;
    for (; a->halfway <= half && a->halfway < a->seen; a->halfway++)
        o->glance_again(o->arg, a->hints[a->halfway % MQTT_AHEAD]);
    a->taken++;
}
