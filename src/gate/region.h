/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/region.h - large pieces of memory, aligned so that the kernel may back each with one huge
 * page: a million subjects in random order are otherwise slowed more by page walks than by cache
 * misses. Owned by the caller. Any thread.
 */
#pragma once

#include <stddef.h>

#define REGION_BYTES ((size_t)2 << 20)

/* Zeroed memory, or NULL. From REGION_BYTES on it is aligned to that, and huge pages are asked for.
 */
void *region_map(size_t bytes);
/* Accepts NULL. */
void region_unmap(void *region, size_t bytes);
