/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "codec/topic.h"
#include "journal/format.h"
#include "sink/consume_private.h"
#include "sink/course.h"

#define FIXED           40u /* account, floor, made, used, two lengths, number of offsets */
#define ANSWERS_AT_ONCE 16u /* to one group; then it is another's turn */
#define READ_ON_NS      (5 * NS_PER_S) /* that a wait is longer, while the journal is read for it */

#define U(v) (unsigned long long)(v)

/* ---- life ------------------------------------------------------------------------------------ */

struct consume_group *consume_group_new(struct consume *c, uint64_t account, struct slice name,
                                        struct slice feeds, uint64_t floor, const uint64_t *had,
                                        uint32_t had_count)
{
    struct consume_group *g = calloc(1, sizeof *g);
    CHECK(g && name.len < sizeof g->name && feeds.len < sizeof g->feeds);
    g->c = c;
    g->account = account;
    memcpy(g->name, name.ptr, name.len);
    if (feeds.len)
        memcpy(g->feeds, feeds.ptr, feeds.len);
    g->waiting_last = &g->waiting;
    g->end_ns = UINT64_MAX;
    g->created_us = g->used_us = clock_wall_us();
    leases_init(&g->leases, c->opts.window_messages, c->opts.window_bytes, floor, had, had_count);
    g->next = c->groups;
    c->groups = g;
    c->groups_count++;
    return g;
}

void consume_group_free(struct consume_group *g)
{
    struct consume_group **at = &g->c->groups;
    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    g->c->groups_count--;
    consume_group_rest(g);
    leases_fini(&g->leases);
    while (g->consumers) {
        struct consumer *who = g->consumers;
        g->consumers = who->next;
        free(who);
    }
    free(g);
}

struct consume_group *consume_group_find(struct consume *c, uint64_t account, struct slice name)
{
    struct consume_group *g = c->groups;
    while (g && !(g->account == account && slice_eq(slice_str(g->name), name)))
        g = g->next;
    return g;
}

/* ---- in the file ----------------------------------------------------------------------------- */

void consume_group_encode(const struct consume_group *g, struct buf *out)
{
    size_t name = strlen(g->name), feeds = strlen(g->feeds);
    uint32_t n = leases_done(&g->leases, NULL);
    uint64_t *done = malloc((n + 1) * sizeof *done);
    CHECK(done);
    leases_done(&g->leases, done);
    buf_put_u64(out, g->account);
    buf_put_u64(out, leases_floor(&g->leases));
    buf_put_u64(out, (uint64_t)g->created_us);
    buf_put_u64(out, (uint64_t)g->used_us);
    buf_put_u8(out, (uint8_t)name);
    buf_put_u8(out, 0);
    buf_put_u8(out, (uint8_t)feeds);
    buf_put_u8(out, (uint8_t)(feeds >> 8));
    buf_put_u32(out, n);
    buf_put(out, g->name, name);
    buf_put(out, g->feeds, feeds);
    for (uint32_t i = 0; i < n; i++)
        buf_put_u64(out, done[i]);
    free(done);
}

static bool all_ascend(const uint64_t *offsets, uint32_t count, uint64_t floor)
{
    for (uint32_t i = 0; i < count; i++)
        if (offsets[i] < (i ? offsets[i - 1] + 1 : floor))
            return false;
    return true;
}

bool consume_group_decode(struct consume *c, struct slice entry)
{
    if (entry.len < FIXED)
        return false;
    const char *p = entry.ptr;
    size_t name_len = (uint8_t)p[32], feeds_len = le16_get(p + 34);
    uint32_t n = le32_get(p + 36);
    uint64_t floor = le64_get(p + 8);
    if (!name_len || name_len > CONSUME_GROUP_MAX || feeds_len > CONSUME_FEEDS_MAX ||
        n > (1u << 24) || entry.len != FIXED + name_len + feeds_len + 8ull * n)
        return false;
    struct slice name = slice_of(p + FIXED, name_len);
    struct slice feeds = slice_of(p + FIXED + name_len, feeds_len);
    uint64_t *had = calloc(n + 1, sizeof *had);
    CHECK(had);
    for (uint32_t i = 0; i < n; i++)
        had[i] = le64_get(p + FIXED + name_len + feeds_len + 8ull * i);
    bool good = all_ascend(had, n, floor);
    if (good) {
        struct consume_group *g = consume_group_find(c, le64_get(p), name);
        if (g)
            consume_group_free(g);
        g = consume_group_new(c, le64_get(p), name, feeds, floor, had, n);
        g->created_us = (int64_t)le64_get(p + 16);
        g->used_us = g->written_us = (int64_t)le64_get(p + 24);
        g->written = floor;
    }
    free(had);
    return good;
}

/* What is acknowledged above the floor was read, too. */
static bool on_place(void *arg, struct slice entry)
{
    uint64_t *furthest = arg, at;
    if (entry.len < FIXED)
        return false;
    uint32_t n = le32_get(entry.ptr + 36);
    at = le64_get(entry.ptr + 8);
    if (n && entry.len >= FIXED + 8)
        at = le64_get(entry.ptr + entry.len - 8) + 1;
    *furthest = at > *furthest ? at : *furthest;
    return true;
}

bool consume_beyond(struct disk *disk, const char *path, const uint8_t log_id[16], uint64_t end,
                    uint64_t *ret)
{
    struct group_file *f;
    uint64_t at = 0;
    if (group_file_open(disk, path, log_id, on_place, &at, &f, NULL) != 0)
        return false;
    group_file_close(f);
    *ret = at;
    return at > end;
}

/* ---- who may --------------------------------------------------------------------------------- */

/* Whether the pattern of a credential matches all that another pattern does. */
static bool covers(struct slice own, struct slice pattern)
{
    if (own.len && own.ptr[own.len - 1] == '*')
        return slice_starts(pattern, slice_of(own.ptr, own.len - 1));
    return slice_eq(own, pattern);
}

static bool any_covers(const struct credential *c, struct slice pattern)
{
    for (uint16_t i = 0; i < c->patterns_count; i++)
        if (covers(c->patterns[i], pattern))
            return true;
    return c->patterns_count == 0;
}

bool consume_group_is_for(const struct consume_group *g, const struct credential *c)
{
    struct slice rest = slice_str(g->feeds), item;
    bool all_topics = !c->topics || topic_rules_cover(c->topics->subscribe, c->name, SLICE("#"));
    if (!rest.len)
        return c->patterns_count == 0 && all_topics;
    while (course_item(&rest, &item))
        if (!any_covers(c, item))
            return false;
    return true;
}

/* ---- reading the journal --------------------------------------------------------------------- */

/* Topics that are no feeds have an order each, too. */
static uint64_t order_of(const struct record *r)
{
    uint64_t hash = 0xcbf29ce484222325ull; /* FNV-1a */
    if (r->kind == RECORD_DATUM)
        return r->feed;
    for (size_t i = 0; i < r->topic.len; i++)
        hash = (hash ^ (unsigned char)r->topic.ptr[i]) * 0x100000001b3ull;
    return hash | 1ull << 63;
}

static bool wanted(const struct consume_group *g, const struct record *r)
{
    if (r->account != g->account)
        return false;
    if (r->kind == RECORD_PUBLISH)
        return !g->feeds[0];
    if (r->kind != RECORD_DATUM)
        return false;
    if (!g->feeds[0])
        return true;
    struct sink_names names = {{0}, {0}, {0}};
    g->c->opts.names(g->c->opts.arg, r, &names);
    return names.feed.len && course_listed(g->feeds, names.feed);
}

static bool enough(const struct consume_group *g, uint32_t want)
{
    return g->leases.undone - g->leases.out >= want;
}

/* Takes records of what the journal gave, until that is used up or there is enough. */
static void take(struct consume_group *g, uint32_t want)
{
    struct record r;
    while (g->given_left && !enough(g, want) && leases_room(&g->leases)) {
        size_t at = g->given_at;
        if (journal_batch_record(&g->given, &g->given_at, &r) <= 0) {
            /* The batch had a right checksum: trying again cannot help. */
            log_line(LOG_ERROR, "consume.bad_batch", "skipped_from=%llu records=%llu",
                     U(g->given_offset), U(g->given_left));
            g->given_offset += g->given_left;
            g->given_left = 0;
            break;
        }
        if (g->given_offset >= g->leases.next && wanted(g, &r))
            leases_add(&g->leases, g->given_offset, order_of(&r),
                       slice_of(g->given.body.ptr + at, g->given_at - at));
        g->given_offset++;
        g->given_left--;
    }
    if (g->given_offset > g->leases.next)
        leases_pass(&g->leases, g->given_offset);
}

static void on_gap(struct consume_group *g, uint64_t to)
{
    log_line(LOG_WARN, "consume.gap", "account=%llu group=%s from=%llu to=%llu", U(g->account),
             g->name, U(g->given.first_offset), U(to));
    if (g->missed_to == g->missed_from)
        g->missed_from = g->given.first_offset;
    g->missed_to = to;
    g->stats.missed += to - g->given.first_offset;
    metric_add(METRIC_consume_missed, to - g->given.first_offset);
    g->given_left = 0;
    leases_pass(&g->leases, to);
}

/* Asks the journal for more. False: there is none now. */
static bool more(struct consume_group *g)
{
    struct error err = {""};
    int rc = 0;
    if (!g->reader)
        rc = journal_reader_open(
            g->c->opts.journal,
            &(struct journal_reader_opts){.has_start = true, .start = g->leases.next}, &g->reader,
            &err);
    if (!rc)
        rc = journal_reader_next(g->reader, &g->given);
    if (rc < 0)
        log_line(LOG_ERROR, "consume.read_failed", "group=%s offset=%llu error=%s", g->name,
                 U(g->leases.next), strerror(-rc));
    if (rc < 0 || rc == JOURNAL_WAIT)
        return false;
    g->given_at = 0;
    g->given_offset = g->given.first_offset;
    g->given_left = g->given.count;
    if (rc == JOURNAL_GAP)
        on_gap(g, journal_reader_offset(g->reader));
    return true;
}

enum filled { FILLED_ENOUGH, FILLED_FULL, FILLED_END, FILLED_MORE };

/* Reads until so many messages are with nobody. */
static enum filled fill(struct consume_group *g, uint32_t want)
{
    for (unsigned batches = 0;;) {
        if (enough(g, want))
            return FILLED_ENOUGH;
        if (!leases_room(&g->leases))
            return FILLED_FULL;
        if (g->given_left)
            take(g, want);
        else if (batches++ == CONSUME_READ_BATCHES)
            return FILLED_MORE;
        else if (!more(g))
            return FILLED_END;
    }
}

void consume_group_rest(struct consume_group *g)
{
    journal_reader_close(g->reader);
    g->reader = NULL;
    g->given_left = 0;
}

/* ---- answers --------------------------------------------------------------------------------- */

/* `at` is where the list has it. */
static struct consume_ask *take_ask(struct consume_group *g, struct consume_ask **at)
{
    struct consume_ask *ask = *at;
    *at = ask->next;
    if (!ask->next)
        g->waiting_last = at;
    ask->next = NULL;
    return ask;
}

/* It waits no more. */
static void answer(struct consume_group *g, struct consume_ask *ask)
{
    g->waiting_count--;
    g->c->changed = true;
    if (ask->reason == REASON_ok) {
        buf_put_str(ask->out, ask->count ? "]}" : "{\"messages\":[]}");
        ask->missed_from = g->missed_from;
        ask->missed_to = g->missed_to;
        g->missed_from = g->missed_to = 0;
    }
    ask->done(ask);
}

static void count_delivery(struct consume_group *g, const struct lease_message *m)
{
    bool again = m->deliveries > 1;
    g->stats.delivered++;
    g->stats.redelivered += again;
    metric_add(METRIC_consume_delivered, 1);
    metric_add(METRIC_consume_redelivered, again);
}

/* How many messages may be handed out to it now. */
static uint32_t room(const struct consume_ask *ask)
{
    const struct consumer *who = ask->who;
    if (!who)
        return ask->max;
    uint32_t left = who->credit > who->holder.has ? who->credit - who->holder.has : 0;
    return left < ask->max ? left : ask->max;
}

/* Hands out what may be. False: there is nothing. */
static bool give(struct consume_group *g, struct consume_ask *ask, uint64_t now_ns)
{
    struct consume *c = g->c;
    const struct lease_terms terms = {.lease = c->leases,
                                      .now_ns = now_ns,
                                      .end_ns = now_ns + ask->lease_ns,
                                      .messages_max = room(ask),
                                      .bytes_max = CONSUME_ANSWER_BYTES,
                                      .holder = ask->who ? &ask->who->holder : NULL};
    uint32_t n = leases_grant(&g->leases, &terms, c->granted);
    c->leases += n > 0;
    buf_clear(ask->out);
    for (uint32_t i = 0; i < n; i++) {
        buf_put_str(ask->out, ask->count ? "," : "{\"messages\":[");
        size_t was = ask->out->len;
        if (consume_message_put(c, c->granted[i], ask->out)) {
            count_delivery(g, c->granted[i]);
            ask->count++;
            continue;
        }
        ask->out->len = ask->count ? was - 1 : 0;
        leases_drop(&g->leases, c->granted[i]);
    }
    ask->lease = terms.lease;
    if (!ask->out->failed)
        return ask->count > 0;
    leases_return(&g->leases, terms.lease);
    buf_clear(ask->out);
    ask->count = 0;
    ask->reason = REASON_busy;
    return true;
}

static bool give_to(struct consume_group *g, struct consume_ask *ask, uint64_t now_ns,
                    enum filled *ret_filled)
{
    uint32_t most = room(ask), want = most;
    for (;;) {
        *ret_filled = fill(g, want);
        if (give(g, ask, now_ns))
            return true;
        if (*ret_filled != FILLED_ENOUGH)
            return false;
        want = g->leases.undone - g->leases.out + most; /* those there may not be given now */
    }
}

void consume_group_wait(struct consume_group *g, struct consume_ask *ask)
{
    *g->waiting_last = ask;
    g->waiting_last = &ask->next;
    if (ask->end_ns < g->end_ns)
        g->end_ns = ask->end_ns;
}

/* Those who have waited enough; the others stay in their order. */
static void answer_late(struct consume_group *g, uint64_t now_ns)
{
    unsigned n = g->waiting_count;
    g->end_ns = UINT64_MAX;
    while (n--) {
        struct consume_ask *ask = take_ask(g, &g->waiting);
        if (ask->end_ns <= now_ns)
            answer(g, ask);
        else
            consume_group_wait(g, ask);
    }
}

/* To those who wait, in their order, but not to a consumer that has all it may have. How many. */
static unsigned give_to_all(struct consume_group *g, uint64_t now_ns, enum filled *ret_filled)
{
    unsigned answers = 0;
    struct consume_ask **at = &g->waiting;
    while (*at && answers < ANSWERS_AT_ONCE) {
        if (!room(*at)) {
            at = &(*at)->next;
            continue;
        }
        if (!give_to(g, *at, now_ns, ret_filled))
            break;
        answer(g, take_ask(g, at));
        answers++;
    }
    return answers;
}

bool consume_group_serve(struct consume_group *g, uint64_t now_ns)
{
    enum filled filled = FILLED_END;
    uint32_t expired = leases_expire(&g->leases, now_ns);
    if (expired) {
        g->stats.expired += expired;
        metric_add(METRIC_consume_expired, expired);
        g->c->changed = true;
    }
    if (g->waiting)
        g->read_ns = now_ns;
    unsigned answers = give_to_all(g, now_ns, &filled);
    /* Nobody is told that there is nothing before it was looked for. */
    bool again = g->waiting && (answers == ANSWERS_AT_ONCE || filled == FILLED_MORE);
    uint64_t late_ns = again ? now_ns - READ_ON_NS : now_ns;
    if (late_ns <= now_ns && late_ns >= g->end_ns)
        answer_late(g, late_ns);
    return again;
}

void consume_group_send_away(struct consume_group *g, enum reason reason, const char *text)
{
    while (g->waiting) {
        struct consume_ask *ask = take_ask(g, &g->waiting);
        ask->reason = reason;
        snprintf(ask->text, sizeof ask->text, "%s", text);
        answer(g, ask);
    }
}

/* ---- consumers that last --------------------------------------------------------------------- */

struct consumer *consume_group_consumer(struct consume_group *g, uint64_t number)
{
    struct consumer *who = g->consumers;
    while (who && who->number != number)
        who = who->next;
    return who;
}

void consume_group_join(struct consume_group *g, uint64_t number, uint32_t credit)
{
    struct consumer *who = calloc(1, sizeof *who);
    CHECK(who);
    who->number = number;
    who->credit = credit;
    who->next = g->consumers;
    g->consumers = who;
    g->consumers_count++;
}

void consume_group_leave(struct consume_group *g, struct consumer *who)
{
    struct consume_ask **at = &g->waiting;
    while (*at) {
        if ((*at)->who == who)
            answer(g, take_ask(g, at));
        else
            at = &(*at)->next;
    }
    leases_leave(&g->leases, &who->holder);
    struct consumer **place = &g->consumers;
    while (*place != who)
        place = &(*place)->next;
    *place = who->next;
    g->consumers_count--;
    free(who);
}
