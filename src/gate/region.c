/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/region.h"

#include <stdint.h>
#include <sys/mman.h>

static void *map(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

void *region_map(size_t bytes)
{
    if (bytes < REGION_BYTES)
        return map(bytes);
    char *at = map(bytes + REGION_BYTES);
    if (!at)
        return NULL;
    size_t before = (REGION_BYTES - (uintptr_t)at % REGION_BYTES) % REGION_BYTES;
    if (before)
        munmap(at, before);
    munmap(at + before + bytes, REGION_BYTES - before);
    at += before;
    (void)madvise(at, bytes, MADV_HUGEPAGE); /* a wish; small pages work too */
    return at;
}

void region_unmap(void *region, size_t bytes)
{
    if (region)
        munmap(region, bytes);
}
