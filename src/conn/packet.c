/* SPDX-License-Identifier: Apache-2.0 */
#include "conn/packet.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"

#define BACKLOG  4
#define WAIT_MAX 8

static int make(const char *path, int flags, struct sockaddr_un *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof ret->sun_path)
        return -ENAMETOOLONG;
    memcpy(ret->sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
    return fd < 0 ? -errno : fd;
}

int packet_listen(const char *path, struct error *err)
{
    struct sockaddr_un address;
    int fd = make(path, SOCK_NONBLOCK, &address), rc = 0;
    if (fd < 0)
        return error_set(err, fd, "%s: %s", path, strerror(-fd));
    unlink(path);
    mode_t before = umask(0177);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, BACKLOG) != 0)
        rc = -errno;
    umask(before);
    if (rc) {
        close(fd);
        return error_set(err, rc, "%s: %s", path, strerror(-rc));
    }
    return fd;
}

int packet_accept(int listening)
{
    int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int packet_connect(const char *path)
{
    struct sockaddr_un address;
    int fd = make(path, SOCK_NONBLOCK, &address);
    if (fd < 0)
        return fd;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

void packet_close(int fd, const char *path)
{
    if (fd >= 0)
        close(fd);
    if (path)
        unlink(path);
}

static int poll_ms(uint64_t ns)
{
    uint64_t ms = (ns + NS_PER_MS - 1) / NS_PER_MS;
    return ms > 600000 ? 600000 : (int)ms;
}

int packet_send(int fd, const struct iovec *pieces, unsigned count, uint64_t ns)
{
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)pieces, .msg_iovlen = count};
    uint64_t until = clock_mono_ns() + ns;
    for (;;) {
        if (sendmsg(fd, &m, MSG_NOSIGNAL) >= 0)
            return 0;
        if (errno == EINTR)
            continue;
        uint64_t now = clock_mono_ns();
        if (errno != EAGAIN || now >= until)
            return -errno;
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        poll(&p, 1, poll_ms(until - now));
    }
}

ssize_t packet_receive(int fd, void *to, size_t max)
{
    struct iovec v = {to, max};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    ssize_t n;
    do
        n = recvmsg(fd, &m, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return m.msg_flags & MSG_TRUNC ? -EMSGSIZE : n;
}

int packet_bell(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

void packet_ring(int bell)
{
    uint64_t one = 1;
    ssize_t n = write(bell, &one, sizeof one); /* one that is full rings already */
    (void)n;
}

void packet_wait(const int *fds, unsigned count, int bell, uint64_t ns)
{
    struct pollfd p[WAIT_MAX];
    uint64_t rung;
    CHECK(count < WAIT_MAX);
    for (unsigned i = 0; i < count; i++)
        p[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    p[count] = (struct pollfd){.fd = bell, .events = POLLIN};
    poll(p, count + 1, poll_ms(ns));
    if (bell >= 0 && read(bell, &rung, sizeof rung) < 0)
        CHECK(errno == EAGAIN || errno == EINTR);
}
