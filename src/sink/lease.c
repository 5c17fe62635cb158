/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/lease.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/search.h"

struct lease_blocked {
    uint64_t order;
    uint32_t grant;
};

void leases_init(struct leases *l, uint32_t messages_max, uint64_t bytes_max, uint64_t floor,
                 const uint64_t *had, uint32_t had_count)
{
    *l = (struct leases){
        .messages_max = messages_max, .bytes_max = bytes_max, .next = floor, .due_ns = UINT64_MAX};
    l->had_count = had_count; /* of a wider window, maybe */
    if (!l->had_count)
        return;
    l->had = malloc(l->had_count * sizeof *l->had);
    CHECK(l->had);
    memcpy(l->had, had, l->had_count * sizeof *l->had);
}

void leases_fini(struct leases *l)
{
    for (uint32_t i = l->first; i < l->end; i++)
        free(l->window[i].raw);
    free(l->window);
    free(l->had);
    free(l->blocked);
    *l = (struct leases){0};
}

/* ---- the window ------------------------------------------------------------------------------ */

/* A window without any takes one whatever was done ahead of it: only what is read is passed. */
bool leases_room(const struct leases *l)
{
    uint32_t here = l->end - l->first;
    return (!here || here + l->had_count < l->messages_max) && l->bytes < l->bytes_max;
}

/* Moves what is left to the front, and has room for one more. */
static void make_room(struct leases *l)
{
    if (l->window && l->end < l->messages_max)
        return;
    if (!l->window) {
        l->window = malloc(l->messages_max * sizeof *l->window);
        CHECK(l->window);
    }
    memmove(l->window, l->window + l->first, (l->end - l->first) * sizeof *l->window);
    l->end -= l->first;
    l->first = 0;
    CHECK(l->end < l->messages_max);
}

/* Whether it was done before the window came there; then it is in the window now. */
static bool take_had(struct leases *l, uint64_t offset)
{
    if (!l->had_count || l->had[0] != offset)
        return false;
    l->had_count--;
    memmove(l->had, l->had + 1, l->had_count * sizeof *l->had);
    return true;
}

void leases_pass(struct leases *l, uint64_t next)
{
    CHECK(next >= l->next);
    l->next = next;
    while (l->had_count && l->had[0] < next) /* of a message that is wanted no more */
        take_had(l, l->had[0]);
}

void leases_add(struct leases *l, uint64_t offset, uint64_t order, struct slice raw)
{
    CHECK(offset >= l->next);
    leases_pass(l, offset);
    l->next = offset + 1;
    bool done = take_had(l, offset);
    if (done && l->first == l->end)
        return; /* everything before is done too */
    make_room(l);
    struct lease_message *m = &l->window[l->end++];
    *m = (struct lease_message){
        .offset = offset, .order = order, .state = done ? LEASE_DONE : LEASE_FREE};
    if (done)
        return;
    m->raw = malloc(raw.len ? raw.len : 1);
    CHECK(m->raw);
    memcpy(m->raw, raw.ptr, raw.len);
    m->bytes = (uint32_t)raw.len;
    l->bytes += raw.len;
    l->undone++;
}

uint64_t leases_floor(const struct leases *l)
{
    return l->first < l->end ? l->window[l->first].offset : l->next;
}

uint32_t leases_done(const struct leases *l, uint64_t *ret)
{
    uint32_t n = 0;
    for (uint32_t i = l->first; i < l->end; i++) {
        if (l->window[i].state != LEASE_DONE)
            continue;
        if (ret)
            ret[n] = l->window[i].offset;
        n++;
    }
    if (ret && l->had_count)
        memcpy(ret + n, l->had, l->had_count * sizeof *l->had);
    return n + l->had_count;
}

/* NULL: there is none. */
static struct lease_message *find(struct leases *l, uint64_t offset)
{
    if (l->first == l->end)
        return NULL;
    struct lease_message *first = l->window + l->first, *end = l->window + l->end;
    struct lease_message *m = first + SEARCH_FROM(first, l->end - l->first, offset, offset);
    return m < end && m->offset == offset ? m : NULL;
}

/* ---- changes of one message ------------------------------------------------------------------ */

static void wake_at(struct leases *l, uint64_t due_ns)
{
    if (due_ns < l->due_ns)
        l->due_ns = due_ns;
}

/* Nobody has it any more. */
static void let_go(struct leases *l, struct lease_message *m)
{
    l->out--;
    if (m->holder)
        m->holder->has--;
    m->holder = NULL;
}

void leases_drop(struct leases *l, struct lease_message *m)
{
    CHECK(m->state != LEASE_DONE);
    if (m->state == LEASE_OUT)
        let_go(l, m);
    l->undone--;
    l->bytes -= m->bytes;
    free(m->raw);
    m->raw = NULL;
    m->state = LEASE_DONE;
    while (l->first < l->end && l->window[l->first].state == LEASE_DONE)
        l->first++;
}

static void give_back(struct leases *l, struct lease_message *m, uint64_t due_ns)
{
    let_go(l, m);
    m->state = LEASE_FREE;
    m->due_ns = due_ns;
    if (due_ns)
        wake_at(l, due_ns);
}

/* The later ones of its order that the same lease has: they must not be done before it. */
static uint32_t give_back_behind(struct leases *l, struct lease_message *m, bool untried)
{
    uint32_t n = 0;
    for (struct lease_message *o = m + 1; o < l->window + l->end; o++) {
        if (o->state != LEASE_OUT || o->order != m->order || o->lease != m->lease)
            continue;
        give_back(l, o, 0);
        o->deliveries -= untried;
        n++;
    }
    return n;
}

/* ---- grants ---------------------------------------------------------------------------------- */

/* Whether the order is blocked for this grant; blocks it if it is told to. */
static bool blocked(struct leases *l, uint64_t order, bool block)
{
    uint64_t hash = order * 0x9e3779b97f4a7c15ull;
    uint32_t mask = l->blocked_size - 1, at = (uint32_t)(hash >> 32) & mask;
    while (l->blocked[at].grant == l->grant) {
        if (l->blocked[at].order == order)
            return true;
        at = (at + 1) & mask;
    }
    if (block)
        l->blocked[at] = (struct lease_blocked){order, l->grant};
    return false;
}

/* An empty table that the orders of all messages fit in. */
static void unblock(struct leases *l)
{
    if (!l->blocked) {
        l->blocked_size = 16;
        while (l->blocked_size < 2 * l->messages_max)
            l->blocked_size *= 2;
        l->blocked = calloc(l->blocked_size, sizeof *l->blocked);
        CHECK(l->blocked);
    }
    if (++l->grant == 0) {
        memset(l->blocked, 0, l->blocked_size * sizeof *l->blocked);
        l->grant = 1;
    }
}

uint32_t leases_grant(struct leases *l, const struct lease_terms *t, struct lease_message **ret)
{
    uint32_t n = 0;
    uint64_t bytes = 0;
    if (l->undone == l->out)
        return 0;
    unblock(l);
    for (uint32_t i = l->first; i < l->end && n < t->messages_max && bytes < t->bytes_max; i++) {
        struct lease_message *m = &l->window[i];
        if (m->state == LEASE_DONE)
            continue;
        bool free_now = m->state == LEASE_FREE && m->due_ns <= t->now_ns;
        if (blocked(l, m->order, !free_now) || !free_now)
            continue;
        m->state = LEASE_OUT;
        m->lease = t->lease;
        m->due_ns = t->end_ns;
        m->deliveries++;
        m->holder = t->holder;
        if (m->holder)
            m->holder->has++;
        l->out++;
        bytes += m->bytes;
        ret[n++] = m;
    }
    if (n)
        wake_at(l, t->end_ns);
    return n;
}

/* ---- what the holder of a lease says --------------------------------------------------------- */

/* Told of a message that the window has not come to again since the restart. */
static enum lease_outcome ack_ahead(struct leases *l, uint64_t offset)
{
    uint32_t at = l->had_count;
    while (at && l->had[at - 1] >= offset)
        at--;
    if (at < l->had_count && l->had[at] == offset)
        return LEASE_OK;
    if (l->end - l->first + l->had_count >= l->messages_max)
        return LEASE_STALE;
    uint64_t *grown = realloc(l->had, (l->had_count + 1) * sizeof *l->had);
    CHECK(grown);
    l->had = grown;
    memmove(l->had + at + 1, l->had + at, (l->had_count - at) * sizeof *l->had);
    l->had[at] = offset;
    l->had_count++;
    return LEASE_OK;
}

enum lease_outcome leases_ack(struct leases *l, uint64_t offset, uint64_t lease, bool known)
{
    if (offset < leases_floor(l))
        return LEASE_OK;
    if (offset >= l->next)
        return known ? LEASE_STALE : ack_ahead(l, offset);
    struct lease_message *m = find(l, offset);
    if (!m)
        return LEASE_STALE;
    if (m->state == LEASE_DONE)
        return LEASE_OK;
    if (known ? !m->lease || m->lease != lease : m->lease != 0)
        return LEASE_STALE;
    leases_drop(l, m);
    return LEASE_OK;
}

static struct lease_message *held(struct leases *l, uint64_t offset, uint64_t lease)
{
    struct lease_message *m = find(l, offset);
    return m && m->state == LEASE_OUT && m->lease == lease ? m : NULL;
}

enum lease_outcome leases_nack(struct leases *l, uint64_t offset, uint64_t lease, uint64_t due_ns)
{
    struct lease_message *m = held(l, offset, lease);
    if (!m)
        return LEASE_STALE;
    give_back(l, m, due_ns);
    give_back_behind(l, m, true);
    return LEASE_OK;
}

enum lease_outcome leases_extend(struct leases *l, uint64_t offset, uint64_t lease, uint64_t end_ns)
{
    struct lease_message *m = held(l, offset, lease);
    if (!m)
        return LEASE_STALE;
    m->due_ns = end_ns;
    wake_at(l, end_ns);
    return LEASE_OK;
}

void leases_return(struct leases *l, uint64_t lease)
{
    for (uint32_t i = l->first; i < l->end; i++) {
        struct lease_message *m = &l->window[i];
        if (m->state != LEASE_OUT || m->lease != lease)
            continue;
        give_back(l, m, 0);
        m->deliveries--;
    }
}

void leases_leave(struct leases *l, struct lease_holder *holder)
{
    for (uint32_t i = l->first; i < l->end && holder->has; i++)
        if (l->window[i].holder == holder)
            give_back(l, &l->window[i], 0);
    CHECK(!holder->has);
}

uint32_t leases_expire(struct leases *l, uint64_t now_ns)
{
    uint32_t n = 0;
    if (now_ns < l->due_ns)
        return 0;
    l->due_ns = UINT64_MAX;
    for (uint32_t i = l->first; i < l->end; i++) {
        struct lease_message *m = &l->window[i];
        if (m->state == LEASE_OUT && m->due_ns <= now_ns) {
            give_back(l, m, 0);
            n += 1 + give_back_behind(l, m, false);
        } else if (m->state != LEASE_DONE && m->due_ns > now_ns) {
            wake_at(l, m->due_ns);
        }
    }
    return n;
}
