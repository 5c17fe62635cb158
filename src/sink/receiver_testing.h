/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/receiver_testing.h - a web server for unit tests of what posts to one: a thread per
 * connection, answers by a function of the test. For one test program; included once.
 */
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#define RECEIVER_REQUEST_MAX (2 << 20)
#define RECEIVER_SEEN_MAX    4096

struct receiver_request {
    char *head, *body; /* texts */
};

struct receiver {
    int fd;
    uint16_t port;
    /* What is sent back, all of it; the body's length must be said. *close: and then it is ended.
     * NULL: nothing, until the receiver ends. Under the lock. */
    const char *(*answer)(struct receiver *r, const struct receiver_request *q, bool *close);
    void *arg;
    pthread_mutex_t lock;
    pthread_t thread;
    pthread_t connections[RECEIVER_SEEN_MAX];
    unsigned connected;
    struct receiver_request seen[RECEIVER_SEEN_MAX]; /* requests, in the order of their ends */
    unsigned count, under_way, under_way_max;
    atomic_bool over;
};

struct receiver_connection {
    struct receiver *r;
    int fd;
};

/* Waits until there is something to read; false: the receiver ends. */
static bool receiver_readable(struct receiver *r, int fd)
{
    while (!atomic_load(&r->over)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 20) > 0)
            return true;
    }
    return false;
}

/* The next request of the connection, NULL head: there is none. */
static struct receiver_request receiver_read(struct receiver *r, int fd, char *bytes)
{
    size_t len = 0;
    struct receiver_request q = {0};
    while (len < RECEIVER_REQUEST_MAX && receiver_readable(r, fd)) {
        ssize_t n = recv(fd, bytes + len, RECEIVER_REQUEST_MAX - len, 0);
        if (n <= 0)
            return q;
        len += (size_t)n;
        bytes[len] = 0;
        char *end = strstr(bytes, "\r\n\r\n");
        const char *said = end ? strcasestr(bytes, "\r\nContent-Length:") : NULL;
        size_t body = said && said < end ? strtoul(said + 17, NULL, 10) : 0;
        if (!end || len < (size_t)(end - bytes) + 4 + body)
            continue;
        q.head = strndup(bytes, (size_t)(end - bytes) + 2);
        q.body = strndup(end + 4, body);
        return q;
    }
    return q;
}

static void *receiver_serve(void *arg)
{
    struct receiver_connection *c = arg;
    struct receiver *r = c->r;
    char *bytes = malloc(RECEIVER_REQUEST_MAX + 1);
    bool end = false;
    while (!end) {
        struct receiver_request q = receiver_read(r, c->fd, bytes);
        if (!q.head)
            break;
        pthread_mutex_lock(&r->lock);
        assert_true(r->count < RECEIVER_SEEN_MAX);
        r->seen[r->count++] = q;
        r->under_way++;
        if (r->under_way > r->under_way_max)
            r->under_way_max = r->under_way;
        const char *said = r->answer(r, &q, &end);
        char *answer = said ? strdup(said) : NULL;
        pthread_mutex_unlock(&r->lock);
        usleep(2000); /* so that requests meet */
        pthread_mutex_lock(&r->lock);
        r->under_way--;
        pthread_mutex_unlock(&r->lock);
        if (!answer) {
            while (!atomic_load(&r->over))
                usleep(5000);
            break;
        }
        send(c->fd, answer, strlen(answer), MSG_NOSIGNAL);
        free(answer);
    }
    close(c->fd);
    free(bytes);
    free(c);
    return NULL;
}

static void *receiver_run(void *arg)
{
    struct receiver *r = arg;
    while (receiver_readable(r, r->fd)) {
        struct receiver_connection *c = malloc(sizeof *c);
        c->r = r;
        c->fd = accept(r->fd, NULL, NULL);
        pthread_mutex_lock(&r->lock);
        assert_true(r->connected < RECEIVER_SEEN_MAX);
        pthread_create(&r->connections[r->connected++], NULL, receiver_serve, c);
        pthread_mutex_unlock(&r->lock);
    }
    return NULL;
}

static struct receiver *
receiver_start(const char *(*answer)(struct receiver *, const struct receiver_request *, bool *),
               void *arg)
{
    struct receiver *r = calloc(1, sizeof *r);
    struct sockaddr_in in = {.sin_family = AF_INET};
    socklen_t len = sizeof in;
    r->answer = answer;
    r->arg = arg;
    r->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(r->fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(r->fd, 100), 0);
    assert_int_equal(getsockname(r->fd, (struct sockaddr *)&in, &len), 0);
    r->port = ntohs(in.sin_port);
    pthread_mutex_init(&r->lock, NULL);
    pthread_create(&r->thread, NULL, receiver_run, r);
    return r;
}

/* What the test has written is seen by the receiver from now on, and the other way round. */
static void receiver_meet(struct receiver *r)
{
    pthread_mutex_lock(&r->lock);
    pthread_mutex_unlock(&r->lock);
}

/* How many requests have come. */
static unsigned receiver_count(struct receiver *r)
{
    pthread_mutex_lock(&r->lock);
    unsigned count = r->count;
    pthread_mutex_unlock(&r->lock);
    return count;
}

static void receiver_stop(struct receiver *r)
{
    atomic_store(&r->over, true);
    pthread_join(r->thread, NULL);
    for (unsigned i = 0; i < r->connected; i++)
        pthread_join(r->connections[i], NULL);
    for (unsigned i = 0; i < r->count; i++) {
        free(r->seen[i].head);
        free(r->seen[i].body);
    }
    close(r->fd);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* A header's value, in storage of this call's until the next one of this thread; NULL: not there.
 */
static const char *receiver_header(const struct receiver_request *q, const char *name)
{
    static _Thread_local char value[4096];
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\r\n%s: ", name);
    const char *at = strcasestr(q->head, wanted);
    if (!at)
        return NULL;
    at += strlen(wanted);
    size_t len = strcspn(at, "\r");
    snprintf(value, sizeof value, "%.*s", (int)len, at);
    return value;
}
