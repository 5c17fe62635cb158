/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/points_csv.h - data from CSV. Private to the points files.
 */
#pragma once

#include "codec/csv.h"
#include "codec/points_build.h"

/* The next row, whose fields are UTF-8; ret->count 0 at the end. 0, or -EINVAL. */
int csv_row(struct build *b, struct csv *csv, struct csv_record *ret);
/* A copy in the storage, which stays when the CSV is gone. */
struct slice csv_keep(struct build *b, struct slice field);
/* What a field means as a member: a string; absent when it is blank. */
struct json csv_member(struct slice field);
/* Points from rows. */
int csv_data(struct build *b, struct slice body);
