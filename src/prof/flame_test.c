/* SPDX-License-Identifier: Apache-2.0 */
#include "prof/flame.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

/* Functions at 1000, 2000, ... of 1000 bytes each. */
static const char *const functions[] = {"outside", "main", "read<int> & co", "parse", "write"};
static uint64_t asked_last;

static const char *name_of(void *arg, uint64_t address)
{
    (*(unsigned *)arg)++;
    assert_true(address > asked_last); /* in order, each once */
    asked_last = address;
    return functions[address / 1000];
}

/* What gperftools writes, with these records between head and trailer. */
static struct buf profile_of(const uint64_t *records, size_t count)
{
    static const uint64_t head_words[] = {0, 3, 0, 10000, 0}, trailer[] = {0, 1, 0};
    struct buf b;
    buf_init(&b, 1u << 20);
    buf_put(&b, head_words, sizeof head_words);
    if (count)
        buf_put(&b, records, count * sizeof *records);
    buf_put(&b, trailer, sizeof trailer);
    buf_put_str(&b, "00400000-00500000 r-xp 00000000 fe:00 1 /bin/it\n");
    return b;
}

static char *drawn(const uint64_t *records, size_t count, unsigned *ret_asked)
{
    struct buf profile = profile_of(records, count), out;
    buf_init(&out, 1u << 20);
    *ret_asked = 0;
    asked_last = 0;
    assert_true(flame_draw(buf_slice(&profile), 2.0, name_of, ret_asked, &out));
    buf_put_u8(&out, 0);
    assert_false(out.failed);
    buf_fini(&profile);
    return out.ptr;
}

static void frames_are_as_wide_as_their_time(void **state)
{
    (void)state;
    /* main calls read (1 itself), which calls parse (6 at two places); main calls write (3). A
     * caller's address is behind its call: 2000 is the end of main. */
    static const uint64_t records[] = {
        1, 2, 2010, 2000, 4, 3, 3010, 2020, 1500, 2, 3, 3020, 2020, 1500, 3, 2, 4010, 1501,
    };
    unsigned asked;
    char *svg = drawn(records, sizeof records / sizeof *records, &asked);
    assert_int_equal(asked, 8); /* 2000 and 1500 are asked for as 1999 and 1499 */
    assert_non_null(strstr(svg, "10 samples in 2.0 s, 0.05 cores"));
    assert_non_null(
        strstr(svg, "x=\"0.0000%\" y=\"44\" width=\"100.0000%\" height=\"17\"><title>all\n"));
    assert_non_null(
        strstr(svg, "y=\"61\" width=\"100.0000%\" height=\"17\"><title>main\n10 samples"));
    assert_non_null(strstr(svg,
                           "x=\"0.0000%\" y=\"78\" width=\"70.0000%\" height=\"17\">"
                           "<title>read&lt;int&gt; &amp; co\n7 samples, 70.00 %, itself 10.00 %"));
    assert_non_null(
        strstr(svg, "x=\"70.0000%\" y=\"78\" width=\"30.0000%\" height=\"17\"><title>write\n"));
    assert_non_null(strstr(svg,
                           "x=\"0.0000%\" y=\"95\" width=\"60.0000%\" height=\"17\"><title>parse\n"
                           "6 samples, 60.00 %, itself 60.00 %"));
    free(svg);
}

static void what_is_narrow_is_left_out(void **state)
{
    (void)state;
    static const uint64_t records[] = {9999, 2, 2010, 1500, 1, 2, 3010, 1500};
    unsigned asked;
    char *svg = drawn(records, sizeof records / sizeof *records, &asked);
    assert_non_null(strstr(svg, "read&lt;int&gt;"));
    assert_null(strstr(svg, "<title>parse"));
    free(svg);
}

static void a_profile_without_samples_is_a_page_too(void **state)
{
    (void)state;
    unsigned asked;
    char *svg = drawn(NULL, 0, &asked);
    assert_int_equal(asked, 0);
    assert_non_null(strstr(svg, "0 samples"));
    assert_non_null(strstr(svg, "</svg>"));
    free(svg);
}

static void stacks_may_be_deep_and_many(void **state)
{
    (void)state;
    enum { DEPTH = 600 };
    static uint64_t records[2 + DEPTH];
    records[0] = 1;
    records[1] = DEPTH;
    for (unsigned i = 0; i < DEPTH; i++)
        records[2 + i] = 1000 + i; /* main calls itself */
    unsigned asked;
    char *svg = drawn(records, 2 + DEPTH, &asked);
    char last[40];
    snprintf(last, sizeof last, "y=\"%u\"", HEAD_PX + DEPTH_MAX * FRAME_PX);
    assert_non_null(strstr(svg, last));
    free(svg);
}

static void what_is_no_profile_is_refused(void **state)
{
    (void)state;
    static _Alignas(8) const char text[64] = "heap profile: no";
    static const uint64_t other_version[] = {0, 3, 1, 10000, 0};
    struct buf out;
    buf_init(&out, 1000);
    assert_false(flame_draw(slice_of(text, 0), 1, name_of, NULL, &out));
    assert_false(flame_draw(slice_of(text, sizeof text), 1, name_of, NULL, &out));
    assert_false(flame_draw(slice_of(other_version, sizeof other_version), 1, name_of, NULL, &out));
    assert_int_equal(out.len, 0);
}

/* A record that says it is longer than the file ends the reading. */
static void a_profile_cut_short_is_read_as_far_as_it_goes(void **state)
{
    (void)state;
    static const uint64_t words[] = {0, 3, 0, 10000, 0, 5, 1, 1001, 7, UINT64_MAX, 1001, 1002};
    struct samples all;
    struct sample s;
    assert_true(samples_begin(&all, slice_of(words, sizeof words)));
    assert_true(samples_next(&all, &s));
    assert_int_equal(s.count, 5);
    assert_int_equal(s.stack[0], 1001);
    assert_false(samples_next(&all, &s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_as_wide_as_their_time),
        cmocka_unit_test(what_is_narrow_is_left_out),
        cmocka_unit_test(a_profile_without_samples_is_a_page_too),
        cmocka_unit_test(stacks_may_be_deep_and_many),
        cmocka_unit_test(what_is_no_profile_is_refused),
        cmocka_unit_test(a_profile_cut_short_is_read_as_far_as_it_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
