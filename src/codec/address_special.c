/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Special-purpose addresses: iana-ipv4-special-registry and iana-ipv6-special-registry, with
 * multicast and what is reserved or was. Entries that the registries call globally reachable
 * (AS112, AMT, anycast for protocols) are in too: nobody has a service of his own there.
 *
 * Of IPv6 only global unicast, 2000::/3, is public: what is given out one day of the rest is
 * special until somebody says otherwise here. Forms that carry an IPv4 address: mapped is how IPv4
 * is kept; NAT64's well-known prefix is judged by what it carries, as behind DNS64 every IPv4 host
 * has such an address; 6to4, Teredo, translated and compatible ones are special whatever they
 * carry, as no host has only that.
 */
#include "codec/address.h"

struct block {
    uint8_t net[8]; /* the first bytes */
    uint8_t bits;   /* of these */
};

static const struct block v4_blocks[] = {
    {{0}, 8},             /* this network */
    {{10}, 8},            /* private */
    {{100, 64}, 10},      /* shared, carriers' NAT */
    {{127}, 8},           /* loopback */
    {{169, 254}, 16},     /* link local; metadata of clouds */
    {{172, 16}, 12},      /* private */
    {{192, 0, 0}, 24},    /* protocols: DS-Lite, PCP, NAT64 discovery */
    {{192, 0, 2}, 24},    /* documentation */
    {{192, 31, 196}, 24}, /* AS112 */
    {{192, 52, 193}, 24}, /* AMT */
    {{192, 88, 99}, 24},  /* 6to4 relays, once */
    {{192, 168}, 16},     /* private */
    {{192, 175, 48}, 24}, /* AS112 */
    {{198, 18}, 15},      /* benchmarks */
    {{198, 51, 100}, 24}, /* documentation */
    {{203, 0, 113}, 24},  /* documentation */
    {{224}, 4},           /* multicast */
    {{240}, 4},           /* reserved; broadcast */
};

/* Within 2000::/3. */
static const struct block v6_blocks[] = {
    {{0x20, 0x01}, 23},                         /* protocols: Teredo, ORCHID, benchmarks, AMT ... */
    {{0x20, 0x01, 0x0d, 0xb8}, 32},             /* documentation */
    {{0x20, 0x02}, 16},                         /* 6to4 */
    {{0x26, 0x20, 0x00, 0x4f, 0x80, 0x00}, 48}, /* AS112 */
    {{0x3f, 0xfe}, 16},                         /* 6bone, once */
    {{0x3f, 0xff}, 20},                         /* documentation */
};

static bool within(const struct block *blocks, size_t count, const uint8_t *bytes)
{
    for (size_t i = 0; i < count; i++) {
        const struct block *b = &blocks[i];
        unsigned whole = b->bits / 8, rest = b->bits % 8;
        if (memcmp(b->net, bytes, whole) == 0 &&
            (rest == 0 || (b->net[whole] ^ bytes[whole]) >> (8 - rest) == 0))
            return true;
    }
    return false;
}

static bool is_special_v4(const uint8_t *bytes)
{
    return within(v4_blocks, sizeof v4_blocks / sizeof *v4_blocks, bytes);
}

bool address_is_special(const struct address *a)
{
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    if (address_is_v4(a) || memcmp(a->bytes, nat64, sizeof nat64) == 0)
        return is_special_v4(a->bytes + 12);
    return a->bytes[0] >> 5 != 1 ||
           within(v6_blocks, sizeof v6_blocks / sizeof *v6_blocks, a->bytes);
}
