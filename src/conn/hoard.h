/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn/hoard.h - what all connections of a worker make it keep: input that is no whole request yet,
 * output that is not taken. Beyond a maximum those that have made it keep some for the longest are
 * closed: whoever sends a request, or reads an answer, is done with it long before one who does not
 * mean to. A quarter is for newcomers; when they have more, they go first. A few KiB do not count,
 * so that nobody's login and no poll ends for what others hold. On the worker's thread.
 */
#pragma once

#include "conn/stream_private.h"

/* The worker's. */
struct hoard {
    struct stream_place newcomers, known; /* that have some, for the longest first */
    size_t bytes, bytes_max;
    size_t of_newcomers; /* of the bytes */
};

void hoard_init(struct hoard *h);
/* What the stream has may be another number of bytes. May close it, and others. */
void hoard_count(struct stream *s);
/* It is known now, or not any more. */
void hoard_move(struct stream *s);
/* Something of what was kept was whole and is done: it counts as one that has just begun. */
void hoard_renew(struct stream *s);
/* It is closed. */
void hoard_drop(struct stream *s);
