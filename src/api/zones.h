/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/zones.h - the time zones of the IANA database, read from its directory when first asked for
 * and kept for an hour, so that an update of it is seen without a restart. Made once at start,
 * shared by all threads; its lock is never held over a file call.
 */
#pragma once

#include "base/error.h"
#include "codec/zone.h"
#include "journal/disk.h"

struct zones;

/* `dir` is copied. NULL: no memory. */
struct zones *zones_new(struct disk *disk, const char *dir);
void zones_free(struct zones *z);

enum zones_found {
    ZONES_FOUND,
    ZONES_NONE,       /* no such zone; `why` says so */
    ZONES_FAILED,     /* its file cannot be read, or is none; `why` says which and why */
    ZONES_INCOMPLETE, /* a file must be read: ask again where one may wait */
};

/* What clocks of the zone show at `time_s`, seconds since 1970. "UTC" needs no file. `now_ns`:
 * monotonic. `why`: a sentence for the client, with ZONES_NONE and ZONES_FAILED. Any thread, if
 * `may_block` one that may wait for a disk. */
enum zones_found zones_at(struct zones *z, struct slice name, int64_t time_s, uint64_t now_ns,
                          bool may_block, struct zone_time *ret, struct error *why);
