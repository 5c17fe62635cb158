/* SPDX-License-Identifier: Apache-2.0 */
#include "front/reply_why.h"

#include "codec/json.h"

void reply_put_why(struct buf *out, const struct reply *r)
{
    struct json v, key, value;
    size_t at, was = out->len;
    const char *why;
    if (r->body.len && json_parse(buf_slice(&r->body), &v, &at, &why) && v.type == JSON_OBJECT) {
        struct slice rest = json_members(v);
        while (json_next_member(&rest, &key, &value)) {
            if (slice_eq(key.raw, SLICE("error")) && value.type == JSON_STRING)
                json_unescape(value, out);
        }
    }
    if (out->len == was)
        buf_put_str(out, reason_info(r->reason)->text);
    if (r->retry_ns && r->reason != REASON_throttled) /* that sentence says it already */
        buf_printf(out, ", in %llu s",
                   (unsigned long long)((r->retry_ns + 999999999u) / 1000000000u));
}
