/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/rand.h"

#define RECORDS 3000u

static bool same_number(const struct counted *r, const void *key)
{
    return r->number == *(const uint64_t *)key;
}

/* Few shards and few home slots: long probes, wrapping around the end of the array. */
static uint64_t crowded(uint64_t number)
{
    return (number % 2) << 63 | (number % 7);
}

/* Against a plain array of flags, with hashes that collide on purpose. */
static void like_a_model(void **state)
{
    struct table t;
    struct counted *records = calloc(RECORDS, sizeof *records);
    struct counted *others = calloc(RECORDS, sizeof *others);
    struct counted *in[RECORDS] = {0};
    struct rand r = {.state = 11};
    for (unsigned i = 0; i < RECORDS; i++)
        records[i].number = others[i].number = i;
    table_init(&t);
    for (unsigned step = 0; step < 60000; step++) {
        /* A few hundred at a time: the collisions make every step a long walk. */
        uint64_t n = rand_below(&r, step < 30000 ? 300 : 40) * (step % 3 + 1);
        uint64_t hash = crowded(n);
        if (!in[n]) {
            in[n] = &records[n];
            table_put(&t, hash, NULL, in[n]);
        } else if (rand_below(&r, 3) == 0) {
            struct counted *old = in[n];
            in[n] = old == &records[n] ? &others[n] : &records[n];
            table_put(&t, hash, old, in[n]);
        } else {
            table_remove(&t, hash, in[n]);
            in[n] = NULL;
        }
        uint64_t look = rand_below(&r, 900);
        assert_ptr_equal(table_find(&t, crowded(look), same_number, &look), in[look]);
    }
    for (uint64_t n = 0; n < RECORDS; n++) {
        struct counted *c = table_take(&t, crowded(n), same_number, &n);
        assert_ptr_equal(c, in[n]);
        assert_true(!c || c->refs == 1);
    }
    table_fini(&t);
    free(records);
    free(others);
}

struct race {
    struct table table;
    struct counted records[64];
    _Atomic bool stop;
};

static void look(void *arg)
{
    struct race *race = arg;
    for (uint64_t n = 0; !race->stop; n = (n + 1) % 64) {
        struct counted *c = table_take(&race->table, n << 58 | n, same_number, &n);
        if (c && c->number != n)
            abort();
        if (n % 2 && !c) /* the odd ones stay, whatever moves around them */
            abort();
    }
}

static void readers_beside_the_writer(void **state)
{
    struct race *race = aligned_alloc(64, (sizeof *race + 63) / 64 * 64);
    memset(race, 0, sizeof *race);
    table_init(&race->table);
    for (uint64_t n = 0; n < 64; n++) {
        race->records[n].number = n;
        table_put(&race->table, n << 58 | n, NULL, &race->records[n]);
    }
    pthread_t a = thread_start("look", look, race), b = thread_start("look", look, race);
    struct counted *more = calloc(20000, sizeof *more);
    struct rand r = {.state = 5};
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t even = rand_below(&r, 32) * 2;
        table_remove(&race->table, even << 58 | even, &race->records[even]);
        more[i].number = 1000 + i;
        table_put(&race->table, rand_next(&r), NULL, &more[i]); /* grows now and then */
        table_put(&race->table, even << 58 | even, NULL, &race->records[even]);
    }
    race->stop = true;
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    table_fini(&race->table);
    free(more);
    free(race);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(like_a_model),
        cmocka_unit_test(readers_beside_the_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
