/* SPDX-License-Identifier: Apache-2.0 */
/* The page, the screen, the series and what is read of metrics. */
#include "load/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <unistd.h>

#include "base/clock.h"
#include "load/plot.h"
#include "load/screen.h"

static void a_series_keeps_all_counts_in_its_room(void **state)
{
    struct series *s = calloc(1, sizeof *s);
    assert_non_null(s);
    const unsigned seconds = 5 * SERIES_MAX + 3;
    for (unsigned i = 0; i < seconds; i++)
        series_add(s,
                   &(struct series_point){.answers = 2, .p99 = i, .max = i == 777 ? 9999999 : i});
    uint64_t answers = s->gathered.answers, max = 0;
    assert_int_equal(s->step_s, 8);
    assert_int_equal((uint64_t)s->count * s->step_s + s->gathered_s, seconds);
    for (unsigned i = 0; i < s->count; i++) {
        answers += s->points[i].answers;
        max = s->points[i].max > max ? s->points[i].max : max;
        assert_int_equal(s->points[i].answers, 16);
        assert_int_equal(s->points[i].p99, i * 8 + 7);
    }
    assert_int_equal(answers, 2 * seconds);
    assert_int_equal(max, 9999999);
    free(s);
}

static void lines_are_drawn_where_they_belong(void **state)
{
    const double x[] = {0, 5, 10}, y[] = {10, 1000, NAN}, z[] = {100, 0, 100};
    const struct plot_line lines[] = {{"one", y}, {"two", z}};
    struct plot p = {.title = "T",
                     .x_name = "x",
                     .y_name = "y",
                     .x = x,
                     .count = 3,
                     .lines = lines,
                     .lines_count = 2,
                     .log_y = true};
    struct buf out;
    buf_init(&out, 1u << 20);
    plot_put(&out, &p);
    buf_put_u8(&out, 0);
    /* From the bottom (10) at the left to the top (1000) in the middle; nothing where there is no
     * number, or on a logarithmic axis no logarithm. */
    assert_non_null(strstr(out.ptr, "d=\"M70.0 255.0L380.0 30.0\""));
    assert_non_null(strstr(out.ptr, "d=\"M70.0 142.5M690.0 142.5\""));
    assert_non_null(strstr(out.ptr, ">1000</text>"));
    assert_null(strstr(out.ptr, "nan"));
    buf_clear(&out);
    p.count = 0;
    p.log_y = false;
    plot_put(&out, &p);
    buf_put_u8(&out, 0);
    assert_null(strstr(out.ptr, "nan"));
    assert_null(strstr(out.ptr, "inf"));
    buf_fini(&out);
}

static char *read_all(const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = calloc(1, 1u << 20);
    assert_non_null(f);
    assert_true(fread(text, 1, (1u << 20) - 1, f) > 0);
    fclose(f);
    return text;
}

static struct result *a_run(void)
{
    struct result *r = calloc(1, sizeof *r);
    assert_non_null(r);
    result_start(r, NS_PER_S);
    for (unsigned i = 1; i <= 1000; i++)
        result_answer(r, i * NS_PER_MS, i % 10 ? 202 : 429, i % 10 == 0);
    struct series_point p = result_second(r);
    assert_int_equal(p.answers, 1000);
    assert_int_equal(p.refused, 100);
    assert_in_range(p.p50, 500 * NS_PER_MS, 501 * NS_PER_MS);
    assert_int_equal(p.max, 1000 * NS_PER_MS);
    p = result_second(r);
    assert_int_equal(p.answers + p.refused + p.p50 + p.max, 0);
    r->ended_ns = 3 * NS_PER_S;
    return r;
}

static void the_page_stands_alone(void **state)
{
    char path[] = "/tmp/sluice_report_XXXXXX";
    struct result *r = a_run();
    struct error err;
    const struct load_opts opts = {
        .url = {.authority = SLICE("h<&:80")}, .connections = 7, .rate = 5};
    close(mkstemp(path));
    assert_int_equal(report_write(r, &opts, path, &err), 0);
    char *text = read_all(path);
    assert_non_null(strstr(text, "h&lt;&amp;:80"));
    assert_non_null(strstr(text, "<td>429<td>100<td>10.000 %"));
    unsigned plots = 0;
    for (const char *at = text; (at = strstr(at, "<svg ")) != NULL; at++)
        plots++;
    assert_int_equal(plots, 3);
    assert_null(strstr(text, "http://"));
    assert_null(strstr(text, "https://"));
    assert_null(strstr(text, "<script"));
    free(text);
    unlink(path);
    assert_true(report_write(r, &opts, "/nonexistent/x", &err) < 0);
    free(r);
}

static void the_screen_is_written_over(void **state)
{
    char *text = NULL;
    size_t len;
    struct result *r = a_run();
    struct screen s = {.out = open_memstream(&text, &len)};
    struct screen_state st = {.phase = "running",
                              .share = 0.5,
                              .due = 300,
                              .second = {.answers = 250, .p99 = 1500000},
                              .result = r,
                              .watched = {.at_ns = NS_PER_S, .refused = 10}};
    screen_show(&s, &st);
    st.watched = (struct watch_figures){.at_ns = 3 * NS_PER_S, .refused = 50, .waiting = 3};
    screen_show(&s, &st);
    fclose(s.out);
    assert_non_null(strstr(text, "running [###############...............]  50 %"));
    assert_non_null(strstr(text, "250 answers/s (at most 300 due)"));
    assert_non_null(strstr(text, "p99 1.500"));
    assert_non_null(strstr(text, "202: 900  429: 100   errors: 0"));
    assert_non_null(strstr(text, "\033[4A"));
    assert_non_null(strstr(text, "20/s refused"));
    assert_non_null(strstr(text, "3 waiting"));
    free(text);
    free(r);
    screen_show(&(struct screen){0}, &st); /* nobody looks */
}

static void figures_are_read_of_metrics(void **state)
{
    struct watch_figures f = {0};
    watch_parse(
        SLICE("# HELP x\nsluice_throttle_refused_total 12\nsluice_throttle_refused_total_x 9\n"
              "sluice_hash_queue_length 3\nsluice_shield_hits_total 1e6"),
        &f);
    assert_true(f.refused == 12 && f.waiting == 3 && f.known == 1e6 && f.allowed == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_series_keeps_all_counts_in_its_room),
        cmocka_unit_test(lines_are_drawn_where_they_belong),
        cmocka_unit_test(the_page_stands_alone),
        cmocka_unit_test(the_screen_is_written_over),
        cmocka_unit_test(figures_are_read_of_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
