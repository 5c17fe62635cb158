/* SPDX-License-Identifier: Apache-2.0 */
#include "conn/deadline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rand.h"

#define COUNT 500

struct item {
    struct deadline d;
    uint64_t want;
};

static struct wheel wheel;
static uint64_t now;
static unsigned fired;

static void on_due(struct deadline *d)
{
    struct item *i = (struct item *)d;
    assert_true(i->want != 0);
    assert_true(now >= i->want);
    assert_true(now - i->want <= 3 * WHEEL_SLOT_NS);
    i->want = 0;
    fired++;
}

static void random_sets_fire_once_and_in_time(void **state)
{
    static struct item items[COUNT];
    struct rand r = {.state = 3};
    now = 1000 * WHEEL_SLOT_NS;
    wheel_init(&wheel, now);
    unsigned expected = 0;
    for (unsigned i = 0; i < COUNT; i++)
        items[i].d.due = on_due;
    for (int step = 0; step < 20000; step++) {
        struct item *i = &items[rand_below(&r, COUNT)];
        switch (rand_below(&r, 4)) {
        case 0:
        case 1:
            if (!i->want)
                expected++;
            i->want = now + 1 + rand_below(&r, 600 * WHEEL_SLOT_NS);
            deadline_set(&wheel, &i->d, i->want);
            break;
        case 2:
            if (i->want)
                expected--;
            i->want = 0;
            if (rand_below(&r, 2))
                deadline_set(&wheel, &i->d, 0);
            else
                i->d.at_ns = 0, deadline_clear(&i->d);
            break;
        default:
            now += rand_below(&r, 2 * WHEEL_SLOT_NS);
            wheel_turn(&wheel, now);
        }
    }
    for (int step = 0; step < 1000; step++) {
        now += WHEEL_SLOT_NS;
        wheel_turn(&wheel, now);
    }
    assert_int_equal(fired, expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_sets_fire_once_and_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
