/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing, at most three quarters full. */
#include "link/names.h"

#include <stdlib.h>
#include <string.h>

#define PLACES_FIRST 1024u

struct place {
    uint64_t number;
    char *name; /* NULL: empty */
    unsigned of;
};

struct link_names {
    struct place *places;
    size_t cap, count;
    uint64_t age;
};

static size_t home(const struct link_names *n, unsigned of, uint64_t number)
{
    return (size_t)((number * 4 + of) * 0x9e3779b97f4a7c15u >> 32) & (n->cap - 1);
}

static struct place *place_of(const struct link_names *n, unsigned of, uint64_t number)
{
    size_t i = home(n, of, number);
    while (n->places[i].name && (n->places[i].number != number || n->places[i].of != of))
        i = (i + 1) & (n->cap - 1);
    return &n->places[i];
}

struct link_names *link_names_new(void)
{
    struct link_names *n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    n->cap = PLACES_FIRST;
    n->places = calloc(n->cap, sizeof *n->places);
    if (!n->places) {
        free(n);
        return NULL;
    }
    return n;
}

void link_names_forget(struct link_names *n)
{
    for (size_t i = 0; i < n->cap; i++) {
        free(n->places[i].name);
        n->places[i].name = NULL;
    }
    n->count = 0;
    n->age++;
}

void link_names_free(struct link_names *n)
{
    if (!n)
        return;
    link_names_forget(n);
    free(n->places);
    free(n);
}

bool link_names_find(const struct link_names *n, unsigned of, uint64_t number, char *ret,
                     size_t max)
{
    const struct place *p = place_of(n, of, number);
    if (!p->name)
        return false;
    size_t len = strlen(p->name);
    len = len < max ? len : max - 1;
    memcpy(ret, p->name, len);
    ret[len] = 0;
    return true;
}

static bool grow(struct link_names *n)
{
    struct link_names next = {.cap = n->cap * 2, .count = n->count, .age = n->age};
    next.places = calloc(next.cap, sizeof *next.places);
    if (!next.places)
        return false;
    for (size_t i = 0; i < n->cap; i++)
        if (n->places[i].name)
            *place_of(&next, n->places[i].of, n->places[i].number) = n->places[i];
    free(n->places);
    *n = next;
    return true;
}

void link_names_put(struct link_names *n, unsigned of, uint64_t number, const char *name)
{
    if (n->count >= LINK_NAMES_MAX)
        link_names_forget(n);
    if (n->count >= n->cap / 4 * 3 && !grow(n))
        return;
    struct place *p = place_of(n, of, number);
    char *copy = p->name ? NULL : strdup(name);
    if (copy) {
        *p = (struct place){number, copy, of};
        n->count++;
    }
}

uint64_t link_names_age(const struct link_names *n)
{
    return n->age;
}
