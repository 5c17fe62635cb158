/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A slot may be overwritten, by an offset FATES_MAX higher, while somebody reads it. The thread
 * that notes raises `end` before it writes slots, so who finds `end` low enough behind his look
 * has read his own offset's.
 */
#include "sink/fates.h"

#include <stdlib.h>

const char *fate_name(enum fate fate)
{
    static const char *const names[] = {
        [FATE_UNKNOWN] = "passed",
        [FATE_DELIVERED] = "delivered",
        [FATE_NOT_SELECTED] = "not_selected",
        [FATE_GIVEN_UP] = "given_up",
        [FATE_UNREADABLE] = "unreadable",
        [FATE_FAILED] = "failed",
    };
    return names[fate];
}

struct fates *fates_new(uint64_t start)
{
    struct fates *f = calloc(1, sizeof *f);
    if (f)
        atomic_init(&f->end, start);
    return f;
}

void fates_free(struct fates *f)
{
    free(f);
}

static void fill(struct fates *f, uint64_t from, uint64_t to, enum fate fate)
{
    for (; from < to; from++)
        atomic_store_explicit(&f->ring[from % FATES_MAX], (uint8_t)fate, memory_order_release);
}

void fates_note(struct fates *f, uint64_t from, uint64_t to, enum fate fate)
{
    uint64_t end = atomic_load_explicit(&f->end, memory_order_relaxed);
    if (to > end)
        atomic_store_explicit(&f->end, to, memory_order_release);
    uint64_t newest = to > end ? to : end;
    uint64_t oldest = newest > FATES_MAX ? newest - FATES_MAX : 0;
    if (from > end) /* nobody said anything of what lies between */
        fill(f, end > oldest ? end : oldest, from, FATE_UNKNOWN);
    fill(f, from > oldest ? from : oldest, to, fate);
}

enum fate fates_of(const struct fates *f, uint64_t offset)
{
    enum fate fate = atomic_load_explicit(&f->ring[offset % FATES_MAX], memory_order_acquire);
    uint64_t end = atomic_load_explicit(&f->end, memory_order_acquire);
    return offset < end && end - offset <= FATES_MAX ? fate : FATE_UNKNOWN;
}

/* Of what went right at the beginning, of what is known to have gone wrong at the end. */
static unsigned badness(enum fate fate)
{
    static const unsigned of[] = {[FATE_DELIVERED] = 0, [FATE_NOT_SELECTED] = 1, [FATE_UNKNOWN] = 2,
                                  [FATE_GIVEN_UP] = 3,  [FATE_UNREADABLE] = 4,   [FATE_FAILED] = 5};
    return of[fate];
}

enum fate fates_worst(const struct fates *f, uint64_t offset, uint32_t count,
                      uint32_t *ret_delivered)
{
    enum fate worst = FATE_DELIVERED;
    *ret_delivered = 0;
    for (uint32_t i = 0; i < count; i++) {
        enum fate fate = fates_of(f, offset + i);
        *ret_delivered += fate == FATE_DELIVERED;
        if (badness(fate) > badness(worst))
            worst = fate;
    }
    return worst;
}
