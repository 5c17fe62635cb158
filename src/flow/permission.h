/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/permission.h - sets of permissions as text. "*" is every permission within an account, also
 * later ones, and none of PERM_ADMIN. Pure.
 */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "flow/principal.h"

/* Parses names with `between` between them and blanks around them. Empty text is no permission.
 * False: *ret_bad is what is none. */
bool permissions_parse(struct slice text, char between, uint64_t *ret, struct slice *ret_bad);
/* Writes the names in the order of permissions.def. */
void permissions_format(struct buf *out, uint64_t mask, char between);
