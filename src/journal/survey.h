/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal/survey.h - what lies in a log's directory, looked at without changing anything: segments
 * with their headers, the newer checkpoint. Shared by recovery and the tools. Caller's, one thread.
 */
#pragma once

#include "base/error.h"
#include "journal/disk.h"
#include "journal/format.h"

/* The segments of a directory by their names, ascending. */
struct survey_names {
    uint64_t *bases; /* the caller's to free, in any case */
    size_t count, cap;
};

struct survey_segment {
    struct segment_header head;
    uint64_t size;
};

struct survey {
    struct survey_segment *segments; /* ascending by base */
    size_t count;
    struct survey_segment
        *damaged; /* left out: only base_offset (by the name) and size are known */
    size_t damaged_count;
    bool has_log_id;
    uint8_t log_id[16];
    bool has_checkpoint;
    unsigned checkpoints_damaged;
    struct checkpoint checkpoint; /* the newer whole one */
};

/* Into *n, which is zeroed. 0 or a negative errno. */
int survey_list(struct survey_names *n, struct disk *disk, const char *dir);
/* -EPROTONOSUPPORT: a file of a newer format. -EBADMSG: a damaged segment header, or files of two
 * logs (with `skip_damaged` a segment with a damaged header is left out instead). */
int survey_read(struct survey *s, struct disk *disk, const char *dir, bool skip_damaged,
                struct error *err);
void survey_fini(struct survey *s);
/* Up to where everything is durable, by what the files themselves say. 0 or a negative errno. */
int survey_proven_end(const struct survey *s, struct disk *disk, const char *dir, uint64_t *ret,
                      struct error *err);
