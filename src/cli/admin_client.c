/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one place outside conn/ with a socket: this is another program's end of it, without a loop,
 * and waiting is all it has to do.
 */
#include "cli/admin_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_BYTES_MAX ((size_t)256 << 20)
#define WAIT_SECONDS     120 /* longer than any hash or barrier may take */

static int client_connect(const char *dir, int *ret_fd, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(address.sun_path, sizeof address.sun_path, "%s/admin.sock", dir);
    if (n < 0 || (size_t)n >= sizeof address.sun_path)
        return -ENOENT; /* too long to be listened on, so nobody does */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, -errno, "no socket: %s", strerror(errno));
    struct timeval wait = {.tv_sec = WAIT_SECONDS};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int rc = error_set(err, -errno, "%s: %s", address.sun_path, strerror(errno));
        close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

static int send_all(int fd, struct slice bytes)
{
    while (bytes.len) {
        ssize_t n = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            bytes = slice_from(bytes, (size_t)n);
    }
    return 0;
}

/* Up to the end of the connection, which is the end of the answer. */
static int receive_all(int fd, struct buf *answer)
{
    for (;;) {
        char *to = buf_reserve(answer, 65536);
        if (!to)
            return -EMSGSIZE;
        ssize_t n = recv(fd, to, 65536, 0);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        if (n > 0)
            answer->len += (size_t)n;
    }
}

/* The value of field `name` in the header, or nothing. */
static struct slice header_field(struct slice head, struct slice name)
{
    while (head.len) {
        const char *end = memmem(head.ptr, head.len, "\r\n", 2);
        size_t len = end ? (size_t)(end - head.ptr) : head.len;
        struct slice line = slice_of(head.ptr, len);
        if (line.len > name.len && line.ptr[name.len] == ':' &&
            slice_eq_nocase(slice_of(line.ptr, name.len), name))
            return slice_trim(slice_from(line, name.len + 1));
        head = slice_from(head, len + 2);
    }
    return (struct slice){0};
}

bool admin_client_parse(struct slice answer, unsigned *ret_status, struct slice *ret_body)
{
    const char *end = answer.ptr ? memmem(answer.ptr, answer.len, "\r\n\r\n", 4) : NULL;
    if (!end || !slice_starts(answer, SLICE("HTTP/1.1 ")) || end - answer.ptr < 12)
        return false;
    unsigned status = 0;
    for (unsigned i = 9; i < 12; i++) {
        if (answer.ptr[i] < '0' || answer.ptr[i] > '9')
            return false;
        status = status * 10 + (unsigned)(answer.ptr[i] - '0');
    }
    struct slice head = slice_of(answer.ptr, (size_t)(end - answer.ptr));
    struct slice body = slice_from(answer, head.len + 4);
    struct slice length = header_field(head, SLICE("content-length"));
    size_t want = 0;
    if (!length.len || length.len > 10)
        return false;
    for (size_t i = 0; i < length.len; i++) {
        if (length.ptr[i] < '0' || length.ptr[i] > '9')
            return false;
        want = want * 10 + (size_t)(length.ptr[i] - '0');
    }
    if (body.len != want)
        return false;
    *ret_status = status;
    *ret_body = body;
    return true;
}

int admin_client_call(const char *dir, const struct admin_client_request *r, unsigned *ret_status,
                      struct buf *ret_body, struct error *err)
{
    int fd = -1;
    int rc = client_connect(dir, &fd, err);
    if (rc)
        return rc;
    struct buf request, answer;
    struct slice part;
    buf_init(&request, r->body.len + r->query.len + 1000);
    buf_init(&answer, ANSWER_BYTES_MAX);
    buf_printf(&request, "POST /v1/admin/%s/%s", r->noun, r->verb);
    buf_put_slice(&request, r->query);
    buf_printf(&request,
               " HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
               "Connection: close\r\n\r\n",
               r->type, r->body.len);
    buf_put_slice(&request, r->body);
    rc = request.failed ? -ENOMEM : send_all(fd, buf_slice(&request));
    /* A refusal may come before all was sent; what is there to read counts more. */
    int rc_receive = rc == 0 || rc == -EPIPE ? receive_all(fd, &answer) : 0;
    if (rc_receive || (rc && rc != -EPIPE))
        rc = error_set(err, rc_receive ? rc_receive : rc,
                       "the server did not answer (%s): whether it was done is unknown",
                       strerror(rc_receive ? -rc_receive : -rc));
    else if (!admin_client_parse(buf_slice(&answer), ret_status, &part))
        rc = error_set(err, -EBADMSG,
                       "the server's answer was cut short: whether it was done is unknown");
    else if (rc = 0, buf_put_slice(ret_body, part), ret_body->failed)
        rc = error_set(err, -ENOMEM, "no memory for the answer");
    if (request.ptr)
        explicit_bzero(request.ptr, request.len); /* it may hold a secret */
    buf_fini(&request);
    buf_fini(&answer);
    close(fd);
    return rc;
}
