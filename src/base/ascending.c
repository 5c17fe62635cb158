/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring doubles when it is full, and halves when a quarter of it is in use, so that numbers that
 * come and go do not make it do either each time.
 */
#include "base/ascending.h"

#include <stdlib.h>

#include "base/check.h"

#define ROOM_MIN 8u

void ascending_fini(struct ascending *a)
{
    free(a->list);
    *a = (struct ascending){0};
}

static uint64_t *slot(struct ascending *a, uint32_t i)
{
    return &a->list[(a->first + i) & (a->room - 1)];
}

static void resize(struct ascending *a, uint32_t room)
{
    uint64_t *list = calloc(room, sizeof *list);
    CHECK(list);
    ascending_copy(a, list);
    free(a->list);
    a->list = list;
    a->first = 0;
    a->room = room;
}

static void shrink(struct ascending *a)
{
    uint32_t room = a->room;
    while (room > ROOM_MIN && a->count <= room / 4)
        room /= 2;
    if (room < a->room)
        resize(a, room);
}

uint32_t ascending_find(const struct ascending *a, uint64_t number)
{
    uint32_t low = 0, high = a->count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (ascending_at(a, mid) < number)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

bool ascending_put(struct ascending *a, uint64_t number)
{
    bool last = !a->count || ascending_at(a, a->count - 1) < number;
    uint32_t at = last ? a->count : ascending_find(a, number);
    if (!last && ascending_at(a, at) == number)
        return false;
    if (a->count == a->room) {
        CHECK(a->room <= UINT32_MAX / 2);
        resize(a, a->room ? a->room * 2 : ROOM_MIN);
    }
    a->count++;
    if (at < a->count / 2) {
        a->first--;
        for (uint32_t i = 0; i < at; i++)
            *slot(a, i) = ascending_at(a, i + 1);
    } else {
        for (uint32_t i = a->count - 1; i > at; i--)
            *slot(a, i) = ascending_at(a, i - 1);
    }
    *slot(a, at) = number;
    return true;
}

static uint32_t room_for(uint64_t count)
{
    uint64_t room = ROOM_MIN;
    while (room < count)
        room *= 2;
    CHECK(room <= UINT32_MAX);
    return (uint32_t)room;
}

void ascending_put_all(struct ascending *a, const uint64_t *numbers, uint32_t n)
{
    struct ascending all = {.room = room_for((uint64_t)a->count + n)};
    uint32_t i = 0, k = 0;
    if (!n)
        return;
    all.list = calloc(all.room, sizeof *all.list);
    CHECK(all.list);
    while (i < a->count || k < n) {
        uint64_t own = i < a->count ? ascending_at(a, i) : UINT64_MAX;
        uint64_t next = k < n && numbers[k] <= own ? numbers[k] : own;
        CHECK(!all.count || all.list[all.count - 1] < next);
        i += i < a->count && own == next;
        k += k < n && numbers[k] == next;
        all.list[all.count++] = next;
    }
    ascending_fini(a);
    *a = all;
}

bool ascending_take(struct ascending *a, uint64_t number)
{
    uint32_t at = ascending_find(a, number);
    if (at == a->count || ascending_at(a, at) != number)
        return false;
    if (at < a->count / 2) {
        for (uint32_t i = at; i > 0; i--)
            *slot(a, i) = ascending_at(a, i - 1);
        a->first++;
    } else {
        for (uint32_t i = at; i + 1 < a->count; i++)
            *slot(a, i) = ascending_at(a, i + 1);
    }
    a->count--;
    shrink(a);
    return true;
}

void ascending_cut(struct ascending *a, uint32_t n)
{
    CHECK(n <= a->count);
    a->first += n;
    a->count -= n;
    shrink(a);
}

void ascending_copy(const struct ascending *a, uint64_t *ret)
{
    for (uint32_t i = 0; i < a->count; i++)
        ret[i] = ascending_at(a, i);
}

size_t ascending_growth(const struct ascending *a)
{
    return a->count < a->room ? 0 : (a->room ? a->room : ROOM_MIN) * sizeof *a->list;
}
