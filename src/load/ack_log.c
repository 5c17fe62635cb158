/* SPDX-License-Identifier: Apache-2.0 */
#include "load/ack_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

int ack_log_open(const char *path, int *ret_fd, struct error *err)
{
    *ret_fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (path && *ret_fd < 0)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    return 0;
}

void ack_log_put(int fd, const struct feeds *feeds, const struct ack *ack)
{
    char value[TEMPLATE_SEQ_DIGITS];
    struct buf line;
    struct slice id = fleet_id(feeds->fleet, ack->device);
    template_sequence(value, ack->sequence);
    buf_init(&line, LINE_MAX_BYTES);
    buf_put_dec(&line, ack->sequence);
    buf_put_u8(&line, ' ');
    buf_put_slice(&line, id.len ? id : SLICE("-"));
    buf_put_u8(&line, ' ');
    feeds_name(feeds, ack->feed, &line);
    buf_printf(&line, " %.*s %.*s\n", TEMPLATE_SEQ_DIGITS, value,
               SLICE_ARG(ack->offset.len ? ack->offset : SLICE("-")));
    if (line.failed || write(fd, line.ptr, line.len) != (ssize_t)line.len) {
        fprintf(stderr, "sluice load: the ack log cannot be written\n");
        exit(1);
    }
    buf_fini(&line);
}
