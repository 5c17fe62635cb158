/* SPDX-License-Identifier: Apache-2.0 */
#include "load/report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "codec/text.h"
#include "load/plot.h"

#define REPORT_BYTES_MAX (16u << 20)
#define CURVE_POINTS     200u
#define CURVE_NINES      5.0 /* up to 99.999 % */

static const char style[] =
    "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>sluice load</title>\n<style>"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:860px;margin:2em auto;padding:0 1em;"
    "color:#222;background:#fff}table{border-collapse:collapse;margin:1em 0}"
    "td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}"
    "svg text{font:11px system-ui,sans-serif;fill:#444}svg .t{font-size:14px;font-weight:600}"
    ".g{stroke:#e4e4e4}.bad{color:#b00;font-weight:600}</style>\n";

static void put_html(struct buf *out, struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        switch (s.ptr[i]) {
        case '<':
            buf_put_str(out, "&lt;");
            break;
        case '&':
            buf_put_str(out, "&amp;");
            break;
        default:
            buf_put_u8(out, (uint8_t)s.ptr[i]);
        }
    }
}

static double ms(uint64_t ns)
{
    return (double)ns / (double)NS_PER_MS;
}

static void put_latency_row(struct buf *out, const char *name, const struct histogram *h)
{
    static const double quantiles[] = {0.5, 0.9, 0.99, 0.999, 0.9999};
    buf_printf(out, "<tr><td>%s<td>%lu<td>%.3f", name, h->total, ms(h->min));
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++)
        buf_printf(out, "<td>%.3f", ms(histogram_quantile(h, quantiles[i])));
    buf_printf(out, "<td>%.3f\n", ms(h->max));
}

static void put_tables(struct buf *out, const struct result *r, const struct load_opts *o)
{
    buf_printf(out, "<table><tr><th>answers<th>count<th>share\n");
    for (unsigned s = 0; s < 600; s++)
        if (r->by_status[s])
            buf_printf(out, "<tr><td>%u<td>%lu<td>%.3f %%\n", s, r->by_status[s],
                       100 * (double)r->by_status[s] / (double)r->answered);
    const struct {
        const char *name;
        uint64_t count;
    } failures[] = {{"connections not opened", r->connect_errors},
                    {"connections broken", r->broken},
                    {"broken by --storm", r->dropped},
                    {"timed out", r->timed_out},
                    {"not understood", r->bad_responses},
                    {"due but unsent", r->unsent},
                    {"logins refused", r->logins_refused}};
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++)
        if (failures[i].count)
            buf_printf(out, "<tr class=\"bad\"><td>%s<td>%lu<td>\n", failures[i].name,
                       failures[i].count);
    buf_put_str(out, "</table>\n<table><tr><th>milliseconds<th>count<th>min<th>p50<th>p90<th>p99"
                     "<th>p99.9<th>p99.99<th>max\n");
    put_latency_row(out, o->rate > 0 ? "answer, from when it was due" : "answer", &r->latency);
    if (r->connects.total)
        put_latency_row(out, "connection", &r->connects);
    if (r->delivered)
        put_latency_row(out, "at a subscriber", &r->delivery);
    buf_put_str(out, "</table>\n");
    if (r->verified) {
        const struct ledger_verdict *v = &r->verdict;
        buf_printf(out,
                   "<p class=\"%s\">Read back: of %lu acknowledged messages %lu are stored once; "
                   "%lu lost, %lu double, %lu of %lu refused ones stored.\n",
                   ledger_sound(v) ? "good" : "bad", v->acked, v->stored, v->lost, v->doubled,
                   v->refused_stored, v->refused);
    }
}

/* Columns of the series, each of `count` numbers. */
enum column { AT, ANSWERS, REFUSED, ERRORS, P50, P99, P999, MAX, COLUMNS };

static void fill(double *table, const struct series *s)
{
    for (unsigned i = 0; i < s->count; i++) {
        const struct series_point *p = &s->points[i];
        const double values[COLUMNS] = {
            [AT] = (double)(i + 1) * s->step_s,
            [ANSWERS] = (double)p->answers / s->step_s,
            [REFUSED] = (double)p->refused / s->step_s,
            [ERRORS] = (double)p->errors / s->step_s,
            [P50] = ms(p->p50),
            [P99] = ms(p->p99),
            [P999] = ms(p->p999),
            [MAX] = ms(p->max),
        };
        for (unsigned c = 0; c < COLUMNS; c++)
            table[c * s->count + i] = values[c];
    }
}

static void put_over_time(struct buf *out, const struct series *s, const double *table)
{
    unsigned n = s->count;
    const struct plot_line rates[] = {{"answers", table + ANSWERS * n},
                                      {"refused", table + REFUSED * n},
                                      {"errors", table + ERRORS * n}};
    const struct plot_line latencies[] = {{"p50", table + P50 * n},
                                          {"p99", table + P99 * n},
                                          {"p99.9", table + P999 * n},
                                          {"max", table + MAX * n}};
    plot_put(out, &(struct plot){.title = "Throughput and refusals",
                                 .x_name = "seconds",
                                 .y_name = "a second",
                                 .x = table + AT * n,
                                 .count = n,
                                 .lines = rates,
                                 .lines_count = 3});
    plot_put(out, &(struct plot){.title = "Latency over time",
                                 .x_name = "seconds",
                                 .y_name = "milliseconds",
                                 .x = table + AT * n,
                                 .count = n,
                                 .lines = latencies,
                                 .lines_count = 4,
                                 .log_y = true});
}

/* The x axis is how many nines a share has. */
static void put_curve(struct buf *out, const struct histogram *h)
{
    static const char *const names[] = {"0",      "50 %",    "90 %",    "99 %",
                                        "99.9 %", "99.99 %", "99.999 %"};
    static const double at[] = {0, 0.30103, 1, 2, 3, 4, 5};
    double x[CURVE_POINTS], y[CURVE_POINTS];
    for (unsigned i = 0; i < CURVE_POINTS; i++) {
        x[i] = CURVE_NINES * i / (CURVE_POINTS - 1);
        y[i] = ms(histogram_quantile(h, 1 - pow(10, -x[i])));
    }
    const struct plot_line line = {"answers", y};
    plot_put(out, &(struct plot){.title = "Latency by percentile",
                                 .x_name = "share of the answers that were as fast",
                                 .y_name = "milliseconds",
                                 .x = x,
                                 .count = CURVE_POINTS,
                                 .lines = &line,
                                 .lines_count = 1,
                                 .log_y = true,
                                 .x_marks = names,
                                 .x_marks_at = at,
                                 .x_marks_count = sizeof at / sizeof at[0]});
}

int report_write(const struct result *r, const struct load_opts *opts, const char *path,
                 struct error *err)
{
    struct buf out;
    double *table = calloc((size_t)COLUMNS * (r->series.count + 1), sizeof *table);
    if (!table)
        return error_set(err, -ENOMEM, "no memory for the report");
    buf_init(&out, REPORT_BYTES_MAX);
    buf_put_str(&out, style);
    buf_put_str(&out, "<h1>Load on ");
    put_html(&out, opts->url.authority);
    buf_put_str(&out, "</h1>\n<p>");
    time_format_s(&out, clock_wall_us());
    buf_printf(&out, ": %.1f s, %u connections, %.0f answers/s", result_seconds(r),
               opts->connections, result_rate(r));
    if (opts->rate > 0)
        buf_printf(&out, ", open loop, at most %.0f/s due", opts->rate);
    buf_put_str(&out, "\n");
    put_tables(&out, r, opts);
    fill(table, &r->series);
    if (r->series.count)
        put_over_time(&out, &r->series, table);
    put_curve(&out, &r->latency);
    free(table);
    FILE *file = out.failed ? NULL : fopen(path, "we");
    int rc = 0;
    if (out.failed || !file)
        rc = error_set(err, out.failed ? -ENOMEM : -errno, "%s: %s", path,
                       out.failed ? "too large" : strerror(errno));
    bool whole = file && fwrite(out.ptr, 1, out.len, file) == out.len;
    if (file && (fclose(file) != 0 || !whole))
        rc = error_set(err, -EIO, "%s: cannot be written", path);
    buf_fini(&out);
    return rc;
}
