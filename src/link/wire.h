/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link/wire.h - what the gateway's process and the one that runs the sinks say to each other over
 * the socket data/link.sock. For link/ only. Each message is one packet: a word for its kind, then
 * a struct as it stands, then a text or bytes. Both ends are the same build: it says so first.
 *
 *   sinks                       gateway
 *   HELLO    build          ->
 *                           <-  WELCOME log, sinks it knows   or   REFUSED sentence
 *                           <-  MARK    how far the journal is, how many wait, what changed
 *   CURSOR   name, offset   ->          what retention may remove; then one without a name: these
 *                                       are all there are
 *   FATES    sink, offset   ->          of what the next REPORT passes
 *   REPORT   sink           ->
 *   ASK      ticket, number ->
 *                           <-  NAME    ticket, name
 *   NOTE     ticket, what   ->          for the audit log
 *                           <-  NOTED   ticket, how that went
 *
 * Whoever is told something that makes no sense closes the connection. Nothing here is needed for
 * the promises of either: the journal and the cursors are on disk.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/clock.h"
#include "base/slice.h"
#include "conn/packet.h"
#include "flow/limits.h"
#include "journal/follow.h"
#include "link/note.h"
#include "sink/remote.h"

/* What a HELLO says: between two versions what goes over the wire may differ. */
#define LINK_BUILD SLUICE_VERSION

#define LINK_NAME_BYTES 64u /* of a sink, of a cursor; with a zero */
#define LINK_TEXT_MAX   (PACKET_MAX - 4096u)
#define LINK_FATES_MAX  32768u /* in one message */
#define LINK_TURN       256u   /* messages received before it is looked at what else is due */
#define LINK_SEND_NS    (2 * NS_PER_S) /* who takes nothing for so long is as good as gone */

enum link_kind {
    LINK_HELLO = 1,
    LINK_WELCOME,
    LINK_REFUSED,
    LINK_MARK,
    LINK_CURSOR,
    LINK_FATES,
    LINK_REPORT,
    LINK_ASK,
    LINK_NAME,
    LINK_NOTE,
    LINK_NOTED,
    LINK_KINDS
};

struct link_hello {
    char build[64];
    uint32_t pid;
};

struct link_welcome {
    uint8_t log_id[16];
    uint32_t count;
    char sinks[SINKS_MAX][LINK_NAME_BYTES]; /* in the order of `waiting` */
};

struct link_mark {
    struct journal_mark journal;
    uint64_t names, keys; /* grow when a name, or the keyring, changed */
    uint32_t waiting[SINKS_MAX];
};

struct link_cursor {
    char name[LINK_NAME_BYTES];
    uint64_t offset;
};

/* Then `count` bytes. */
struct link_fates {
    uint64_t offset;
    uint32_t sink, count;
};

struct link_report {
    struct sink_report report;
    uint32_t sink;
};

struct link_ask {
    uint64_t ticket, number;
    uint32_t of;
};

/* Then the name; empty: there is none (any more). */
struct link_name {
    uint64_t ticket;
};

/* See CATALOG_NOTE. Then the texts, one after the other. */
struct link_note {
    uint64_t ticket, account, credential;
    uint32_t lengths[5]; /* what, of what, more, actor, from */
};

struct link_noted {
    uint64_t ticket;
    uint32_t reason; /* enum reason; then a sentence */
};

static inline int link_send(int fd, enum link_kind kind, const void *body, size_t len,
                            struct slice rest)
{
    uint32_t word = kind;
    const struct iovec v[] = {{&word, sizeof word},
                              {(void *)(uintptr_t)body, len},
                              {(void *)(uintptr_t)rest.ptr, rest.len}};
    return packet_send(fd, v, 3, LINK_SEND_NS);
}

/* Takes a packet apart; copies its struct to `ret`, which has room for any. False: it is none. */
static inline bool link_parse(struct slice packet, enum link_kind kind, void *ret, size_t len,
                              struct slice *ret_rest)
{
    uint32_t word;
    if (packet.len < sizeof word + len)
        return false;
    memcpy(&word, packet.ptr, sizeof word);
    memcpy(ret, packet.ptr + sizeof word, len);
    *ret_rest = slice_from(packet, sizeof word + len);
    return word == kind;
}

static inline uint32_t link_kind_of(struct slice packet)
{
    uint32_t word = 0;
    if (packet.len >= sizeof word)
        memcpy(&word, packet.ptr, sizeof word);
    return word;
}
