/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#define SEGMENT_BYTES_MIN 16384u

int path_format(char out[PATH_BYTES], const struct journal *j, const char *name)
{
    return snprintf(out, PATH_BYTES, "%s/%s", j->dir, name) < PATH_BYTES ? 0 : -ENAMETOOLONG;
}

uint64_t salt_new(struct journal *j)
{
    uint64_t salt;
    if (j->seeded)
        return rand_next(j->seeded);
    rand_secret(&salt, sizeof salt);
    return salt;
}

void log_id_new(struct journal *j)
{
    for (size_t i = 0; i < sizeof j->log_id; i += 8)
        le64_put((char *)j->log_id + i, salt_new(j));
}

void journal_destroy(struct journal *j)
{
    checkpoint_close(j);
    cursors_close(&j->cursors);
    if (j->tail.file)
        j->disk->close(j->disk, j->tail.file);
    if (j->spare.file)
        j->disk->close(j->disk, j->spare.file);
    if (j->lock)
        j->disk->close(j->disk, j->lock);
    ring_fini(&j->ring);
    once_free(j->once);
    pthread_mutex_destroy(&j->segments_lock);
    pthread_mutex_destroy(&j->retain_lock);
    pthread_mutex_destroy(&j->spare.lock);
    pthread_cond_destroy(&j->spare.changed);
    free(j->segments);
    free(j->dir);
    j->magic = 0;
    free(j);
}

struct journal *journal_create(const struct journal_opts *opts, struct rand *seeded)
{
    struct journal *j = aligned_alloc(_Alignof(struct journal), sizeof *j);
    if (!j)
        return NULL;
    memset(j, 0, sizeof *j);
    j->magic = JOURNAL_MAGIC;
    j->opts = *opts;
    j->opts.dir = j->dir = strdup(opts->dir);
    if (j->opts.segment_bytes < SEGMENT_BYTES_MIN)
        j->opts.segment_bytes = SEGMENT_BYTES_MIN;
    j->opts.segment_bytes = (j->opts.segment_bytes + 4095) & ~4095ull;
    j->disk = opts->disk;
    j->seeded = seeded;
    j->tail.gap_from = j->tail.gap_here = OFFSET_NONE;
    ring_init(&j->ring, (size_t)opts->ring_bytes);
    pthread_mutex_init(&j->segments_lock, NULL);
    pthread_mutex_init(&j->retain_lock, NULL);
    pthread_mutex_init(&j->spare.lock, NULL);
    pthread_cond_init(&j->spare.changed, NULL);
    if (!j->dir) {
        journal_destroy(j);
        return NULL;
    }
    return j;
}

static int take_lock(struct journal *j, struct error *err)
{
    char path[PATH_BYTES];
    int rc = j->disk->mkdir(j->disk, j->dir);
    if (rc)
        return error_set(err, rc, "%s: %s", j->dir, disk_strerror(rc));
    rc = path_format(path, j, "LOCK");
    if (!rc)
        rc = j->disk->open(j->disk, path, O_RDWR | O_CREAT, &j->lock);
    if (rc) {
        j->lock = NULL;
        return error_set(err, rc, "%s: %s", path, disk_strerror(rc));
    }
    rc = j->disk->lock(j->disk, j->lock);
    if (rc)
        return error_set(err, rc,
                         rc == -EWOULDBLOCK ? "%s: another process uses this journal"
                                            : "%s: cannot be locked",
                         path);
    return 0;
}

/* What a crash may have left half-made. */
static void remove_leftovers(struct journal *j)
{
    static const char *const names[] = {"spare.tmp", "large.tmp", "ckpt.a.tmp", "ckpt.b.tmp",
                                        "cursors.tmp"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_BYTES];
        if (path_format(path, j, names[i]) == 0)
            j->disk->unlink(j->disk, path);
    }
}

static int open_cursors(struct journal *j, struct error *err)
{
    char path[PATH_BYTES];
    bool damaged = false;
    int rc = path_format(path, j, "cursors");
    if (!rc)
        rc = cursors_open(&j->cursors, j->disk, path, j->log_id, &damaged, err);
    if (!rc && damaged)
        log_line(LOG_ERROR, "journal.cursors_damaged", "path=%s", path);
    return rc;
}

int journal_open_with(const struct journal_opts *opts, struct rand *seeded, struct journal **ret,
                      struct error *err)
{
    if (err)
        err->text[0] = 0;
    struct journal *j = journal_create(opts, seeded);
    if (!j)
        return error_set(err, -ENOMEM, "no memory for the journal");
    int rc = take_lock(j, err);
    if (!rc)
        rc = journal_recover(j, err);
    j->opts.cursors_elsewhere = NULL; /* the caller's */
    if (!rc)
        rc = open_cursors(j, err);
    if (!rc) {
        remove_leftovers(j);
        rc = once_load(j, err);
    }
    if (!rc) {
        rc = writer_record_gaps(j);
        if (rc)
            error_set(err, rc, "%s: the gap could not be recorded: %s", j->dir, disk_strerror(rc));
    }
    if (rc) {
        journal_destroy(j);
        return rc;
    }
    log_line(LOG_INFO, "journal.open", "dir=%s durable=%llu recovered=%llu us=%llu torn=%llu",
             j->dir, (unsigned long long)j->tail.offset, (unsigned long long)j->recovered_records,
             (unsigned long long)(j->recovery_ns / NS_PER_US), (unsigned long long)j->torn_bytes);
    if (!seeded) {
        j->threaded = true;
        j->keeper = thread_start("journal-keeper", keeper_run, j);
        j->writer = thread_start("journal-writer", writer_run, j);
    }
    *ret = j;
    return 0;
}

int journal_open(const struct journal_opts *opts, struct journal **ret, struct error *err)
{
    return journal_open_with(opts, NULL, ret, err);
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    OBJ_CHECK(j, JOURNAL_MAGIC);
    CHECK(atomic_load(&j->readers) == 0); /* they hold memory of ours */
    if (j->follows) {
        journal_destroy(j);
        return;
    }
    refuse_set(j, REFUSE_STOPPING, true);
    if (j->threaded) {
        atomic_store(&j->writer_stop, true);
        sleeper_signal(&j->work);
        pthread_join(j->writer, NULL);
        atomic_store(&j->keeper_stop, true);
        sleeper_signal(&j->keep);
        pthread_join(j->keeper, NULL);
    } else {
        writer_finish(j);
    }
    if (!(atomic_load(&j->refuse) & REFUSE_FAILED))
        checkpoint_write(j, true);
    journal_destroy(j);
}

void journal_abandon(struct journal *j)
{
    CHECK(!j->threaded && atomic_load(&j->readers) == 0);
    journal_destroy(j);
}

struct journal_position journal_position(struct journal *j)
{
    struct journal_position p = {.oldest = atomic_load(&j->oldest)};
    memcpy(p.log_id, j->log_id, sizeof p.log_id);
    p.durable = atomic_load(&j->durable);
    p.appended = atomic_load(&j->appended);
    if (p.appended < p.durable)
        p.appended = p.durable;
    return p;
}

uint64_t journal_durable(struct journal *j)
{
    return atomic_load_explicit(&j->durable, memory_order_acquire);
}

unsigned journal_fill(struct journal *j)
{
    return atomic_load_explicit(&j->fill_permille, memory_order_relaxed);
}

uint64_t journal_pending(struct journal *j)
{
    return atomic_load_explicit(&j->pending, memory_order_relaxed);
}

struct journal_stats journal_stats(struct journal *j)
{
    struct journal_stats s = {
        .disk_bytes = atomic_load(&j->disk_bytes),
        .pending_bytes = atomic_load(&j->pending),
        .commits = atomic_load(&j->commits),
        .records = atomic_load(&j->records),
        .sync_failures = atomic_load(&j->sync_failures),
        .recovered_records = j->recovered_records,
        .recovery_ns = j->recovery_ns,
        .torn_bytes = j->torn_bytes,
        .blocked = (atomic_load(&j->refuse) & ~(uint32_t)REFUSE_STOPPING) != 0,
    };
    pthread_mutex_lock(&j->segments_lock);
    s.segments = j->segments_count;
    pthread_mutex_unlock(&j->segments_lock);
    return s;
}
