/* SPDX-License-Identifier: Apache-2.0 */
#include "prof/prof.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "prof/samples.h"

/* One ask, and how to wait for its answer. */
struct asked {
    struct prof_ask ask;
    struct buf out;
    _Atomic bool answered;
};

static void on_done(struct prof_ask *ask)
{
    ((struct asked *)ask->owner)->answered = true;
}

static struct asked *ask(struct prof *p, enum prof_op op, uint64_t for_ns, const char *text)
{
    struct asked *a = calloc(1, sizeof *a);
    buf_init(&a->out, 16u << 20);
    a->ask = (struct prof_ask){.op = op,
                               .for_ns = for_ns,
                               .text = slice_str(text),
                               .out = &a->out,
                               .done = on_done,
                               .owner = a};
    prof_submit(p, &a->ask);
    return a;
}

static __attribute__((noinline)) bool burns_until(struct asked *a, uint64_t ns)
{
    uint64_t end_ns = clock_mono_ns() + ns;
    while (!a->answered && clock_mono_ns() < end_ns)
        ;
    return a->answered;
}

static enum reason end_of(struct asked *a)
{
    assert_true(burns_until(a, 60 * NS_PER_S));
    enum reason reason = a->ask.reason;
    buf_fini(&a->out);
    free(a);
    return reason;
}

static uint64_t samples_of(const struct buf *out)
{
    struct samples all;
    struct sample s;
    uint64_t count = 0;
    char *aligned = malloc(out->len + 1);
    memcpy(aligned, out->ptr, out->len);
    assert_true(samples_begin(&all, slice_of(aligned, out->len)));
    while (samples_next(&all, &s))
        count += s.count;
    free(aligned);
    return count;
}

static void a_profile_has_samples_of_who_burns(void **state)
{
    (void)state;
    struct prof *p = prof_new();
    struct asked *a = ask(p, PROF_CPU, 2 * NS_PER_S, "");
    assert_true(burns_until(a, 60 * NS_PER_S));
    assert_int_equal(a->ask.reason, REASON_ok);
    assert_true(samples_of(&a->out) >= 3);
    end_of(a);
    struct asked *flame = ask(p, PROF_FLAME, NS_PER_S, "");
    assert_true(burns_until(flame, 60 * NS_PER_S));
    buf_put_u8(&flame->out, 0);
    assert_non_null(strstr(flame->out.ptr, "burns_until")); /* a static function */
    assert_int_equal(end_of(flame), REASON_ok);
    prof_free(p);
}

static void one_at_a_time_and_the_rest_goes_on(void **state)
{
    (void)state;
    struct prof *p = prof_new();
    struct asked *a = ask(p, PROF_CPU, 60 * NS_PER_S, "");
    struct asked *b = ask(p, PROF_FLAME, NS_PER_S, "");
    struct asked *heap = ask(p, PROF_ALLOCATOR, 0, "");
    assert_true(burns_until(b, 20 * NS_PER_S));
    assert_true(b->ask.left_ns > 20 * NS_PER_S);
    assert_int_equal(end_of(b), REASON_profile_running);
    assert_int_equal(end_of(heap), REASON_ok);
    assert_false(a->answered);
    prof_give_up(p, &a->ask);
    end_of(a);
    struct asked *c = ask(p, PROF_CPU, NS_PER_MS, "");
    assert_int_equal(end_of(c), REASON_ok);
    prof_free(p);
}

static void a_stop_ends_it_with_what_there_is(void **state)
{
    (void)state;
    struct prof *p = prof_new();
    struct asked *a = ask(p, PROF_CPU, 600 * NS_PER_S, "");
    burns_until(a, 2 * NS_PER_S);
    assert_false(a->answered);
    prof_quit(p);
    assert_true(burns_until(a, 20 * NS_PER_S));
    assert_true(samples_of(&a->out) >= 3);
    assert_int_equal(end_of(a), REASON_ok);
    assert_int_equal(end_of(ask(p, PROF_CPU, NS_PER_S, "")), REASON_stopping);
    prof_free(p);
}

static void addresses_get_names(void **state)
{
    (void)state;
    char text[200];
    struct prof *p = prof_new();
    snprintf(text, sizeof text, "%p+0x10+%lx", (void *)burns_until, (unsigned long)&malloc);
    struct asked *a = ask(p, PROF_SYMBOL, 0, text);
    assert_true(burns_until(a, 60 * NS_PER_S));
    buf_put_u8(&a->out, 0);
    assert_non_null(strstr(a->out.ptr, "\tburns_until\n"));
    assert_non_null(strstr(a->out.ptr, "0x10\t??\n"));
    assert_non_null(strstr(a->out.ptr, "malloc"));
    assert_int_equal(end_of(a), REASON_ok);
    static const char *const bad[] = {"0x1g", "0x12345678123456780", "main", "0x1+-2"};
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(end_of(ask(p, PROF_SYMBOL, 0, bad[i])), REASON_bad_request);
    assert_int_equal(end_of(ask(p, PROF_SYMBOL, 0, "")), REASON_ok);
    prof_free(p);
}

static void more_than_may_wait_are_sent_away(void **state)
{
    (void)state;
    struct prof *p = prof_new();
    struct asked *all[400];
    unsigned busy = 0;
    for (unsigned i = 0; i < 400; i++)
        all[i] = ask(p, PROF_SYMBOL, 0, "0x1");
    for (unsigned i = 0; i < 400; i++)
        busy += end_of(all[i]) == REASON_busy;
    assert_true(busy > 0 && busy < 400);
    prof_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_profile_has_samples_of_who_burns),
        cmocka_unit_test(one_at_a_time_and_the_rest_goes_on),
        cmocka_unit_test(a_stop_ends_it_with_what_there_is),
        cmocka_unit_test(addresses_get_names),
        cmocka_unit_test(more_than_may_wait_are_sent_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
