/* SPDX-License-Identifier: Apache-2.0 */
#include "front/mqtt_subs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "codec/topic.h"

static unsigned found;

static void on_each(void *arg, struct mqtt_sub *sub)
{
    (void)arg;
    (void)sub;
    found++;
}

static unsigned match(const struct mqtt_subs *s, uint64_t account, const char *topic)
{
    found = 0;
    mqtt_subs_match(s, account, slice_str(topic), on_each, NULL);
    return found;
}

static void finds_an_accounts_own(void **state)
{
    (void)state;
    struct mqtt_subs *s = mqtt_subs_new();
    struct mqtt_sub *a = NULL, *b = NULL, *c = NULL;
    int one, two, three;
    assert_false(mqtt_subs_any(s, 1));
    mqtt_subs_add(s, &a, &one, 1, SLICE("u/f/x"));
    mqtt_subs_add(s, &a, &one, 1, SLICE("u/#"));
    mqtt_subs_add(s, &b, &two, 1, SLICE("u/f/x"));
    mqtt_subs_add(s, &c, &three, 4097, SLICE("u/f/x")); /* the same bucket */
    assert_int_equal(match(s, 1, "u/f/x"), 3);
    assert_int_equal(match(s, 1, "u/f/y"), 1);
    assert_int_equal(match(s, 4097, "u/f/x"), 1);
    assert_int_equal(match(s, 2, "u/f/x"), 0);
    mqtt_subs_add(s, &a, &one, 1, SLICE("u/f/x")); /* takes the place of the same filter */
    assert_int_equal(match(s, 1, "u/f/x"), 3);
    assert_true(mqtt_subs_remove(s, &a, SLICE("u/#")));
    assert_false(mqtt_subs_remove(s, &a, SLICE("u/#")));
    assert_int_equal(match(s, 1, "u/f/x"), 2);
    mqtt_subs_remove_all(s, &a);
    assert_true(mqtt_subs_any(s, 1));
    mqtt_subs_remove_all(s, &b);
    mqtt_subs_remove_all(s, &c);
    assert_false(mqtt_subs_any(s, 1) || mqtt_subs_any(s, 4097));
    mqtt_subs_free(s);
}

/* Whatever is subscribed to and given up again, the matches are those of trying every filter. */
static void agrees_with_trying_all(void **state)
{
    (void)state;
    static const char *const filters[] = {"a", "a/b",   "a/+", "a/#", "+/b",
                                          "#", "a/b/c", "+",   "a//", "$x/#"};
    static const char *const topics[] = {"a", "a/b", "a/c", "b/b", "a/b/c", "a//", "$x/y", "z"};
    enum { FILTERS = sizeof filters / sizeof *filters, OWNERS = 7 };
    struct mqtt_subs *s = mqtt_subs_new();
    struct mqtt_sub *lists[OWNERS] = {0};
    bool has[OWNERS][FILTERS] = {0};
    uint32_t seed = 7;
    for (unsigned round = 0; round < 3000; round++) {
        seed = seed * 1664525u + 1013904223u;
        unsigned o = (seed >> 8) % OWNERS, f = (seed >> 16) % FILTERS;
        if (seed >> 24 & 1)
            mqtt_subs_add(s, &lists[o], &lists[o], o % 3, slice_str(filters[f]));
        else
            assert_int_equal(mqtt_subs_remove(s, &lists[o], slice_str(filters[f])), has[o][f]);
        has[o][f] = seed >> 24 & 1;
        for (unsigned t = 0; t < sizeof topics / sizeof *topics; t++) {
            unsigned want[3] = {0};
            for (unsigned i = 0; i < OWNERS; i++)
                for (unsigned k = 0; k < FILTERS; k++)
                    want[i % 3] +=
                        has[i][k] && topic_matches(slice_str(filters[k]), slice_str(topics[t]));
            for (unsigned account = 0; account < 3; account++)
                assert_int_equal(match(s, account, topics[t]), want[account]);
        }
    }
    for (unsigned i = 0; i < OWNERS; i++)
        mqtt_subs_remove_all(s, &lists[i]);
    mqtt_subs_free(s);
}

/* Filters of all shapes and depths, also deeper than the tree is, against trying each. */
static void agrees_with_trying_all_at_any_depth(void **state)
{
    (void)state;
    enum { SUBS = 400, ROUNDS = 4000, LEVELS = 20 };
    static const char *const levels[] = {"a", "b", "", "+", "+", "$x"};
    static char filters[SUBS][64];
    struct mqtt_subs *s = mqtt_subs_new();
    struct mqtt_sub *lists[SUBS] = {0};
    uint32_t seed = 11;
    for (unsigned round = 0; round < ROUNDS; round++) {
        char made[64] = "";
        size_t len = 0;
        seed = seed * 1664525u + 1013904223u;
        bool filter = seed >> 30 & 1, deep = (seed >> 20) % 4 == 0;
        unsigned count = 1 + (seed >> 8) % (deep ? LEVELS : 4);
        for (unsigned i = 0; i < count; i++) {
            seed = seed * 1664525u + 1013904223u;
            unsigned kind = (seed >> 12) % (filter ? 5 : 3);
            const char *level = i == 0 && (seed >> 24) % 9 == 0 ? levels[5] : levels[kind];
            if (filter && i + 1 == count && (seed >> 26) % 3 == 0)
                level = "#";
            len += (size_t)snprintf(made + len, sizeof made - len, "%s%s", i ? "/" : "", level);
        }
        if (!len)
            continue;
        if (filter) {
            unsigned at = (seed >> 7) % SUBS;
            mqtt_subs_remove_all(s, &lists[at]);
            memcpy(filters[at], made, sizeof made);
            mqtt_subs_add(s, &lists[at], filters[at], 7, slice_str(filters[at]));
            assert_true(topic_filter_valid(slice_str(made)));
            continue;
        }
        unsigned want = 0;
        for (unsigned i = 0; i < SUBS; i++)
            want += lists[i] && topic_matches(slice_str(filters[i]), slice_str(made));
        assert_int_equal(match(s, 7, made), want);
        assert_int_equal(match(s, 8, made), 0);
    }
    for (unsigned i = 0; i < SUBS; i++)
        mqtt_subs_remove_all(s, &lists[i]);
    assert_false(mqtt_subs_any(s, 7));
    mqtt_subs_free(s);
}

/* Ten thousand filters with wildcards: each topic still finds its own, and only that. */
static void finds_one_of_many(void **state)
{
    (void)state;
    enum { MANY = 10000 };
    struct mqtt_subs *s = mqtt_subs_new();
    struct mqtt_sub **lists = calloc(MANY, sizeof(struct mqtt_sub *));
    char text[32];
    assert_non_null(lists);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, i % 2 ? "u/d%u/+" : "u/d%u/#", i);
        mqtt_subs_add(s, &lists[i], text, 1, slice_str(text));
    }
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "u/d%u/x", i);
        assert_int_equal(match(s, 1, text), 1);
        snprintf(text, sizeof text, "u/d%u", i);
        assert_int_equal(match(s, 1, text), i % 2 == 0);
    }
    for (unsigned i = 0; i < MANY; i++)
        mqtt_subs_remove_all(s, &lists[i]);
    free(lists);
    mqtt_subs_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_an_accounts_own),
        cmocka_unit_test(agrees_with_trying_all),
        cmocka_unit_test(agrees_with_trying_all_at_any_depth),
        cmocka_unit_test(finds_one_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
