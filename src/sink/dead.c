/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/dead.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/rand.h"
#include "base/search.h"
#include "journal/format.h"

#define MARK       "SLUDEAD1"
#define MARK_BYTES 8u
#define HEAD       8u  /* crc, length */
#define FIXED      20u /* offset, when, length of why */

/* Where a letter begins in the image. */
struct place {
    uint64_t offset;
    size_t at;
};

struct dead_letters {
    pthread_mutex_t lock;
    struct disk *disk;
    char *path;
    struct disk_file *file; /* NULL: it is to be written anew, from the image */
    struct buf image;       /* of the whole file; letters lie in no order */
    struct place *places;   /* by offset */
    size_t places_max;
    uint64_t count; /* of letters, and of places */
    uint64_t end;   /* no letter has an offset from here on */
};

/* The letter at *at; moves behind it. False: there is none, or it is not whole. */
static bool letter_at(struct slice file, size_t *at, bool trusted, struct dead_letter *ret)
{
    if (file.len - *at < HEAD + FIXED)
        return false;
    const char *p = file.ptr + *at;
    uint32_t len = le32_get(p + 4);
    if (len < FIXED || len > file.len - *at - HEAD ||
        (!trusted && le32_get(p) != crc32c(0, p + 4, len + 4)))
        return false;
    uint32_t why = le32_get(p + HEAD + 16);
    if (why > len - FIXED)
        return false;
    *ret = (struct dead_letter){.offset = le64_get(p + HEAD),
                                .at_us = (int64_t)le64_get(p + HEAD + 8),
                                .why = slice_of(p + HEAD + FIXED, why),
                                .record = slice_of(p + HEAD + FIXED + why, len - FIXED - why)};
    *at += HEAD + len;
    return true;
}

/* ---- by offset ---- */

/* The first place of an offset that is not below this one. */
static uint64_t first_from(const struct dead_letters *d, uint64_t offset)
{
    return SEARCH_FROM(d->places, d->count, offset, offset);
}

static struct dead_letter letter_of(const struct dead_letters *d, uint64_t place)
{
    struct dead_letter letter;
    size_t at = d->places[place].at;
    CHECK(letter_at(buf_slice(&d->image), &at, true, &letter));
    return letter;
}

static void add_place(struct dead_letters *d, uint64_t before, struct place place)
{
    if (d->count == d->places_max) {
        d->places_max = d->places_max ? 2 * d->places_max : 16;
        d->places = realloc(d->places, d->places_max * sizeof *d->places);
        CHECK(d->places);
    }
    memmove(d->places + before + 1, d->places + before, (d->count - before) * sizeof *d->places);
    d->places[before] = place;
    d->count++;
    d->end = place.offset >= d->end ? place.offset + 1 : d->end;
}

static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->offset != y->offset ? (x->offset > y->offset) - (x->offset < y->offset)
                                  : (x->at > y->at) - (x->at < y->at);
}

/* Finds the places of all letters of the image anew, up to the first that is not whole; returns
 * where that is. */
static size_t find_places(struct dead_letters *d, bool trusted)
{
    struct dead_letter letter;
    size_t at = MARK_BYTES;
    d->count = 0;
    for (size_t begin = at; letter_at(buf_slice(&d->image), &at, trusted, &letter); begin = at)
        add_place(d, d->count, (struct place){letter.offset, begin});
    if (d->count)
        qsort(d->places, d->count, sizeof *d->places, compare_places);
    return at;
}

/* ---- the file ---- */

/* Puts the file in the place of the old one and opens it. */
static int write_anew(struct dead_letters *d)
{
    if (d->file)
        d->disk->close(d->disk, d->file);
    d->file = NULL;
    int rc = disk_replace(d->disk, d->path, d->image.ptr, d->image.len);
    if (!rc)
        rc = d->disk->open(d->disk, d->path, O_RDWR, &d->file);
    if (rc)
        d->file = NULL;
    return rc;
}

/* Finds the letters of the image; a torn end is cut. -EBADMSG when whole letters are behind it. */
static int look_through(struct dead_letters *d, bool *ret_torn)
{
    struct slice file = buf_slice(&d->image);
    struct dead_letter letter;
    size_t at = find_places(d, false);
    *ret_torn = at < file.len;
    for (size_t k = at + 1; *ret_torn && k + HEAD + FIXED <= file.len; k++) {
        size_t there = k;
        if (letter_at(file, &there, false, &letter))
            return -EBADMSG;
    }
    d->image.len = at;
    return 0;
}

int dead_open(struct disk *disk, const char *path, uint64_t bytes_max, struct dead_letters **ret,
              struct error *err)
{
    struct dead_letters *d = calloc(1, sizeof *d);
    CHECK(d);
    d->disk = disk;
    d->path = strdup(path);
    CHECK(d->path);
    pthread_mutex_init(&d->lock, NULL);
    buf_init(&d->image, SIZE_MAX / 2); /* of an operator that made the maximum smaller, too */
    bool torn = false;
    int rc = disk_read_file(disk, path, &d->image);
    if (rc == -ENOENT) {
        buf_put(&d->image, MARK, MARK_BYTES);
        rc = d->image.failed ? -ENOMEM : 0; /* made when the first letter comes */
    } else if (!rc && (d->image.len < MARK_BYTES || memcmp(d->image.ptr, MARK, MARK_BYTES) != 0)) {
        rc = -EBADMSG;
    } else if (!rc) {
        rc = look_through(d, &torn);
    }
    d->image.max = bytes_max > d->image.len ? bytes_max : d->image.len;
    if (!rc && torn)
        rc = write_anew(d);
    if (rc) {
        error_set(err, rc, "dead letters %s: %s", path,
                  rc == -EBADMSG ? "the file is damaged; move it away to go on"
                                 : disk_strerror(rc));
        dead_close(d);
        return rc;
    }
    *ret = d;
    return 0;
}

void dead_close(struct dead_letters *d)
{
    if (!d)
        return;
    if (d->file)
        d->disk->close(d->disk, d->file);
    buf_fini(&d->image);
    free(d->places);
    pthread_mutex_destroy(&d->lock);
    free(d->path);
    free(d);
}

/* ---- putting and finding ---- */

/* Appends the letter to the image; false: no room. */
static bool add(struct buf *image, const struct dead_letter *l)
{
    size_t at = image->len, len = FIXED + l->why.len + l->record.len;
    if (len > UINT32_MAX || image->max - at < HEAD + len)
        return false;
    buf_put_u32(image, 0);
    buf_put_u32(image, (uint32_t)len);
    buf_put_u64(image, l->offset);
    buf_put_u64(image, (uint64_t)l->at_us);
    buf_put_u32(image, (uint32_t)l->why.len);
    buf_put_slice(image, l->why);
    buf_put_slice(image, l->record);
    if (image->failed) {
        image->failed = false;
        image->len = at;
        return false;
    }
    le32_put(image->ptr + at, crc32c(0, image->ptr + at + 4, len + 4));
    return true;
}

/* Has what was added from `at` on durable. */
static int store(struct dead_letters *d, size_t at)
{
    if (!d->file)
        return write_anew(d);
    struct iovec v = {.iov_base = d->image.ptr + at, .iov_len = d->image.len - at};
    int rc = disk_write_full(d->disk, d->file, &v, 1, at);
    if (!rc)
        rc = d->disk->fdatasync(d->disk, d->file);
    if (!rc)
        return 0;
    return write_anew(d); /* that file is not to be trusted any more */
}

int dead_put(struct dead_letters *d, const struct dead_letter *letter)
{
    int rc = DEAD_STORED;
    pthread_mutex_lock(&d->lock);
    uint64_t place = first_from(d, letter->offset);
    if (place == d->count || d->places[place].offset != letter->offset) {
        size_t at = d->image.len;
        if (!add(&d->image, letter)) {
            rc = DEAD_FULL;
        } else if ((rc = store(d, at)) < 0) {
            d->image.len = at;
        } else {
            add_place(d, place, (struct place){letter->offset, at});
            rc = DEAD_STORED;
        }
    }
    pthread_mutex_unlock(&d->lock);
    return rc;
}

/* Under the lock. */
static void copy_out(const struct dead_letter *letter, struct buf *storage, struct dead_letter *ret)
{
    buf_clear(storage);
    buf_put_slice(storage, letter->why);
    buf_put_slice(storage, letter->record);
    CHECK(!storage->failed);
    *ret = *letter;
    ret->why.ptr = storage->ptr;
    ret->record.ptr = storage->ptr + letter->why.len;
}

bool dead_next(struct dead_letters *d, uint64_t offset, struct buf *storage,
               struct dead_letter *ret)
{
    pthread_mutex_lock(&d->lock);
    uint64_t place = first_from(d, offset);
    bool found = place < d->count;
    if (found) {
        struct dead_letter letter = letter_of(d, place);
        copy_out(&letter, storage, ret);
    }
    pthread_mutex_unlock(&d->lock);
    return found;
}

int64_t dead_reach_us(const struct dead_schedule *schedule)
{
    int64_t most_s = 0;
    for (unsigned i = 0; i < schedule->count; i++)
        most_s = schedule->pauses_s[i] > most_s ? schedule->pauses_s[i] : most_s;
    return most_s * US_PER_S + most_s * US_PER_S / 5;
}

/* Whether one of the letter's times lies behind `after_us` and not behind `until_us`. */
static bool is_due(const struct dead_letter *l, const struct dead_schedule *schedule,
                   int64_t after_us, int64_t until_us)
{
    struct rand jitter = {l->offset};
    int64_t due_us = l->at_us;
    for (unsigned i = 0; i < schedule->count && due_us <= until_us; i++) {
        int64_t pause_us = schedule->pauses_s[i] * US_PER_S;
        due_us += pause_us + (int64_t)rand_below(&jitter, (uint64_t)pause_us / 5);
        if (due_us > after_us && due_us <= until_us)
            return true;
    }
    return false;
}

bool dead_due(struct dead_letters *d, uint64_t offset, const struct dead_schedule *schedule,
              int64_t after_us, int64_t until_us, struct buf *storage, struct dead_letter *ret)
{
    bool found = false;
    pthread_mutex_lock(&d->lock);
    for (uint64_t place = first_from(d, offset); place < d->count && !found; place++) {
        struct dead_letter letter = letter_of(d, place);
        found = is_due(&letter, schedule, after_us, until_us);
        if (found)
            copy_out(&letter, storage, ret);
    }
    pthread_mutex_unlock(&d->lock);
    return found;
}

int dead_remove(struct dead_letters *d, const uint64_t *offsets, unsigned count)
{
    struct dead_letter letter;
    struct buf kept;
    uint64_t gone = 0;
    int rc = 0;
    pthread_mutex_lock(&d->lock);
    buf_init(&kept, d->image.max);
    buf_put(&kept, d->image.ptr, MARK_BYTES);
    for (size_t at = MARK_BYTES, begin = at; letter_at(buf_slice(&d->image), &at, true, &letter);
         begin = at) {
        if (search_has(offsets, count, letter.offset))
            gone++;
        else
            buf_put(&kept, d->image.ptr + begin, at - begin);
    }
    if (gone && kept.failed) {
        rc = -ENOMEM;
    } else if (gone) {
        struct buf was = d->image;
        d->image = kept;
        kept = was;
        rc = write_anew(d);
        if (rc) { /* as it was; the file is written when the next letter comes */
            kept = d->image;
            d->image = was;
        } else {
            (void)find_places(d, true);
        }
    }
    buf_fini(&kept);
    pthread_mutex_unlock(&d->lock);
    return rc;
}

uint64_t dead_end(struct dead_letters *d)
{
    pthread_mutex_lock(&d->lock);
    uint64_t end = d->end;
    pthread_mutex_unlock(&d->lock);
    return end;
}

void dead_count(struct dead_letters *d, uint64_t *ret_count, uint64_t *ret_bytes)
{
    pthread_mutex_lock(&d->lock);
    *ret_count = d->count;
    *ret_bytes = d->image.len - MARK_BYTES;
    pthread_mutex_unlock(&d->lock);
}
