/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/print.h - the answer of an admin command for people: a list as a table, a record as lines.
 */
#pragma once

#include <jansson.h>
#include <stdio.h>

/* An object whose first member is a list of objects becomes a table; any other, lines of name and
 * value, in the order of the members, and behind them a table for each list of objects. Control
 * characters are shown as '?'. Behind a list it is said how to see more ("total", "next"), and what
 * else is to be known ("note"). */
void print_result(FILE *out, const json_t *result);
