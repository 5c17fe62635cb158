/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/number.h - the number a JSON number text stands for. Text must have the form of RFC
 * 8259 section 6 already. Pure functions; any thread.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"

/* The form of a JSON number, nothing around it. */
bool number_form(struct slice text);
/* Whether it rounds to a finite double. */
bool number_finite(struct slice text);
/* The nearest double; infinite if it is not finite. */
double number_value(struct slice text);
