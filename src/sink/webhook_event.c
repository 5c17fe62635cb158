/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/webhook_event.h"

#include <openssl/evp.h>
#include <string.h>

#include "base/digits.h"
#include "codec/number.h"
#include "codec/text.h"
#include "codec/utf8.h"
#include "flow/publish.h"

void webhook_event_id(char out[WEBHOOK_ID_BYTES], const struct webhook_source *s, uint64_t offset)
{
    static const char digits[] = "0123456789abcdef";
    char *at = out + sizeof "msg_" - 1;
    memcpy(out, "msg_", sizeof "msg_" - 1);
    for (unsigned i = 0; i < sizeof s->log_id; i++) {
        *at++ = digits[s->log_id[i] >> 4];
        *at++ = digits[s->log_id[i] & 15];
    }
    *at++ = '_';
    *digits_put(at, offset) = 0;
}

/* `before`: what stands before the value, with its first quote. */
static void put_time(struct buf *out, const char *before, int64_t us)
{
    buf_put_str(out, before);
    time_format_us(out, us);
    buf_put_u8(out, '"');
}

/* `before`: what stands before the value. */
static void put_name(struct buf *out, const char *before, struct slice name)
{
    buf_put_str(out, before);
    if (name.len)
        buf_put_json(out, name);
    else
        buf_put_str(out, "null");
}

/* What is no text goes as base64: JSON has no bytes. */
static void put_value(struct buf *out, struct slice value)
{
    if (utf8_text(value)) {
        buf_put_str(out, ",\"value\":");
        buf_put_json(out, value);
        if (number_form(value) && number_finite(value)) {
            buf_put_str(out, ",\"number\":");
            buf_put_slice(out, value);
        }
        return;
    }
    buf_put_str(out, ",\"value_base64\":\"");
    char *to = buf_reserve(out, 4 * (value.len / 3 + 1) + 1);
    if (to)
        out->len += (size_t)EVP_EncodeBlock((unsigned char *)to, (const unsigned char *)value.ptr,
                                            (int)value.len);
    buf_put_u8(out, '"');
}

static void put_double(struct buf *out, const char *member, double v)
{
    buf_printf(out, ",\"%s\":", member);
    double_format(out, v);
}

static void put_id(struct buf *out, const struct webhook_source *s, int64_t event_us,
                   uint64_t offset)
{
    char id[DATUM_ID_LEN + 1];
    datum_id_format(id, event_us, s->node, offset);
    buf_put_str(out, ",\"id\":\"");
    buf_put(out, id, DATUM_ID_LEN);
    buf_put_u8(out, '"');
}

static void put_datum(struct buf *out, const struct datum *d)
{
    put_value(out, d->value);
    if (d->has_place) {
        put_double(out, "lat", d->lat);
        put_double(out, "lon", d->lon);
    }
    if (d->has_place && d->has_ele)
        put_double(out, "ele", d->ele);
}

/* The members of "data" that are this kind's own. */
static bool put_own(struct buf *out, const struct webhook_source *s, const struct sink_message *m)
{
    const struct record *r = &m->record;
    struct datum_target target;
    struct publish p;
    struct datum d;
    switch (r->kind) {
    case RECORD_PUBLISH:
        put_name(out, ",\"topic\":", r->topic);
        if (!publish_decode(r->payload, &p))
            return false;
        put_value(out, p.message);
        return true;
    case RECORD_DATUM:
        if (!datum_decode(r->payload, &d))
            return false;
        put_id(out, s, r->event_us, m->offset);
        put_time(out, ",\"created_at\":\"", r->event_us);
        put_datum(out, &d);
        return true;
    case RECORD_CHANGED:
    case RECORD_DELETED:
        if (r->kind == RECORD_DELETED && !r->payload.len)
            return true;
        if (!datum_target_decode(r->payload, &target))
            return false;
        put_id(out, s, target.event_ms * 1000, target.offset);
        if (r->kind == RECORD_DELETED)
            return true;
        if (!datum_decode(slice_from(r->payload, DATUM_TARGET_BYTES), &d))
            return false;
        put_datum(out, &d);
        return true;
    default:
        return false;
    }
}

static const char *type_of(const struct record *r)
{
    return r->kind == RECORD_PUBLISH   ? "message.published"
           : r->kind == RECORD_DATUM   ? "datum.created"
           : r->kind == RECORD_CHANGED ? "datum.changed"
           : r->payload.len            ? "datum.deleted"
                                       : "feed.deleted";
}

bool webhook_event_put(struct buf *out, const struct webhook_source *s,
                       const struct sink_message *m)
{
    const struct record *r = &m->record;
    buf_put_str(out, "\"type\":\"");
    buf_put_str(out, type_of(r));
    put_time(out, "\",\"timestamp\":\"", r->receive_us);
    put_name(out, ",\"data\":{\"account\":", m->names.account);
    if (r->kind != RECORD_PUBLISH) {
        put_name(out, ",\"feed\":", m->names.feed);
        buf_put_str(out, ",\"feed_id\":");
        buf_put_dec(out, r->feed);
    }
    put_name(out, ",\"device\":", m->names.device);
    bool good = put_own(out, s, m);
    buf_put_u8(out, '}');
    return good && !out->failed;
}
