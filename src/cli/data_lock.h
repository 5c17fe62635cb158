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
 * -EWOULDBLOCK: another process has it; or another negative errno. */
int data_lock_take(const char *dir, bool make, struct disk_file **ret, struct error *err);
/* Gives it back. Accepts NULL. */
void data_lock_release(struct disk_file *lock);
