/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/csv.h - comma-separated values (RFC 4180): "quoted" fields with "" for a quote in them,
 * lines that end with LF or CRLF, a byte order mark in front. Blanks around a field do not count,
 * lines with nothing in them are skipped. Pure; any thread.
 */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"

#define CSV_FIELDS_MAX 32

struct csv {
    struct slice rest; /* what was not read yet */
    unsigned line;     /* of its first byte */
    struct buf plain;  /* fields that had "" in them; never moves */
};

/* One line, which may hold line ends inside quotes. */
struct csv_record {
    unsigned line; /* it begins on */
    unsigned count;
    struct slice fields[CSV_FIELDS_MAX]; /* good until csv_fini */
};

enum csv_outcome {
    CSV_RECORD,
    CSV_BAD, /* this line is none: ret->line, ret->count (the field, from 0) and a sentence */
    CSV_END,
};

/* `text` must stay; its first line has the number `line`. */
void csv_init(struct csv *c, struct slice text, unsigned line);
void csv_fini(struct csv *c);
/* The next line. After CSV_BAD it may be called again and goes on behind what was wrong. */
enum csv_outcome csv_next(struct csv *c, struct csv_record *ret, struct error *err);
/* Bytes of the first line with its end, whether it is a good one or not; all, if it is the last. */
size_t csv_line_bytes(struct slice text);

/* Appends the field, in quotes if it needs them (RFC 4180 section 2). */
void csv_put(struct buf *out, struct slice field);
