/* SPDX-License-Identifier: Apache-2.0 */
#include "prof/scratch.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int scratch_open(struct scratch *s, struct error *err)
{
    *s = (struct scratch){.fd = memfd_create("profile", MFD_CLOEXEC)};
    if (s->fd < 0)
        return error_set(err, -errno, "no file in memory for the profile: %s", strerror(errno));
    snprintf(s->path, sizeof s->path, "/proc/self/fd/%d", s->fd);
    return 0;
}

size_t scratch_bytes(const struct scratch *s)
{
    struct stat st;
    return fstat(s->fd, &st) == 0 ? (size_t)st.st_size : 0;
}

struct slice scratch_read(struct scratch *s)
{
    size_t bytes = scratch_bytes(s);
    void *map = bytes ? mmap(NULL, bytes, PROT_READ, MAP_SHARED, s->fd, 0) : MAP_FAILED;
    if (map == MAP_FAILED)
        return (struct slice){0};
    s->map = map;
    s->map_bytes = bytes;
    return slice_of(map, bytes);
}

void scratch_close(struct scratch *s)
{
    if (s->map)
        munmap(s->map, s->map_bytes);
    if (s->fd >= 0)
        close(s->fd);
    *s = (struct scratch){.fd = -1};
}
