/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal/record.h - a record's bytes in a batch. Pure, any thread.
 *
 * Each record stands alone, so a batch may be cut between any two:
 *   varint length of all that follows
 *   u8 kind, varint mask of the fields that are there
 *   varint account, varint receive_us (zigzag), then in the order of the mask:
 *   flags, feed, credential, event_us - receive_us (zigzag), key_id, session, sequence,
 *   length of key, length of topic, fingerprint, client
 *   key, topic, payload (the rest)
 * Varints are LEB128, at most 10 bytes.
 */
#pragma once

#include "base/buf.h"
#include "flow/record.h"

#define RECORD_HEAD_MAX 128u /* bytes of a record besides key, topic and payload */

/* The bytes between the length and key, topic and payload: all there is of a record's numbers, so
 * also what a sealed payload is bound to (seal/seal.h). Returns how many. */
size_t record_head(const struct record *r, char head[RECORD_HEAD_MAX]);
/* Appends the record. False: it does not fit (out is unchanged). */
bool record_encode(struct buf *out, const struct record *r);
/* Reads the record at the front of `in`; slices of *ret borrow from it. Bytes used, or 0 if these
 * are not a record (whatever they claim, nothing outside `in` is touched); then *ret is undefined.
 */
size_t record_decode(struct slice in, struct record *ret);
/* Bytes of the record at the front, without looking inside; 0 if it cannot be one. */
size_t record_skip(struct slice in);
/* Most are that: a datum that belongs to no session. */
static inline bool record_is_plain_datum(const struct record *r)
{
    return r->kind == RECORD_DATUM && !r->producer.session;
}
/* The same of a datum that belongs to no session; 0: it is none, or not whole. */
size_t record_skip_datum(struct slice in);
