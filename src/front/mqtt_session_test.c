/* SPDX-License-Identifier: Apache-2.0 */
#include "front/mqtt_session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/check.h"
#include "base/clock.h"

#define WORKERS 3u
#define IDS     5u
#define CONNS   60u
#define ROUNDS  60u

/* A connection that claims an id, holds it until somebody else wants it, and begins again. */
struct conn {
    struct mqtt_claim claim;
    struct mail start;
    _Atomic bool posted;
    struct mqtt_sessions *sessions;
    unsigned id, rounds, granted;
    bool holds;
};

static _Atomic unsigned holders[IDS], at_rest, lost;
static const char *const names[IDS] = {"a", "b", "c", "d", "a-longer-client-id"};

static void begin(struct conn *c);

static void granted(struct conn *c)
{
    CHECK(!c->holds);
    CHECK(atomic_fetch_add(&holders[c->id], 1) == 0); /* the point of it all */
    c->holds = true;
    c->granted++;
}

/* Lets go; the next round begins when the claim may be used again. */
static void end(struct conn *c)
{
    if (c->holds)
        CHECK(atomic_fetch_sub(&holders[c->id], 1) == 1);
    c->holds = false;
    if (mqtt_claim_drop(&c->claim))
        begin(c);
}

static void on_told(struct mqtt_claim *claim, enum claim_event event)
{
    struct conn *c = (struct conn *)claim;
    switch (event) {
    case CLAIM_GRANTED:
        granted(c);
        break;
    case CLAIM_LOST:
        atomic_fetch_add(&lost, 1);
        end(c);
        break;
    case CLAIM_GONE:
        begin(c);
        break;
    }
}

static void begin(struct conn *c)
{
    if (c->rounds == 0) {
        atomic_fetch_add(&at_rest, 1);
        return;
    }
    c->rounds--;
    struct worker *w = c->claim.worker;
    c->claim = (struct mqtt_claim){.worker = w, .told = on_told};
    if (mqtt_claim_take(c->sessions, &c->claim, 7, slice_str(names[c->id])))
        granted(c);
    if (c->rounds % 7 == 3) /* some leave by themselves, whether they hold or wait */
        end(c);
}

static void on_start(struct mail *m)
{
    struct conn *c = (struct conn *)((char *)m - offsetof(struct conn, start));
    atomic_store(&c->posted, false);
    begin(c);
}

/* Ends what is still held, so that who waits gets on. */
static void on_end(struct mail *m)
{
    struct conn *c = (struct conn *)((char *)m - offsetof(struct conn, start));
    atomic_store(&c->posted, false);
    if (c->claim.mine)
        end(c);
}

struct finish {
    struct mail mail;
    struct worker *worker;
};

static void on_finish(struct mail *m)
{
    worker_finish(((struct finish *)m)->worker);
}

static void one_holder_at_a_time(void **state)
{
    (void)state;
    struct mqtt_sessions *s = mqtt_sessions_new();
    struct worker *workers[WORKERS];
    static struct conn conns[CONNS];
    struct finish finish[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = worker_new(i);
        worker_start(workers[i]);
    }
    for (unsigned i = 0; i < CONNS; i++) {
        conns[i] = (struct conn){.sessions = s, .id = i % IDS, .rounds = ROUNDS, .posted = true};
        conns[i].claim.worker = workers[i % WORKERS];
        conns[i].start.run = on_start;
        worker_post(workers[i % WORKERS], &conns[i].start);
    }
    /* A round ends when another connection comes; at last nobody does: those that hold let go. */
    for (unsigned i = 0; atomic_load(&at_rest) < CONNS; i++) {
        unsigned before = atomic_load(&lost);
        clock_sleep_ns(5 * NS_PER_MS);
        if (atomic_load(&lost) != before || (!before && i < 2000))
            continue; /* somebody loses what another one comes for, as soon as the workers run */
        for (unsigned k = 0; k < CONNS; k++) {
            if (atomic_exchange(&conns[k].posted, true))
                continue;
            conns[k].start.run = on_end;
            worker_post(workers[k % WORKERS], &conns[k].start);
        }
        clock_sleep_ns(5 * NS_PER_MS);
        CHECK(i < 20000);
    }
    unsigned all = 0;
    for (unsigned i = 0; i < IDS; i++)
        assert_int_equal(atomic_load(&holders[i]), 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        finish[i].mail.run = on_finish;
        finish[i].worker = workers[i];
        worker_post(workers[i], &finish[i].mail);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        worker_join(workers[i]);
        worker_free(workers[i]);
    }
    for (unsigned i = 0; i < CONNS; i++)
        all += conns[i].granted;
    /* How often depends on which worker runs when. */
    assert_true(all >= CONNS && atomic_load(&lost) > 0);
    mqtt_sessions_free(s);
}

static struct mqtt_claim *told_claim;
static enum claim_event told_events[8];
static unsigned told_count;

static void on_noted(struct mqtt_claim *c, enum claim_event event)
{
    told_claim = c;
    told_events[told_count++] = event;
}

/* Accounts do not see each other's ids, nor one id another that begins alike. */
static void ids_are_an_accounts_own(void **state)
{
    (void)state;
    struct mqtt_sessions *s = mqtt_sessions_new();
    struct mqtt_claim claims[4] = {0};
    for (unsigned i = 0; i < 4; i++)
        claims[i].told = on_noted;
    assert_true(mqtt_claim_take(s, &claims[0], 1, SLICE("x")));
    assert_true(mqtt_claim_take(s, &claims[1], 2, SLICE("x")));
    assert_true(mqtt_claim_take(s, &claims[2], 1, SLICE("xy")));
    assert_true(mqtt_claim_take(s, &claims[3], 1, SLICE("")));
    for (unsigned i = 0; i < 4; i++)
        assert_true(mqtt_claim_drop(&claims[i]));
    assert_true(mqtt_claim_drop(&claims[0])); /* once more does nothing */
    struct mqtt_claim never = {0};
    assert_true(mqtt_claim_drop(&never));
    assert_true(mqtt_claim_take(s, &claims[0], 1, SLICE("x")));
    assert_true(mqtt_claim_drop(&claims[0]));
    assert_int_equal(told_count, 0);
    mqtt_sessions_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_an_accounts_own),
        cmocka_unit_test(one_holder_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
