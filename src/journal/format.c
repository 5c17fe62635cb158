/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/format.h"

#include <stdio.h>
#include <isa-l/crc.h>

#define SEGMENT_MAGIC    0x31474c53u /* "SLG1" */
#define BATCH_MAGIC      0x31424c53u /* "SLB1" */
#define CHECKPOINT_MAGIC 0x31434c53u /* "SLC1" */
#define CRC_PIECE        (1 << 30)

uint32_t crc32c(uint32_t seed, const void *ptr, size_t len)
{
    /* The library wants a non-const pointer and an int; it writes nothing. It leaves both
     * inversions to the caller. */
    unsigned char *p;
    memcpy(&p, &ptr, sizeof p);
    for (; len > CRC_PIECE; len -= CRC_PIECE, p += CRC_PIECE)
        seed = ~crc32_iscsi(p, CRC_PIECE, ~seed);
    return ~crc32_iscsi(p, (int)len, ~seed);
}

static bool all_zero(const char *p, size_t len)
{
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* The frame that segment header and checkpoint share: magic, CRC of the rest, version. */
static void frame_seal(char *out, size_t len, uint32_t magic, uint16_t version)
{
    le32_put(out, magic);
    le16_put(out + 8, version);
    le32_put(out + 4, crc32c(0, out + 8, len - 8));
}

static enum format_result frame_check(const char *in, size_t len, uint32_t magic)
{
    if (all_zero(in, len))
        return FORMAT_EMPTY;
    if (le32_get(in) != magic || le32_get(in + 4) != crc32c(0, in + 8, len - 8))
        return FORMAT_BAD;
    return le16_get(in + 8) > FORMAT_VERSION ? FORMAT_NEWER : FORMAT_OK;
}

void segment_header_encode(char out[SEGMENT_HEADER_BYTES], const struct segment_header *h)
{
    memset(out, 0, SEGMENT_HEADER_BYTES);
    le32_put(out + 12, h->body_at);
    memcpy(out + 16, h->log_id, sizeof h->log_id);
    le64_put(out + 32, h->base_offset);
    le64_put(out + 40, h->salt);
    le64_put(out + 48, h->supersedes_from);
    le64_put(out + 56, h->gap_from);
    le64_put(out + 64, (uint64_t)h->created_us);
    le64_put(out + 72, h->bytes);
    le32_put(out + 80, h->chain);
    le64_put(out + 88, h->boot_epoch);
    frame_seal(out, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, h->version);
}

enum format_result segment_header_decode(const char in[SEGMENT_HEADER_BYTES],
                                         struct segment_header *ret)
{
    enum format_result rc = frame_check(in, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC);
    if (rc != FORMAT_OK)
        return rc;
    struct segment_header h = {
        .version = le16_get(in + 8),
        .body_at = le32_get(in + 12),
        .base_offset = le64_get(in + 32),
        .salt = le64_get(in + 40),
        .supersedes_from = le64_get(in + 48),
        .gap_from = le64_get(in + 56),
        .created_us = (int64_t)le64_get(in + 64),
        .bytes = le64_get(in + 72),
        .chain = le32_get(in + 80),
        .boot_epoch = le64_get(in + 88),
    };
    memcpy(h.log_id, in + 16, sizeof h.log_id);
    if (h.body_at < SEGMENT_HEADER_BYTES || h.body_at % 8 || h.body_at > h.bytes ||
        h.bytes > INT64_MAX || h.base_offset > OFFSET_MAX)
        return FORMAT_BAD;
    *ret = h;
    return FORMAT_OK;
}

static uint32_t salt_seed(uint64_t salt)
{
    return (uint32_t)(salt ^ salt >> 32);
}

void batch_header_encode(char out[BATCH_HEADER_BYTES], struct batch_header *h, uint64_t salt)
{
    le32_put(out, BATCH_MAGIC);
    le64_put(out + 8, h->base_offset);
    le32_put(out + 16, h->body_len);
    le32_put(out + 20, h->body_crc);
    le32_put(out + 24, h->count);
    le16_put(out + 28, h->flags);
    le16_put(out + 30, h->version);
    le64_put(out + 32, (uint64_t)h->commit_us);
    le32_put(out + 40, 0);
    le32_put(out + 44, h->chain);
    le64_put(out + 48, h->durable_before);
    le64_put(out + 56, h->boot_epoch);
    h->header_crc = crc32c(salt_seed(salt), out + 8, BATCH_HEADER_BYTES - 8);
    le32_put(out + 4, h->header_crc);
}

enum format_result batch_header_decode(const char in[BATCH_HEADER_BYTES], uint64_t salt,
                                       struct batch_header *ret)
{
    if (le32_get(in) != BATCH_MAGIC)
        return all_zero(in, BATCH_HEADER_BYTES) ? FORMAT_EMPTY : FORMAT_BAD;
    struct batch_header h = {
        .header_crc = le32_get(in + 4),
        .base_offset = le64_get(in + 8),
        .body_len = le32_get(in + 16),
        .body_crc = le32_get(in + 20),
        .count = le32_get(in + 24),
        .flags = le16_get(in + 28),
        .version = le16_get(in + 30),
        .commit_us = (int64_t)le64_get(in + 32),
        .chain = le32_get(in + 44),
        .durable_before = le64_get(in + 48),
        .boot_epoch = le64_get(in + 56),
    };
    if (h.header_crc != crc32c(salt_seed(salt), in + 8, BATCH_HEADER_BYTES - 8))
        return FORMAT_BAD;
    if (h.version > FORMAT_VERSION)
        return FORMAT_NEWER;
    if (h.body_len > BATCH_BYTES_MAX || h.count > BATCH_RECORDS_MAX || h.base_offset > OFFSET_MAX ||
        h.durable_before > h.base_offset)
        return FORMAT_BAD;
    *ret = h;
    return FORMAT_OK;
}

void checkpoint_encode(char out[CHECKPOINT_BYTES], const struct checkpoint *c)
{
    memset(out, 0, CHECKPOINT_BYTES);
    out[10] = c->clean;
    memcpy(out + 16, c->log_id, sizeof c->log_id);
    le64_put(out + 32, c->seq);
    le64_put(out + 40, c->durable);
    le64_put(out + 48, c->segment_base);
    le64_put(out + 56, c->position);
    le64_put(out + 64, c->boot_epoch);
    le32_put(out + 72, c->chain);
    frame_seal(out, CHECKPOINT_BYTES, CHECKPOINT_MAGIC, c->version);
}

enum format_result checkpoint_decode(const char in[CHECKPOINT_BYTES], struct checkpoint *ret)
{
    enum format_result rc = frame_check(in, CHECKPOINT_BYTES, CHECKPOINT_MAGIC);
    if (rc != FORMAT_OK)
        return rc;
    struct checkpoint c = {
        .version = le16_get(in + 8),
        .clean = in[10] != 0,
        .seq = le64_get(in + 32),
        .durable = le64_get(in + 40),
        .segment_base = le64_get(in + 48),
        .position = le64_get(in + 56),
        .boot_epoch = le64_get(in + 64),
        .chain = le32_get(in + 72),
    };
    memcpy(c.log_id, in + 16, sizeof c.log_id);
    if (c.durable > OFFSET_MAX)
        return FORMAT_BAD;
    if (c.segment_base != OFFSET_NONE &&
        (c.position < SEGMENT_HEADER_BYTES || c.position % 8 || c.segment_base > c.durable))
        return FORMAT_BAD;
    *ret = c;
    return FORMAT_OK;
}

void segment_name_format(char out[SEGMENT_NAME_BYTES], uint64_t base)
{
    snprintf(out, SEGMENT_NAME_BYTES, "%020llu.slg", (unsigned long long)base);
}

bool segment_name_parse(const char *name, uint64_t *ret_base)
{
    uint64_t base = 0;
    for (int i = 0; i < 20; i++) {
        if (name[i] < '0' || name[i] > '9')
            return false;
        if (__builtin_mul_overflow(base, 10u, &base) ||
            __builtin_add_overflow(base, (unsigned)(name[i] - '0'), &base))
            return false;
    }
    if (strcmp(name + 20, ".slg") != 0)
        return false;
    *ret_base = base;
    return true;
}
