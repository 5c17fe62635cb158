/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal is a list of records here, and publishing what is owed is one more record. A crash
 * forgets the view; the snapshot in a simulated disk and the list bring it back.
 */
#include "view/rules.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/rand.h"
#include "journal/disk_sim.h"
#include "view/rules_own.h"

enum { LOG_MAX = 20000, FEED = 5, OTHER = 6, ACCOUNT = 2, BEGIN_US = 1000000 };

struct kept {
    struct record r;
    char bytes[64 + RULE_VALUE_MAX], key[RULE_MARK_MAX];
};

static struct {
    struct kept *log;
    uint64_t count, applied;
    int64_t now_us;
    struct disk_sim *sim;
    struct rules *t;
    int64_t opened_us;
} w;

/* ---- the world ------------------------------------------------------------------------------- */

static void open_view(uint64_t log_id)
{
    struct error err = {""};
    const struct rules_opts opts = {.disk = disk_sim_disk(w.sim),
                                    .path = "/rules.snap",
                                    .log_id = {log_id, 2},
                                    .opened_us = w.opened_us};
    assert_int_equal(rules_open(&opts, &w.t, &w.applied, &err), 0);
}

static int set_up(void **state)
{
    memset(&w, 0, sizeof w);
    w.log = calloc(LOG_MAX, sizeof *w.log);
    w.now_us = BEGIN_US;
    w.sim = disk_sim_new(1);
    open_view(1);
    return 0;
}

static int tear_down(void **state)
{
    rules_close(w.t);
    disk_sim_free(w.sim);
    free(w.log);
    return 0;
}

static void catch_up(void)
{
    for (; w.applied < w.count; w.applied++)
        if (rules_want(w.t, &w.log[w.applied].r))
            rules_apply(w.t, &w.log[w.applied].r, w.applied);
}

static void save(void)
{
    assert_int_equal(rules_snapshot(w.t, w.applied), 0);
}

/* As after kill -9: what was not in the snapshot comes from the journal again. */
static void crash(void)
{
    rules_close(w.t);
    disk_sim_kill(w.sim);
    open_view(1);
    catch_up();
}

static uint64_t append(const struct record *r, struct slice payload, const struct rule_mark *mark)
{
    assert_true(w.count < LOG_MAX);
    struct kept *k = &w.log[w.count];
    k->r = *r;
    k->r.account = ACCOUNT;
    k->r.receive_us = k->r.event_us = w.now_us;
    memcpy(k->bytes, payload.ptr, payload.len);
    k->r.payload = slice_of(k->bytes, payload.len);
    if (mark) {
        k->r.flags |= RECORD_F_RULE;
        k->r.producer.key = slice_of(k->key, rule_mark_format(k->key, mark));
    }
    return w.count++;
}

static uint64_t put(uint64_t feed, const char *value, const struct rule_mark *mark)
{
    struct buf b;
    buf_init(&b, 4096);
    const struct datum d = {.value = slice_str(value)};
    datum_encode(&b, &d);
    const struct record r = {.kind = RECORD_DATUM, .feed = feed};
    uint64_t offset = append(&r, buf_slice(&b), mark);
    buf_fini(&b);
    return offset;
}

static void put_number(uint64_t feed, double v)
{
    char text[32];
    snprintf(text, sizeof text, "%g", v);
    put(feed, text, NULL);
}

static void say(const struct rule_record *what)
{
    struct buf b;
    buf_init(&b, 4096);
    rule_record_encode(&b, what);
    const struct record r = {.kind = RECORD_RULE};
    append(&r, buf_slice(&b), NULL);
    buf_fini(&b);
    catch_up();
}

static uint64_t add(struct rule r)
{
    r.id = rules_new_id(w.t);
    r.account = ACCOUNT;
    r.feed = r.feed ? r.feed : FEED;
    const struct rule_record added = {.event = RULE_ADDED, .rule = r};
    say(&added);
    return r.id;
}

/* The next one that is owed, published: *ret_value is what would be sent. */
static bool publish_one(struct rules_owed *ret)
{
    char value[RULE_VALUE_MAX + 1] = "";
    if (!rules_next_owed(w.t, 0, ret))
        return false;
    struct slice v = ret->value.ptr ? ret->value : ret->came;
    if (v.ptr)
        memcpy(value, v.ptr, v.len);
    put(ret->rule.to_feed ? ret->rule.to_feed : OTHER, value, &ret->mark);
    return true;
}

static unsigned publish_all(void)
{
    static struct rules_owed owed;
    unsigned count = 0;
    catch_up();
    while (publish_one(&owed)) {
        rules_settle(w.t, &owed.mark, RULES_STORED, 0, NULL);
        count++;
        catch_up();
    }
    return count;
}

static struct rule_info info(uint64_t id)
{
    struct rule_info i = {0};
    assert_int_equal(rules_list(w.t, ACCOUNT, id, &i, 1), 1);
    assert_int_equal(i.rule.id, id);
    return i;
}

/* Times the value sets the rule off. */
static unsigned after(const char *value)
{
    put(FEED, value, NULL);
    return publish_all();
}

/* ---- what rules find ------------------------------------------------------------------------- */

static void a_threshold_is_crossed_once(void **state)
{
    uint64_t id = add((struct rule){.when = RULE_ABOVE, .limit = 30, .clear = 30});
    assert_int_equal(after("30"), 0); /* not above */
    assert_int_equal(after("30.1"), 1);
    assert_int_equal(after("31"), 0);
    assert_int_equal(after("nonsense"), 0);
    assert_int_equal(after("1e999"), 0); /* no finite number */
    assert_int_equal(after("30"), 0);
    assert_int_equal(after("30.2"), 1);
    assert_int_equal(info(id).fired, 2);
    assert_true(info(id).tripped);
    assert_int_equal(info(id).fired_us, w.now_us);
}

static void it_is_above_from_the_first_value_on(void **state)
{
    add((struct rule){.when = RULE_ABOVE, .limit = 30, .clear = 30});
    assert_int_equal(after("31"), 1);
}

static void hysteresis(void **state)
{
    uint64_t id = add((struct rule){.when = RULE_ABOVE, .limit = 30, .clear = 25});
    assert_int_equal(after("31"), 1);
    assert_int_equal(after("26"), 0);
    assert_int_equal(after("31"), 0); /* never cleared */
    assert_true(info(id).tripped);
    assert_int_equal(after("25"), 0);
    assert_false(info(id).tripped);
    assert_int_equal(after("30"), 0);
    assert_int_equal(after("31"), 1);
}

static void below(void **state)
{
    add((struct rule){.when = RULE_BELOW, .limit = 10, .clear = 12});
    assert_int_equal(after("10"), 0);
    assert_int_equal(after("9.9"), 1);
    assert_int_equal(after("11"), 0);
    assert_int_equal(after("9"), 0);
    assert_int_equal(after("12"), 0);
    assert_int_equal(after("-3"), 1);
}

static void a_change(void **state)
{
    add((struct rule){.when = RULE_CHANGE});
    assert_int_equal(after("on"), 0); /* there is none before it */
    assert_int_equal(after("on"), 0);
    assert_int_equal(after("off"), 1);
    assert_int_equal(after(""), 1);
    assert_int_equal(after(""), 0);
    assert_int_equal(after("off"), 1);
}

static void a_change_by_so_much(void **state)
{
    add((struct rule){.when = RULE_CHANGE, .limit = 2});
    assert_int_equal(after("10"), 0);
    assert_int_equal(after("12"), 0); /* as much is not more */
    assert_int_equal(after("12.5"), 1);
    assert_int_equal(after("11"), 0); /* from what was told */
    assert_int_equal(after("text"), 0);
    assert_int_equal(after("10"), 1);
}

static void no_more_often_than_that(void **state)
{
    uint64_t id = add((struct rule){.when = RULE_CHANGE, .every_ms = 1000});
    assert_int_equal(after("0"), 0);
    assert_int_equal(after("1"), 1);
    w.now_us += 999999;
    assert_int_equal(after("2"), 0);
    w.now_us += 1;
    assert_int_equal(after("3"), 1); /* from the one that was told */
    assert_int_equal(info(id).suppressed, 1);
    assert_int_equal(info(id).fired, 2);
}

static void its_own_value_or_what_came(void **state)
{
    struct rules_owed owed;
    add((struct rule){.when = RULE_ABOVE, .limit = 1, .clear = 1, .to_feed = OTHER});
    add((struct rule){.when = RULE_ABOVE, .limit = 1, .clear = 1, .value = SLICE("ON")});
    put(FEED, "7.5", NULL);
    catch_up();
    assert_true(rules_next_owed(w.t, 0, &owed));
    assert_true(slice_eq(owed.came, SLICE("7.5")));
    assert_null(owed.value.ptr);
    assert_int_equal(owed.rule.to_feed, OTHER);
    assert_true(rules_next_owed(w.t, 0, &owed));
    assert_true(slice_eq(owed.value, SLICE("ON")));
    assert_false(rules_next_owed(w.t, 0, &owed));
}

static void what_is_too_long_is_not_passed_on(void **state)
{
    char value[RULE_VALUE_MAX + 2];
    uint64_t passes = add((struct rule){.when = RULE_CHANGE});
    uint64_t own = add((struct rule){.when = RULE_CHANGE, .value = SLICE("x")});
    memset(value, 'a', sizeof value);
    value[RULE_VALUE_MAX + 1] = 0;
    after("0");
    assert_int_equal(after(value), 1);
    assert_int_equal(info(passes).dropped, 1);
    assert_string_equal(info(passes).error, "the value is too long to be passed on");
    assert_int_equal(info(own).fired, 1);
    assert_int_equal(after(value + 1), 2);
}

static void by_hand(void **state)
{
    struct rules_owed owed;
    uint64_t id = add((struct rule){.when = RULE_SILENCE, .silence_ms = 60000, .every_ms = 9999});
    const struct rule_record tried = {.event = RULE_TRIED, .rule.id = id, .value = SLICE("7")};
    say(&tried);
    say(&tried);
    assert_int_equal(info(id).owed, 2);
    assert_true(rules_next_owed(w.t, 0, &owed));
    assert_true(owed.tried);
    assert_true(slice_eq(owed.came, SLICE("7")));
    assert_false(rules_next_owed(w.t, 0, &owed)); /* one after the other */
    rules_settle(w.t, &owed.mark, RULES_STORED, 0, NULL);
    assert_true(rules_next_owed(w.t, 0, &owed));
    assert_false(info(id).tripped);
}

/* ---- silence --------------------------------------------------------------------------------- */

static unsigned look(int64_t us)
{
    w.now_us = us;
    rules_look(w.t, us);
    return publish_all();
}

static void silence_is_told_once(void **state)
{
    uint64_t id = add((struct rule){.when = RULE_SILENCE, .silence_ms = 1000});
    assert_int_equal(look(BEGIN_US + 999999), 0);
    assert_int_equal(look(BEGIN_US + 1000000), 1); /* since the rule was made */
    assert_int_equal(look(BEGIN_US + 9000000), 0);
    assert_true(info(id).tripped);
    assert_int_equal(after("x"), 0);
    assert_false(info(id).tripped);
    assert_int_equal(look(BEGIN_US + 9000000 + 999999), 0);
    assert_int_equal(look(BEGIN_US + 9000000 + 1000000), 1);
}

/* What the journal says of it is known again behind a crash, with a snapshot and without. */
static void silence_survives_a_crash(void **state)
{
    for (unsigned with = 0; with < 2; with++) {
        uint64_t id = add((struct rule){.when = RULE_SILENCE, .silence_ms = 1000});
        int64_t begin = w.now_us;
        if (with)
            save();
        assert_int_equal(look(begin + 1000000), 1);
        crash();
        assert_true(info(id).tripped);
        assert_int_equal(look(begin + 5000000), 0);
        after("x");
        if (with)
            save();
        crash();
        assert_false(info(id).tripped);
        assert_int_equal(look(begin + 5999999), 0);
        assert_int_equal(look(begin + 6000000), 1);
        const struct rule_record removed = {.event = RULE_REMOVED, .rule.id = id};
        say(&removed);
    }
}

/* And so is when it was told last. */
static void what_silence_suppresses_survives_a_crash(void **state)
{
    uint64_t id = add((struct rule){.when = RULE_SILENCE, .silence_ms = 1000, .every_ms = 60000});
    assert_int_equal(look(BEGIN_US + 1000000), 1);
    crash();
    assert_int_equal(after("x"), 0);
    assert_int_equal(look(BEGIN_US + 5000000), 0);
    assert_int_equal(info(id).suppressed, 1);
    assert_int_equal(after("x"), 0);
    assert_int_equal(look(BEGIN_US + 62000000), 1);
}

/* It was found and not published when the server died: found again. */
static void silence_that_was_not_published_is_told_behind_a_crash(void **state)
{
    add((struct rule){.when = RULE_SILENCE, .silence_ms = 1000});
    rules_look(w.t, BEGIN_US + 1000000);
    assert_true(rules_owe(w.t));
    crash();
    assert_int_equal(look(BEGIN_US + 1000000), 1);
    assert_int_equal(look(BEGIN_US + 2000000), 0);
    save();
    crash();
    assert_int_equal(look(BEGIN_US + 3000000), 0);
}

/* Who was silent because there was no server gets time to come back. */
static void a_start_is_no_silence(void **state)
{
    add((struct rule){.when = RULE_SILENCE, .silence_ms = 1000});
    add((struct rule){.when = RULE_SILENCE, .silence_ms = 600000, .feed = 9});
    w.opened_us = BEGIN_US + 3600 * US_PER_S;
    crash();
    assert_int_equal(look(w.opened_us + 999999), 0);
    assert_int_equal(look(w.opened_us + 1000000), 1);
    assert_int_equal(look(w.opened_us + RULES_GRACE_MS * 1000ll - 1), 0);
    assert_int_equal(look(w.opened_us + RULES_GRACE_MS * 1000ll), 1);
}

/* ---- rules that set off one another ---------------------------------------------------------- */

static void a_ring_ends(void **state)
{
    uint64_t there = add((struct rule){.when = RULE_CHANGE, .to_feed = OTHER});
    uint64_t back = add((struct rule){.when = RULE_CHANGE, .feed = OTHER, .to_feed = FEED});
    uint64_t self = add((struct rule){.when = RULE_CHANGE, .feed = 9, .to_feed = 9});
    char value[] = "a";
    put(OTHER, "0", NULL);
    put(FEED, "0", NULL);
    put(9, "0", NULL);
    catch_up();
    static struct rules_owed owed;
    put(FEED, "1", NULL);
    put(9, "1", NULL);
    catch_up();
    unsigned sent = 0;
    while (rules_next_owed(w.t, 0, &owed)) { /* each message another value */
        value[0]++;
        put(owed.rule.to_feed, value, &owed.mark);
        rules_settle(w.t, &owed.mark, RULES_STORED, 0, NULL);
        catch_up();
        assert_true(++sent < 100);
    }
    assert_int_equal(sent, 2 * RULE_DEPTH_MAX);
    assert_int_equal(info(there).fired + info(back).fired, RULE_DEPTH_MAX);
    assert_int_equal(info(there).dropped + info(back).dropped, 1);
    assert_int_equal(info(self).fired, RULE_DEPTH_MAX);
    assert_int_equal(info(self).dropped, 1);
    put(9, "again", NULL); /* a device's: it begins anew */
    assert_int_equal(publish_all(), 1);
}

static void a_ring_of_silence_ends(void **state)
{
    uint64_t id = add((struct rule){.when = RULE_SILENCE, .silence_ms = 1000, .to_feed = FEED});
    unsigned told = 0;
    for (unsigned i = 1; i < 20; i++)
        told += look(BEGIN_US + i * US_PER_S);
    assert_int_equal(told, RULE_DEPTH_MAX);
    assert_int_equal(info(id).dropped, 1);
}

/* ---- what cannot be published ---------------------------------------------------------------- */

static void later_and_never(void **state)
{
    static struct rules_owed owed;
    struct clock_fake fake = {.wall_us = BEGIN_US};
    clock_set_fake(&fake);
    uint64_t id = add((struct rule){.when = RULE_CHANGE});
    put(FEED, "0", NULL);
    put(FEED, "1", NULL);
    catch_up();
    assert_true(rules_next_owed(w.t, 0, &owed));
    rules_settle(w.t, &owed.mark, RULES_LATER, 500, "too many requests");
    assert_string_equal(info(id).error, "too many requests");
    assert_true(rules_owe(w.t));
    assert_false(rules_next_owed(w.t, 499, &owed));
    assert_true(rules_next_owed(w.t, 500, &owed));
    fake.wall_us = BEGIN_US + RULES_OWED_US;
    rules_settle(w.t, &owed.mark, RULES_LATER, 500, "too many requests");
    assert_false(rules_next_owed(w.t, 1000, &owed));
    assert_int_equal(info(id).dropped, 1);
    put(FEED, "2", NULL);
    catch_up();
    assert_true(rules_next_owed(w.t, 0, &owed));
    rules_settle(w.t, &owed.mark, RULES_REFUSED, 0, "no");
    assert_false(rules_owe(w.t));
    assert_int_equal(info(id).dropped, 2);
    assert_int_equal(info(id).owed, 0);
    clock_set_fake(NULL);
}

static void no_more_than_so_many_are_owed(void **state)
{
    uint64_t id = add((struct rule){.when = RULE_CHANGE});
    for (unsigned i = 0; i < RULE_PENDING_MAX + 4; i++)
        put(FEED, i % 2 ? "a" : "b", NULL);
    catch_up();
    assert_int_equal(info(id).owed, RULE_PENDING_MAX);
    assert_int_equal(info(id).dropped, 3); /* the first is no change */
    assert_int_equal(publish_all(), RULE_PENDING_MAX);
}

/* A message that is under way when its rule goes, or its record comes first. */
static void settled_by_whoever_comes_first(void **state)
{
    static struct rules_owed owed;
    uint64_t id = add((struct rule){.when = RULE_CHANGE});
    put(FEED, "0", NULL);
    put(FEED, "1", NULL);
    put(FEED, "2", NULL);
    catch_up();
    assert_true(publish_one(&owed));
    catch_up(); /* its record */
    assert_int_equal(info(id).owed, 1);
    assert_int_equal(info(id).fired, 1);
    rules_settle(w.t, &owed.mark, RULES_STORED, 0, NULL);
    assert_int_equal(info(id).owed, 1);
    assert_true(publish_one(&owed));
    const struct rule_record removed = {.event = RULE_REMOVED, .rule.id = id};
    say(&removed);
    rules_settle(w.t, &owed.mark, RULES_STORED, 0, NULL);
    assert_false(rules_owe(w.t));
    assert_true(rules_none(w.t));
    assert_true(rules_new_id(w.t) > id);
}

/* ---- what goes ------------------------------------------------------------------------------- */

static void delete_feed(uint64_t feed)
{
    const struct record r = {.kind = RECORD_DELETED, .feed = feed};
    append(&r, SLICE(""), NULL);
    catch_up();
}

static void a_feed_takes_its_rules_along(void **state)
{
    unsigned all, own;
    for (unsigned i = 0; i < 300; i++)
        add((struct rule){.when = RULE_CHANGE, .feed = 10 + i % 3, .to_feed = 10 + i % 4});
    uint64_t last = rules_new_id(w.t);
    delete_feed(77);
    rules_count(w.t, ACCOUNT, &all, &own);
    assert_int_equal(all, 300);
    delete_feed(11);
    rules_count(w.t, ACCOUNT, &all, &own);
    assert_int_equal(all, 150); /* 100 of it, and of the others a quarter to it */
    assert_int_equal(own, all);
    static struct rule_info list[400];
    unsigned n = rules_list(w.t, 0, 0, list, 400);
    assert_int_equal(n, 150);
    for (unsigned i = 0; i < n; i++) {
        assert_true(list[i].rule.feed != 11 && list[i].rule.to_feed != 11);
        assert_true(i == 0 || list[i].rule.id > list[i - 1].rule.id);
    }
    assert_int_equal(rules_list(w.t, ACCOUNT + 1, 0, list, 400), 0);
    for (unsigned feed = 10; feed < 14; feed++)
        delete_feed(feed);
    assert_true(rules_none(w.t));
    assert_true(rules_new_id(w.t) > last);
    save();
    crash();
    assert_int_equal(rules_new_id(w.t), last);
}

/* Who makes a rule while the view lags, and gets no answer in time, has made it: the next one is
 * another. */
static void no_number_is_given_twice(void **state)
{
    uint64_t one = rules_new_id(w.t), two = rules_new_id(w.t);
    assert_true(two > one);
    for (uint64_t id = one; id <= two; id++) {
        const struct rule_record added = {
            .event = RULE_ADDED,
            .rule = {.id = id, .account = ACCOUNT, .feed = FEED + id, .when = RULE_CHANGE}};
        say(&added);
    }
    assert_int_equal(info(one).rule.feed, FEED + one);
    assert_int_equal(info(two).rule.feed, FEED + two);
    assert_true(rules_new_id(w.t) > two);
}

/* ---- snapshots ------------------------------------------------------------------------------- */

static void a_snapshot_has_all_of_it(void **state)
{
    static struct rule_info before[8], behind[8];
    add((struct rule){.when = RULE_ABOVE,
                      .limit = 3,
                      .clear = 1,
                      .value = SLICE("v"),
                      .webhook = 4,
                      .every_ms = 5});
    add((struct rule){.when = RULE_CHANGE, .to_feed = OTHER});
    add((struct rule){.when = RULE_CHANGE, .limit = 0.5, .every_ms = 100000000});
    add((struct rule){.when = RULE_SILENCE, .silence_ms = 1000, .feed = OTHER});
    for (unsigned i = 0; i < 6; i++)
        put_number(FEED, i);
    catch_up();
    rules_look(w.t, BEGIN_US + 1000000);
    unsigned count = rules_list(w.t, 0, 0, before, 8);
    save();
    crash();
    assert_int_equal(rules_list(w.t, 0, 0, behind, 8), count);
    for (unsigned i = 0; i < count; i++) {
        assert_true(slice_eq(before[i].rule.value, behind[i].rule.value));
        before[i].rule.value = behind[i].rule.value = (struct slice){0};
        assert_memory_equal(&before[i], &behind[i], sizeof before[i]);
    }
    assert_int_equal(publish_all(), 1 + 5 + 1 + 1);
    assert_int_equal(publish_all(), 0);
}

static void a_damaged_snapshot_is_refused(void **state)
{
    const char *bytes;
    size_t len;
    struct error err;
    add((struct rule){.when = RULE_CHANGE});
    put(FEED, "0", NULL);
    put(FEED, "1", NULL);
    catch_up();
    save();
    const struct rules_opts opts = {
        .disk = disk_sim_disk(w.sim), .path = "/rules.snap", .log_id = {1, 2}};
    struct rules_opts other = opts;
    other.log_id[0] = 9;
    struct rules *t;
    uint64_t cursor;
    assert_int_equal(rules_open(&other, &t, &cursor, &err), -ESTALE);
    assert_int_equal(disk_sim_peek(w.sim, "/rules.snap", &bytes, &len), 0);
    for (size_t at = 0; at < len; at++) {
        char was, bad;
        assert_int_equal(disk_sim_peek(w.sim, "/rules.snap", &bytes, &len), 0);
        was = bytes[at];
        bad = (char)(was ^ 0x20);
        assert_int_equal(disk_sim_poke(w.sim, "/rules.snap", at, &bad, 1), 0);
        assert_true(rules_open(&opts, &t, &cursor, &err) < 0);
        assert_non_null(strstr(err.text, "/rules.snap"));
        assert_int_equal(disk_sim_poke(w.sim, "/rules.snap", at, &was, 1), 0);
    }
}

/* ---- against an oracle ----------------------------------------------------------------------- */

/* Whether the i-th of the values is one that the rule waits for: by looking back, without state. */
static bool oracle_finds(const struct rule *r, const double *v, unsigned i)
{
    if (r->when == RULE_CHANGE)
        return i > 0 && v[i] != v[i - 1];
    double sign = r->when == RULE_ABOVE ? 1 : -1;
    if (!(sign * v[i] > sign * r->limit))
        return false;
    for (unsigned k = i; k-- > 0;) {
        if (sign * v[k] > sign * r->limit)
            return false;
        if (sign * v[k] <= sign * r->clear)
            return true;
    }
    return true;
}

enum { RULES = 6, VALUES = 120 };

static struct {
    struct rule rules[RULES];
    double values[VALUES];
    int64_t times[VALUES];
    uint64_t offsets[VALUES];
} o;

static void make_rules(struct rand *r)
{
    for (unsigned i = 0; i < RULES; i++) {
        struct rule *k = &o.rules[i];
        *k = (struct rule){.when = (enum rule_when)(1 + rand_below(r, 3)),
                           .feed = FEED,
                           .every_ms = rand_below(r, 2) ? 0 : 1 + rand_below(r, 20)};
        if (k->when != RULE_CHANGE) {
            double span = (double)rand_below(r, 3);
            k->limit = (double)rand_below(r, 6);
            k->clear = k->when == RULE_ABOVE ? k->limit - span : k->limit + span;
        }
        k->id = add(*k);
    }
}

/* Data, publishing, snapshots and crashes in any order. */
static void live(struct rand *r)
{
    static struct rules_owed owed;
    for (unsigned i = 0; i < VALUES;) {
        switch (rand_below(r, 10)) {
        case 0:
            save();
            break;
        case 1: /* between being stored and the word of it */
            if (rules_next_owed(w.t, 0, &owed))
                put(OTHER, "x", &owed.mark);
            crash();
            break;
        case 2:
            crash();
            break;
        case 3:
        case 4:
            publish_all();
            break;
        default:
            w.now_us += (int64_t)rand_below(r, 9000);
            o.values[i] = (double)rand_below(r, 6);
            o.times[i] = w.now_us;
            o.offsets[i] = w.count;
            put_number(FEED, o.values[i++]);
            if (rand_below(r, 2))
                catch_up();
        }
    }
    crash();
    publish_all();
}

static unsigned messages_with(const struct rule_mark *mark)
{
    char text[RULE_MARK_MAX];
    struct slice key = slice_of(text, rule_mark_format(text, mark));
    unsigned found = 0;
    for (uint64_t i = 0; i < w.count; i++)
        found += slice_eq(w.log[i].r.producer.key, key);
    return found;
}

/* Each message that the oracle wants is in the journal once, and no other. */
static void compare(const struct rule *r, uint64_t seed)
{
    unsigned wanted = 0;
    int64_t last_us = INT64_MIN / 2;
    for (unsigned k = 0; k < VALUES; k++) {
        if (!oracle_finds(r, o.values, k) || o.times[k] - last_us < (int64_t)r->every_ms * 1000)
            continue;
        last_us = o.times[k];
        wanted++;
        unsigned found = messages_with(&(struct rule_mark){r->id, o.offsets[k], 1, 0});
        if (found != 1)
            fail_msg("seed %llu: %u messages of rule %llu for value %u", (unsigned long long)seed,
                     found, (unsigned long long)r->id, k);
    }
    if (info(r->id).fired != wanted || info(r->id).owed || info(r->id).dropped)
        fail_msg("seed %llu: rule %llu fired %llu times, not %u", (unsigned long long)seed,
                 (unsigned long long)r->id, (unsigned long long)info(r->id).fired, wanted);
}

static void run_random(uint64_t seed)
{
    struct rand r = {seed};
    make_rules(&r);
    live(&r);
    for (unsigned i = 0; i < RULES; i++)
        compare(&o.rules[i], seed);
}

static void each_crossing_is_told_once(void **state)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        tear_down(state);
        set_up(state);
        run_random(seed);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_threshold_is_crossed_once),
        TEST(it_is_above_from_the_first_value_on),
        TEST(hysteresis),
        TEST(below),
        TEST(a_change),
        TEST(a_change_by_so_much),
        TEST(no_more_often_than_that),
        TEST(its_own_value_or_what_came),
        TEST(what_is_too_long_is_not_passed_on),
        TEST(by_hand),
        TEST(silence_is_told_once),
        TEST(silence_survives_a_crash),
        TEST(what_silence_suppresses_survives_a_crash),
        TEST(silence_that_was_not_published_is_told_behind_a_crash),
        TEST(a_start_is_no_silence),
        TEST(a_ring_ends),
        TEST(a_ring_of_silence_ends),
        TEST(later_and_never),
        TEST(no_more_than_so_many_are_owed),
        TEST(settled_by_whoever_comes_first),
        TEST(a_feed_takes_its_rules_along),
        TEST(no_number_is_given_twice),
        TEST(a_snapshot_has_all_of_it),
        TEST(a_damaged_snapshot_is_refused),
        TEST(each_crossing_is_told_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
