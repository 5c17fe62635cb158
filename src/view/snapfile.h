/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/snapfile.h - what the snapshot files of views in memory have in common: 8 bytes of magic,
 * u32 format, u32 0, 16 bytes log id, u64 cursor; at the end the CRC-32C of all before it. Little
 * endian.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "journal/disk.h"
#include "seal/seal.h"

#define SNAPFILE_HEAD 40 /* bytes of what is common; the view's own head follows */
#define SNAPFILE_END  4
#define SNAPFILE_MAX  (1ull << 40)

struct snapfile {
    struct disk *disk;
    const char *path;
    const char *magic;      /* 8 bytes */
    uint32_t format;        /* the newest that is read */
    size_t head_bytes;      /* of the whole head, the view's own included */
    const uint64_t *log_id; /* two */
};

/* Appends the common head of the newest format. */
void snapfile_begin(const struct snapfile *f, uint64_t cursor, struct buf *out);
/* Appends the end and writes the file as one. 0 or negative errno. */
int snapfile_write(const struct snapfile *f, struct buf *out);

struct snapfile_found {
    struct slice body; /* behind the whole head */
    uint32_t format;
    uint64_t cursor;
};
/* Reads the file into `bytes`, which *ret points into, and checks head and end. 0, 1: there is
 * none, or a negative errno with a sentence that names it: -EBADMSG it is damaged, -ENOTSUP of a
 * newer format, -ESTALE of another journal. */
int snapfile_read(const struct snapfile *f, struct buf *bytes, struct snapfile_found *ret,
                  struct error *err);
/* Whether there is a whole snapshot of that journal, made beyond `end`; *ret: up to where. */
bool snapfile_beyond(struct disk *disk, const char *path, const uint8_t log_id[16], uint64_t end,
                     uint64_t *ret);
/* -EBADMSG, with a sentence that says what is wrong. */
int snapfile_damaged(const char *path, struct error *err, const char *what);
/* Opens the bytes of an entry that is sealed with that key and bound to its head, into `storage`,
 * which *bytes points into then. `sealer` NULL: there is no keyring. 0, 1: its key was destroyed,
 * or -EBADMSG with a sentence. */
int snapfile_unseal(const char *path, struct sealer *sealer, uint32_t key_id, struct slice bound,
                    struct buf *storage, struct slice *bytes, struct error *err);
