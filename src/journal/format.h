/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal/format.h - the bytes of the journal's files: segment header, batch header, checkpoint.
 * Pure functions over memory, any thread. All numbers are little endian.
 *
 * A log is a directory:
 *   LOCK               held by the process that writes
 *   ckpt.a ckpt.b      4 KiB each, written in turn: where recovery may begin
 *   cursors            one slot per named reader (journal/cursor.h)
 *   spare.zero         the next segment, zeroed ahead; spare.tmp while it is being made
 *   <20 digits>.slg    a segment, named by the offset of its first record
 *
 * A segment is a 4 KiB header, room for a dictionary (up to `body_at`), batches, and zeros. A batch
 * is a 64-byte header and its records, padded with zeros to 8 bytes. Nobody reads what lies behind
 * the last batch of a segment that has a successor: that is the room for an index. The place of
 * magic, version and CRC in every header is fixed for all versions to come, so that a newer file is
 * recognised.
 *
 * Why each field is there:
 *   header_crc      covers length and offset, seeded with the segment's salt: a flipped length is
 *                   seen before it is used; a sender cannot plant a batch inside a payload
 *   chain           header_crc of the batch before: a missing or stale batch is seen
 *   durable_before  everything below was fdatasynced before this batch was written; if a batch
 *                   below it is bad, that is corruption, else the torn end of the last commit
 *   supersedes_from a segment made after a failed fdatasync: what earlier segments hold from there
 *                   on was never acknowledged and does not count
 */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "flow/limits.h"

#define FORMAT_VERSION       1
#define SEGMENT_HEADER_BYTES 4096u
#define BATCH_HEADER_BYTES   64u
#define CHECKPOINT_BYTES     4096u
#define OFFSET_NONE          UINT64_MAX
#define OFFSET_MAX           (1ull << 62) /* far beyond any log; sums of offsets do not overflow */
#define SEGMENT_NAME_BYTES   32           /* "<20 digits>.slg" and its NUL */

enum {
    BATCH_F_CONTROL = 1, /* holds no records, only says what is durable */
    BATCH_F_NAMED = 2,   /* holds records that name themselves (journal/once.h) */
    BATCH_F_DATA =
        4, /* holds nothing but data of no session: who wants none need not look inside */
};

struct segment_header {
    uint16_t version;
    uint8_t log_id[16];
    uint64_t base_offset;
    uint64_t salt;
    uint64_t supersedes_from; /* OFFSET_NONE: nothing */
    uint64_t gap_from;        /* OFFSET_NONE, or: offsets from here to base_offset are known lost */
    int64_t created_us;
    uint64_t bytes;   /* size of the file */
    uint32_t body_at; /* where batches begin; the dictionary lies before */
    uint32_t chain;   /* header_crc of the batch this segment follows */
    uint64_t boot_epoch;
};

struct batch_header {
    uint64_t base_offset;
    uint32_t body_len;
    uint32_t body_crc;
    uint32_t count;
    uint16_t flags;
    uint16_t version;
    int64_t commit_us; /* wall clock */
    uint32_t chain;
    uint64_t durable_before;
    uint64_t boot_epoch;
    uint32_t header_crc; /* set by encode and decode */
};

struct checkpoint {
    uint16_t version;
    uint8_t log_id[16];
    uint64_t seq; /* the greater of the two counts */
    uint64_t durable;
    uint64_t segment_base; /* OFFSET_NONE: no segment yet */
    uint64_t position;     /* in that segment: the batch with offset `durable` begins there */
    uint32_t chain;
    bool clean; /* written by an orderly close */
    uint64_t boot_epoch;
};

enum format_result {
    FORMAT_OK,
    FORMAT_EMPTY, /* all zero: nothing was ever written here */
    FORMAT_BAD,   /* wrong magic or CRC, or impossible numbers */
    FORMAT_NEWER, /* whole, but of a version this program does not know */
};

/* CRC-32C (RFC 3720 appendix B.4); `seed` is 0 or the CRC of what came before. */
uint32_t crc32c(uint32_t seed, const void *ptr, size_t len);

void segment_header_encode(char out[SEGMENT_HEADER_BYTES], const struct segment_header *h);
enum format_result segment_header_decode(const char in[SEGMENT_HEADER_BYTES],
                                         struct segment_header *ret);
/* Writes the header and sets h->header_crc. */
void batch_header_encode(char out[BATCH_HEADER_BYTES], struct batch_header *h, uint64_t salt);
/* Never trusts a length: what it returns as OK has body_len and count within the limits. */
enum format_result batch_header_decode(const char in[BATCH_HEADER_BYTES], uint64_t salt,
                                       struct batch_header *ret);
void checkpoint_encode(char out[CHECKPOINT_BYTES], const struct checkpoint *c);
enum format_result checkpoint_decode(const char in[CHECKPOINT_BYTES], struct checkpoint *ret);

void segment_name_format(char out[SEGMENT_NAME_BYTES], uint64_t base);
/* False: not the name of a segment. */
bool segment_name_parse(const char *name, uint64_t *ret_base);

/* Bytes a batch takes in the file. */
static inline uint64_t batch_bytes(uint64_t body_len)
{
    return BATCH_HEADER_BYTES + ((body_len + 7) & ~7ull);
}

static inline uint16_t le16_get(const char *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return le16toh(v);
}

static inline uint32_t le32_get(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

static inline uint64_t le64_get(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

static inline void le16_put(char *p, uint16_t v)
{
    v = htole16(v);
    memcpy(p, &v, sizeof v);
}

static inline void le32_put(char *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof v);
}

static inline void le64_put(char *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof v);
}
