/* SPDX-License-Identifier: Apache-2.0 */
#include "view/snapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/metric.h"
#include "journal/format.h"

void snapfile_begin(const struct snapfile *f, uint64_t cursor, struct buf *out)
{
    buf_put(out, f->magic, 8);
    buf_put_u32(out, f->format);
    buf_put_u32(out, 0);
    buf_put(out, f->log_id, 16);
    buf_put_u64(out, cursor);
}

int snapfile_write(const struct snapfile *f, struct buf *out)
{
    if (!out->failed)
        buf_put_u32(out, crc32c(0, out->ptr, out->len));
    return out->failed ? -ENOMEM : disk_replace(f->disk, f->path, out->ptr, out->len);
}

int snapfile_damaged(const char *path, struct error *err, const char *what)
{
    return error_set(err, -EBADMSG, "snapshot %s is damaged: %s", path, what);
}

static int check(const struct snapfile *f, struct slice file, struct snapfile_found *ret,
                 struct error *err)
{
    if (file.len < f->head_bytes + SNAPFILE_END || memcmp(file.ptr, f->magic, 8) != 0)
        return snapfile_damaged(f->path, err, "it does not begin like one");
    size_t end = file.len - SNAPFILE_END;
    ret->format = le32_get(file.ptr + 8);
    if (ret->format > f->format) /* before the CRC: who knows where a newer one keeps it */
        return error_set(err, -ENOTSUP, "snapshot %s has format %u; this version reads %u", f->path,
                         ret->format, f->format);
    if (ret->format == 0 || le32_get(file.ptr + end) != crc32c(0, file.ptr, end))
        return snapfile_damaged(f->path, err, "its checksum is wrong");
    if (memcmp(file.ptr + 16, f->log_id, 16) != 0)
        return error_set(err, -ESTALE, "snapshot %s belongs to another journal", f->path);
    ret->cursor = le64_get(file.ptr + 32);
    ret->body = slice_of(file.ptr + f->head_bytes, end - f->head_bytes);
    return 0;
}

int snapfile_read(const struct snapfile *f, struct buf *bytes, struct snapfile_found *ret,
                  struct error *err)
{
    int code = disk_read_file(f->disk, f->path, bytes);
    if (code == -ENOENT)
        return 1;
    return code == 0 ? check(f, buf_slice(bytes), ret, err)
                     : error_set(err, code, "snapshot %s: %s", f->path, disk_strerror(code));
}

/* Nearly always the head is enough. */
static bool head_is_beyond(struct disk *disk, const char *path, const uint8_t log_id[16],
                           uint64_t end)
{
    char head[SNAPFILE_HEAD];
    struct disk_file *f;
    if (disk->open(disk, path, O_RDONLY, &f) != 0)
        return false;
    ssize_t n = disk->pread(disk, f, head, sizeof head, 0);
    for (unsigned tries = 0; n != sizeof head && tries < 3; tries++) /* it was interrupted */
        n = disk->pread(disk, f, head, sizeof head, 0);
    disk->close(disk, f);
    return n == sizeof head && memcmp(head + 16, log_id, 16) == 0 && le64_get(head + 32) > end;
}

bool snapfile_beyond(struct disk *disk, const char *path, const uint8_t log_id[16], uint64_t end,
                     uint64_t *ret)
{
    struct buf b;
    if (!head_is_beyond(disk, path, log_id, end))
        return false;
    buf_init(&b, SNAPFILE_MAX);
    bool whole = disk_read_file(disk, path, &b) == 0 && b.len > SNAPFILE_HEAD + SNAPFILE_END &&
                 le32_get(b.ptr + b.len - SNAPFILE_END) == crc32c(0, b.ptr, b.len - SNAPFILE_END);
    if (whole)
        *ret = le64_get(b.ptr + 32);
    buf_fini(&b);
    return whole;
}

int snapfile_unseal(const char *path, struct sealer *sealer, uint32_t key_id, struct slice bound,
                    struct buf *storage, struct slice *bytes, struct error *err)
{
    if (!sealer)
        return snapfile_damaged(path, err, "an entry is sealed, and there is no keyring");
    buf_clear(storage);
    enum seal_outcome done = unseal_bytes(sealer, key_id, bound, *bytes, storage);
    *bytes = buf_slice(storage);
    if (done == SEAL_ERASED) {
        metric_add(METRIC_sealed_erased, 1);
        return 1;
    }
    return done == SEAL_DONE ? 0
           : done == SEAL_UNKNOWN
               ? snapfile_damaged(path, err, "the keyring does not know an entry's key")
               : snapfile_damaged(path, err, "a sealed entry does not open");
}
