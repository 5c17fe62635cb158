/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/compare.h - what a recording of real traffic has and the requests of a scenario lack: header
 * fields, and paths. One thread.
 */
#pragma once

#include <stdio.h>

#include "load/fleet.h"

#define COMPARE_NAMES_MAX 10000u

/* Prints what is lacking. 0: nothing is; 1: something; negative errno with a sentence. */
int compare_run(const struct fleet *fleet, const char *recording, FILE *out, struct error *err);
