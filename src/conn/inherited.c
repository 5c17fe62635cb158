/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets that whoever started us has bound already and keeps while we restart, so that connections
 * queue meanwhile instead of being reset: systemd's protocol (sd_listen_fds(3)). Descriptors 3, 4,
 * ... are ours if LISTEN_PID is our process id; LISTEN_FDS says how many.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn/listener_private.h"

#define FIRST_FD      3
#define INHERITED_MAX 64

/* A whole number in the environment variable, or -1. */
static long number_in(const char *name)
{
    const char *text = getenv(name);
    char *end = NULL;
    if (!text || *text < '0' || *text > '9')
        return -1;
    errno = 0;
    long n = strtol(text, &end, 10);
    return errno || *end ? -1 : n;
}

/* Whether the socket listens at just that address. */
static bool listens_at(int fd, const struct sockaddr_storage *want, socklen_t want_len)
{
    struct sockaddr_storage at = {0};
    socklen_t len = sizeof at;
    int listening = 0;
    socklen_t size = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || !listening ||
        getsockname(fd, (struct sockaddr *)&at, &len) != 0 || at.ss_family != want->ss_family)
        return false;
    if (at.ss_family == AF_INET6) /* no flow label, no scope */
        return memcmp(&((const struct sockaddr_in6 *)&at)->sin6_addr,
                      &((const struct sockaddr_in6 *)want)->sin6_addr, 16) == 0 &&
               ((const struct sockaddr_in6 *)&at)->sin6_port ==
                   ((const struct sockaddr_in6 *)want)->sin6_port;
    return len == want_len && memcmp(&at, want, len) == 0;
}

int inherited_listener(const struct sockaddr_storage *at, socklen_t len)
{
    long count = number_in("LISTEN_FDS");
    if (count < 1 || count > INHERITED_MAX || number_in("LISTEN_PID") != (long)getpid())
        return -1;
    for (int fd = FIRST_FD; fd < FIRST_FD + (int)count; fd++) {
        if (!listens_at(fd, at, len))
            continue;
        int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (own >= 0 && fcntl(own, F_SETFL, fcntl(own, F_GETFL) | O_NONBLOCK) == 0)
            return own;
        if (own >= 0)
            close(own);
    }
    return -1;
}
