/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal/disk_sim.h - a disk in memory with seeded faults, for tests. Owned by the test; any
 * thread (one lock inside).
 *
 * The model. A write goes to the cache; fdatasync takes the file's cache to the platter. Before
 * that, any subset of 512-byte sectors may get there early, in any order. Names (create, rename,
 * unlink) are pending until sync_dir. A power cut keeps of everything unsynced a random subset of
 * sectors and of name changes, and forgets the rest. A failed fdatasync drops the dirty sectors:
 * the cache goes on showing them, the platter may never get them, and the next fdatasync says all
 * is well.
 */
#pragma once

#include <stdbool.h>

#include "base/rand.h"
#include "journal/disk.h"

struct disk_sim;

/* Chances are of 65536; 0 = never. */
struct disk_sim_faults {
    unsigned short_io;      /* a read or write moves less than asked for */
    unsigned eintr;         /* ... or nothing */
    unsigned early;         /* a write sends some sectors to the platter at once */
    unsigned sync_fails;    /* fdatasync fails once, as described above */
    unsigned syncs_failing; /* ... so many of the next, for certain */
    unsigned flip_read;     /* one bit of what a read returns is wrong */
    uint64_t capacity;      /* bytes of the file system; 0 = no bound */
    bool ignore_fdatasync;  /* the lying disk: says yes, does nothing */
};

struct disk_sim *disk_sim_new(uint64_t seed);
void disk_sim_free(struct disk_sim *s);
struct disk *disk_sim_disk(struct disk_sim *s);
/* The test may change it between calls. */
struct disk_sim_faults *disk_sim_faults(struct disk_sim *s);

/* Calls so far that change or sync something. */
uint64_t disk_sim_calls(struct disk_sim *s);
/* The n-th such call from now on happens in part, it and all later ones fail: the process is dead.
 * 0 = never. */
void disk_sim_die_after(struct disk_sim *s, uint64_t calls);
bool disk_sim_dead(struct disk_sim *s);
/* Power cut: what was not synced is lost, locks are gone, calls work again. All files must be
 * closed. */
void disk_sim_cut(struct disk_sim *s);
/* kill -9 without a power cut: the cache stays. All files must be closed. */
void disk_sim_kill(struct disk_sim *s);

/* For tests that damage or read files; cache and platter alike. -ENOENT without the file. */
int disk_sim_peek(struct disk_sim *s, const char *path, const char **ret_ptr, size_t *ret_len);
int disk_sim_poke(struct disk_sim *s, const char *path, uint64_t at, const void *ptr, size_t len);
int disk_sim_resize(struct disk_sim *s, const char *path, size_t len);
/* A deep copy of the state. All files must be closed. */
struct disk_sim *disk_sim_copy(struct disk_sim *s, uint64_t seed);
