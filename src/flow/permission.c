/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/permission.h"

static const struct {
    struct slice name;
    uint64_t mask;
} known[] = {
#define PERMISSION(name, bit, text) {{#name, sizeof #name - 1}, PERM_##name},
#include "flow/permissions.def"
#undef PERMISSION
};

#define KNOWN (sizeof known / sizeof *known)

static uint64_t mask_of(struct slice name)
{
    uint64_t mask = 0;
    for (unsigned i = 0; i < KNOWN; i++) {
        if (slice_eq(name, SLICE("*")))
            mask |= known[i].mask & ~(uint64_t)PERM_ADMIN;
        else if (slice_eq(name, known[i].name))
            mask |= known[i].mask;
    }
    return mask;
}

bool permissions_parse(struct slice text, char between, uint64_t *ret, struct slice *ret_bad)
{
    uint64_t mask = 0;
    while (text.len) {
        const char *at = memchr(text.ptr, between, text.len);
        size_t len = at ? (size_t)(at - text.ptr) : text.len;
        struct slice item = slice_trim(slice_of(text.ptr, len));
        uint64_t one = mask_of(item);
        if (!one) {
            *ret_bad = item;
            return false;
        }
        mask |= one;
        text = slice_from(text, at ? len + 1 : len);
    }
    *ret = mask;
    return true;
}

void permissions_format(struct buf *out, uint64_t mask, char between)
{
    bool first = true;
    for (unsigned i = 0; i < KNOWN; i++) {
        if (!(mask & known[i].mask))
            continue;
        if (!first)
            buf_put_u8(out, (uint8_t)between);
        first = false;
        buf_put_slice(out, known[i].name);
    }
}
