/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who the client is behind proxies. Each hop appends on the right, so the list is believed from the
 * right, and only as far as trusted proxies reach: the rest is the client's own invention.
 */
#include "codec/address.h"

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

/* Splits at commas; inside quotes (Forwarded only) they do not count. */
static void split(struct slice s, bool quotes, struct hops *ret)
{
    size_t from = 0;
    bool quoted = false;
    ret->count = 0;
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

/* The node named by "for=" in one element of Forwarded (RFC 7239 section 4). */
static bool node_of(struct slice element, struct slice *ret)
{
    while (element.len) {
        const char *semi = memchr(element.ptr, ';', element.len);
        struct slice pair =
            slice_of(element.ptr, semi ? (size_t)(semi - element.ptr) : element.len);
        element = slice_from(element, pair.len + 1);
        pair = slice_trim(pair);
        if (pair.len < 4 || !slice_eq_nocase(slice_of(pair.ptr, 4), SLICE("for=")))
            continue;
        struct slice node = slice_from(pair, 4);
        if (node.len >= 2 && node.ptr[0] == '"' && node.ptr[node.len - 1] == '"')
            node = slice_of(node.ptr + 1, node.len - 2);
        *ret = node;
        return true;
    }
    return false;
}

struct address forwarded_client(struct slice forwarded, struct slice x_forwarded_for,
                                const struct address *peer, const struct cidr *trusted,
                                unsigned trusted_count)
{
    struct hops hops;
    struct address at = *peer;
    bool standard = forwarded.len > 0;
    split(standard ? forwarded : x_forwarded_for, standard, &hops);
    unsigned kept = hops.count < HOPS_MAX ? hops.count : HOPS_MAX;
    /* A Unix socket has no address to list; who may open it is the file's permissions' business. */
    bool believed = is_none(&at) || cidr_covers(trusted, trusted_count, &at);
    for (unsigned i = 0; i < kept && believed; i++) {
        struct slice node = hops.list[(hops.count - 1 - i) % HOPS_MAX];
        struct address next;
        if ((standard && !node_of(node, &node)) || !address_parse(node, &next))
            return *peer;
        at = next;
        believed = cidr_covers(trusted, trusted_count, &at);
    }
    return at;
}
