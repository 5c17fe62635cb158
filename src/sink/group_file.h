/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/group_file.h - where all consumer groups stand: one file of entries, of which a later one
 * replaces an earlier one about the same group. Owned by the consume thread.
 *
 * The file: an 8-byte mark, the id of the log that offsets are of, then what each write added: u32
 * crc32c of what follows, u32 length of what follows that, and entries, each a u32 length and
 * bytes. A torn end is cut at opening: a power cut leaves any part of the last write, and none of
 * its entries counts. What could not be written or synced is not there; that file is not written to
 * again (decision 0044's dead letters do the same): the next one is written anew.
 */
#pragma once

#include "base/error.h"
#include "base/slice.h"
#include "journal/disk.h"

struct group_file;

/* Calls `each` for every entry in the order they were written; false: it is none. 0; -EBADMSG: not
 * such a file, damaged before its end, or of another log; or another negative errno. */
int group_file_open(struct disk *disk, const char *path, const uint8_t log_id[16],
                    bool (*each)(void *arg, struct slice entry), void *arg, struct group_file **ret,
                    struct error *err);
/* Accepts NULL. */
void group_file_close(struct group_file *f);

/* An entry at the end of `out`, as the calls below take it. */
void group_file_put(struct buf *out, struct slice entry);
/* Bytes of the file; 0: it has to be written anew. */
uint64_t group_file_bytes(const struct group_file *f);
/* Adds entries, with one fdatasync. 0 or a negative errno: then it has to be written anew. */
int group_file_append(struct group_file *f, struct slice entries);
/* Puts a file with these entries in its place. 0 or a negative errno: the old one or the new one is
 * there. */
int group_file_replace(struct group_file *f, struct slice entries);
