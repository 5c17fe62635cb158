/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/password.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

#include "journal/disk.h"

#define PASSWORD_MAX 4096u

int password_read(const char *setting, const char *path, struct buf *ret, struct error *err)
{
    buf_init(ret, PASSWORD_MAX);
    int rc = path[0] ? disk_read_file(disk_posix(), path, ret) : 0;
    if (rc < 0)
        return error_set(err, rc, "%s: %s: %s", setting, path, disk_strerror(rc));
    const char *end = ret->len ? memchr(ret->ptr, '\n', ret->len) : NULL;
    if (end)
        ret->len = (size_t)(end - ret->ptr);
    if (end && ret->len && end[-1] == '\r') /* as Windows ends lines */
        ret->len--;
    buf_put_u8(ret, 0);
    return ret->failed ? error_set(err, -EFBIG, "%s: %s is too long", setting, path) : 0;
}

void password_forget(struct buf *password)
{
    if (password->ptr)
        OPENSSL_cleanse(password->ptr, password->cap);
    buf_fini(password);
}
