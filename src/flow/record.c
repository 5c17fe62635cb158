/* SPDX-License-Identifier: Apache-2.0 */
#define XXH_INLINE_ALL
#include "flow/record.h"

#include <xxhash.h>

#define CLIENT_BITS 49 /* seven bytes of a varint */

enum { DATUM_HAS_PLACE = 1, DATUM_HAS_ELE = 2 };

static void put_f64(struct buf *out, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    buf_put_u64(out, bits);
}

static uint64_t get_u64(const char *p)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 8; i++)
        v |= (uint64_t)(uint8_t)p[i] << (8 * i);
    return v;
}

static double get_f64(const char *p)
{
    uint64_t bits = get_u64(p);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

uint64_t record_client(uint64_t account, struct slice client_id)
{
    uint64_t hash = XXH3_64bits_withSeed(client_id.ptr, client_id.len, account);
    hash >>= 64 - CLIENT_BITS;
    return hash ? hash : 1;
}

void datum_encode(struct buf *out, const struct datum *d)
{
    buf_put_u8(out, (uint8_t)((d->has_place ? DATUM_HAS_PLACE : 0) |
                              (d->has_place && d->has_ele ? DATUM_HAS_ELE : 0)));
    if (d->has_place) {
        put_f64(out, d->lat);
        put_f64(out, d->lon);
        if (d->has_ele)
            put_f64(out, d->ele);
    }
    buf_put_slice(out, d->value);
}

bool datum_decode(struct slice payload, struct datum *ret)
{
    if (payload.len < 1 || (uint8_t)payload.ptr[0] > (DATUM_HAS_PLACE | DATUM_HAS_ELE))
        return false;
    uint8_t flags = (uint8_t)payload.ptr[0];
    struct datum d = {.has_place = flags & DATUM_HAS_PLACE, .has_ele = flags & DATUM_HAS_ELE};
    if (d.has_ele && !d.has_place)
        return false;
    size_t head = 1 + (d.has_place ? 16u : 0u) + (d.has_ele ? 8u : 0u);
    if (payload.len < head)
        return false;
    if (d.has_place) {
        d.lat = get_f64(payload.ptr + 1);
        d.lon = get_f64(payload.ptr + 9);
        if (d.has_ele)
            d.ele = get_f64(payload.ptr + 17);
    }
    d.value = slice_from(payload, head);
    *ret = d;
    return true;
}

void datum_target_encode(struct buf *out, struct datum_target t)
{
    buf_put_u64(out, (uint64_t)t.event_ms);
    buf_put_u64(out, t.offset);
}

bool datum_target_decode(struct slice payload, struct datum_target *ret)
{
    if (payload.len < DATUM_TARGET_BYTES)
        return false;
    *ret = (struct datum_target){.event_ms = (int64_t)get_u64(payload.ptr),
                                 .offset = get_u64(payload.ptr + 8)};
    return true;
}

static const char crockford[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/* Two digits for ten bits. */
#define PAIRS(a)                                                                                   \
    a "0" a "1" a "2" a "3" a "4" a "5" a "6" a "7" a "8" a "9" a "A" a "B" a "C" a "D" a "E" a    \
      "F" a "G" a "H" a "J" a "K" a "M" a "N" a "P" a "Q" a "R" a "S" a "T" a "V" a "W" a "X" a    \
      "Y" a "Z"
static const char crockford_pairs[2 * 1024 + 1] = {
    PAIRS("0") PAIRS("1") PAIRS("2") PAIRS("3") PAIRS("4") PAIRS("5") PAIRS("6") PAIRS("7")
        PAIRS("8") PAIRS("9") PAIRS("A") PAIRS("B") PAIRS("C") PAIRS("D") PAIRS("E") PAIRS("F")
            PAIRS("G") PAIRS("H") PAIRS("J") PAIRS("K") PAIRS("M") PAIRS("N") PAIRS("P") PAIRS("Q")
                PAIRS("R") PAIRS("S") PAIRS("T") PAIRS("V") PAIRS("W") PAIRS("X") PAIRS("Y")
                    PAIRS("Z")};

static void put_pair(char *to, uint64_t ten_bits)
{
    memcpy(to, crockford_pairs + 2 * (ten_bits & 1023), 2);
}

/* The low 60 bits. */
static void put_twelve(char *to, uint64_t bits)
{
    for (int i = 10; i >= 0; i -= 2, bits >>= 10)
        put_pair(to + i, bits);
}

void datum_id_format(char out[DATUM_ID_LEN + 1], int64_t event_us, uint16_t node, uint64_t offset)
{
    uint64_t high = (uint64_t)(event_us / 1000) << 16 | node;
    put_twelve(out, high >> 6);
    put_pair(out + 12, high << 4 | offset >> 60); /* six bits of the one, four of the other */
    put_twelve(out + 14, offset);
    out[DATUM_ID_LEN] = 0;
}

/* The low 30 bits. */
static void put_six(char *to, uint64_t bits)
{
    put_pair(to + 4, bits);
    put_pair(to + 2, bits >> 10);
    put_pair(to, bits >> 20);
}

void datum_id_change(char *id, uint64_t event_ms, uint64_t offset)
{
    put_six(id + 4, event_ms); /* its 48 bits end in the tenth digit */
    put_six(id + 20, offset);
}

static int crockford_value(char c)
{
    if (c >= 'a' && c <= 'z')
        c = (char)(c - 'a' + 'A');
    if (c == 'O')
        return 0;
    if (c == 'I' || c == 'L')
        return 1;
    const char *at = c ? strchr(crockford, c) : NULL;
    return at ? (int)(at - crockford) : -1;
}

bool datum_id_parse(struct slice text, int64_t *ret_event_ms, uint16_t *ret_node,
                    uint64_t *ret_offset)
{
    if (text.len != DATUM_ID_LEN)
        return false;
    unsigned __int128 v = 0;
    for (size_t i = 0; i < text.len; i++) {
        int digit = crockford_value(text.ptr[i]);
        if (digit < 0 || (i == 0 && digit > 7)) /* 26 x 5 bits are 130: the first digit has 3 */
            return false;
        v = v << 5 | (unsigned)digit;
    }
    *ret_event_ms = (int64_t)(uint64_t)(v >> 80);
    *ret_node = (uint16_t)(v >> 64);
    *ret_offset = (uint64_t)v;
    return true;
}
