/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/journal_print.h - one record of the journal as a line, for people or as JSON.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "flow/record.h"

/* Bytes that are not UTF-8 are shown in hexadecimal, under the name with "_hex". */
void journal_print(FILE *out, bool json, uint64_t offset, const struct record *r);
