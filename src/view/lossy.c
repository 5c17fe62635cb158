/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TEST ONLY (-Dlose_every=N): a history that leaves out each N-th datum that was acknowledged, by
 * the linker's --wrap, so that nothing of it is in another build. `sluice load --verify` must find
 * it.
 */
#include "view/history.h"

void __real_history_apply(struct history *h, const struct record *r, uint64_t offset);
void __wrap_history_apply(struct history *h, const struct record *r, uint64_t offset);

void __wrap_history_apply(struct history *h, const struct record *r, uint64_t offset)
{
    static uint64_t count; /* the history thread's */
    if (r->kind == RECORD_DATUM && ++count % LOSE_EVERY == 0)
        return;
    __real_history_apply(h, r, offset);
}
