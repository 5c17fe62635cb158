/* SPDX-License-Identifier: Apache-2.0 */
/* A backup of an empty data directory, on a disk that fails at chosen places. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "backup/offline.h"
#include "backup/write.c"

/* The machine's, which cannot make the list's name durable. */
static int no_sync_of_list(struct disk *d, const char *path)
{
    char list_path[PATH_MAX];
    snprintf(list_path, sizeof list_path, "%s/" MANIFEST_NAME, path);
    return access(list_path, F_OK) == 0 ? -EIO : disk_posix()->sync_dir(d, path);
}

static void what_fails_at_the_end_is_no_backup(void **state)
{
    (void)state;
    char home[] = "/tmp/sluice_write_XXXXXX", data[64], to[64], path[PATH_MAX];
    struct error err = {""};
    struct backup_source source;
    struct backup_staged staged;
    struct manifest m;
    struct disk failing = *disk_posix();
    assert_non_null(mkdtemp(home));
    snprintf(data, sizeof data, "%s/data", home);
    snprintf(to, sizeof to, "%s/to", home);
    assert_int_equal(disk_posix()->mkdir(disk_posix(), data), 0);
    const struct backup_offline_opts opts = {.disk = disk_posix(),
                                             .data = data,
                                             .journal.segment_bytes = 4u << 20,
                                             .history_open_max = 1u << 20,
                                             .history_cache_bytes = 1u << 20};
    if (backup_offline_open(&opts, &source, &err) || backup_stage(&source, &staged, &err))
        fail_msg("%s", err.text);
    failing.sync_dir = no_sync_of_list;
    struct backup_write_opts write = {
        .disk = &failing, .data = data, .to = to, .version = "0.1.0", .staged = &staged};
    assert_int_equal(backup_write(&write, &m, &err), -EIO);
    snprintf(path, sizeof path, "%s/" MANIFEST_NAME, to);
    assert_int_equal(access(path, F_OK), -1);
    write.disk = disk_posix(); /* the directory is as it was: it can be used again */
    if (backup_write(&write, &m, &err))
        fail_msg("%s", err.text);
    assert_int_equal(access(path, F_OK), 0);
    manifest_fini(&m);
    backup_offline_close(&source);
    assert_int_equal(disk_remove_tree(disk_posix(), home), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fails_at_the_end_is_no_backup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
