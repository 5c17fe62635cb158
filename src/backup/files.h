/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup/files.h - copying files at a bounded rate, with their SHA-256. One thread each.
 */
#pragma once

#include "backup/manifest.h"
#include "journal/disk.h"

/* How fast bytes may be copied, over all files together. */
struct pace {
    uint64_t bytes_per_s; /* 0: as fast as it goes */
    uint64_t begun_ns, bytes;
};

#define FILE_WHOLE UINT64_MAX

/* Copies the first `bytes` of `from` (FILE_WHOLE: all) to the new file `to`, which is durable then,
 * and says what they were. 0 or a negative errno with a sentence. */
int file_copy(struct disk *d, const char *from, const char *to, uint64_t bytes, struct pace *pace,
              struct file_digest *ret, struct error *err);
/* Writes the new file `to` from memory, the same otherwise. */
int file_write(struct disk *d, const char *to, struct slice bytes, struct file_digest *ret,
               struct error *err);
/* Reads the file. */
int file_digest(struct disk *d, const char *path, struct file_digest *ret, struct error *err);
bool file_digest_eq(const struct file_digest *a, const struct file_digest *b);

/* The names in a directory, in order. */
struct names {
    char **at;
    size_t count, cap;
};
/* 0 or a negative errno with a sentence. */
int names_list(struct disk *d, const char *dir, struct names *ret, struct error *err);
void names_fini(struct names *n);

/* dir/name into `out`, which holds PATH_MAX. -ENAMETOOLONG with a sentence. */
int path_join(char *out, const char *dir, const char *name, struct error *err);
