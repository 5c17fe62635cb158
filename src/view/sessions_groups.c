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

static size_t bytes_of(const struct session_group *g)
{
    return sizeof *g + g->filter.len + ascending_bytes(&g->given);
}

static struct session_group *group_new(struct sessions *t, struct session_account *a,
                                       struct slice filter)
{
    struct session_group *g = calloc(1, sizeof *g + filter.len);
    CHECK(g);
    memcpy(g + 1, filter.ptr, filter.len);
    g->filter = slice_of(g + 1, filter.len);
    g->account = a;
    g->hash = XXH3_64bits_withSeed(filter.ptr, filter.len, t->seed ^ a->number);
    sessions_count(t, a, (int64_t)bytes_of(g)); /* its session was found room */
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

/* Counts how its memory has changed. */
static void weigh(struct sessions *t, struct session_group *g, size_t before)
{
    sessions_count(t, g->account, (int64_t)ascending_bytes(&g->given) - (int64_t)before);
}

static void raise_floor(struct sessions *t, struct session_group *g, uint64_t floor)
{
    size_t before = ascending_bytes(&g->given);
    if (floor <= g->floor)
        return;
    g->floor = floor > g->since ? floor : g->since;
    ascending_cut(&g->given, ascending_find(&g->given, session_place(g->floor, 0)));
    weigh(t, g, before);
}

static bool may_grow(const struct sessions *t, const struct session_group *g)
{
    return g->given.count < SHARE_GIVEN_MAX &&
           ascending_growth(&g->given) <= sessions_memory_left(t, g->account);
}

static bool is_there(const struct session_group *g, uint64_t place)
{
    uint32_t at = ascending_find(&g->given, place);
    return at < g->given.count && ascending_at(&g->given, at) == place;
}

/* It is settled, or somebody's to settle. */
static void put(struct sessions *t, struct session_group *g, uint64_t place)
{
    if (place < session_place(g->floor, 0) || is_there(g, place))
        return;
    if (!may_grow(t, g)) {
        uint64_t first = g->given.count ? ascending_at(&g->given, 0) : place;
        raise_floor(t, g, (first < place ? first : place) / SESSION_PARTS + 1);
        sessions_drop(t, 1);
    }
    if (place < session_place(g->floor, 0))
        return;
    size_t before = ascending_bytes(&g->given);
    (void)ascending_put(&g->given, place);
    weigh(t, g, before);
}

static void take_back(struct sessions *t, struct session_group *g, uint64_t place)
{
    size_t before = ascending_bytes(&g->given);
    (void)ascending_take(&g->given, place);
    weigh(t, g, before);
}

/* ---- from records and snapshots -------------------------------------------------------------- */

void groups_leave(struct sessions *t, const struct session_account *a, struct slice filter)
{
    struct session_group **at = find(t, a->number, filter), *g = *at;
    if (!g || --g->sessions)
        return;
    sessions_count(t, g->account, -(int64_t)bytes_of(g));
    ascending_fini(&g->given);
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
                 struct ascending *given)
{
    struct session_group *g = *find(t, account, filter);
    if (!g)
        return;
    size_t before = ascending_bytes(&g->given);
    ascending_fini(&g->given);
    g->floor = floor;
    g->given = *given;
    *given = (struct ascending){0};
    weigh(t, g, before);
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
    uint32_t count = g ? g->given.count : 0;
    uint64_t *given = calloc(count + 1ul, sizeof *given);
    CHECK(given);
    if (g)
        ascending_copy(&g->given, given);
    *ret_floor = g ? g->floor : 0;
    pthread_mutex_unlock(&t->lock);
    *ret_count = count;
    return given;
}
