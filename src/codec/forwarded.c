/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who the client is behind proxies. Each hop appends on the right, so the list is believed from the
 * right, and only as far as trusted proxies reach: the rest is the client's own invention.
 */
#include "codec/address.h"
#include "codec/http1.h"

#define HOPS_MAX 32u /* the last ones; nobody has a longer chain of own proxies */

struct hops {
    struct slice list[HOPS_MAX]; /* a ring */
    unsigned count;
};

static bool is_none(const struct address *a)
{
    static const uint8_t none[16];
    return memcmp(a->bytes, none, sizeof none) == 0;
}

/* Splits at commas; inside quotes (Forwarded only) they do not count. Appends. */
static void split(struct slice s, bool quotes, struct hops *ret)
{
    size_t from = 0;
    bool quoted = false;
    if (s.len == 0)
        return;
    for (size_t i = 0; i <= s.len; i++) {
        char c = i < s.len ? s.ptr[i] : ',';
        if (quoted && i < s.len) {
            if (c == '\\')
                i++;
            quoted = c != '"';
        } else if (c == '"' && quotes) {
            quoted = true;
        } else if (c == ',' || i >= s.len) {
            size_t to = i < s.len ? i : s.len;
            struct slice one = slice_trim(slice_of(s.ptr + from, to - from));
            if (one.len) /* empty list elements do not count (RFC 9110 section 5.6.1.2) */
                ret->list[ret->count++ % HOPS_MAX] = one;
            from = i + 1;
        }
    }
}

/* A parameter of one element of Forwarded (RFC 7239 section 4); `name` with its '='. */
static bool param_of(struct slice element, struct slice name, struct slice *ret)
{
    while (element.len) {
        const char *semi = memchr(element.ptr, ';', element.len);
        struct slice pair =
            slice_of(element.ptr, semi ? (size_t)(semi - element.ptr) : element.len);
        element = slice_from(element, pair.len + 1);
        pair = slice_trim(pair);
        if (pair.len < name.len || !slice_eq_nocase(slice_of(pair.ptr, name.len), name))
            continue;
        struct slice value = slice_from(pair, name.len);
        if (value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"')
            value = slice_of(value.ptr + 1, value.len - 2);
        *ret = value;
        return true;
    }
    return false;
}

/* Fields of one name are one list, in the order in which they came (RFC 9110 section 5.2). */
static void split_all(const struct forwarded *f, struct slice name, struct hops *ret)
{
    ret->count = 0;
    for (unsigned i = 0; i < f->fields_count; i++) {
        if (slice_eq_nocase(f->fields[i].name, name))
            split(f->fields[i].value, f->standard, ret);
    }
}

/* A Unix socket has no address to list; who may open it is the file's permissions' business. */
bool forwarded_trusts(const struct forwarded *f, const struct address *peer)
{
    return f->trusted_count && (is_none(peer) || cidr_covers(f->trusted, f->trusted_count, peer));
}

struct address forwarded_client(const struct forwarded *f, const struct address *peer)
{
    struct hops hops;
    struct address at = *peer;
    bool believed = forwarded_trusts(f, peer);
    if (!believed)
        return at;
    split_all(f, f->standard ? SLICE("forwarded") : SLICE("x-forwarded-for"), &hops);
    unsigned kept = hops.count < HOPS_MAX ? hops.count : HOPS_MAX;
    for (unsigned i = 0; i < kept && believed; i++) {
        struct slice node = hops.list[(hops.count - 1 - i) % HOPS_MAX];
        struct address next;
        if ((f->standard && !param_of(node, SLICE("for="), &node)) || !address_parse(node, &next))
            return *peer;
        at = next;
        believed = cidr_covers(f->trusted, f->trusted_count, &at);
    }
    return at;
}

bool forwarded_is_https(const struct forwarded *f)
{
    struct hops hops;
    split_all(f, f->standard ? SLICE("forwarded") : SLICE("x-forwarded-proto"), &hops);
    if (!hops.count)
        return false;
    struct slice proto = hops.list[(hops.count - 1) % HOPS_MAX];
    return (!f->standard || param_of(proto, SLICE("proto="), &proto)) &&
           slice_eq_nocase(proto, SLICE("https"));
}
