/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prof/flame.h - a CPU profile as a flame graph: one SVG document for a browser, that needs nothing
 * else. Callers are above what they call, as wide as the time under them; a click widens one.
 * Source of the form: Brendan Gregg, "The Flame Graph" (CACM 59-6). Pure; any thread.
 */
#pragma once

#include "base/buf.h"

/* Names a function for people. Asked in ascending order of addresses, each once; the text stays
 * good until the graph is drawn. */
typedef const char *(*flame_name)(void *arg, uint64_t address);

/* Appends the document. `profile` is as samples_begin wants it; `seconds` is what it was taken for.
 * False: it is no profile. A profile without samples gives a document that says so. */
bool flame_draw(struct slice profile, double seconds, flame_name name, void *arg, struct buf *out);
