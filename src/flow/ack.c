/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/ack.h"

#include <string.h>

static const char *const names[] = {
    [ACK_RECEIVED] = "received",
    [ACK_DURABLE] = "durable",
    [ACK_APPLIED] = "applied",
    [ACK_DELIVERED] = "delivered:",
};

static bool is_sink_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-'))
            return false;
    }
    return name.len > 0 && name.len <= SINK_NAME_MAX;
}

bool ack_parse(struct slice text, struct ack *ret)
{
    struct ack a = {.level = ACK_DELIVERED};
    for (enum ack_level level = ACK_RECEIVED; level < ACK_DELIVERED; level++) {
        if (slice_eq(text, slice_str(names[level]))) {
            *ret = (struct ack){.level = level};
            return true;
        }
    }
    if (!slice_starts(text, slice_str(names[ACK_DELIVERED])))
        return false;
    struct slice name = slice_from(text, strlen(names[ACK_DELIVERED]));
    if (!is_sink_name(name))
        return false;
    memcpy(a.sink, name.ptr, name.len);
    *ret = a;
    return true;
}

void ack_format(struct buf *out, const struct ack *a)
{
    buf_put_str(out, names[a->level]);
    buf_put_str(out, a->sink);
}
