/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/region.h - 2 MiB pieces of memory, aligned so that the kernel may back each with one huge
 * page: a million subjects in random order are otherwise slowed more by page walks than by cache
 * misses. Owned by the caller. Any thread.
 */
#pragma once

#include <stddef.h>

#define REGION_BYTES ((size_t)2 << 20)

/* A zeroed region, or NULL: no memory. */
void *region_map(void);
/* Accepts NULL. */
void region_unmap(void *region);
