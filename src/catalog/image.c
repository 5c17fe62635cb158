/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/image.h"

#include <errno.h>
#include <fcntl.h>

#define STEP_PAGES 64 /* of 4 KiB: about half a millisecond, which a change may have to wait */

static int failed(const struct image *i, int rc, struct error *err)
{
    int code = (rc & 0xff) == SQLITE_FULL ? -ENOSPC : (rc & 0xff) == SQLITE_NOMEM ? -ENOMEM : -EIO;
    return error_set(err, code, "the copy of the catalog: %s",
                     i->to ? sqlite3_errmsg(i->to) : sqlite3_errstr(rc));
}

int image_begin(struct image *i, struct db *from, const char *path, struct error *err)
{
    *i = (struct image){0};
    int rc = db_make_private(path, true);
    if (rc < 0)
        return error_set(err, rc, "%s: %s", path, strerror(-rc));
    rc = sqlite3_open_v2(path, &i->to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_EXRESCODE, NULL);
    /* Nobody looks at it before it is whole. */
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(i->to, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;", NULL, NULL,
                          NULL);
    if (rc != SQLITE_OK)
        return failed(i, rc, err);
    i->backup = sqlite3_backup_init(i->to, "main", from->handle, "main");
    return i->backup ? 0 : failed(i, sqlite3_extended_errcode(i->to), err);
}

int image_step(struct image *i, struct error *err)
{
    int rc = sqlite3_backup_step(i->backup, STEP_PAGES);
    if (rc == SQLITE_OK)
        return 1;
    if (rc != SQLITE_DONE)
        return error_set(err, (rc & 0xff) == SQLITE_FULL ? -ENOSPC : -EIO,
                         "the copy of the catalog: %s", sqlite3_errstr(rc));
    rc = sqlite3_backup_finish(i->backup);
    i->backup = NULL;
    return rc == SQLITE_OK ? 0 : failed(i, rc, err);
}

void image_end(struct image *i)
{
    sqlite3_backup_finish(i->backup);
    sqlite3_close(i->to);
    *i = (struct image){0};
}
