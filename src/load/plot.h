/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/plot.h - lines in a picture (SVG), with axes that people can read. Pure.
 */
#pragma once

#include <stdbool.h>

#include "base/buf.h"

#define PLOT_LINES_MAX 6

struct plot_line {
    const char *name;
    const double *y; /* as many as the plot has x; what is not finite or, on a logarithmic axis, not
                        above 0 leaves a gap */
};

struct plot {
    const char *title;
    const char *x_name, *y_name;
    const double *x; /* growing */
    unsigned count;
    const struct plot_line *lines;
    unsigned lines_count;
    bool log_y;
    /* Names at places of the x axis instead of round numbers; NULL: numbers. */
    const char *const *x_marks;
    const double *x_marks_at;
    unsigned x_marks_count;
};

/* Appends an <svg> element. */
void plot_put(struct buf *out, const struct plot *p);
