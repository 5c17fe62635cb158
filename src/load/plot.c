/* SPDX-License-Identifier: Apache-2.0 */
#include "load/plot.h"

#include <math.h>

#define WIDTH  820.0
#define HEIGHT 300.0
#define LEFT   70.0
#define RIGHT  130.0
#define TOP    30.0
#define BOTTOM 45.0

struct axis {
    double min, max; /* of the values, their logarithms if `log` */
    double from, to; /* where they go in the picture */
    bool log;
};

static const char *const colours[PLOT_LINES_MAX] = {"#1f77b4", "#ff7f0e", "#d62728",
                                                    "#9467bd", "#2ca02c", "#8c564b"};

static bool shown(double v, bool log)
{
    return isfinite(v) && (!log || v > 0);
}

static double place(const struct axis *a, double v)
{
    double share = ((a->log ? log10(v) : v) - a->min) / (a->max - a->min);
    return a->from + share * (a->to - a->from);
}

static void widen(struct axis *a, double v)
{
    double at = a->log ? log10(v) : v;
    a->min = fmin(a->min, at);
    a->max = fmax(a->max, at);
}

static struct axis x_axis(const struct plot *p)
{
    struct axis a = {.min = INFINITY, .max = -INFINITY, .from = LEFT, .to = WIDTH - RIGHT};
    for (unsigned i = 0; i < p->count; i++)
        widen(&a, p->x[i]);
    if (!(a.max > a.min)) {
        a.min = isfinite(a.min) ? a.min : 0;
        a.max = a.min + 1;
    }
    return a;
}

static struct axis y_axis(const struct plot *p)
{
    struct axis a = {.min = p->log_y ? INFINITY : 0,
                     .max = -INFINITY,
                     .from = HEIGHT - BOTTOM,
                     .to = TOP,
                     .log = p->log_y};
    for (unsigned k = 0; k < p->lines_count; k++)
        for (unsigned i = 0; i < p->count; i++)
            if (shown(p->lines[k].y[i], a.log))
                widen(&a, p->lines[k].y[i]);
    if (!isfinite(a.max))
        a.min = 0, a.max = 1;
    if (a.log) {
        a.min = floor(a.min);
        a.max = ceil(a.max);
    }
    if (!(a.max > a.min))
        a.max = a.min + 1;
    return a;
}

/* A round step that gives about `wanted` of them. */
static double round_step(double range, double wanted)
{
    double rough = range / wanted, base = pow(10, floor(log10(rough)));
    return base * (rough / base > 5 ? 10 : rough / base > 2 ? 5 : rough / base > 1 ? 2 : 1);
}

static void put_y_mark(struct buf *out, const struct axis *a, double value)
{
    double y = place(a, value);
    buf_printf(out,
               "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"g\"/>"
               "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.6g</text>\n",
               LEFT, y, WIDTH - RIGHT, y, LEFT - 6, y + 4, value);
}

static void put_x_mark(struct buf *out, const struct axis *a, double value, const char *name)
{
    double x = place(a, value);
    buf_printf(out,
               "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"g\"/>"
               "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">",
               x, TOP, x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 16);
    if (name)
        buf_put_str(out, name);
    else
        buf_printf(out, "%.6g", value);
    buf_put_str(out, "</text>\n");
}

static void put_axes(struct buf *out, const struct plot *p, const struct axis *x,
                     const struct axis *y)
{
    if (y->log) {
        for (double e = y->min; e <= y->max; e++)
            put_y_mark(out, y, pow(10, e));
    } else {
        double step = round_step(y->max - y->min, 5);
        for (double v = 0; v <= y->max * 1.0001; v += step)
            put_y_mark(out, y, v);
    }
    for (unsigned i = 0; i < p->x_marks_count; i++)
        if (p->x_marks_at[i] >= x->min && p->x_marks_at[i] <= x->max)
            put_x_mark(out, x, p->x_marks_at[i], p->x_marks[i]);
    if (!p->x_marks_count) {
        double step = round_step(x->max - x->min, 8);
        for (double v = ceil(x->min / step) * step; v <= x->max * 1.0001; v += step)
            put_x_mark(out, x, v, NULL);
    }
}

static void put_line(struct buf *out, const struct plot *p, unsigned k, const struct axis *x,
                     const struct axis *y)
{
    bool drawing = false;
    buf_put_str(out, "<path fill=\"none\" stroke-width=\"1.5\" stroke=\"");
    buf_printf(out, "%s\" d=\"", colours[k]);
    for (unsigned i = 0; i < p->count; i++) {
        double v = p->lines[k].y[i];
        if (shown(v, y->log))
            buf_printf(out, "%c%.1f %.1f", drawing ? 'L' : 'M', place(x, p->x[i]), place(y, v));
        drawing = shown(v, y->log);
    }
    double at = TOP + 14 + 18 * k;
    buf_printf(out,
               "\"/>\n<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke-width=\"3\" "
               "stroke=\"%s\"/><text x=\"%.1f\" y=\"%.1f\">%s</text>\n",
               WIDTH - RIGHT + 10, at - 4, WIDTH - RIGHT + 28, at - 4, colours[k],
               WIDTH - RIGHT + 34, at, p->lines[k].name);
}

void plot_put(struct buf *out, const struct plot *p)
{
    struct axis x = x_axis(p), y = y_axis(p);
    buf_printf(out,
               "<svg viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" role=\"img\" "
               "aria-label=\"%s\">\n<text x=\"%.1f\" y=\"18\" class=\"t\">%s</text>\n",
               WIDTH, HEIGHT, WIDTH, HEIGHT, p->title, LEFT, p->title);
    put_axes(out, p, &x, &y);
    for (unsigned k = 0; k < p->lines_count && k < PLOT_LINES_MAX; k++)
        put_line(out, p, k, &x, &y);
    buf_printf(out,
               "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>"
               "<text x=\"14\" y=\"%.1f\" transform=\"rotate(-90 14 %.1f)\" "
               "text-anchor=\"middle\">%s</text>\n</svg>\n",
               (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, p->x_name, (TOP + HEIGHT - BOTTOM) / 2,
               (TOP + HEIGHT - BOTTOM) / 2, p->y_name);
}
