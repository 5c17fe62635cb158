/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/data_lock.h - the lock that makes a data directory one process's own: the server's for as
 * long as it runs, a command's while no server does. The kernel gives it back when the process
 * ends, however it ends.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "journal/disk.h"

/* Takes the lock DIR/LOCK without waiting; `make` makes a directory that is missing. 0;
 * -EWOULDBLOCK: another process has it; -ENOTRECOVERABLE: a restore into it was
 * interrupted; or another negative errno; with a sentence. */
int data_lock_take(const char *dir, bool make, struct disk_file **ret, struct error *err);
/* The same for a restore, which makes the directory, and may find what an interrupted one left. */
int data_lock_take_unfinished(const char *dir, struct disk_file **ret, struct error *err);
/* Gives it back. Accepts NULL. */
void data_lock_release(struct disk_file *lock);
