/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/evp.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "codec/text.h"
#include "codec/utf8.h"
#include "flow/publish.h"
#include "journal/record.h"
#include "sink/consume_private.h"

bool consume_token_parse(struct slice text, struct consume_token *ret)
{
    uint64_t offset = 0, lease = 0;
    size_t i = 0, digits = 0;
    for (; i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9'; i++, digits++)
        offset = offset * 10 + (uint64_t)(text.ptr[i] - '0');
    if (!digits || digits > 19 || i == text.len || text.ptr[i++] != '-')
        return false;
    for (digits = 0; i < text.len; i++, digits++) {
        char c = text.ptr[i];
        uint64_t v = c >= '0' && c <= '9'   ? (uint64_t)(c - '0')
                     : c >= 'a' && c <= 'f' ? (uint64_t)(c - 'a') + 10
                                            : 16;
        if (v > 15)
            return false;
        lease = lease << 4 | v;
    }
    *ret = (struct consume_token){offset, lease};
    return digits && digits <= 16;
}

static void put_text(struct buf *out, const char *name, struct slice value)
{
    buf_printf(out, ",\"%s\":", name);
    buf_put_json(out, value);
}

/* A text as it is; what is none in base64, under another name. */
static void put_value(struct buf *out, struct slice value)
{
    bool text = utf8_text(value);
    for (size_t i = 0; text && i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        text = c >= 0x20 || c == '\t' || c == '\n' || c == '\r';
    }
    if (text) {
        put_text(out, "value", value);
        return;
    }
    buf_put_str(out, ",\"value_base64\":\"");
    char *to = buf_reserve(out, (value.len + 2) / 3 * 4 + 1);
    if (to)
        out->len += (size_t)EVP_EncodeBlock((unsigned char *)to, (const unsigned char *)value.ptr,
                                            (int)value.len);
    buf_put_str(out, "\"");
}

static void put_number(struct buf *out, const char *name, double v)
{
    buf_printf(out, ",\"%s\":", name);
    double_format(out, v);
}

static bool put_datum(const struct consume *c, const struct record *r, struct slice feed,
                      uint64_t offset, struct buf *out)
{
    struct datum d;
    char id[DATUM_ID_LEN + 1];
    if (!datum_decode(r->payload, &d))
        return false;
    datum_id_format(id, r->event_us, c->opts.node, offset);
    put_text(out, "kind", SLICE("datum"));
    put_text(out, "feed", feed);
    put_text(out, "id", slice_of(id, DATUM_ID_LEN));
    put_value(out, d.value);
    if (d.has_place) {
        put_number(out, "lat", d.lat);
        put_number(out, "lon", d.lon);
        if (d.has_ele)
            put_number(out, "ele", d.ele);
    }
    return true;
}

static bool put_publish(const struct record *r, struct buf *out)
{
    struct publish p;
    if (!publish_decode(r->payload, &p))
        return false;
    put_text(out, "kind", SLICE("publish"));
    put_text(out, "topic", r->topic);
    put_value(out, p.message);
    return true;
}

/* Opens the record if it is sealed. False: it cannot be. */
static bool open_record(struct consume *c, struct record *r)
{
    if (r->key_id == 0)
        return true;
    enum seal_outcome found = c->sealer ? unseal_record(c->sealer, r, &c->opened) : SEAL_UNKNOWN;
    CHECK(found != SEAL_MEMORY);
    if (found != SEAL_PLAIN && found != SEAL_DONE && found != SEAL_ERASED)
        metric_add(METRIC_consume_unreadable, 1);
    return found == SEAL_PLAIN || found == SEAL_DONE;
}

bool consume_message_put(struct consume *c, const struct lease_message *m, struct buf *out)
{
    struct record r;
    struct sink_names names = {{0}, {0}, {0}};
    size_t was = out->len;
    CHECK(record_decode(slice_of(m->raw, m->bytes), &r) == m->bytes);
    c->opts.names(c->opts.arg, &r, &names);
    if ((r.kind == RECORD_DATUM && !names.feed.len) || !open_record(c, &r))
        return false;
    buf_printf(out, "{\"token\":\"%llu-%llx\",\"offset\":%llu,\"delivery\":%u",
               (unsigned long long)m->offset, (unsigned long long)m->lease,
               (unsigned long long)m->offset, m->deliveries);
    bool good = r.kind == RECORD_DATUM ? put_datum(c, &r, names.feed, m->offset, out)
                                       : put_publish(&r, out);
    if (!good) {
        metric_add(METRIC_consume_unreadable, 1);
        out->len = was;
        return false;
    }
    buf_put_str(out, ",\"created_at\":\"");
    time_format_s(out, r.event_us);
    buf_printf(out, "\",\"event_us\":%lld,\"receive_us\":%lld", (long long)r.event_us,
               (long long)r.receive_us);
    if (names.device.len)
        put_text(out, "device", names.device);
    buf_put_str(out, "}");
    return true;
}

void consume_group_put(const struct consume_stats *s, const char *feeds, struct buf *out)
{
#define U(v) (unsigned long long)(v)
    buf_put_str(out, "{\"group\":");
    buf_put_json(out, slice_str(s->name));
    put_text(out, "feeds", slice_str(feeds));
    buf_printf(out,
               ",\"position\":%llu,\"lag\":%llu,\"leased\":%llu,\"waiting\":%llu,"
               "\"connected\":%llu,\"delivered\":%llu,\"redelivered\":%llu,\"acknowledged\":%llu,"
               "\"returned\":%llu,"
               "\"expired\":%llu,\"missed\":%llu}",
               U(s->position), U(s->lag), U(s->leased), U(s->waiting), U(s->connected),
               U(s->delivered), U(s->redelivered), U(s->acked), U(s->nacked), U(s->expired),
               U(s->missed));
#undef U
}
