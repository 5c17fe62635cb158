/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prof/scratch.h - a file that lies in memory, for libraries that write to a named file only. No
 * disk is touched: gperftools writes out of a signal handler, on whatever thread was interrupted,
 * and aborts when it cannot. The owner's thread.
 */
#pragma once

#include "base/error.h"
#include "base/slice.h"

struct scratch {
    int fd;        /* -1: none */
    char path[32]; /* by which this process can open it */
    void *map;
    size_t map_bytes;
};

/* 0, or a negative errno with a sentence. */
int scratch_open(struct scratch *s, struct error *err);
/* How many bytes it holds now. */
size_t scratch_bytes(const struct scratch *s);
/* What it holds, until it is closed; to be called once, when nobody writes any more. Empty: there
 * is nothing, or no room to map it. */
struct slice scratch_read(struct scratch *s);
/* It is gone. */
void scratch_close(struct scratch *s);
