/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/screen.h - how a run goes, on a terminal: four lines that are written over. Owned by the
 * run; one thread.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "load/result.h"
#include "load/watch.h"

struct screen {
    FILE *out;      /* NULL: nobody looks */
    unsigned lines; /* written the last time */
    struct watch_figures before;
};

struct screen_state {
    const char *phase;
    double share; /* of the run that is over, 0 to 1 */
    double elapsed_s;
    double due;                 /* a second at the most; 0: no schedule */
    struct series_point second; /* the last one */
    const struct result *result;
    struct watch_figures watched;
};

/* Writes over what it wrote before. */
void screen_show(struct screen *s, const struct screen_state *state);
