/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/admin_client.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/thread.h"

static void takes_answers_apart(void **state)
{
    static const char *const bad[] = {
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}{",
        "HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 20000000000\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\n\r\n{}",
        "HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 20\r\n\r\n",
        "HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    };
    unsigned status = 7;
    struct slice body;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        if (admin_client_parse(slice_str(bad[i]), &status, &body))
            fail_msg("taken: %s", bad[i]);
    assert_int_equal(status, 7);
    assert_true(admin_client_parse(
        SLICE("HTTP/1.1 404 Not Found\r\nX: y\r\ncontent-length:  2 \r\nZ:\r\n\r\n{}"), &status,
        &body));
    assert_int_equal(status, 404);
    assert_true(slice_eq(body, SLICE("{}")));
}

static int call(const char *dir, const char *noun, const char *verb, unsigned *status,
                struct buf *body, struct error *err)
{
    const struct admin_client_request r = {
        .noun = noun, .verb = verb, .type = "application/json", .body = SLICE("{}")};
    return admin_client_call(dir, &r, status, body, err);
}

struct peer {
    int listener;
    const char *answer;
    char request[1000];
};

static void serve_one(void *arg)
{
    struct peer *p = arg;
    int fd = accept(p->listener, NULL, NULL);
    size_t len = 0;
    while (!strstr(p->request, "\r\n\r\n{}")) {
        ssize_t n = recv(fd, p->request + len, sizeof p->request - 1 - len, 0);
        assert_true(n > 0);
        len += (size_t)n;
    }
    for (const char *at = p->answer; *at; at++) /* as slowly as may be */
        assert_int_equal(send(fd, at, 1, MSG_NOSIGNAL), 1);
    close(fd);
}

static void asks_over_the_socket(void **state)
{
    char dir[] = "/tmp/sluice-client-test-XXXXXX";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct error err;
    struct buf body;
    unsigned status;
    buf_init(&body, 1000);
    assert_non_null(mkdtemp(dir));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/admin.sock", dir);
    assert_int_equal(call(dir, "a", "b", &status, &body, &err), -ENOENT);

    struct peer p = {.listener = socket(AF_UNIX, SOCK_STREAM, 0),
                     .answer = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}"};
    assert_int_equal(bind(p.listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(call(dir, "a", "b", &status, &body, &err), -ECONNREFUSED);
    assert_int_equal(listen(p.listener, 1), 0);
    pthread_t thread = thread_start("peer", serve_one, &p);
    assert_int_equal(call(dir, "key", "add", &status, &body, &err), 0);
    pthread_join(thread, NULL);
    assert_int_equal(status, 200);
    assert_true(slice_eq(buf_slice(&body), SLICE("{\"a\":1}")));
    assert_non_null(strstr(p.request, "POST /v1/admin/key/add HTTP/1.1\r\nHost: "));
    assert_non_null(strstr(p.request, "\r\nContent-Length: 2\r\n"));
    assert_non_null(strstr(p.request, "\r\nConnection: close\r\n"));

    p = (struct peer){.listener = p.listener,
                      .answer = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{"};
    thread = thread_start("peer", serve_one, &p);
    assert_int_equal(call(dir, "key", "add", &status, &body, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "unknown"));
    pthread_join(thread, NULL);
    close(p.listener);
    unlink(address.sun_path);
    rmdir(dir);
    buf_fini(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_answers_apart),
        cmocka_unit_test(asks_over_the_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
