/* SPDX-License-Identifier: Apache-2.0 */
/* Every item: u8 kind, then its fields, little endian; a filter has its length before it. */
#include "flow/session_state.h"

#include <string.h>

#include "base/check.h"

enum { NO_LOCAL = 1, AS_PUBLISHED = 2 };

static void put_u16(struct buf *out, uint16_t v)
{
    buf_put_u8(out, (uint8_t)v);
    buf_put_u8(out, (uint8_t)(v >> 8));
}

void session_state_put(struct buf *out, const struct session_state *s)
{
    buf_put_u64(out, s->number);
    buf_put_u64(out, s->floor);
    buf_put_u8(out, s->present);
}

void session_state_put_received(struct buf *out, uint16_t packet_id)
{
    buf_put_u8(out, SESSION_STATE_RECEIVED);
    put_u16(out, packet_id);
}

void session_state_put_sub(struct buf *out, const struct session_filter *f, uint64_t since)
{
    buf_put_u8(out, SESSION_STATE_SUB);
    buf_put_u64(out, since);
    buf_put_u8(out, f->qos);
    buf_put_u8(out, f->retain_handling);
    buf_put_u8(out, (uint8_t)((f->no_local ? NO_LOCAL : 0) | (f->as_published ? AS_PUBLISHED : 0)));
    buf_put_u32(out, f->id);
    put_u16(out, (uint16_t)f->filter.len);
    buf_put_slice(out, f->filter);
}

void session_state_put_sent(struct buf *out, const struct session_item *item, bool pubrel,
                            bool shared, bool retained)
{
    buf_put_u8(out, SESSION_STATE_SENT);
    buf_put_u64(out, item->place);
    put_u16(out, item->packet_id);
    buf_put_u8(out, item->qos);
    buf_put_u8(out, (uint8_t)(pubrel | shared << 1 | retained << 2));
}

void session_state_put_acked(struct buf *out, uint64_t place)
{
    buf_put_u8(out, SESSION_STATE_ACKED);
    buf_put_u64(out, place);
}

/* ---- reading --------------------------------------------------------------------------------- */

static uint64_t get(struct slice *rest, unsigned bytes)
{
    uint64_t v = 0;
    CHECK(rest->len >= bytes); /* we wrote it */
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)(uint8_t)rest->ptr[i] << (8 * i);
    *rest = slice_from(*rest, bytes);
    return v;
}

struct session_state session_state_get(struct slice *rest)
{
    struct session_state s = {.number = get(rest, 8)};
    s.floor = get(rest, 8);
    s.present = get(rest, 1);
    return s;
}

static void get_sub(struct slice *rest, struct session_state_item *i)
{
    struct session_filter *f = &i->filter;
    i->since = get(rest, 8);
    f->qos = (uint8_t)get(rest, 1);
    f->retain_handling = (uint8_t)get(rest, 1);
    uint64_t flags = get(rest, 1);
    f->no_local = flags & NO_LOCAL;
    f->as_published = flags & AS_PUBLISHED;
    f->id = (uint32_t)get(rest, 4);
    size_t len = get(rest, 2);
    CHECK(rest->len >= len);
    f->filter = slice_of(rest->ptr, len);
    *rest = slice_from(*rest, len);
}

bool session_state_next(struct slice *rest, struct session_state_item *ret)
{
    struct session_state_item i = {0};
    uint64_t flags;
    if (!rest->len)
        return false;
    i.kind = (enum session_state_kind)get(rest, 1);
    switch (i.kind) {
    case SESSION_STATE_RECEIVED:
        i.item.packet_id = (uint16_t)get(rest, 2);
        break;
    case SESSION_STATE_SUB:
        get_sub(rest, &i);
        break;
    case SESSION_STATE_SENT:
        i.item.place = get(rest, 8);
        i.item.packet_id = (uint16_t)get(rest, 2);
        i.item.qos = (uint8_t)get(rest, 1);
        flags = get(rest, 1);
        i.pubrel = flags & 1;
        i.shared = flags & 2;
        i.retained = flags & 4;
        break;
    case SESSION_STATE_ACKED:
        i.item.place = get(rest, 8);
        break;
    }
    *ret = i;
    return true;
}
