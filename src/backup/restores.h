/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup/restores.h - how often a backup was restored: a line each in its file "restores". What is
 * restored for the second time must not use the numbers that the first one may have used.
 */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "journal/disk.h"

#define RESTORES_NAME "restores"

/* Adds a line about a restore into `to`, durably. *ret_nth: which one it is, from 1. 0 or a
 * negative errno with a sentence. */
int restores_count(struct disk *disk, const char *dir, const char *to, uint32_t *ret_nth,
                   struct error *err);
