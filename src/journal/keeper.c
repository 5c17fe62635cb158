/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper does ahead of time and aside what would make the writer wait: it zeroes the next
 * segment, removes what retention no longer wants, and looks how full the file system is.
 *
 * The spare is zeroed under the name spare.tmp, synced, then renamed to spare.zero: a file of that
 * name is all zeros and durable, so it may be used after a restart. While the writer has taken it
 * and not yet renamed it (SPARE_TAKEN), the name is the writer's. It is written in pieces with
 * pauses, because one long write-out would make the writer's fdatasync wait behind it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "journal/internal.h"

#define ZERO_PIECE (256u << 10)
#define ZERO_SYNC  (4u << 20)
#define ZERO_PAUSE (1 * NS_PER_MS)
#define SPARE_TMP  "spare.tmp"
#define SPARE_ZERO "spare.zero"
#define LARGE_TMP  "large.tmp"

static bool may_pause(struct journal *j)
{
    if (!j->threaded)
        return false;
    pthread_mutex_lock(&j->spare.lock);
    bool hurry = j->spare.hurry;
    pthread_mutex_unlock(&j->spare.lock);
    return !hurry && !atomic_load(&j->keeper_stop);
}

static int write_zeros(struct journal *j, struct disk_file *f, uint64_t bytes, bool pause)
{
    static const char zeros[ZERO_PIECE];
    struct iovec v = {.iov_base = (void *)(uintptr_t)zeros};
    for (uint64_t at = 0; at < bytes; at += v.iov_len) {
        if (pause && atomic_load(&j->keeper_stop))
            return -ECANCELED;
        v.iov_len = bytes - at < ZERO_PIECE ? (size_t)(bytes - at) : ZERO_PIECE;
        int rc = disk_write_full(j->disk, f, &v, 1, at);
        if (!rc && (at + v.iov_len) % ZERO_SYNC == 0)
            rc = j->disk->fdatasync(j->disk, f);
        if (rc)
            return rc;
        if (pause && may_pause(j))
            clock_sleep_ns(ZERO_PAUSE);
    }
    return j->disk->fdatasync(j->disk, f);
}

/* A durable, all-zero file `name` of `bytes`. On failure nothing is left. */
static int zero_file(struct journal *j, const char *name, uint64_t bytes, bool pause,
                     struct disk_file **ret)
{
    char path[PATH_BYTES];
    struct disk_file *f;
    uint64_t total, left;
    /* Trying would fill the disk to the last byte, again and again, while views need room. */
    if (j->disk->space(j->disk, j->dir, &total, &left) == 0 && left < bytes)
        return -ENOSPC;
    int rc = path_format(path, j, name);
    if (!rc)
        rc = j->disk->open(j->disk, path, O_RDWR | O_CREAT | O_TRUNC, &f);
    if (rc)
        return rc;
    rc = write_zeros(j, f, bytes, pause);
    if (rc) {
        j->disk->close(j->disk, f);
        j->disk->unlink(j->disk, path);
        return rc;
    }
    *ret = f;
    return 0;
}

/* A spare left by the run before. */
static bool spare_reuse(struct journal *j, struct disk_file **ret)
{
    char path[PATH_BYTES];
    uint64_t size;
    if (path_format(path, j, SPARE_ZERO) != 0 || j->disk->open(j->disk, path, O_RDWR, ret) != 0)
        return false;
    if (j->disk->size(j->disk, *ret, &size) == 0 && size == j->opts.segment_bytes)
        return true;
    j->disk->close(j->disk, *ret);
    return false;
}

static int spare_make(struct journal *j, struct disk_file **ret)
{
    char tmp[PATH_BYTES], ready[PATH_BYTES];
    if (spare_reuse(j, ret))
        return 0;
    int rc = path_format(tmp, j, SPARE_TMP);
    if (!rc)
        rc = path_format(ready, j, SPARE_ZERO);
    if (!rc)
        rc = zero_file(j, SPARE_TMP, j->opts.segment_bytes, true, ret);
    if (rc)
        return rc;
    rc = j->disk->rename(j->disk, tmp, ready);
    if (rc) {
        j->disk->close(j->disk, *ret);
        j->disk->unlink(j->disk, tmp);
    }
    return rc;
}

/* Makes the spare if it is wanted, and tells the writer. */
static void spare_look(struct journal *j)
{
    struct spare *s = &j->spare;
    pthread_mutex_lock(&s->lock);
    bool wanted = s->state == SPARE_WANTED || s->state == SPARE_ERROR;
    bool ready = s->state == SPARE_READY;
    pthread_mutex_unlock(&s->lock);
    if (ready) /* what there was no room for was larger than a segment */
        refuse_set(j, REFUSE_SEGMENT, false);
    if (!wanted)
        return;
    struct disk_file *file = NULL;
    int rc = spare_make(j, &file);
    if (rc && rc != -ENOSPC && rc != -EDQUOT && rc != -ECANCELED)
        rc = spare_make(j, &file);
    pthread_mutex_lock(&s->lock);
    s->state = rc ? SPARE_ERROR : SPARE_READY;
    s->error = rc;
    s->file = rc ? NULL : file;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (!rc)
        refuse_set(j, REFUSE_SEGMENT, false);
}

int keeper_take_spare(struct journal *j, uint64_t need, struct disk_file **ret,
                      const char **ret_from)
{
    struct spare *s = &j->spare;
    if (need != j->opts.segment_bytes) {
        /* An append larger than a segment: rare, and the writer's own work. */
        *ret_from = LARGE_TMP;
        return zero_file(j, LARGE_TMP, need, false, ret);
    }
    *ret_from = SPARE_ZERO;
    pthread_mutex_lock(&s->lock);
    s->hurry = true;
    if (!j->threaded) {
        pthread_mutex_unlock(&s->lock);
        spare_look(j);
        pthread_mutex_lock(&s->lock);
    }
    if (s->state == SPARE_WANTED)
        keeper_wake(j);
    while (s->state == SPARE_WANTED)
        pthread_cond_wait(&s->changed, &s->lock);
    int rc = s->state == SPARE_READY ? 0 : s->error;
    if (!rc) {
        *ret = s->file;
        s->file = NULL;
        s->state = SPARE_TAKEN;
    } else {
        s->state = SPARE_WANTED; /* another try when the writer asks again */
    }
    s->hurry = false;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

void keeper_spare_installed(struct journal *j, const char *from, bool ok)
{
    char path[PATH_BYTES];
    if (!ok && path_format(path, j, from) == 0)
        j->disk->unlink(j->disk, path); /* its last sync failed: nobody is to trust this file */
    pthread_mutex_lock(&j->spare.lock);
    if (j->spare.state == SPARE_TAKEN)
        j->spare.state = SPARE_WANTED;
    pthread_mutex_unlock(&j->spare.lock);
}

/* Nothing may go beyond what both checkpoints, and every named reader, still need. */
static bool removable(struct journal *j, const struct segment two[2], bool forced)
{
    pthread_mutex_lock(&j->segments_lock);
    uint64_t a = j->checkpoints.segment_base[0], b = j->checkpoints.segment_base[1];
    pthread_mutex_unlock(&j->segments_lock);
    uint64_t needed = a < b ? a : b;
    return two[1].base <= needed && (forced || cursors_min(&j->cursors) >= two[1].base);
}

static bool unwanted(struct journal *j, const struct segment two[2], uint64_t more)
{
    uint64_t bytes = atomic_load_explicit(&j->disk_bytes, memory_order_relaxed) + more;
    if (j->opts.retain_bytes && bytes > j->opts.retain_bytes)
        return true;
    /* The last record of a segment is at most as old as the segment after it. */
    return j->opts.retain_ms && clock_wall_us() - two[1].created_us >
                                    (int64_t)(j->opts.retain_ms * (NS_PER_MS / NS_PER_US));
}

static int remove_oldest(struct journal *j, const struct segment two[2])
{
    char name[SEGMENT_NAME_BYTES], path[PATH_BYTES];
    segment_name_format(name, two[0].base);
    int rc = path_format(path, j, name);
    if (rc)
        return rc;
    /* Readers first see that it is gone, then it goes. Synced one by one, or a power cut might keep
     * an old one and lose its successor. */
    atomic_store(&j->oldest, two[1].base);
    segments_drop_oldest(j);
    rc = j->disk->unlink(j->disk, path);
    if (!rc || rc == -ENOENT)
        rc = j->disk->sync_dir(j->disk, j->dir);
    if (rc)
        log_line(LOG_WARN, "journal.remove_failed", "path=%s error=%d", path, -rc);
    return rc;
}

bool keeper_retain(struct journal *j, uint64_t more)
{
    struct segment two[2];
    size_t count;
    pthread_mutex_lock(&j->retain_lock);
    bool at_cap;
    for (;;) {
        uint64_t bytes = atomic_load_explicit(&j->disk_bytes, memory_order_relaxed) + more;
        at_cap = j->opts.cap_bytes && bytes > j->opts.cap_bytes;
        if (!segments_oldest(j, two, &count)) {
            at_cap = false; /* one segment is always allowed, whatever the cap */
            break;
        }
        bool forced = at_cap && j->opts.when_full == JOURNAL_DROP_OLDEST;
        if (!(forced || unwanted(j, two, more)) || !removable(j, two, forced) ||
            remove_oldest(j, two) != 0)
            break;
    }
    pthread_mutex_unlock(&j->retain_lock);
    return at_cap;
}

/* Says once that the file system fills up, at 80 and at 90 percent; again when it had gone down by
 * two. Long before messages are refused. */
static void fill_alert(struct journal *j, unsigned permille, unsigned refuse_percent)
{
    unsigned level = permille >= 900 ? 90 : permille >= 800 ? 80 : 0;
    if (level > j->alert_percent) {
        log_line(LOG_WARN, "journal.disk_fills", "dir=%s above=%u percent=%u refused_at=%u", j->dir,
                 level, permille / 10, refuse_percent);
        j->alert_percent = level;
    } else if (level < j->alert_percent && permille + 20 < j->alert_percent * 10) {
        log_line(LOG_INFO, "journal.disk_fills_less", "dir=%s below=%u percent=%u", j->dir,
                 j->alert_percent, permille / 10);
        j->alert_percent = level;
    }
    metric_set(METRIC_disk_fill_percent, permille / 10);
    metric_set(METRIC_disk_fill_alert, j->alert_percent);
}

static void space_look(struct journal *j)
{
    uint64_t total, left;
    if (j->disk->space(j->disk, j->dir, &total, &left) != 0 || total == 0 || left > total)
        return;
    unsigned permille = (unsigned)((double)(total - left) * 1000.0 / (double)total);
    atomic_store_explicit(&j->fill_permille, permille, memory_order_relaxed);
    pthread_mutex_lock(&j->retain_lock);
    unsigned refuse_percent = j->opts.refuse_percent;
    pthread_mutex_unlock(&j->retain_lock);
    fill_alert(j, permille, refuse_percent);
    if (refuse_percent == 0 || refuse_percent > 100)
        return;
    bool was = atomic_load(&j->refuse) & REFUSE_PERCENT;
    bool full = (double)(total - left) * 100.0 >= (double)total * refuse_percent;
    if (full != was)
        log_line(full ? LOG_ERROR : LOG_INFO, full ? "journal.disk_full" : "journal.disk_has_room",
                 "dir=%s free=%llu of=%llu", j->dir, (unsigned long long)left,
                 (unsigned long long)total);
    refuse_set(j, REFUSE_PERCENT, full);
}

void keeper_look(struct journal *j)
{
    if (atomic_load(&j->refuse) & REFUSE_FAILED)
        return;
    space_look(j);
    spare_look(j);
    keeper_retain(j, 0);
    if (atomic_load(&j->refuse) & REFUSE_CAP)
        refuse_set(j, REFUSE_CAP, keeper_retain(j, j->opts.segment_bytes));
}

void journal_tune(struct journal *j, const struct journal_opts *opts)
{
    pthread_mutex_lock(&j->retain_lock);
    j->opts.retain_bytes = opts->retain_bytes;
    j->opts.retain_ms = opts->retain_ms;
    j->opts.cap_bytes = opts->cap_bytes;
    j->opts.when_full = opts->when_full;
    j->opts.refuse_percent = opts->refuse_percent;
    pthread_mutex_unlock(&j->retain_lock);
    keeper_wake(j);
}

void keeper_wake(struct journal *j)
{
    if (j->threaded)
        sleeper_signal(&j->keep);
}

void keeper_run(void *arg)
{
    struct journal *j = arg;
    while (!atomic_load(&j->keeper_stop)) {
        uint32_t key = sleeper_key(&j->keep);
        keeper_look(j);
        if (!atomic_load(&j->keeper_stop))
            sleeper_wait(&j->keep, key, KEEP_NS);
    }
}
