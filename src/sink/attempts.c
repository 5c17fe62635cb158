/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/attempts.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/check.h"

struct attempts {
    pthread_mutex_t lock;
    uint64_t count; /* ever */
    unsigned max;
    struct attempt ring[];
};

struct attempts *attempts_new(unsigned max)
{
    struct attempts *a = calloc(1, sizeof *a + max * sizeof *a->ring);
    CHECK(a && max);
    a->max = max;
    pthread_mutex_init(&a->lock, NULL);
    return a;
}

void attempts_free(struct attempts *a)
{
    if (!a)
        return;
    pthread_mutex_destroy(&a->lock);
    free(a);
}

void attempts_put(struct attempts *a, const struct attempt *one)
{
    pthread_mutex_lock(&a->lock);
    a->ring[a->count++ % a->max] = *one;
    pthread_mutex_unlock(&a->lock);
}

bool attempts_get(struct attempts *a, unsigned n, struct attempt *ret)
{
    pthread_mutex_lock(&a->lock);
    bool found = n < a->max && n < a->count;
    if (found)
        *ret = a->ring[(a->count - 1 - n) % a->max];
    pthread_mutex_unlock(&a->lock);
    return found;
}
