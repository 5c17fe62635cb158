/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model. A follower has of the log: the list of segments, made from the directory and the
 * headers in it, and the mark. Both change in journal_follow_to only, the list first: so whatever
 * lies below `durable` is in a segment that is listed, or was removed.
 *
 * 1. A header is read once, but that of the last segment each time: until there is something
 *    durable in it, its file may be replaced under its name.
 * 2. Retention removes files as it likes. Who runs into that looks at the directory again
 *    (follow_refresh), which moves `oldest`; a file that is open stays whole.
 * 3. A writer that was killed and came back may have cut what was not durable off the last segment.
 *    So nothing read ahead survives a change of `epoch` (reader.c).
 * 4. A writer never finds the log to end before what was durable; one that does stops everything
 *    here (went_back). He refuses to begin where a cursor is ahead (recover.c), so this is for what
 *    was not committed by then; what was meanwhile is put back.
 */
#include "journal/follow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "journal/internal.h"
#include "journal/survey.h"
#include "journal/walk.h"

/* From the segment's file. 0; 1: it is not there any more, or damaged, and is left out. */
static int read_header(struct journal *j, uint64_t base, struct segment *ret)
{
    char name[SEGMENT_NAME_BYTES], path[PATH_BYTES];
    struct error err = {""};
    struct walk w;
    segment_name_format(name, base);
    int rc = path_format(path, j, name);
    if (!rc)
        rc = walk_open(&w, j->disk, path, &err);
    if (rc == -ENOENT)
        return 1;
    if (rc == -EBADMSG) {
        log_line(LOG_ERROR, "journal.segment_skipped", "path=%s", path);
        return 1;
    }
    if (rc)
        return rc;
    *ret = (struct segment){.base = base,
                            .bytes = w.size,
                            .created_us = w.head.created_us,
                            .supersedes_from = w.head.supersedes_from,
                            .gap_from = w.head.gap_from,
                            .chain = w.head.chain};
    bool ours = memcmp(w.head.log_id, j->log_id, sizeof j->log_id) == 0;
    walk_close(&w);
    if (!ours)
        log_line(LOG_ERROR, "journal.other_log", "path=%s", path);
    return ours ? 0 : -EBADMSG;
}

/* What is known of it and stays so: see 1. */
static const struct segment *known(struct journal *j, uint64_t base)
{
    for (size_t i = 0; i + 1 < j->segments_count; i++)
        if (j->segments[i].base == base)
            return &j->segments[i];
    return NULL;
}

static int make_list(struct journal *j, const struct survey_names *n, struct segment *list,
                     size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < n->count; i++) {
        const struct segment *s = known(j, n->bases[i]);
        int rc = 0;
        if (s)
            list[*count] = *s;
        else
            rc = read_header(j, n->bases[i], &list[*count]);
        if (rc < 0)
            return rc;
        *count += rc == 0;
    }
    return 0;
}

int follow_refresh(struct journal *j)
{
    struct survey_names n = {0};
    size_t count = 0;
    pthread_mutex_lock(&j->retain_lock); /* only here the list is changed */
    int rc = survey_list(&n, j->disk, j->dir);
    struct segment *list = rc ? NULL : calloc(n.count + 1, sizeof *list);
    if (!rc && !list)
        rc = -ENOMEM;
    if (!rc)
        rc = make_list(j, &n, list, &count);
    if (!rc) {
        if (count) /* readers first see that it is gone, then it goes */
            atomic_store(&j->oldest, list[0].base);
        segments_replace(j, list, count);
        list = NULL;
    }
    pthread_mutex_unlock(&j->retain_lock);
    free(list);
    free(n.bases);
    return rc;
}

struct journal_mark journal_mark(struct journal *j)
{
    struct journal_mark m = {
        .durable = journal_durable(j), .epoch = j->boot_epoch, .began = j->began};
    m.layout = atomic_load(&j->layout); /* after `durable`: of what lies below that, or newer */
    return m;
}

bool journal_went_back(const struct journal *j)
{
    return atomic_load_explicit(&j->went_back, memory_order_relaxed);
}

/* See 4. */
static bool is_back(struct journal *j, const struct journal_mark *m)
{
    uint64_t known = journal_durable(j), epoch = atomic_load(&j->epoch);
    bool anew = epoch && m->epoch != epoch; /* who said so was another writer */
    return m->durable < known || (anew && m->began < known);
}

int journal_put_back(struct journal *j)
{
    int rc = cursors_put_back(&j->cursors, j->back_to);
    j->back_due = rc != 0;
    return rc;
}

bool journal_back_due(const struct journal *j)
{
    return j->back_due;
}

int journal_follow_to(struct journal *j, const struct journal_mark *m)
{
    CHECK(j->follows);
    if (!journal_went_back(j) && is_back(j, m)) {
        atomic_store(&j->went_back, true);
        j->back_to = m->began;
        int rc = journal_put_back(j); /* what is there is to be read by the next */
        log_line(LOG_ERROR, "journal.went_back",
                 "dir=%s known=%llu began=%llu durable=%llu cursors=\"%s\"", j->dir,
                 (unsigned long long)journal_durable(j), (unsigned long long)m->began,
                 (unsigned long long)m->durable, rc ? disk_strerror(rc) : "put back");
        sleeper_signal(&j->news);
    }
    if (journal_went_back(j))
        return -ESTALE;
    if (m->layout != atomic_load(&j->layout) || m->epoch != atomic_load(&j->epoch)) {
        int rc = follow_refresh(j);
        if (rc)
            return rc;
        atomic_store(&j->layout, m->layout);
        atomic_store(&j->epoch, m->epoch);
    }
    if (m->durable > journal_durable(j)) {
        atomic_store(&j->appended, m->durable);
        atomic_store_explicit(&j->durable, m->durable, memory_order_release);
        sleeper_signal(&j->news);
    }
    return 0;
}

void journal_wait(struct journal *j, uint64_t durable, uint64_t ns)
{
    uint32_t key = sleeper_key(&j->news);
    if (journal_durable(j) <= durable)
        sleeper_wait(&j->news, key, ns);
}

void journal_wake(struct journal *j)
{
    sleeper_signal(&j->news);
}

/* ---- cursors --------------------------------------------------------------------------------- */

void journal_cursors(struct journal *j, journal_each_cursor *each, void *arg)
{
    for (unsigned i = 0; i < CURSORS_MAX; i++) {
        pthread_mutex_lock(&j->cursors.lock);
        struct cursor c = j->cursors.slots[i];
        pthread_mutex_unlock(&j->cursors.lock);
        if (c.used)
            each(arg, c.name, c.offset);
    }
}

struct sought {
    const char *name;
    uint64_t offset;
};

static void seek(void *arg, const char *name, uint64_t offset)
{
    struct sought *s = arg;
    if (strcmp(name, s->name) == 0)
        s->offset = offset;
}

uint64_t journal_cursor(struct journal *j, const char *name, uint64_t none)
{
    struct sought s = {name, none};
    journal_cursors(j, seek, &s);
    return s.offset;
}

int journal_set_cursor(struct journal *j, const char *name, uint64_t offset)
{
    uint64_t at;
    if (offset > journal_durable(j))
        return -EINVAL;
    int slot = cursors_slot(&j->cursors, name, offset, &at);
    return slot < 0 ? slot : cursors_commit(&j->cursors, slot, offset);
}

int journal_adopt_cursors(struct journal *j, const char *path, struct error *err)
{
    struct cursor *left = calloc(CURSORS_MAX, sizeof *left);
    int rc = left ? cursors_read(j->disk, path, j->log_id, left, err) : -ENOMEM;
    bool any = false;
    for (unsigned i = 0; !rc && i < CURSORS_MAX; i++) {
        if (!left[i].used)
            continue;
        any = true;
        rc = journal_set_cursor(j, left[i].name, left[i].offset);
        if (rc)
            error_set(err, rc, "%s: reader \"%s\" is at record %llu, the log ends at %llu: %s",
                      path, left[i].name, (unsigned long long)left[i].offset,
                      (unsigned long long)journal_durable(j), disk_strerror(rc));
        log_line(LOG_INFO, "journal.cursor_adopted", "name=%s offset=%llu", left[i].name,
                 (unsigned long long)left[i].offset);
    }
    free(left);
    if (!rc && any) {
        rc = disk_remove(j->disk, path); /* come back, it would hold old places */
        if (rc)
            error_set(err, rc, "%s: %s", path, disk_strerror(rc));
    }
    return rc;
}

static void prove(void *arg, const char *name, uint64_t offset)
{
    struct journal *j = arg;
    (void)name;
    if (offset > journal_durable(j)) {
        atomic_store(&j->durable, offset);
        atomic_store(&j->appended, offset);
    }
}

/* Its own, and for names that are new to it those of the log. All of them say how far the log was
 * durable once, which may be further than its files prove. */
static int open_cursors(struct journal *j, const struct journal_follow_opts *o, struct error *err)
{
    char path[PATH_BYTES];
    bool damaged = false;
    struct cursor *theirs = calloc(CURSORS_MAX, sizeof *theirs);
    int rc = theirs ? path_format(path, j, "cursors") : -ENOMEM;
    if (!rc)
        rc = cursors_open(&j->cursors, j->disk, o->cursors_path, j->log_id, &damaged, err);
    if (!rc && damaged)
        log_line(LOG_ERROR, "journal.cursors_damaged", "path=%s", o->cursors_path);
    if (!rc)
        rc = cursors_read(j->disk, path, j->log_id, theirs, err);
    for (unsigned i = 0; !rc && i < CURSORS_MAX; i++) {
        uint64_t at;
        if (!theirs[i].used || strncmp(theirs[i].name, o->prefix, strlen(o->prefix)) != 0)
            continue;
        int slot = cursors_slot(&j->cursors, theirs[i].name, theirs[i].offset, &at);
        rc = slot < 0 ? error_set(err, slot, "%s: %s", o->cursors_path, strerror(-slot)) : 0;
    }
    if (!rc)
        journal_cursors(j, prove, j);
    free(theirs);
    return rc;
}

/* ---- life ------------------------------------------------------------------------------------ */

int journal_follow(const struct journal_follow_opts *o, struct journal **ret, struct error *err)
{
    struct survey s;
    uint64_t end = 0;
    int rc = survey_read(&s, o->disk, o->dir, true, err);
    if (rc)
        return rc;
    struct journal *j = NULL;
    if (!s.has_log_id)
        rc = error_set(err, -ENOENT, "%s: there is no journal yet", o->dir);
    if (!rc)
        rc = survey_proven_end(&s, o->disk, o->dir, &end, err);
    if (!rc && !(j = journal_create(&(struct journal_opts){.disk = o->disk, .dir = o->dir}, NULL)))
        rc = error_set(err, -ENOMEM, "no memory for the journal");
    if (!rc) {
        j->follows = true;
        memcpy(j->log_id, s.log_id, sizeof j->log_id);
        atomic_store(&j->durable, end);
        atomic_store(&j->appended, end);
        rc = follow_refresh(j);
        if (rc)
            error_set(err, rc, "%s: %s", o->dir, disk_strerror(rc));
    }
    if (!rc)
        rc = open_cursors(j, o, err);
    survey_fini(&s);
    if (rc) {
        if (j)
            journal_destroy(j);
        return rc;
    }
    log_line(LOG_INFO, "journal.follow", "dir=%s durable=%llu oldest=%llu", o->dir,
             (unsigned long long)end, (unsigned long long)atomic_load(&j->oldest));
    *ret = j;
    return 0;
}
