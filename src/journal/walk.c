/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A live segment grows while it is read, so what was read ahead may be stale beyond what was
 * durable then. Therefore nothing but a whole batch is ever concluded from old bytes: anything else
 * is read again from the file first.
 */
#include "journal/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/check.h"

#define READ_AHEAD (256u << 10)

const char walk_bad_body[] = "body";

static int read_header(struct walk *w, const char *path, struct error *err)
{
    char raw[SEGMENT_HEADER_BYTES];
    int rc = w->disk->size(w->disk, w->file, &w->size);
    if (rc)
        return error_set(err, rc, "%s: %s", path, disk_strerror(rc));
    if (w->size < sizeof raw)
        return error_set(err, -EBADMSG, "%s: corrupt at 0: shorter than a segment's header", path);
    rc = disk_read_full(w->disk, w->file, raw, sizeof raw, 0);
    if (rc)
        return error_set(err, rc, "%s: %s", path, disk_strerror(rc));
    switch (segment_header_decode(raw, &w->head)) {
    case FORMAT_OK:
        w->position = w->head.body_at;
        return 0;
    case FORMAT_NEWER:
        return error_set(
            err, -EPROTONOSUPPORT,
            "%s: format version %u is newer than this program's %u; nothing was changed", path,
            le16_get(raw + 8), FORMAT_VERSION);
    default:
        return error_set(err, -EBADMSG, "%s: corrupt at 0: the segment's header is damaged", path);
    }
}

int walk_open(struct walk *w, struct disk *disk, const char *path, struct error *err)
{
    *w = (struct walk){.disk = disk};
    int rc = disk->open(disk, path, O_RDONLY, &w->file);
    if (rc) {
        w->file = NULL;
        return error_set(err, rc, "%s: %s", path, disk_strerror(rc));
    }
    rc = read_header(w, path, err);
    if (rc)
        walk_close(w);
    return rc;
}

void walk_close(struct walk *w)
{
    if (w->file)
        w->disk->close(w->disk, w->file);
    free(w->buf);
    *w = (struct walk){0};
}

/* Reads ahead from `at`, at least `need` bytes if the file has them. */
static int load(struct walk *w, uint64_t at, size_t need)
{
    size_t want = need > READ_AHEAD ? need : READ_AHEAD;
    if (want > w->buf_cap) {
        char *buf = realloc(w->buf, want);
        if (!buf)
            return -ENOMEM;
        w->buf = buf;
        w->buf_cap = want;
    }
    w->buf_at = at;
    w->buf_len = 0;
    if (at >= w->size)
        return 0;
    if (want > w->size - at)
        want = (size_t)(w->size - at);
    int rc = disk_read_full(w->disk, w->file, w->buf, want, at);
    if (!rc)
        w->buf_len = want;
    return rc;
}

static bool held(const struct walk *w, uint64_t at, size_t need)
{
    return at >= w->buf_at && at - w->buf_at <= w->buf_len &&
           need <= w->buf_len - (size_t)(at - w->buf_at);
}

/* Bytes [at, at + need) in memory. 1, 0 when the file ends before, or negative errno. */
static int ensure(struct walk *w, uint64_t at, size_t need)
{
    if (held(w, at, need))
        return 1;
    if (at > w->size || need > w->size - at)
        return 0;
    int rc = load(w, at, need);
    return rc ? rc : 1;
}

static int bad(struct walk *w, const char *why)
{
    w->why = why;
    return WALK_BAD;
}

/* What lies at `position`, from the bytes in memory where they reach. */
static int parse(struct walk *w, uint64_t from, struct batch_header *ret, struct slice *ret_body)
{
    int rc = ensure(w, w->position, BATCH_HEADER_BYTES);
    if (rc <= 0)
        return rc ? rc : WALK_END;
    struct batch_header h;
    switch (batch_header_decode(w->buf + (w->position - w->buf_at), w->head.salt, &h)) {
    case FORMAT_OK:
        break;
    case FORMAT_EMPTY:
        return WALK_END;
    case FORMAT_NEWER:
        return WALK_NEWER;
    default:
        return bad(w, "header");
    }
    uint64_t bytes = batch_bytes(h.body_len);
    if (bytes > w->size - w->position)
        return bad(w, "the file ends inside the batch");
    struct slice body = {0};
    if (h.base_offset + h.count > from || h.count == 0) {
        rc = ensure(w, w->position, (size_t)bytes);
        if (rc < 0)
            return rc;
        CHECK(rc);
        body = slice_of(w->buf + (w->position - w->buf_at) + BATCH_HEADER_BYTES, h.body_len);
    }
    *ret = h;
    if (body.ptr && crc32c(0, body.ptr, body.len) != h.body_crc)
        return bad(w, walk_bad_body);
    *ret_body = body;
    return WALK_BATCH;
}

int walk_next(struct walk *w, uint64_t from, struct batch_header *ret, struct slice *ret_body)
{
    bool fresh = !held(w, w->position, BATCH_HEADER_BYTES);
    int rc = parse(w, from, ret, ret_body);
    if (rc != WALK_BATCH && rc >= 0 && !fresh) {
        w->buf_len = 0;
        rc = parse(w, from, ret, ret_body);
    }
    if (rc == WALK_BATCH)
        w->position += batch_bytes(ret->body_len);
    return rc;
}

int walk_search(struct walk *w, uint64_t at, uint64_t durable_above, uint64_t base_from,
                uint64_t *ret_position, uint64_t *ret_used)
{
    uint64_t used = at;
    w->buf_len = 0;
    for (; at < w->size && w->size - at >= 8; at += 8) {
        if (!held(w, at, BATCH_HEADER_BYTES)) {
            int rc = load(w, at, 0);
            if (rc)
                return rc;
        }
        const char *p = w->buf + (at - w->buf_at);
        if (le64_get(p) == 0)
            continue;
        used = at + 8;
        struct batch_header h;
        if (!held(w, at, BATCH_HEADER_BYTES) ||
            batch_header_decode(p, w->head.salt, &h) != FORMAT_OK)
            continue;
        if ((durable_above != OFFSET_NONE && h.durable_before > durable_above) ||
            (base_from != OFFSET_NONE && h.base_offset >= base_from)) {
            *ret_position = at;
            *ret_used = used;
            return 1;
        }
    }
    *ret_used = used;
    return 0;
}
