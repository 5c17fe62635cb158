/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sorted array: new messages nearly always go to its end, and a client's window is small. What is
 * over stays until all before it is, so the array also bounds how much is acknowledged out of order
 * (whoever puts looks at `count`).
 */
#include "front/mqtt_flights.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

void flights_fini(struct flights *f)
{
    free(f->list);
    *f = (struct flights){0};
}

static struct flight *insert(struct flights *f, uint64_t place)
{
    if (f->count == f->room) {
        f->room = f->room ? f->room * 2 : 8;
        f->list = realloc(f->list, f->room * sizeof *f->list);
        CHECK(f->list);
    }
    uint32_t at = f->count;
    while (at && f->list[at - 1].place > place)
        at--;
    memmove(f->list + at + 1, f->list + at, (f->count - at) * sizeof *f->list);
    f->count++;
    return &f->list[at];
}

static void count(struct flights *f, uint8_t state, uint32_t by)
{
    if (state == FLIGHT_KEPT)
        f->kept += by;
    if (state == FLIGHT_DONE)
        f->done += by;
}

struct flight *flights_put(struct flights *f, uint64_t place, uint8_t qos, enum flight_state state)
{
    CHECK(f->count - f->done < UINT16_MAX);
    do
        f->last_id = (uint16_t)(f->last_id == UINT16_MAX ? 1 : f->last_id + 1);
    while (flights_find(f, f->last_id));
    struct flight *flight = insert(f, place);
    *flight =
        (struct flight){.place = place, .id = f->last_id, .qos = qos, .state = (uint8_t)state};
    count(f, flight->state, 1);
    return flight;
}

void flights_restore(struct flights *f, const struct flight *restored)
{
    *insert(f, restored->place) = *restored;
    count(f, restored->state, 1);
    if (restored->id > f->last_id)
        f->last_id = restored->id;
}

struct flight *flights_find(struct flights *f, uint16_t id)
{
    for (uint32_t i = 0; i < f->count; i++) {
        if (f->list[i].id == id && f->list[i].state != FLIGHT_DONE)
            return &f->list[i];
    }
    return NULL;
}

struct flight *flights_kept(struct flights *f)
{
    uint32_t i = 0;
    while (f->kept && f->list[i].state != FLIGHT_KEPT)
        i++;
    return f->kept ? &f->list[i] : NULL;
}

void flights_set(struct flights *f, struct flight *flight, enum flight_state state)
{
    count(f, flight->state, UINT32_MAX);
    flight->state = (uint8_t)state;
    count(f, flight->state, 1);
}

uint64_t flights_floor(const struct flights *f, uint64_t next)
{
    for (uint32_t i = 0; i < f->count && f->list[i].place < next; i++) {
        if (f->list[i].state < FLIGHT_RELEASED && !f->list[i].member)
            return f->list[i].place;
    }
    return next;
}

void flights_forget(struct flights *f, uint64_t floor)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < f->count; i++) {
        bool below = f->list[i].place < floor || f->list[i].member;
        if (below && f->list[i].state == FLIGHT_DONE)
            f->done--;
        else
            f->list[kept++] = f->list[i];
    }
    f->count = kept;
}
