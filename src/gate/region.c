/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/region.h"

#include <stdint.h>
#include <sys/mman.h>

void *region_map(void)
{
    char *at = mmap(NULL, 2 * REGION_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    size_t before = (REGION_BYTES - (uintptr_t)at % REGION_BYTES) % REGION_BYTES;
    if (before)
        munmap(at, before);
    munmap(at + before + REGION_BYTES, REGION_BYTES - before);
    at += before;
    (void)madvise(at, REGION_BYTES, MADV_HUGEPAGE); /* a wish; small pages work too */
    return at;
}

void region_unmap(void *region)
{
    if (region)
        munmap(region, REGION_BYTES);
}
