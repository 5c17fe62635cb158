/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal/cursor.h - the watermark page: one durable cursor per named reader, in the file
 * `cursors`. Owned by the journal; any thread, its own lock.
 *
 * The file is a 4 KiB header and CURSORS_MAX slots of two 512-byte sectors, written in turn: a
 * write that is torn by a power cut leaves the sector before it.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "journal/disk.h"

#define CURSORS_MAX       64
#define CURSOR_NAME_MAX   63
#define CURSOR_SECTOR     512u
#define CURSOR_HEAD_BYTES 4096u
#define CURSOR_FILE_BYTES (CURSOR_HEAD_BYTES + CURSORS_MAX * 2 * CURSOR_SECTOR)

struct cursor {
    bool used;
    char name[CURSOR_NAME_MAX + 1];
    uint64_t offset;
    uint64_t seq;
};

struct cursors {
    pthread_mutex_t lock;
    struct disk *disk;
    struct disk_file *file; /* NULL: write the whole file anew next time */
    char *path;
    uint8_t log_id[16];
    bool put_back;
    struct cursor slots[CURSORS_MAX];
};

/* Reads the file or makes it. A file of another log or of a newer format is refused; a damaged one
 * is reported with *ret_damaged (readers begin again at the oldest). 0 or negative errno. */
int cursors_open(struct cursors *c, struct disk *disk, const char *path, const uint8_t log_id[16],
                 bool *ret_damaged, struct error *err);
void cursors_close(struct cursors *c);
/* Only looks: -EPROTONOSUPPORT when the file is of a newer format, else 0. */
int cursors_check(struct disk *disk, const char *path, struct error *err);
/* Only looks: what is in the file into ret[CURSORS_MAX]; a slot that is damaged is not used. 0,
 * also when there is no such file, or a negative errno with a sentence. */
int cursors_read(struct disk *disk, const char *path, const uint8_t log_id[16], struct cursor *ret,
                 struct error *err);
/* The slot of `name`, made with `offset` if it is new. Slot number, or -EINVAL (name), -ENOSPC. */
int cursors_slot(struct cursors *c, const char *name, uint64_t offset, uint64_t *ret_offset);
/* Durably moves the cursor forward; a smaller offset is ignored. 0 or negative errno. */
int cursors_commit(struct cursors *c, int slot, uint64_t offset);
/* No cursor is beyond that any more, durably, nor is one moved again: cursors_commit says -ESTALE.
 * 0 or a negative errno: the file may still have one that is beyond, and it is to be asked again.
 */
int cursors_put_back(struct cursors *c, uint64_t most);
/* The cursor of that name is no more, durably; the name may be used again. 0, also when there is
 * none, or negative errno. Nobody may commit to its slot any more. */
int cursors_forget(struct cursors *c, const char *name);
/* The smallest cursor; UINT64_MAX without any. */
uint64_t cursors_min(struct cursors *c);
