/* SPDX-License-Identifier: Apache-2.0 */
#include "backup/restores.h"

#include <errno.h>
#include <limits.h>

#include "backup/files.h"
#include "base/clock.h"
#include "codec/text.h"

#define BYTES_MAX (16u << 20)

int restores_count(struct disk *disk, const char *dir, const char *to, uint32_t *ret_nth,
                   struct error *err)
{
    char path[PATH_MAX];
    struct buf text;
    uint32_t nth = 1;
    int rc = path_join(path, dir, RESTORES_NAME, err);
    if (rc)
        return rc;
    buf_init(&text, BYTES_MAX);
    rc = disk_read_file(disk, path, &text);
    if (rc == -ENOENT)
        rc = 0;
    for (size_t i = 0; i < text.len; i++)
        nth += text.ptr[i] == '\n';
    time_format_s(&text, clock_wall_us());
    buf_put_str(&text, " into ");
    for (const char *at = to; *at; at++)
        buf_put_u8(&text, (unsigned char)*at < ' ' ? '?' : (uint8_t)*at);
    buf_put_str(&text, "\n");
    if (rc == 0)
        rc = text.failed ? -EFBIG : disk_replace(disk, path, text.ptr, text.len);
    buf_fini(&text);
    if (rc)
        return error_set(err, rc,
                         "%s cannot be written (%s), where the restores of this backup are "
                         "counted: say by --nth which one it is",
                         path, disk_strerror(rc));
    *ret_nth = nth;
    return 0;
}
