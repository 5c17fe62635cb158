/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/log.h - structured log lines on stderr: time, level, a stable id, then key=value fields.
 *
 *   2026-01-02T03:04:05.678Z warn journal.segment_bad path=data/journal/0000.slg error=EIO
 *
 * Only stages that own a resource log; base, codec and flow return. Nothing that could be a secret
 * is ever passed in. One write(2) a line, so lines of several threads do not mix. Any thread.
 */
#pragma once

#include "base/slice.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* Lines below `level` are dropped. */
void log_set_level(enum log_level level);

/* `id` is stable and greppable ("stage.what_happened"); `format` makes the fields. */
void log_line(enum log_level level, const char *id, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Makes foreign text safe for a field: quotes, blanks and control bytes become '?', cut at 127
 * bytes. `out` holds at least 128. Returns `out`. */
const char *log_text(char *out, struct slice foreign);
