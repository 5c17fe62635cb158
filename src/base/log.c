/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define LINE_MAX_BYTES 2048

static _Atomic int level_min = LOG_INFO;

void log_set_level(enum log_level level)
{
    level_min = (int)level;
}

void log_line(enum log_level level, const char *id, const char *format, ...)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if ((int)level < level_min)
        return;
    int64_t now = clock_wall_us();
    time_t seconds = (time_t)(now / US_PER_S);
    struct tm parts;
    gmtime_r(&seconds, &parts);

    char line[LINE_MAX_BYTES];
    size_t len = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &parts);
    len += (size_t)snprintf(line + len, sizeof line - len, ".%03dZ %s %s ",
                            (int)(now % US_PER_S / 1000), names[level], id);
    va_list args;
    va_start(args, format);
    int more = vsnprintf(line + len, sizeof line - len - 1, format, args);
    va_end(args);
    if (more > 0)
        len += (size_t)more;
    if (len > sizeof line - 2)
        len = sizeof line - 2;
    line[len++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, len);
    (void)written; /* nowhere to say that saying failed */
}

const char *log_text(char *out, struct slice foreign)
{
    size_t n = foreign.len < 127 ? foreign.len : 127;
    for (size_t i = 0; i < n; i++) {
        char c = foreign.ptr[i];
        out[i] = c > ' ' && c != '"' && c != 0x7f ? c : '?';
    }
    out[n] = 0;
    return out;
}
