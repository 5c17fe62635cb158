/* SPDX-License-Identifier: Apache-2.0 */
#include "conn/descriptors.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

void descriptors_reserve(unsigned long wanted)
{
    struct rlimit limit;
    if (!wanted || getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    if (limit.rlim_cur < wanted) { /* the usual soft limit is 1024 */
        limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    unsigned long most = wanted < limit.rlim_cur ? wanted : limit.rlim_cur;
    int any = eventfd(0, EFD_CLOEXEC);
    if (any < 0)
        return;
    int last = fcntl(any, F_DUPFD_CLOEXEC, (int)(most - 1));
    if (last >= 0)
        close(last);
    close(any);
}
