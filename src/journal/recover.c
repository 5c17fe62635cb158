/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery, in this order; each step may be cut short by a crash and is then simply done again:
 *
 * 1. Look, change nothing: list the files, read both checkpoints and all segment headers. A newer
 *    format or another log's file ends it here.
 * 2. Walk from the newer checkpoint to the end. Each batch must have a right CRC, the offset that
 *    is next, and the chain value of its predecessor.
 * 3. The first place P that does not, when offset E was expected, is CORRUPTION if
 *      - it is in a segment that has a successor and E is below the successor's base,
 *      - or behind P lies a whole batch whose durable_before is above E,
 *      - or E is below a checkpoint's `durable`, or the cursor of a reader: what somebody has read
 *        was durable. This also tells a disk that lied, or an older copy put in the log's place,
 *      - or the file ends there, and is shorter than it was made.
 *    Otherwise it is the torn end of the commit that was running: its batches were never
 *    acknowledged. (A damaged last batch that was acknowledged with nothing written after it looks
 *    the same; no log can tell. The empty batch after 50 ms and the checkpoint of a clean close
 *    keep that window short.)
 *    Told to go on behind corruption, the walk goes on at the next batch that is whole. If the end
 *    of the log is lost, it is not known which offsets were used: the log goes on so far behind all
 *    that is known (JOURNAL_LEAP) that none is used again.
 * 4. The batches of the last commit are written again and everything behind P is zeroed, then the
 *    file is synced. Again, because after a failed fdatasync the page cache may show what the disk
 *    does not hold; zeroed, because a stale batch must not fit on behind a new one later.
 * 5. The directory is synced; then both checkpoints, with the next boot epoch.
 *
 * A log that is to jump (journal_opts.jump) is recovered as usual, and then goes on in a new
 * segment, whose header says from where on there is nothing. Until that segment has its name the
 * log has not jumped: whoever asked for it asks again after a crash.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "journal/internal.h"
#include "journal/survey.h"
#include "journal/walk.h"

#define REWRITE_PIECE (256u << 10)

struct recovery {
    struct journal *j;
    struct error *err;
    struct survey survey;
    size_t at; /* segment being walked */
    char path[PATH_BYTES];
    struct walk walk;
    uint64_t expected;
    uint32_t chain;
    bool chain_known;
    uint64_t unproven; /* position of the first batch of the last commit */
    bool last_missing; /* the segment that the checkpoint names, and it was the last */
    uint64_t boot_epoch;
    uint64_t records;
    uint64_t must_reach; /* everything below was durable: checkpoint, or a batch that says so */
    struct journal_proof proof; /* the reader that says so, if its offset is `must_reach` */
    bool asked;                 /* journal_opts.beyond */
};

static int gap_add(struct recovery *r, uint64_t first, uint64_t next, const char *why)
{
    struct journal *j = r->j;
    log_line(LOG_ERROR, "journal.gap", "path=%s position=%llu first=%llu next=%llu why=\"%s\"",
             r->path, (unsigned long long)r->walk.position, (unsigned long long)first,
             (unsigned long long)next, why);
    if (j->gaps_count == GAPS_MAX)
        return error_set(r->err, -EBADMSG, "%s: more than %d damaged places", j->dir, GAPS_MAX);
    struct gap *g = &j->gaps[j->gaps_count++];
    *g = (struct gap){.first = first, .next = next};
    snprintf(g->why, sizeof g->why, "%s", why);
    return 0;
}

static int corrupt_as(struct recovery *r, const char *what, const char *had)
{
    char proof[sizeof r->proof + 64] = "";
    if (r->proof.offset > r->expected)
        snprintf(proof, sizeof proof, ": \"%s\" has read up to record %llu (%s)", r->proof.who,
                 (unsigned long long)r->proof.offset, r->proof.path);
    return error_set(
        r->err, -EBADMSG,
        "%s: corrupt at %llu: %s; record %llu was expected there and %s%s. "
        "Nothing was changed. Restore the %s, or start with journal.skip_corrupt to go "
        "on behind the damage",
        r->path, (unsigned long long)r->walk.position, what, (unsigned long long)r->expected, had,
        proof, proof[0] ? "journal that it has read" : "file");
}

static int corrupt(struct recovery *r, const char *what)
{
    return corrupt_as(r, what, "had been durable");
}

static const struct survey_segment *current(const struct recovery *r)
{
    return &r->survey.segments[r->at];
}

static int open_current(struct recovery *r)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name_format(name, current(r)->head.base_offset);
    int rc = path_format(r->path, r->j, name);
    walk_close(&r->walk);
    if (!rc)
        rc = walk_open(&r->walk, r->j->disk, r->path, r->err);
    r->unproven = OFFSET_NONE;
    return rc;
}

/* Finds where to begin, from the newer checkpoint. */
static int find_start(struct recovery *r)
{
    const struct survey *s = &r->survey;
    const struct checkpoint *c = s->has_checkpoint ? &s->checkpoint : NULL;
    r->must_reach = c ? c->durable : 0;
    bool with_place = c && c->segment_base != OFFSET_NONE;
    while (with_place && r->at < s->count && current(r)->head.base_offset < c->segment_base)
        r->at++;
    bool found = with_place && r->at < s->count && current(r)->head.base_offset == c->segment_base;
    if (!found && with_place) {
        /* What the checkpoint says was durable is not there. Without the option: refused. */
        snprintf(r->path, sizeof r->path, "%s", r->j->dir);
        r->expected = c->durable;
        if (!r->j->opts.skip_corrupt)
            return corrupt(r, "the segment that the checkpoint names is missing");
        r->last_missing = r->at == s->count;
        if (r->at == s->count && s->count)
            r->at = s->count - 1;
    }
    if (s->count == 0) {
        snprintf(r->path, sizeof r->path, "%s", r->j->dir);
        r->expected = c ? c->durable : 0;
        return 0;
    }
    int rc = open_current(r);
    if (rc)
        return rc;
    r->expected = current(r)->head.base_offset;
    r->chain = current(r)->head.chain;
    r->chain_known = true;
    if (!found && c && r->expected > c->durable) {
        if (!r->j->opts.skip_corrupt)
            return corrupt(r, "the segment before this one is missing");
        return gap_add(r, c->durable, r->expected, "a segment is missing");
    }
    if (!found)
        return 0;
    if (c->position > r->walk.size) {
        if (!r->j->opts.skip_corrupt)
            return corrupt(r, "the file is shorter than the checkpoint says");
        return 0; /* whatever it still holds is found from its beginning */
    }
    r->walk.position = c->position;
    r->expected = c->durable;
    r->chain = c->chain;
    return 0;
}

/* What no log can have reached proves nothing, whoever wrote it. */
static void reach(struct recovery *r, const char *path, const struct cursor list[CURSORS_MAX])
{
    for (unsigned i = 0; i < CURSORS_MAX; i++) {
        if (!list[i].used || list[i].offset <= r->must_reach)
            continue;
        if (list[i].offset < OFFSET_MAX) {
            r->must_reach = r->proof.offset = list[i].offset;
            snprintf(r->proof.who, sizeof r->proof.who, "%s", list[i].name);
            snprintf(r->proof.path, sizeof r->proof.path, "%.255s", path);
        } else {
            log_line(LOG_ERROR, "journal.cursor_impossible", "path=%s name=%s offset=%llu", path,
                     list[i].name, (unsigned long long)list[i].offset);
        }
    }
}

/* See 3. A log that jumps leaves behind whatever was read of the one it was copied from. */
static int ask_readers(struct recovery *r)
{
    struct journal *j = r->j;
    const char *elsewhere = j->opts.cursors_elsewhere;
    struct error why = {""};
    char path[PATH_BYTES];
    if (!r->survey.has_log_id || j->opts.jump)
        return 0;
    struct cursor *list = calloc(CURSORS_MAX, sizeof *list);
    int rc = list ? path_format(path, j, "cursors") : -ENOMEM;
    if (!rc)
        rc = cursors_read(j->disk, path, j->log_id, list, r->err);
    if (!rc)
        reach(r, path, list);
    if (!rc && elsewhere && cursors_read(j->disk, elsewhere, j->log_id, list, &why) == 0)
        reach(r, elsewhere, list);
    if (why.text[0]) /* it is not ours: its own process refuses it */
        log_line(LOG_ERROR, "journal.cursors_unread", "error=\"%s\"", why.text);
    free(list);
    return rc;
}

static void accept(struct recovery *r, const struct batch_header *h)
{
    if (h->durable_before == h->base_offset)
        r->unproven = r->walk.position - batch_bytes(h->body_len);
    if (h->boot_epoch > r->boot_epoch)
        r->boot_epoch = h->boot_epoch;
    r->expected = h->base_offset + h->count;
    r->chain = h->header_crc;
    r->chain_known = true;
    r->records += h->count;
}

/* Goes on at the next batch that is whole, inside the segment. 1: found. */
static int resume_inside(struct recovery *r, uint64_t bad_at)
{
    uint64_t at, used;
    for (uint64_t from = bad_at + 8;; from = at + 8) {
        int rc = walk_search(&r->walk, from, OFFSET_NONE, r->expected, &at, &used);
        if (rc <= 0)
            return rc;
        r->walk.position = at;
        struct batch_header h;
        struct slice body;
        rc = walk_next(&r->walk, 0, &h, &body);
        if (rc < 0)
            return rc;
        if (rc != WALK_BATCH)
            continue;
        r->walk.position = at;
        r->chain_known = false;
        if (r->unproven > at) /* OFFSET_NONE too */
            r->unproven = at;
        rc = h.base_offset > r->expected ? gap_add(r, r->expected, h.base_offset, "damaged batch")
                                         : 0;
        r->expected = h.base_offset;
        return rc ? rc : 1;
    }
}

/* The place `bad_at` of a segment that has a successor holds no batch, and records are missing. */
static int broken_inside(struct recovery *r, uint64_t bad_at, const char *what)
{
    r->walk.position = bad_at;
    if (!r->j->opts.skip_corrupt)
        return corrupt(r, what);
    int rc = resume_inside(r, bad_at);
    if (rc)
        return rc < 0 ? rc : 0;
    r->walk.position = bad_at;
    uint64_t next = r->survey.segments[r->at + 1].head.base_offset;
    rc = gap_add(r, r->expected, next, what);
    r->expected = next;
    return rc;
}

/* One batch of the segment, or its end. 1: go on here; 0: this segment is done. */
static int walk_step(struct recovery *r)
{
    bool last = r->at + 1 == r->survey.count;
    const struct segment_header *next = last ? NULL : &r->survey.segments[r->at + 1].head;
    /* Whatever lies behind the successor's base was superseded, or is an empty batch. */
    if (next && (r->expected == next->base_offset || r->expected == next->gap_from))
        return 0;
    struct batch_header h = {0};
    struct slice body;
    uint64_t at = r->walk.position;
    int rc = walk_next(&r->walk, 0, &h, &body);
    if (rc < 0)
        return error_set(r->err, rc, "%s: %s", r->path, disk_strerror(rc));
    if (rc == WALK_NEWER)
        return error_set(r->err, -EPROTONOSUPPORT,
                         "%s: the batch at %llu is of a newer format; nothing was changed", r->path,
                         (unsigned long long)at);
    const char *what = rc == WALK_END ? "the segment ends too early" : r->walk.why;
    if (rc == WALK_BATCH) {
        if (h.base_offset == r->expected && (!r->chain_known || h.chain == r->chain) &&
            (!next || h.base_offset + h.count <= next->base_offset)) {
            accept(r, &h);
            return 1;
        }
        what = "a batch that does not follow the one before";
    }
    r->walk.position = at;
    if (last)
        return 0;
    rc = broken_inside(r, at, what);
    return rc ? rc : r->expected != next->base_offset;
}

static int walk_all(struct recovery *r)
{
    if (r->survey.count == 0)
        return 0;
    for (;;) {
        int rc;
        while ((rc = walk_step(r)) > 0)
            continue;
        if (rc || r->at + 1 == r->survey.count)
            return rc;
        r->at++;
        rc = open_current(r);
        if (rc)
            return rc;
        r->expected = current(r)->head.base_offset;
        r->chain = current(r)->head.chain;
        r->chain_known = true;
    }
}

/* At the end of the last segment: torn, or corrupt? 0: torn. 1: the walk goes on behind damage. */
static int judge_end(struct recovery *r, uint64_t *ret_used)
{
    uint64_t bad_at = r->walk.position, at;
    int rc = walk_search(&r->walk, bad_at, r->expected, OFFSET_NONE, &at, ret_used);
    if (rc < 0)
        return error_set(r->err, rc, "%s: %s", r->path, disk_strerror(rc));
    r->walk.buf_len = 0;
    r->walk.position = bad_at;
    if (rc == 0)
        return 0;
    if (!r->j->opts.skip_corrupt)
        return corrupt(r, "the batch is damaged, and a later one says that it was durable");
    struct batch_header h = {0};
    struct slice body;
    r->walk.position = at;
    rc = walk_next(&r->walk, OFFSET_NONE, &h, &body); /* the header is whole: it was just found */
    r->walk.position = bad_at;
    if (rc < 0)
        return rc;
    if (h.durable_before > r->must_reach)
        r->must_reach = h.durable_before;
    rc = resume_inside(r, bad_at);
    if (rc == 0)
        r->walk.position = bad_at;
    return rc;
}

static int copy_again(struct disk *d, struct disk_file *f, uint64_t from, uint64_t to)
{
    char *piece = malloc(REWRITE_PIECE);
    int rc = piece ? 0 : -ENOMEM;
    while (!rc && from < to) {
        size_t len = to - from < REWRITE_PIECE ? (size_t)(to - from) : REWRITE_PIECE;
        struct iovec v = {.iov_base = piece, .iov_len = len};
        rc = disk_read_full(d, f, piece, len, from);
        if (!rc)
            rc = disk_write_full(d, f, &v, 1, from);
        from += len;
    }
    free(piece);
    return rc;
}

static int zero_out(struct disk *d, struct disk_file *f, uint64_t from, uint64_t to)
{
    char *piece = calloc(1, REWRITE_PIECE);
    int rc = piece ? 0 : -ENOMEM;
    while (!rc && from < to) {
        size_t len = to - from < REWRITE_PIECE ? (size_t)(to - from) : REWRITE_PIECE;
        struct iovec v = {.iov_base = piece, .iov_len = len};
        rc = disk_write_full(d, f, &v, 1, from);
        from += len;
    }
    free(piece);
    return rc;
}

/* Makes the end of the last segment what the walk found, durably, and hands the file to the tail.
 */
static int settle_end(struct recovery *r, uint64_t used)
{
    struct journal *j = r->j;
    struct disk_file *f;
    uint64_t end = r->walk.position, size = r->walk.size;
    int rc = j->disk->open(j->disk, r->path, O_RDWR, &f);
    if (rc)
        return error_set(r->err, rc, "%s: %s", r->path, disk_strerror(rc));
    if (r->unproven != OFFSET_NONE && r->unproven < end)
        rc = copy_again(j->disk, f, r->unproven, end);
    if (!rc && used > end)
        rc = zero_out(j->disk, f, end, used < size ? used : size);
    if (!rc)
        rc = j->disk->fdatasync(j->disk, f);
    if (rc) {
        j->disk->close(j->disk, f);
        return error_set(r->err, rc, "%s: the end could not be made durable: %s", r->path,
                         disk_strerror(rc));
    }
    if (used > end)
        log_line(LOG_INFO, "journal.torn_tail_cut", "path=%s position=%llu bytes=%llu", r->path,
                 (unsigned long long)end, (unsigned long long)(used - end));
    j->torn_bytes = used > end ? used - end : 0;
    j->tail.segment_base = r->walk.head.base_offset;
    j->tail.gap_here = r->walk.head.gap_from;
    if (size < r->walk.head.bytes) { /* full, it would look as if it had been cut: see 3 */
        j->disk->close(j->disk, f);
        return 0;
    }
    j->tail.file = f;
    j->tail.segment_bytes = r->walk.head.bytes;
    j->tail.salt = r->walk.head.salt;
    j->tail.position = end;
    j->tail.superseding = r->walk.head.supersedes_from != OFFSET_NONE;
    return 0;
}

static bool lost_last(const struct recovery *r)
{
    const struct survey *s = &r->survey;
    return r->last_missing ||
           (s->damaged_count && s->damaged[s->damaged_count - 1].head.base_offset >= r->expected);
}

/* What is in the last segment's file ends where that does, and it was longer once. */
static bool cut_short(const struct recovery *r, uint64_t used)
{
    uint64_t size = r->walk.size;
    return r->survey.count && !r->j->opts.jump && size < r->walk.head.bytes &&
           (used + 8 > size || size - r->walk.position < BATCH_HEADER_BYTES);
}

/* Those who keep their places themselves. See 3. */
static void ask_others(struct recovery *r)
{
    const struct journal_opts *o = &r->j->opts;
    struct journal_proof p = {.offset = 0};
    bool known = r->survey.has_log_id && !o->jump && o->beyond && !r->asked;
    r->asked = true;
    if (!known || !o->beyond(o->beyond_arg, r->j->log_id, r->expected, &p))
        return;
    CHECK(p.offset < OFFSET_MAX);
    if (p.offset > r->must_reach) {
        r->must_reach = p.offset;
        r->proof = p;
    }
}

/* Where the walk has ended. 0: so does the log; 1: it goes on behind damage; or a negative errno.
 * *ret_lost: more was durable, or may have been. */
static int look_behind(struct recovery *r, uint64_t used, bool *ret_lost)
{
    uint64_t bad_at = r->walk.position;
    ask_others(r);
    bool less = r->expected < r->must_reach || lost_last(r), cut = cut_short(r, used);
    *ret_lost = less || cut;
    if (!*ret_lost)
        return 0;
    if (!r->j->opts.skip_corrupt)
        return less
                   ? corrupt(r, "the log ends before what is known to have been durable")
                   : corrupt_as(r, "the file is shorter than it was made, and ends within the data",
                                "may have been durable");
    int rc = r->survey.count ? resume_inside(r, bad_at) : 0;
    if (rc == 0 && r->survey.count)
        r->walk.position = bad_at;
    return rc;
}

/* Nothing may be appended where something else was: goes on in a new segment, see 3. Of what was
 * lost each byte may have been a record. */
static int leave_lost_end(struct recovery *r)
{
    const struct survey *s = &r->survey;
    uint64_t next = r->must_reach > r->expected ? r->must_reach : r->expected;
    uint64_t lost = r->walk.size > r->walk.head.bytes ? r->walk.size : r->walk.head.bytes;
    for (size_t i = 0; i < s->damaged_count; i++) {
        lost += s->damaged[i].size;
        if (s->damaged[i].head.base_offset > next)
            next = s->damaged[i].head.base_offset;
    }
    next = ((next + lost) / JOURNAL_LEAP + 2) * JOURNAL_LEAP;
    if (next >= OFFSET_MAX)
        return error_set(r->err, -ERANGE, "%s: the log cannot go on further", r->j->dir);
    int rc = gap_add(r, r->expected, next, "the end of the log is lost");
    if (rc)
        return rc;
    r->j->tail.gap_from = r->expected;
    r->expected = next;
    return 0;
}

/* Damaged segments are kept for whoever wants to look into them, under another name. */
static int put_aside(struct recovery *r)
{
    struct journal *j = r->j;
    int rc = 0;
    for (size_t i = 0; !rc && i < r->survey.damaged_count; i++) {
        char name[SEGMENT_NAME_BYTES + 8], from[PATH_BYTES], to[PATH_BYTES];
        segment_name_format(name, r->survey.damaged[i].head.base_offset);
        rc = path_format(from, j, name);
        memcpy(name + strlen(name), ".broken", sizeof ".broken");
        if (!rc)
            rc = path_format(to, j, name);
        if (!rc)
            rc = j->disk->rename(j->disk, from, to);
    }
    if (!rc && r->survey.damaged_count)
        rc = j->disk->sync_dir(j->disk, j->dir);
    return rc;
}

static int walk_to_end(struct recovery *r)
{
    uint64_t used = 0;
    bool lost = false;
    int rc = find_start(r);
    if (!rc)
        rc = ask_readers(r);
    do {
        if (!rc)
            rc = walk_all(r);
        if (!rc && r->survey.count)
            rc = judge_end(r, &used);
        if (!rc)
            rc = look_behind(r, used, &lost);
        if (rc < 0)
            return rc;
    } while (rc == 1 && !(rc = 0));

    if (lost)
        return leave_lost_end(r);
    return r->survey.count ? settle_end(r, used) : 0;
}

static int jump(struct recovery *r)
{
    struct journal *j = r->j;
    uint64_t multiple = r->expected / JOURNAL_JUMP + j->opts.jump;
    if (multiple >= OFFSET_MAX / JOURNAL_JUMP)
        return error_set(r->err, -ERANGE, "%s: the log cannot jump %u times further", j->dir,
                         j->opts.jump);
    int rc = gap_add(r, r->expected, multiple * JOURNAL_JUMP, "restored from a backup");
    if (rc)
        return rc;
    if (j->tail.file)
        j->disk->close(j->disk, j->tail.file);
    j->tail.file = NULL;
    j->tail.gap_from = r->expected;
    r->expected = multiple * JOURNAL_JUMP;
    return 0;
}

static int publish(struct recovery *r)
{
    struct journal *j = r->j;
    const struct survey *s = &r->survey;
    for (size_t i = 0; i < s->count; i++) {
        const struct segment_header *h = &s->segments[i].head;
        struct segment seg = {.base = h->base_offset,
                              .bytes = s->segments[i].size,
                              .created_us = h->created_us,
                              .supersedes_from = h->supersedes_from,
                              .gap_from = h->gap_from,
                              .chain = h->chain};
        int rc = segments_add(j, &seg);
        if (rc)
            return rc;
    }
    if (s->has_checkpoint && s->checkpoint.boot_epoch > r->boot_epoch)
        r->boot_epoch = s->checkpoint.boot_epoch;
    /* By the clock too: an older copy in the log's place would count up to the same one again. */
    uint64_t now = (uint64_t)clock_wall_us();
    j->boot_epoch = r->boot_epoch + 1 > now ? r->boot_epoch + 1 : now;
    j->checkpoints.seq = s->has_checkpoint ? s->checkpoint.seq : 0;
    j->tail.offset = j->began = r->expected;
    j->tail.chain = r->chain;
    j->tail.control_due = false;
    atomic_store(&j->durable, r->expected);
    atomic_store(&j->appended, r->expected);
    atomic_store(&j->oldest, s->count ? s->segments[0].head.base_offset : r->expected);
    j->recovered_records = r->records;
    return 0;
}

int journal_recover(struct journal *j, struct error *err)
{
    struct recovery r = {.j = j, .err = err};
    uint64_t began = clock_mono_ns();
    int rc = survey_read(&r.survey, j->disk, j->dir, j->opts.skip_corrupt, err);
    if (!rc) {
        if (r.survey.has_log_id)
            memcpy(j->log_id, r.survey.log_id, sizeof j->log_id);
        else
            log_id_new(j);
        rc = walk_to_end(&r);
    }
    if (!rc && j->opts.jump)
        rc = jump(&r);
    if (!rc)
        rc = put_aside(&r);
    /* A process that was killed may have left names that no power cut would have left: what the
     * checkpoint is going to rely on must be durable itself. */
    if (!rc)
        rc = j->disk->sync_dir(j->disk, j->dir);
    if (!rc)
        rc = publish(&r);
    if (!rc) {
        rc = checkpoint_write(j, false);
        if (rc == -ENOSPC || rc == -EDQUOT)
            rc = 0; /* only the next recovery takes longer */
        if (rc)
            error_set(err, rc, "%s: no checkpoint could be written: %s", j->dir, disk_strerror(rc));
    }
    if (rc && err && !err->text[0])
        error_set(err, rc, "%s: %s", j->dir, disk_strerror(rc));
    walk_close(&r.walk);
    survey_fini(&r.survey);
    j->recovery_ns = clock_mono_ns() - began;
    return rc;
}
