/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups of shared subscriptions that sessions have: how far what matched each is settled, which is
 * where the group is gone on with after a restart (decision 0069). A group is made with the first
 * session that has the subscription and gone with the last; what is known of it comes from the
 * records that its members write.
 *
 * At most SHARE_GIVEN_MAX places are held above the floor, and as many as there is memory for: then
 * the floor rises, and what was left out below it is dropped, which is counted.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <stdlib.h>

#include "base/check.h"
#include "view/sessions_own.h"

static bool is_shared(struct slice filter)
{
    return slice_starts(filter, SLICE("$share/"));
}

static struct session_group **find(struct sessions *t, uint64_t account, struct slice filter)
{
    uint64_t hash = XXH3_64bits_withSeed(filter.ptr, filter.len, t->seed ^ account);
    struct session_group **at = &t->groups[hash & (SESSION_GROUP_BUCKETS - 1)];
    while (*at && ((*at)->hash != hash || (*at)->account->number != account ||
                   !slice_eq((*at)->filter, filter)))
        at = &(*at)->next;
    return at;
}

/* It is small beside the subscriptions, which are counted. */
static struct session_group *group_new(struct sessions *t, struct session_account *a,
                                       struct slice filter)
{
    struct session_group *g = calloc(1, sizeof *g + filter.len);
    CHECK(g);
    memcpy(g + 1, filter.ptr, filter.len);
    g->filter = slice_of(g + 1, filter.len);
    g->account = a;
    g->hash = XXH3_64bits_withSeed(filter.ptr, filter.len, t->seed ^ a->number);
    return g;
}

void groups_join(struct sessions *t, struct session_account *a, uint32_t key_id,
                 struct slice filter, uint64_t since)
{
    if (!is_shared(filter))
        return;
    struct session_group **at = find(t, a->number, filter);
    if (!*at) {
        *at = group_new(t, a, filter);
        (*at)->since = since;
    }
    (*at)->sessions++;
    (*at)->key_id = key_id;
}

/* ---- places ---------------------------------------------------------------------------------- */

/* Places that an array of so many takes in memory: the next power of two. */
static uint32_t room_of(uint32_t count)
{
    uint32_t room = count != 0;
    while (room < count)
        room *= 2;
    return room;
}

/* The array is for that many now, and so is the memory that is counted. */
static void resize(struct sessions *t, struct session_group *g, uint32_t count)
{
    uint32_t before = room_of(g->given_count), room = room_of(count);
    g->given_count = count;
    if (room == before)
        return;
    sessions_count(t, g->account, ((int64_t)room - before) * (int64_t)sizeof *g->given);
    if (!room) {
        free(g->given);
        g->given = NULL;
        return;
    }
    g->given = realloc(g->given, room * sizeof *g->given);
    CHECK(g->given);
}

/* The first that is not below. */
static uint32_t place_at(const struct session_group *g, uint64_t place)
{
    uint32_t low = 0, high = g->given_count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (g->given[mid] < place)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Takes `n` places at `at` out. */
static void cut(struct sessions *t, struct session_group *g, uint32_t at, uint32_t n)
{
    if (!n)
        return;
    memmove(g->given + at, g->given + at + n, (g->given_count - at - n) * sizeof *g->given);
    resize(t, g, g->given_count - n);
}

static void raise_floor(struct sessions *t, struct session_group *g, uint64_t floor)
{
    if (floor <= g->floor)
        return;
    g->floor = floor > g->since ? floor : g->since;
    cut(t, g, 0, place_at(g, session_place(g->floor, 0)));
}

static bool may_grow(const struct sessions *t, const struct session_group *g)
{
    uint64_t more = room_of(g->given_count + 1) - room_of(g->given_count);
    return g->given_count < SHARE_GIVEN_MAX &&
           more * sizeof *g->given <= sessions_memory_left(t, g->account);
}

/* It is settled, or somebody's to settle. */
static void put(struct sessions *t, struct session_group *g, uint64_t place)
{
    if (!may_grow(t, g)) {
        uint64_t first = g->given_count && g->given[0] < place ? g->given[0] : place;
        raise_floor(t, g, first / SESSION_PARTS + 1);
        sessions_drop(t, 1);
    }
    uint32_t at = place_at(g, place), behind = g->given_count - at;
    if (place < session_place(g->floor, 0) || (behind && g->given[at] == place))
        return;
    resize(t, g, g->given_count + 1);
    memmove(g->given + at + 1, g->given + at, behind * sizeof *g->given);
    g->given[at] = place;
}

static void take_back(struct sessions *t, struct session_group *g, uint64_t place)
{
    uint32_t at = place_at(g, place);
    if (at < g->given_count && g->given[at] == place)
        cut(t, g, at, 1);
}

/* ---- from records and snapshots -------------------------------------------------------------- */

void groups_leave(struct sessions *t, const struct session_account *a, struct slice filter)
{
    struct session_group **at = find(t, a->number, filter), *g = *at;
    if (!g || --g->sessions)
        return;
    resize(t, g, 0);
    *at = g->next;
    free(g);
}

void groups_apply(struct sessions *t, const struct record *r, const struct session_record *event)
{
    struct session_group *g = *find(t, r->account, event->filter.filter);
    struct slice list = event->list;
    struct session_item item = {0};
    if (!g)
        return;
    raise_floor(t, g, event->floor);
    while (session_next_item(event, &list, &item)) {
        if (event->event == SESSION_GIVEN)
            put(t, g, item.place);
        else
            take_back(t, g, item.place);
    }
}

void groups_load(struct sessions *t, uint64_t account, struct slice filter, uint64_t floor,
                 uint64_t *given, uint32_t count)
{
    struct session_group *g = *find(t, account, filter);
    if (!g) {
        free(given);
        return;
    }
    resize(t, g, 0);
    g->floor = floor;
    resize(t, g, count);
    if (count)
        memcpy(g->given, given, count * sizeof *given);
    free(given);
}

/* ---- reading --------------------------------------------------------------------------------- */

bool sessions_group_floor(struct sessions *t, uint64_t account, struct slice filter,
                          uint64_t *ret_floor)
{
    pthread_mutex_lock(&t->lock);
    const struct session_group *g = *find(t, account, filter);
    *ret_floor = g ? g->floor : 0;
    pthread_mutex_unlock(&t->lock);
    return g != NULL;
}

uint64_t *sessions_group_given(struct sessions *t, uint64_t account, struct slice filter,
                               uint64_t *ret_floor, uint32_t *ret_count)
{
    pthread_mutex_lock(&t->lock);
    const struct session_group *g = *find(t, account, filter);
    uint32_t count = g ? g->given_count : 0;
    uint64_t *given = calloc(count + 1ul, sizeof *given);
    CHECK(given);
    if (count)
        memcpy(given, g->given, count * sizeof *given);
    *ret_floor = g ? g->floor : 0;
    pthread_mutex_unlock(&t->lock);
    *ret_count = count;
    return given;
}
