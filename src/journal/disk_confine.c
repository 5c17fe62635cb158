/* SPDX-License-Identifier: Apache-2.0 */
/* Landlock: a process gives up rights for good. Written down here is what Debian 12's headers lack.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "journal/disk.h"

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif

/* All that changes files and names, as far as this kernel knows it. */
static uint64_t changes(long version)
{
    uint64_t all = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                   LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
                   LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                   LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                   LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;
    all |= version >= 2 ? LANDLOCK_ACCESS_FS_REFER : 0;
    return all | (version >= 3 ? LANDLOCK_ACCESS_FS_TRUNCATE : 0);
}

static int confine(const char *dir, uint64_t rights)
{
    const struct landlock_ruleset_attr attr = {.handled_access_fs = rights};
    struct landlock_path_beneath_attr beneath = {.allowed_access = rights};
    int rc = 0;
    int rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    if (rules < 0)
        return -errno;
    beneath.parent_fd = open(dir, O_PATH | O_CLOEXEC);
    if (beneath.parent_fd < 0 ||
        syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) != 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_landlock_restrict_self, rules, 0) != 0)
        rc = -errno;
    if (beneath.parent_fd >= 0)
        close(beneath.parent_fd);
    close(rules);
    return rc;
}

int disk_confine(const char *dir)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return version < 1 ? -EOPNOTSUPP : confine(dir, changes(version));
}
