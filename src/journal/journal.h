/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal/journal.h - the durable, ordered, append-only log. What is in it below `durable` survives
 * kill -9 and power loss; everything else in Sluice is derived from it.
 *
 * One writer thread assigns offsets: it takes all appends that queued while the previous fdatasync
 * ran, writes them as one batch (= CRC unit = fdatasync unit), and tells each append the offset of
 * its first record. An offset is the number of a record. Readers see a batch only once it is
 * durable.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "flow/reason.h"
#include "flow/record.h"
#include "journal/disk.h"
#include "journal/once.h"

struct journal;

#define JOURNAL_JUMP (1ull << 40) /* more records than a log takes between two restores */
#define JOURNAL_LEAP (1ull << 32) /* ... than it can have taken behind what is known of its end */

#define JOURNAL_CHECKPOINT       "ckpt.a"
#define JOURNAL_CHECKPOINT_BYTES 4096

enum journal_when_full { JOURNAL_BLOCK, JOURNAL_DROP_OLDEST };

/* A reader that keeps its place itself, and up to where it has read. */
struct journal_proof {
    char who[64];
    char path[256]; /* where it says so; cut if it is longer */
    uint64_t offset;
};

struct journal_opts {
    struct disk *disk;
    const char *dir; /* made if missing */
    /* Cursors of readers in another process (follow.h), looked at when it is opened; NULL: none. */
    const char *cursors_elsewhere;
    /* Whether a reader of the log `log_id` that keeps its place itself is beyond `end`; *ret: the
     * one that is furthest, below OFFSET_MAX (format.h). Called when the log is opened and known to
     * end there, before anything is changed. NULL: there is none. */
    bool (*beyond)(void *arg, const uint8_t log_id[16], uint64_t end, struct journal_proof *ret);
    void *beyond_arg;
    uint64_t segment_bytes; /* size of a pre-zeroed segment file */
    uint64_t retain_bytes;  /* keep at most this much, 0 = no bound */
    uint64_t retain_ms;     /* keep at most this old, 0 = no bound */
    uint64_t cap_bytes;     /* hard cap, even if a required reader lags; 0 = none */
    enum journal_when_full when_full;
    unsigned refuse_percent; /* of the file system in use: appends are refused (95) */
    uint64_t ring_bytes;     /* recent batches kept in memory for readers */
    uint64_t pending_bytes;  /* un-durable bytes that may queue; above it submit refuses */
    bool skip_corrupt;       /* go on behind corruption, with a gap record */
    /* Go on at the jump-th next multiple of JOURNAL_JUMP, with a gap record (0: just go on). A
     * restored log is opened so once: the log it was copied from went on too, and no offset is to
     * mean two things. */
    uint32_t jump;
    /* Idempotency (journal/once.h); window 0: names are stored and not looked at. */
    uint64_t once_window_ms;
    uint64_t once_bytes;   /* of all keys remembered */
    uint32_t once_devices; /* credentials whose sequence is remembered */
};

/* Where the log stands. `log_id` names this log; offsets of another log mean nothing here. */
struct journal_position {
    uint8_t log_id[16];
    uint64_t appended; /* next offset to be assigned */
    uint64_t durable;  /* everything below is durable */
    uint64_t oldest;   /* first offset still held */
};

/*
 * Opens and recovers the log in `dir`, starts the writer thread. A torn tail is cut; corruption
 * below what was durable (the log itself says what was, and so does each reader's cursor, in its
 * file or elsewhere), a newer format or a lock held by another process is refused with a sentence
 * that names file and place. 0 or negative errno.
 */
int journal_open(const struct journal_opts *opts, struct journal **ret, struct error *err);
/* Commits what was submitted, writes the clean checkpoint, stops the thread. Accepts NULL. */
void journal_close(struct journal *j);

/* Of `opts` what says how much is kept and when nothing is taken any more: retain_bytes, retain_ms,
 * cap_bytes, when_full, refuse_percent. In force with the keeper's next look, which is now. */
void journal_tune(struct journal *j, const struct journal_opts *opts);

struct journal_position journal_position(struct journal *j);
/* The durable watermark alone; one atomic load. */
uint64_t journal_durable(struct journal *j);

/* What a reader of status sees; one snapshot. */
struct journal_stats {
    uint64_t segments, disk_bytes, pending_bytes, commits, records, sync_failures;
    uint64_t recovered_records, recovery_ns, torn_bytes;
    bool blocked; /* appends are refused now */
};
struct journal_stats journal_stats(struct journal *j);

/*
 * Records that travel together: one append is never split over two batches. The submitter fills
 * `body` by journal_put and hands the whole struct over; it has it back when `done` is called, on
 * the writer's thread, in the order of submission. `done` must only pass the append on.
 */
struct journal_append {
    struct journal_append *next; /* the journal's */
    struct buf body;             /* encoded records */
    struct buf units;            /* struct journal_unit each, ascending; may stay zeroed */
    uint32_t count;
    bool mixed; /* it holds more than data of no session */
    void (*done)(struct journal_append *a);
    void *owner;
    /* Set before `done`: */
    enum reason reason;    /* REASON_ok: durable. disk_full, journal_failed, stopping: not stored */
    uint64_t first_offset; /* of record 0; record i has first_offset + i, less the records of the
                              units before it that were not stored */
};

/*
 * Records of an append that are stored together or not at all, because they name themselves
 * (journal/once.h) and may be in the log already. Only such records are in a unit.
 */
struct journal_unit {
    uint32_t index, count; /* records of the append */
    uint32_t at, bytes;    /* of the body */
    /* Set before `done`, when the append's reason is REASON_ok: */
    enum once_verdict verdict; /* ONCE_NEW: stored */
    struct once_found found;   /* ONCE_DUPLICATE: of which message */
};

/* Makes the records from `index`, encoded from `at` on, to the end of the append a unit. False: no
 * memory, nothing changed. */
bool journal_put_unit(struct journal_append *a, uint32_t index, size_t at);
/* The unit behind `after`, the first one behind NULL; NULL when there are no more. */
static inline const struct journal_unit *journal_next_unit(const struct journal_append *a,
                                                           const struct journal_unit *after)
{
    const struct journal_unit *first = (const void *)a->units.ptr;
    size_t n = a->units.len / sizeof *first;
    const struct journal_unit *next = after ? after + 1 : first;
    return next < first + n ? next : NULL;
}

/* Encodes one record at the end of the append. False: the append is full (BATCH_BYTES_MAX or
 * BATCH_RECORDS_MAX) and unchanged. */
bool journal_put(struct journal_append *a, const struct record *r);
/* Takes the append. Any thread; never blocks on the disk. REASON_ok, or why it was not taken
 * (disk_full, journal_failed, stopping, busy): then `done` is not called. */
enum reason journal_submit(struct journal *j, struct journal_append *a);
/* Fill of the file system in permille, as of the keeper's last look; one atomic load. */
unsigned journal_fill(struct journal *j);
/* Bytes queued or being written; one atomic load. */
uint64_t journal_pending(struct journal *j);
/* Whether an append would be taken now; one atomic load. REASON_ok, or why not. */
enum reason journal_accepts(struct journal *j);

/* ---- reading ---------------------------------------------------------------------------------
 * A reader pulls durable batches in order, from memory if they are recent, else from the files.
 * A named reader is required: retention waits for the cursor it commits. One thread per reader.
 */
struct journal_reader;

struct journal_reader_opts {
    const char *name; /* NULL: nameless, holds nothing back */
    bool has_start;
    uint64_t start; /* where to begin, if has_start; else the named cursor, else the oldest */
};

struct journal_batch {
    uint64_t first_offset;
    uint64_t count; /* of a batch at most BATCH_RECORDS_MAX; of a gap any number */
    struct slice body;
    int64_t commit_us; /* wall clock of its commit */
    bool data;         /* known to hold nothing but data of no session */
};

enum journal_next {
    JOURNAL_BATCH = 1, /* *ret is valid until the next call on this reader */
    JOURNAL_WAIT,      /* nothing durable beyond the cursor now */
    JOURNAL_GAP,       /* records were removed by retention or are corrupt: *ret says the range that
                          is missing (no body); the next call goes on behind it */
};

int journal_reader_open(struct journal *j, const struct journal_reader_opts *opts,
                        struct journal_reader **ret, struct error *err);
void journal_reader_close(struct journal_reader *r);
/* One of enum journal_next, or a negative errno (nothing was read; the call may be repeated). */
int journal_reader_next(struct journal_reader *r, struct journal_batch *ret);
/* Sleeps until something may be readable, `journal_reader_wake` is called, or `ns` passed. */
void journal_reader_wait(struct journal_reader *r, uint64_t ns);
/* Ends a wait early. Any thread. */
void journal_reader_wake(struct journal_reader *r);
/* Everything below `offset` is safe in the reader's own durable storage. 0 or negative errno. */
int journal_reader_commit(struct journal_reader *r, uint64_t offset);
/* Retention waits no longer for the reader of that name, which nobody has open: its cursor is gone.
 * 0, also when there is none, or negative errno. */
int journal_forget_reader(struct journal *j, const char *name);
/* Where the segment begins from which on the log takes at most `bytes` on disk, or the last one:
 * who holds back no more than that commits up to there. Any thread. */
uint64_t journal_hold_from(struct journal *j, uint64_t bytes);
/* About where the log was at that time (us since 1970): no record from then on lies before the
 * offset, or with `behind` none before then lies behind it. As exact as segments are. Any thread.
 */
uint64_t journal_offset_at(struct journal *j, int64_t us, bool behind);
/* Next offset this reader will return. */
uint64_t journal_reader_offset(struct journal_reader *r);

/* Walks a batch's records: *at begins at 0. 1 and *ret filled (its slices borrow from the batch),
 * 0 at the end, -EBADMSG when the bytes are no records. */
int journal_batch_record(const struct journal_batch *b, size_t *at, struct record *ret);
/* Passes over the record that comes next, if it is a datum that belongs to no session, without
 * reading it: most are. False: it is something else, or there is none. */
bool journal_batch_skip_datum(const struct journal_batch *b, size_t *at);

/* ---- a copy of the log -----------------------------------------------------------------------
 * Of a log in use: its segments get second names elsewhere on the same file system, so retention
 * takes nothing away; whoever copies them then ends at a durable position.
 */
/* Links each segment that holds something below `end`, which must be durable, into `dir`; those
 * that are there already stay. Any thread; retention waits meanwhile. 0 or a negative errno. */
int journal_link(struct journal *j, const char *dir, uint64_t end, struct error *err);

/* Where a copy ends. */
struct journal_cut {
    uint64_t segment;  /* base of the last segment; those above it are left out */
    uint64_t position; /* bytes of it that are copied */
    uint64_t oldest;   /* first record of the copy */
    bool any;          /* there are segments at all */
    char checkpoint[JOURNAL_CHECKPOINT_BYTES]; /* content of the copy's file JOURNAL_CHECKPOINT: an
                                                  open that does not find all of it says so */
};
/* Of the linked segments in `dir`, which are those of log `log_id`; `end` as given to journal_link:
 * a batch begins there. 0; -EBADMSG: the segments do not reach it; or another negative errno. */
int journal_find_cut(struct disk *disk, const char *dir, const uint8_t log_id[16], uint64_t end,
                     struct journal_cut *ret, struct error *err);
/* Takes the name of a file for that of a segment. False: it is none. */
bool journal_segment_name(const char *name, uint64_t *ret_base);

/* ---- tools (command line; the log may belong to a running server for verify and tail) ---------
 */
/* One line per segment: file, offsets, bytes, times, state. 0 or negative errno. */
int journal_inspect(struct disk *disk, const char *dir, struct buf *out, struct error *err);
/* Reads every batch and checks every CRC and the chain; lines for what is wrong. 0 when all is
 * well, -EBADMSG when not. */
int journal_verify(struct disk *disk, const char *dir, struct buf *out, struct error *err);
/* Calls `each` for every record from `from` on, up to the end of what is durable, without taking
 * the lock. 0 or negative errno. */
int journal_scan(struct disk *disk, const char *dir, uint64_t from,
                 int (*each)(void *arg, uint64_t offset, const struct record *r), void *arg,
                 struct error *err);
