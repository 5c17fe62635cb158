/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealed values of the database: u8 SEALED, u32 key number (little endian), then as in seal/seal.h,
 * bound to the value's key. No plain value begins with SEALED. All rows of a feed are of one
 * account: where one is erased, so are the others.
 */
#include <errno.h>

#include "base/check.h"
#include "base/metric.h"
#include "view/history_own.h"

enum { SEALED = 0xa5, SEALED_HEAD = 5 };

void history_put(struct history *h, rocksdb_writebatch_t *b, struct slice key, uint32_t key_id,
                 struct slice value)
{
    if (key_id && h->sealer) {
        buf_clear(&h->sealed);
        buf_put_u8(&h->sealed, SEALED);
        buf_put_u32(&h->sealed, key_id);
        enum seal_outcome done = seal_bytes(h->sealer, key_id, key, value, &h->sealed);
        CHECK(done != SEAL_MEMORY && !h->sealed.failed);
        if (done != SEAL_DONE) { /* destroyed meanwhile: as good as erased already */
            metric_add(METRIC_sealed_erased, 1);
            return;
        }
        value = buf_slice(&h->sealed);
    }
    rocksdb_writebatch_put(b, key.ptr, key.len, value.ptr, value.len);
}

void unsealing_init(struct unsealing *u, struct history *h)
{
    *u = (struct unsealing){.sealer = h->opts.keyring ? sealer_new(h->opts.keyring) : NULL};
    buf_init(&u->plain, SIZE_MAX / 2);
}

void unsealing_fini(struct unsealing *u)
{
    sealer_free(u->sealer);
    buf_fini(&u->plain);
    *u = (struct unsealing){0};
}

bool unsealing_open(struct unsealing *u, struct slice key, struct slice *value)
{
    if (value->len < SEALED_HEAD || (uint8_t)value->ptr[0] != SEALED || !u->sealer)
        return true;
    uint32_t key_id;
    memcpy(&key_id, value->ptr + 1, sizeof key_id);
    buf_clear(&u->plain);
    enum seal_outcome done =
        unseal_bytes(u->sealer, key_id, key, slice_from(*value, SEALED_HEAD), &u->plain);
    if (done == SEAL_DONE) {
        u->key_id = key_id;
        *value = buf_slice(&u->plain);
    } else if (done == SEAL_ERASED) {
        metric_add(METRIC_sealed_erased, 1);
        return false;
    } else {
        metric_add(METRIC_sealed_unreadable, 1); /* the caller finds no row in it */
    }
    return true;
}
