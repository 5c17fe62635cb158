/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal/internal.h - what the files of the journal share. Nobody outside journal/ includes it,
 * but for tests that step the writer by hand.
 *
 * Threads and what they own:
 *   writer  (writer.c)  the open segment, the ring's filling end, offsets, the checkpoints
 *   keeper  (keeper.c)  the spare segment, retention, the look at the file system
 *   any                 submit, accepts, position, stats; readers each their own thread
 * Locks, never held together but in this order: segments_lock, ring.lock; spare_lock alone;
 * cursors.lock alone.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/rand.h"
#include "journal/cursor.h"
#include "journal/format.h"
#include "journal/journal.h"
#include "journal/ring.h"
#include "journal/sleeper.h"

#define JOURNAL_MAGIC    0x4a524e4cu
#define PATH_BYTES       4096
#define IDLE_NS          (50 * NS_PER_MS)  /* then an empty batch proves that the last is durable */
#define KEEP_NS          (500 * NS_PER_MS) /* between two looks of the keeper */
#define COMMIT_BYTES_MAX (8u << 20)
#define COMMIT_PIECES    32
#define GAPS_MAX         64
#define CHECKPOINT_EVERY (64ull << 20) /* bytes; bounds the work of recovery in large segments */

/* Why appends are refused now; journal_accepts says the first that is set. */
enum {
    REFUSE_FAILED = 1,
    REFUSE_STOPPING = 2,
    REFUSE_PERCENT = 4, /* the file system is too full */
    REFUSE_SEGMENT = 8, /* no room for the next segment */
    REFUSE_CAP = 16,    /* a reader holds back what would have to go */
};

struct segment {
    uint64_t base;
    uint64_t bytes;
    int64_t created_us;
    uint64_t supersedes_from;
    uint64_t gap_from;
    uint32_t chain;
};

struct gap {
    uint64_t first, next;
    char why[96];
};

enum spare_state { SPARE_WANTED, SPARE_READY, SPARE_TAKEN, SPARE_ERROR };

struct spare {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum spare_state state;
    int error;              /* SPARE_ERROR: negative errno */
    struct disk_file *file; /* SPARE_READY */
    bool hurry;             /* the writer waits for it */
};

/* The writer's place. */
struct tail {
    struct disk_file *file; /* NULL: the next commit needs a new segment */
    uint64_t segment_base, segment_bytes, salt;
    uint64_t position; /* where the next batch goes */
    uint64_t offset;   /* of the next record */
    uint32_t chain;
    bool superseding;  /* the open segment supersedes something */
    bool supersede;    /* the next segment supersedes what was left behind a failure */
    bool control_due;  /* the last batch has nothing behind it that says it is durable */
    uint64_t gap_from; /* OFFSET_NONE, or for the next segment's header */
    uint64_t gap_here; /* what the header of the last one says of it */
    uint64_t since_checkpoint;
};

struct checkpoints {
    struct disk_file *file[2];
    uint64_t seq;
    bool failed[2];           /* the file is not to be trusted, a new one takes its place */
    uint64_t segment_base[2]; /* each one on disk refers to this segment or a later one */
    bool log_once;
};

struct journal {
    uint32_t magic;
    bool threaded;
    bool follows; /* another process writes it: follow.h */
    struct journal_opts opts;
    char *dir;
    struct disk *disk;
    struct disk_file *lock;
    struct rand *seeded; /* tests: salts and ids come from here */
    uint8_t log_id[16];
    uint64_t boot_epoch;
    uint64_t began; /* where it ended when it was opened to be written */
    _Atomic uint32_t readers;

    _Alignas(64) struct journal_append *_Atomic queue; /* newest first; any thread pushes */
    _Atomic uint64_t pending;
    _Alignas(64) _Atomic uint32_t refuse;
    struct sleeper work; /* the writer sleeps here */

    _Alignas(64) _Atomic uint64_t durable;
    _Atomic uint64_t appended;
    _Atomic uint64_t oldest;
    _Atomic uint64_t layout; /* changes of the list of segments */
    _Atomic uint64_t epoch;  /* of a log that is followed: the writer's boot_epoch */
    _Atomic bool went_back;  /* likewise: journal_went_back */
    uint64_t back_to;        /* ... and then: where it ended */
    bool back_due;           /* the cursors could not be put back there yet */
    struct sleeper news;     /* readers sleep here */

    struct tail tail;
    struct checkpoints checkpoints;
    struct once *once; /* the writer's; NULL: off */
    struct ring ring;
    struct spare spare;
    struct cursors cursors;

    pthread_mutex_t segments_lock;
    struct segment *segments; /* ascending by base */
    size_t segments_count, segments_cap;
    _Atomic uint64_t disk_bytes;
    _Atomic unsigned fill_permille; /* of the file system */
    unsigned alert_percent;         /* the keeper's: of the last alert, 0 = none */

    pthread_mutex_t retain_lock; /* one removes at a time, and what journal_tune changes; taken
                                    before all others */
    struct sleeper keep;         /* the keeper sleeps here */
    pthread_t writer, keeper;
    _Atomic bool writer_stop, keeper_stop;

    struct gap gaps[GAPS_MAX]; /* found by recovery, to become records */
    unsigned gaps_count;

    _Atomic uint64_t commits, records, sync_failures;
    uint64_t recovered_records, recovery_ns, torn_bytes;
};

/* journal.c. `seeded` NULL: threads and real randomness. Else no thread is started: the caller
 * steps the writer by journal_step, and all randomness comes from it. */
int journal_open_with(const struct journal_opts *opts, struct rand *seeded, struct journal **ret,
                      struct error *err);
/* Ends the object without a clean checkpoint and without committing, as a kill would. Stepped only.
 */
void journal_abandon(struct journal *j);
/* An object without files and threads; NULL: no memory. */
struct journal *journal_create(const struct journal_opts *opts, struct rand *seeded);
/* Lets go of whatever it has; its threads have ended. */
void journal_destroy(struct journal *j);
int path_format(char out[PATH_BYTES], const struct journal *j, const char *name);
void refuse_set(struct journal *j, uint32_t bit, bool on);
uint64_t salt_new(struct journal *j);
void log_id_new(struct journal *j);

/* writer.c. Commits what is queued; false when there was nothing. */
bool journal_step(struct journal *j);
/* The empty batch after an idle time. */
void journal_idle(struct journal *j);
void writer_run(void *arg);
/* Writes the gaps that recovery found into the log; before the threads start. */
int writer_record_gaps(struct journal *j);
/* Commits the rest and closes the queue for good. */
void writer_finish(struct journal *j);

/* units.c: copies the append's records to `to`, those of units only where they are new. Sets the
 * verdicts; *ret_count: records copied. Returns their bytes. */
size_t units_copy(struct journal *j, struct journal_append *a, uint64_t first_offset, char *to,
                  uint32_t *ret_count);

/* once_load.c: fills j->once from the end of the log; before the threads start. */
int once_load(struct journal *j, struct error *err);

/* tail.c: the open segment. 0, or negative errno: then there is none. */
int tail_roll(struct journal *j, uint64_t need);
int checkpoint_write(struct journal *j, bool clean);
void checkpoint_close(struct journal *j);

/* keeper.c */
void keeper_run(void *arg);
/* One look: spare, retention, file system. */
void keeper_look(struct journal *j);
void keeper_wake(struct journal *j);
/* A durable, zeroed file of `need` bytes, under the name *ret_from. Writer's thread. */
int keeper_take_spare(struct journal *j, uint64_t need, struct disk_file **ret,
                      const char **ret_from);
/* The file taken has its new name, or could not be given it: the keeper may make the next one. */
void keeper_spare_installed(struct journal *j, const char *from, bool ok);
/* Removes what retention wants removed. True: at the cap, and nothing may go. */
bool keeper_retain(struct journal *j, uint64_t more_bytes);

/* segments.c: the list, under its lock. */
int segments_add(struct journal *j, const struct segment *s);
/* The segment that holds `offset`, if it is below *ret_limit; from there to *ret_next, where the
 * next segment begins, nothing is. OFFSET_NONE both for the last segment. False: before all. */
bool segments_find(struct journal *j, uint64_t offset, struct segment *ret, uint64_t *ret_limit,
                   uint64_t *ret_next);
/* The two oldest into ret[2]; false when there are not two. */
bool segments_oldest(struct journal *j, struct segment ret[2], size_t *ret_count);
void segments_drop_oldest(struct journal *j);
/* Another list takes the place of this one; it is taken over. */
void segments_replace(struct journal *j, struct segment *list, size_t count);

/* follow.c: the list anew, from the directory. Any thread. 0 or a negative errno. */
int follow_refresh(struct journal *j);

/* recover.c */
int journal_recover(struct journal *j, struct error *err);
