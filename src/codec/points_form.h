/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/points_form.h - the members of one datum from an HTML form: `value=42`, `lat=..`, also as
 * `datum[value]=42`. Private to the points files. Fields become JSON strings that need no
 * unescaping.
 */
#pragma once

#include "codec/points_build.h"

int form_datum(struct build *b, struct slice body, enum body_form form, struct slice boundary,
               struct datum_members *ret);
