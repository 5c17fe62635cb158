/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "codec/address.h"
#include "codec/http1.h"
#include "codec/text.h"

static struct buf out;

static void percent(struct slice in)
{
    struct slice name, value, rest = in;
    while (query_next(&rest, &name, &value))
        CHECK(value.ptr + value.len <= in.ptr + in.len);
    if (!percent_decode(in, true, &out))
        return;
    struct buf coded, again;
    buf_init(&coded, 3 * out.len + 1);
    buf_init(&again, out.len + 1);
    percent_encode(buf_slice(&out), &coded);
    CHECK(out.len <= in.len && percent_decode(buf_slice(&coded), true, &again));
    CHECK(slice_eq(buf_slice(&again), buf_slice(&out)));
    buf_fini(&coded);
    buf_fini(&again);
}

static void times(struct slice in)
{
    int64_t us, back;
    if (!time_parse(in, &us) || us >= 253402300800000000 || us < -62167219200000000)
        return; /* an offset may lead out of the years that have four digits */
    time_format_ms(&out, us);
    CHECK(time_parse(buf_slice(&out), &back) && back <= us && us - back < 1000);
}

static void addresses(struct slice in)
{
    struct address a, b, peer = {.bytes = {[10] = 0xff, [11] = 0xff, [12] = 10}};
    struct cidr c;
    const char *half = in.len ? memchr(in.ptr, '\n', in.len) : NULL;
    size_t n = half ? (size_t)(half - in.ptr) : in.len;
    if (address_parse(in, &a)) {
        address_format(&out, &a);
        CHECK(address_parse(buf_slice(&out), &b) && memcmp(a.bytes, b.bytes, 16) == 0);
    }
    if (cidr_parse(in, &c))
        CHECK(c.bits <= 128 && cidr_covers(&c, 1, &peer) == (cidr_covers(&c, 1, &peer)));
    CHECK(cidr_parse(SLICE("10.0.0.0/8"), &c));
    const struct http1_field fields[] = {
        {SLICE("forwarded"), slice_of(in.ptr, n)},
        {SLICE("x-forwarded-for"), half ? slice_from(in, n + 1) : (struct slice){0}},
        {SLICE("Forwarded"), slice_of(in.ptr, n)}};
    struct forwarded f = {fields, 3, true, &c, 1};
    forwarded_client(&f, &peer);
    forwarded_is_https(&f);
    f.standard = false;
    forwarded_client(&f, &peer);
}

/* A prefix of what is done or "more" is never bad; done needs all of it. */
static void proxy(struct slice in)
{
    size_t used = 0, used2;
    bool has, has2;
    struct address a, b;
    enum proxy_outcome whole = proxy_header_parse(in, &used, &has, &a);
    CHECK(whole != PROXY_MORE || in.len < 536);
    CHECK(whole != PROXY_DONE || (used <= in.len && used <= 536));
    size_t end = whole == PROXY_DONE ? used : in.len;
    for (size_t cut = 0; cut < end && whole != PROXY_BAD; cut++) {
        char *copy = malloc(cut + 1);
        CHECK(copy);
        memcpy(copy, in.ptr, cut);
        CHECK(proxy_header_parse(slice_of(copy, cut), &used2, &has2, &b) == PROXY_MORE);
        free(copy);
    }
}

static void doubles(struct slice in)
{
    double v = 0;
    memcpy(&v, in.ptr, in.len < sizeof v ? in.len : sizeof v);
    if (!isfinite(v))
        return;
    double_format(&out, v);
    buf_put_u8(&out, 0);
    CHECK(strtod(out.ptr, NULL) == v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice user, password;
    if (size == 0)
        return 0;
    struct slice in = slice_of(data + 1, size - 1);
    buf_init(&out, 1 << 16);
    switch (data[0]) {
    case '0':
        percent(in);
        break;
    case '1':
        times(in);
        break;
    case '2':
        if (basic_decode(in, &out, &user, &password))
            CHECK(user.len + password.len + 1 == out.len && !memchr(user.ptr, ':', user.len));
        break;
    case '3':
        gunzip(in, &out);
        CHECK(out.len <= out.max);
        break;
    case '4':
        addresses(in);
        break;
    case '5':
        proxy(in);
        break;
    default:
        doubles(in);
    }
    buf_fini(&out);
    return 0;
}
