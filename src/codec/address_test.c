/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/address.h"
#include "codec/http1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static struct address addr(const char *text)
{
    struct address a = {0};
    assert_true(address_parse(slice_str(text), &a));
    return a;
}

static const char *shown(const struct address *a)
{
    static char text[128];
    struct buf out;
    buf_init(&out, 100);
    address_format(&out, a);
    snprintf(text, sizeof text, "%.*s:%u", (int)out.len, out.ptr, a->port);
    buf_fini(&out);
    return text;
}

static void parses_and_formats(void **state)
{
    static const char *const good[][2] = {
        {"192.0.2.1", "192.0.2.1:0"},
        {"192.0.2.1:80", "192.0.2.1:80"},
        {"192.0.2.1:65535", "192.0.2.1:65535"},
        {"2001:db8::1", "2001:db8::1:0"},
        {"2001:DB8:0:0::1", "2001:db8::1:0"},
        {"[2001:db8::1]:80", "2001:db8::1:80"},
        {"[::1]", "::1:0"},
        {"::ffff:192.0.2.1", "192.0.2.1:0"},
        {"[::ffff:192.0.2.1]:1", "192.0.2.1:1"},
        {"::", ":::0"},
    };
    static const char *const bad[] = {
        "",
        "x",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "01.2.3.4",
        "1.2.3.4 ",
        " 1.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:65536",
        "1.2.3.4:x",
        "1.2.3.4:123456",
        "1.2.3.4:-1",
        "[1.2.3.4]",
        "[1.2.3.4]:80",
        "[::1",
        "::1]",
        "[::1]80",
        "[::1]:",
        "[]",
        "[]:80",
        ":80",
        "fe80::1%eth0",
        "2001:db8::1::2",
        "1.2.3.4/8",
        "unknown",
        "_hidden",
        "2001:0db8:0000:0000:0000:0000:0000:0001:0002",
        "1111111111111111111111111111111111111111111111111111111111111111111111111111111",
    };
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        struct address a = addr(good[i][0]);
        assert_string_equal(shown(&a), good[i][1]);
    }
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct address a;
        if (address_parse(slice_str(bad[i]), &a))
            fail_msg("%s is taken", bad[i]);
    }
    struct address a;
    assert_false(address_parse(slice_of("1.2.3.4\0", 8), &a));
    assert_false(address_parse((struct slice){0}, &a));
}

static void kinds_and_sources(void **state)
{
    struct address v4 = addr("127.1.2.3"), v6 = addr("::1"), other = addr("128.0.0.1"), none = {0};
    assert_true(address_is_loopback(&v4) && address_is_loopback(&v6));
    assert_false(address_is_loopback(&other) || address_is_loopback(&none));
    assert_true(address_is_v4(&v4));
    assert_false(address_is_v4(&v6) || address_is_v4(&none));
    struct address a = addr("2001:db8:1:2::1"), b = addr("2001:db8:1:2:ffff::"),
                   c = addr("2001:db8:1:3::1"), d = addr("192.0.2.1"), e = addr("192.0.2.2"),
                   f = addr("::c000:0201");
    assert_true(address_source(&a) == address_source(&b));
    assert_true(address_source(&a) != address_source(&c));
    assert_true(address_source(&d) != address_source(&e));
    assert_true(address_source(&d) != address_source(&f));
    assert_true(address_source(&a) == 0x20010db800010002ull);
    static const struct {
        uint64_t source;
        const char *text;
    } shown[] = {{0xffffffffc0000207ull, "192.0.2.7"},
                 {0x20010db800010002ull, "2001:db8:1:2::/64"},
                 {0, ""}};
    for (unsigned i = 0; i < sizeof shown / sizeof *shown; i++) {
        struct buf text;
        buf_init(&text, 64);
        address_source_format(&text, shown[i].source);
        assert_true(slice_eq(buf_slice(&text), slice_str(shown[i].text)));
        buf_fini(&text);
    }
}

static void cidrs(void **state)
{
    static const struct {
        const char *net, *in, *out;
    } all[] = {
        {"10.0.0.0/8", "10.255.1.2", "11.0.0.0"},
        {"10.1.2.3/8", "10.9.9.9", "9.255.255.255"},
        {"192.0.2.128/25", "192.0.2.255", "192.0.2.127"},
        {"192.0.2.1", "192.0.2.1", "192.0.2.0"},
        {"192.0.2.1/32", "192.0.2.1", "192.0.2.3"},
        {"0.0.0.0/0", "255.1.2.3", "2001:db8::1"},
        {"2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"},
        {"2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"},
        {"2001:db8::1", "2001:db8::1", "2001:db8::2"},
        {"::/0", "2001:db8::1", "192.0.2.1"},
        {"::ffff:0:0/96", "192.0.2.1", "2001:db8::1"},
        {"::1/128", "::1", "127.0.0.1"},
    };
    static const char *const bad[] = {
        "",
        "/",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/x",
        "10.0.0.0/-1",
        "10.0.0.0/008",
        "10.0.0.0/8/8",
        "10.0.0.0:80/8",
        "2001:db8::/129",
        "[2001:db8::]/32",
        "10.0.0.0 /8",
        "10.0.0.0/ 8",
        "10.0.0/8",
        "any",
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct cidr c;
        struct address in = addr(all[i].in), out = addr(all[i].out), none = {0};
        assert_true(cidr_parse(slice_str(all[i].net), &c));
        if (!cidr_covers(&c, 1, &in) || cidr_covers(&c, 1, &out))
            fail_msg("%s", all[i].net);
        assert_false(cidr_covers(&c, 1, &none));
        assert_false(cidr_covers(&c, 0, &in));
        struct cidr two[2] = {c, c};
        assert_true(cidr_parse(SLICE("203.0.113.7"), &two[0]));
        assert_true(cidr_covers(two, 2, &in));
    }
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct cidr c;
        if (cidr_parse(slice_str(bad[i]), &c))
            fail_msg("%s is taken", bad[i]);
    }
}

static enum proxy_outcome proxy(struct slice in, size_t *used, bool *has, struct address *a)
{
    *used = 0;
    *has = false;
    *a = (struct address){0};
    return proxy_header_parse(in, used, has, a);
}

/* Every prefix of what is done must be "more"; what is bad may be so at any place, then stays so.
 */
static void check_prefixes(struct slice in, enum proxy_outcome whole)
{
    bool was_bad = false;
    for (size_t cut = 0; cut < in.len; cut++) {
        size_t used;
        bool has;
        struct address a;
        enum proxy_outcome o = proxy(slice_of(in.ptr, cut), &used, &has, &a);
        if (whole == PROXY_DONE && o != PROXY_MORE)
            fail_msg("%.*s: outcome %d at %zu", SLICE_ARG(in), o, cut);
        assert_false(was_bad && o != PROXY_BAD);
        was_bad |= o == PROXY_BAD;
    }
}

static void proxy_version_1(void **state)
{
    static const struct {
        const char *in, *shown;
    } good[] = {
        {"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", "192.0.2.1:56324"},
        {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535"},
        {"PROXY TCP6 2001:db8::1 ::1 0 1\r\n", "2001:db8::1:0"},
        {"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
         "65535 65535\r\n",
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:65535"},
        {"PROXY UNKNOWN\r\n", NULL},
        {"PROXY UNKNOWN any thing here\r\n", NULL},
    };
    char long_line[120] = "PROXY UNKNOWN ";
    memset(long_line + 14, 'x', 92);
    strcpy(long_line + 106, "\r\n"); /* 108 bytes, one more than there may be */
    const char *const bad[] = {
        "GET / HTTP/1.1\r\n",
        "PROXy TCP4",
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UNKNOWN\n",
        "PROXY UNKNOWN a\nb\r\n", /* an LF inside, however much is there */
        "PROXY UNKNOWN\r\r\n",
        "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        "PROXY TCP4 192.0.2.1:5 192.0.2.2 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP6 [::1] [::1] 1 2\r\n",
        "PROXY TCP4 192.0.2.999 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 x 1 2\r\n",
        "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        long_line,
    };
    size_t used;
    bool has;
    struct address a;
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        char text[200];
        int n = snprintf(text, sizeof text, "%sGET /", good[i].in);
        assert_int_equal(proxy(slice_of(text, (size_t)n), &used, &has, &a), PROXY_DONE);
        assert_int_equal(used, (size_t)n - 5);
        assert_true(has == (good[i].shown != NULL));
        if (has)
            assert_string_equal(shown(&a), good[i].shown);
        check_prefixes(slice_str(good[i].in), PROXY_DONE);
    }
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (proxy(slice_str(bad[i]), &used, &has, &a) != PROXY_BAD)
            fail_msg("%s is taken", bad[i]);
        check_prefixes(slice_str(bad[i]), PROXY_BAD);
    }
}

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define V4  "\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb"
#define CASE(outcome, has, text)                                                                   \
    {                                                                                              \
        outcome, has, SLICE(text)                                                                  \
    }

static void proxy_version_2(void **state)
{
    static const struct {
        enum proxy_outcome outcome;
        bool has;
        struct slice in;
    } all[] = {
        CASE(PROXY_DONE, true, SIG "\x21\x11\x00\x0c" V4),
        CASE(PROXY_DONE, true, SIG "\x21\x12\x00\x0c" V4),
        CASE(PROXY_DONE, true, SIG "\x21\x11\x00\x14" V4 "\x01\x00\x02h2\x04\x00\x00"),
        /* a right CRC-32C, then a wrong one */
        CASE(PROXY_DONE, true, SIG "\x21\x11\x00\x13" V4 "\x03\x00\x04\x20\xec\x95\x49"),
        CASE(PROXY_BAD, true, SIG "\x21\x11\x00\x13" V4 "\x03\x00\x04\x20\xec\x95\x48"),
        CASE(PROXY_DONE, false, SIG "\x20\x00\x00\x00"),
        CASE(PROXY_DONE, false, SIG "\x20\x11\x00\x0c" V4),
        CASE(PROXY_DONE, false,
             SIG "\x20\xff\x00\x03"
                 "abc"),
        CASE(PROXY_DONE, false,
             SIG "\x21\x00\x00\x03"
                 "abc"),
        CASE(PROXY_BAD, false, SIG "\x21\x11\x00\x0b" V4),
        CASE(PROXY_BAD, false, SIG "\x21\x11\x00\x00"),
        CASE(PROXY_BAD, false, SIG "\x21\x10\x00\x0c" V4),
        CASE(PROXY_BAD, false, SIG "\x21\x13\x00\x0c" V4),
        CASE(PROXY_BAD, false, SIG "\x21\x01\x00\x0c" V4),
        CASE(PROXY_BAD, false, SIG "\x21\x41\x00\x0c" V4),
        CASE(PROXY_BAD, false, SIG "\x21\x21\x00\x0c" V4),
        CASE(PROXY_BAD, false, SIG "\x22\x11\x00\x0c" V4),
        CASE(PROXY_BAD, false, SIG "\x11\x11\x00\x0c" V4),
        CASE(PROXY_BAD, false, SIG "\x31\x11\x00\x0c" V4),
        CASE(PROXY_BAD, false, SIG "\x21\x11\x02\x09" V4),
        CASE(PROXY_BAD, false, SIG "\x21\x11\xff\xff" V4),
        CASE(PROXY_BAD, false, SIG "\x21\x11\x00\x0d" V4 "\x01"),
        CASE(PROXY_BAD, false, SIG "\x21\x11\x00\x0f" V4 "\x01\x00\x01"),
        CASE(PROXY_BAD, false,
             SIG "\x21\x11\x00\x12" V4 "\x03\x00\x03"
                 "abc"),
        CASE(PROXY_BAD, false,
             "\r\n\r\n\0\r\nQUIT\r"
             "\x21\x11\x00\x0c" V4),
        CASE(PROXY_BAD, false, "\r\nGET / HTTP/1.1\r\n"),
    };
    size_t used;
    bool has;
    struct address a;
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        enum proxy_outcome o = proxy(all[i].in, &used, &has, &a);
        if (o != all[i].outcome)
            fail_msg("line %u: %d", i, o);
        check_prefixes(all[i].in, o);
        if (o != PROXY_DONE)
            continue;
        assert_int_equal(used, all[i].in.len);
        assert_true(has == all[i].has);
        if (has)
            assert_string_equal(shown(&a), "192.0.2.1:56324");
    }
}

static void proxy_version_2_long_forms(void **state)
{
    size_t used;
    bool has;
    struct address a;
    char v6[16 + 36] = SIG "\x21\x21\x00\x24\x20\x01\x0d\xb8";
    v6[16 + 15] = 7;
    v6[16 + 33] = 80;
    assert_int_equal(proxy(slice_of(v6, sizeof v6), &used, &has, &a), PROXY_DONE);
    assert_string_equal(shown(&a), "2001:db8::7:80");
    char local[16 + 216] = SIG "\x21\x31\x00\xd8/run/x";
    assert_int_equal(proxy(slice_of(local, sizeof local), &used, &has, &a), PROXY_DONE);
    assert_false(has);
    char large[536] = SIG "\x21\x11\x02\x08" V4 "\x04\x01\xf9";
    assert_int_equal(proxy(slice_of(large, sizeof large - 1), &used, &has, &a), PROXY_MORE);
    assert_int_equal(proxy(slice_of(large, sizeof large), &used, &has, &a), PROXY_DONE);
    assert_int_equal(used, 536);
}

/* A request's fields, for each line of the text one of that name; between them others. */
static unsigned put_fields(struct http1_field *to, const char *name, const char *text)
{
    unsigned n = 0;
    for (const char *end = text; text[0]; text = end[0] ? end + 1 : end) {
        end = strchrnul(text, '\n');
        to[n++] = (struct http1_field){slice_str(name), slice_of(text, (size_t)(end - text))};
        to[n++] = (struct http1_field){SLICE("X-Forwarded"), SLICE("6.6.6.6")};
    }
    return n;
}

static void forwarded(void **state)
{
    static const struct {
        const char *forwarded, *xff, *peer, *client;
    } all[] = {
        {"", "", "10.0.0.1", "10.0.0.1:0"},
        {"", "192.0.2.1", "10.0.0.1", "192.0.2.1:0"},
        {"", "192.0.2.1", "192.0.2.9", "192.0.2.9:0"}, /* an untrusted peer may say what it likes */
        {"", "6.6.6.6, 192.0.2.1", "10.0.0.1", "192.0.2.1:0"},
        {"", "192.0.2.1 ,10.0.0.2,\t10.0.0.3", "10.0.0.1", "192.0.2.1:0"},
        {"", "10.0.0.3, 10.0.0.2", "10.0.0.1", "10.0.0.3:0"},
        {"", "192.0.2.1,,", "10.0.0.1", "192.0.2.1:0"},
        {"", "192.0.2.1:8080", "10.0.0.1", "192.0.2.1:8080"},
        /* Several fields are one list. */
        {"", "192.0.2.1\n10.0.0.2", "10.0.0.1", "192.0.2.1:0"},
        {"", "6.6.6.6, 192.0.2.1\n10.0.0.2, 10.0.0.3\n10.0.0.4", "10.0.0.1", "192.0.2.1:0"},
        {"", "6.6.6.6\n192.0.2.1", "10.0.0.1", "192.0.2.1:0"},
        {"", "192.0.2.1\nunknown\n10.0.0.2", "10.0.0.1", "10.0.0.1:0"},
        {"for=6.6.6.6\nfor=192.0.2.1\nFor=10.0.0.2", "", "10.0.0.1", "192.0.2.1:0"},
        {"", "[2001:db8::1]:80", "10.0.0.1", "2001:db8::1:80"},
        {"", "2001:db8::1", "10.0.0.1", "2001:db8::1:0"},
        {"", "unknown", "10.0.0.1", "10.0.0.1:0"},
        {"", "192.0.2.1, unknown, 10.0.0.2", "10.0.0.1", "10.0.0.1:0"},
        {"", "\"192.0.2.1\"", "10.0.0.1", "10.0.0.1:0"},
        {"", ",", "10.0.0.1", "10.0.0.1:0"},
        {"", "192.0.2.1", "::", "192.0.2.1:0"}, /* a Unix socket */
        {"", "6.6.6.6, ::", "10.0.0.1", ":::0"},
        {"for=192.0.2.1", "192.0.2.7", "10.0.0.1", "192.0.2.1:0"},
        {"For=\"[2001:db8:cafe::17]:4711\"", "", "10.0.0.1", "2001:db8:cafe::17:4711"},
        {"proto=http; FOR=192.0.2.1 ;by=203.0.113.43", "", "10.0.0.1", "192.0.2.1:0"},
        {"for=6.6.6.6, for=192.0.2.1, for=10.0.0.9", "", "10.0.0.1", "192.0.2.1:0"},
        {"for=6.6.6.6;x=\"a,for=7.7.7.7\", for=10.0.0.9", "", "10.0.0.1", "6.6.6.6:0"},
        {"for=6.6.6.6;x=\"a\\\",for=7.7.7.7", "", "10.0.0.1", "6.6.6.6:0"},
        {"for=unknown", "192.0.2.7", "10.0.0.1", "10.0.0.1:0"},
        {"for=_gazonk", "", "10.0.0.1", "10.0.0.1:0"},
        {"by=192.0.2.1", "192.0.2.7", "10.0.0.1", "10.0.0.1:0"},
        {"for=\"192.0.2.1", "", "10.0.0.1", "10.0.0.1:0"},
        {"for=", "", "10.0.0.1", "10.0.0.1:0"},
        {"xfor=192.0.2.1", "", "10.0.0.1", "10.0.0.1:0"},
        {"for=192.0.2.1", "", "192.0.2.9", "192.0.2.9:0"},
    };
    struct cidr trusted;
    assert_true(cidr_parse(SLICE("10.0.0.0/8"), &trusted));
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct address peer = addr(all[i].peer);
        struct http1_field fields[20];
        unsigned n = put_fields(fields, "forwardeD", all[i].forwarded);
        n += put_fields(fields + n, "X-Forwarded-for", all[i].xff);
        struct forwarded f = {fields, n, all[i].forwarded[0] != 0, &trusted, 1};
        struct address a = forwarded_client(&f, &peer);
        if (strcmp(shown(&a), all[i].client) != 0)
            fail_msg("line %u: %s", i, shown(&a));
    }
    /* Only the last 32 hops count: a long tail of own proxies does not reach the client's part. */
    char text[2000] = "6.6.6.6";
    for (int i = 0; i < 40; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), ",10.0.1.%d", i);
    struct address peer = addr("10.0.0.1");
    struct http1_field fields[20];
    struct forwarded f = {fields, put_fields(fields, "X-Forwarded-For", text), false, &trusted, 1};
    struct address a = forwarded_client(&f, &peer);
    assert_string_equal(shown(&a), "10.0.1.8:0");
    f.trusted_count = 0; /* then nobody is */
    a = forwarded_client(&f, &peer);
    assert_string_equal(shown(&a), "10.0.0.1:0");
    peer = addr("::");
    assert_false(forwarded_trusts(&f, &peer));
    a = forwarded_client(&f, &peer);
    assert_string_equal(shown(&a), ":::0");
}

/* What the proxy nearest to us says: it is the last one to write. */
static void forwarded_by_https(void **state)
{
    static const struct {
        const char *forwarded, *xfp;
        bool https;
    } all[] = {
        {"", "https", true},
        {"", "HTTPS", true},
        {"", "http", false},
        {"", "", false},
        {"", "https, http", false},
        {"", "http,https", true},
        {"", "http\nhttps", true},
        {"", "https\nhttp", false},
        {"", "https,", true},
        {"", "httpss", false},
        {"proto=https", "", true},
        {"for=192.0.2.1;Proto=\"https\"", "http", true},
        {"for=192.0.2.1;proto=http", "https", false},
        {"for=192.0.2.1", "https", false},
        {"for=192.0.2.1;proto=https\nfor=10.0.0.2;proto=http", "", false},
        {"for=192.0.2.1;proto=http, for=10.0.0.2;proto=https", "", true},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct http1_field fields[20];
        unsigned n = put_fields(fields, "Forwarded", all[i].forwarded);
        n += put_fields(fields + n, "x-forwarded-PROTO", all[i].xfp);
        struct forwarded f = {fields, n, all[i].forwarded[0] != 0, NULL, 0};
        if (forwarded_is_https(&f) != all[i].https)
            fail_msg("line %u", i);
    }
}

/* The first and the last address of each block, and those beside them. */
static const char *const special[] = {
    "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255",
    "127.0.0.1", "127.255.255.255", "169.254.0.0", "169.254.169.254", "169.254.255.255",
    "172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.255", "192.0.2.0", "192.0.2.255",
    "192.31.196.0", "192.52.193.255", "192.88.99.0", "192.88.99.255", "192.168.0.0",
    "192.168.255.255", "192.175.48.0", "198.18.0.0", "198.19.255.255", "198.51.100.0",
    "198.51.100.255", "203.0.113.0", "203.0.113.255", "224.0.0.0", "239.255.255.255", "240.0.0.0",
    "255.255.255.255",
    /* IPv6 */
    "::", "::1", "::2", "::7f00:1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1",
    "::ffff:169.254.169.254", "::ffff:10.1.2.3", "::ffff:0:8.8.8.8", "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:0:0:0:1::", "64:ff9b:1::8.8.8.8",
    "100::", "100::1", "100:0:0:1::1", "1fff:ffff::", "2001::", "2001::1",
    "2001:0:7f00:1::", "2001:2::1", "2001:10::1", "2001:20::1",
    "2001:1ff:ffff::", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    "2002::", "2002:7f00:1::", "2002:808:808::1", "2002:ffff:ffff::", "2620:4f:8000::1", "3ffe::1",
    "3fff::", "3fff:fff:ffff::", "4000::", "5f00::1", "fc00::", "fd00:ec2::254",
    "fdff:ffff::", "fe80::1", "febf::1", "fec0::1", "feff::1", "ff00::", "ff02::1", "ffff:ffff::"};
static const char *const public[] = {"1.0.0.0",
                                     "9.255.255.255",
                                     "11.0.0.0",
                                     "100.63.255.255",
                                     "100.128.0.0",
                                     "126.255.255.255",
                                     "128.0.0.0",
                                     "169.253.255.255",
                                     "169.255.0.0",
                                     "172.15.255.255",
                                     "172.32.0.0",
                                     "191.255.255.255",
                                     "192.0.1.0",
                                     "192.0.3.0",
                                     "192.31.195.255",
                                     "192.31.197.0",
                                     "192.52.192.255",
                                     "192.88.98.255",
                                     "192.88.100.0",
                                     "192.167.255.255",
                                     "192.169.0.0",
                                     "192.175.47.255",
                                     "198.17.255.255",
                                     "198.20.0.0",
                                     "198.51.99.255",
                                     "198.51.101.0",
                                     "203.0.112.255",
                                     "203.0.114.0",
                                     "223.255.255.255",
                                     "8.8.8.8",
                                     "::ffff:8.8.8.8",
                                     "64:ff9b::8.8.8.8",
                                     "2000::1",
                                     "2001:200::",
                                     "2001:db7:ffff::",
                                     "2001:db9::",
                                     "2001:4860:4860::8888",
                                     "2003::",
                                     "2606:4700::1111",
                                     "2620:4f:7fff::",
                                     "2620:4f:8001::",
                                     "3ffd:ffff::",
                                     "3fff:1000::",
                                     "2a00:1450::1"};

static void special_addresses(void **state)
{
    for (unsigned i = 0; i < sizeof special / sizeof *special; i++) {
        struct address a = addr(special[i]);
        if (!address_is_special(&a))
            fail_msg("%s is taken for a public address", special[i]);
    }
    for (unsigned i = 0; i < sizeof public / sizeof *public; i++) {
        struct address a = addr(public[i]);
        if (address_is_special(&a))
            fail_msg("%s is not taken for a public address", public[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_and_formats),
        cmocka_unit_test(kinds_and_sources),
        cmocka_unit_test(cidrs),
        cmocka_unit_test(special_addresses),
        cmocka_unit_test(proxy_version_1),
        cmocka_unit_test(proxy_version_2),
        cmocka_unit_test(proxy_version_2_long_forms),
        cmocka_unit_test(forwarded),
        cmocka_unit_test(forwarded_by_https),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
