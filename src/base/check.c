/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

void check_fail(const char *expr, const char *file, int line, const char *func)
{
    fprintf(stderr, "sluice: internal error: %s at %s:%d (%s)\n", expr, file, line, func);
    abort();
}
