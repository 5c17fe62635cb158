/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a POST costs by libcurl itself, by sink/posts.c and by the webhook sink's functions, with
 * the same body and headers and as many under way; bench/webhook_bench.py starts a receiver and
 * runs it. build/bench/webhook_bench URL CONNECTIONS REQUESTS SECRET_FILE ROUNDS [KIND]
 *
 * poll: a loop as libcurl's manual has it (curl_multi_poll, curl_multi_perform), of handles whose
 * settings are made once. socket: the same with curl_multi_socket_action. posts: sink/posts.c.
 * sink: batches of 256 messages through the sink's functions, each message built, signed and
 * judged. One KIND, or all by turns.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "codec/address.h"
#include "sink/posts.h"
#include "sink/webhook.h"
#include "used.h"

#define MOST       64u
#define BATCH      256u
#define TIMEOUT_NS (15 * NS_PER_S)

static const char body[] =
    "{\"type\":\"datum.created\",\"timestamp\":\"2026-11-29T08:00:00.250000Z\",\"data\":{"
    "\"account\":"
    "\"acme\",\"feed\":\"truck-17\",\"feed_id\":4,\"device\":\"acme-dev\",\"id\":"
    "\"06E1PZ8X7C0000000000000001\",\"created_at\":\"2026-11-29T08:00:00.250000Z\",\"value\":"
    "\"21.50\",\"number\":21.50}}";
static const char *const headers[] = {
    "webhook-id: msg_0123456789abcdef0123456789abcdef_1234567", "webhook-timestamp: 1795944000",
    "webhook-signature: v1,YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="};

static const char *url;
static unsigned at_once;

/* ---- libcurl ----------------------------------------------------------------------------------
 */

struct loop {
    CURLM *multi;
    CURL *easy[MOST];
    struct curl_slist *list;
    uint64_t left, over;
    int epoll;
    long due_ms; /* -1: never */
    uint64_t due_from_ns;
};

static size_t on_bytes(char *bytes, size_t size, size_t count, void *owner)
{
    return size * count;
}

static int on_watch(CURL *easy, curl_socket_t fd, int what, void *owner, void *watched)
{
    struct loop *l = owner;
    struct epoll_event e = {.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) |
                                      (what & CURL_POLL_OUT ? EPOLLOUT : 0u),
                            .data.fd = fd};
    if (what == CURL_POLL_REMOVE)
        return epoll_ctl(l->epoll, EPOLL_CTL_DEL, fd, NULL), 0;
    CHECK(epoll_ctl(l->epoll, watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e) == 0);
    curl_multi_assign(l->multi, fd, l);
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *owner)
{
    struct loop *l = owner;
    l->due_ms = ms;
    l->due_from_ns = clock_mono_ns();
    return 0;
}

static void loop_open(struct loop *l, uint64_t requests, bool by_socket)
{
    *l = (struct loop){.multi = curl_multi_init(), .left = requests, .epoll = -1, .due_ms = -1};
    CHECK(l->multi);
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        l->list = curl_slist_append(l->list, headers[i]);
    l->list = curl_slist_append(l->list, "Content-Type: application/json");
    if (by_socket) {
        l->epoll = epoll_create1(EPOLL_CLOEXEC);
        curl_multi_setopt(l->multi, CURLMOPT_SOCKETFUNCTION, on_watch);
        curl_multi_setopt(l->multi, CURLMOPT_SOCKETDATA, l);
        curl_multi_setopt(l->multi, CURLMOPT_TIMERFUNCTION, on_timer);
        curl_multi_setopt(l->multi, CURLMOPT_TIMERDATA, l);
    }
    for (unsigned i = 0; i < at_once && l->left; i++, l->left--) {
        CURL *e = l->easy[i] = curl_easy_init();
        curl_easy_setopt(e, CURLOPT_URL, url);
        curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1l);
        curl_easy_setopt(e, CURLOPT_HTTPHEADER, l->list);
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
        curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_bytes);
        curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)(TIMEOUT_NS / NS_PER_MS));
        CHECK(curl_multi_add_handle(l->multi, e) == CURLM_OK);
    }
}

static void loop_close(struct loop *l)
{
    for (unsigned i = 0; i < MOST; i++)
        if (l->easy[i])
            curl_easy_cleanup(l->easy[i]);
    curl_multi_cleanup(l->multi);
    curl_slist_free_all(l->list);
    if (l->epoll >= 0)
        close(l->epoll);
}

/* Handles that are done begin anew. */
static void turn(struct loop *l)
{
    int more;
    for (CURLMsg *m; (m = curl_multi_info_read(l->multi, &more));) {
        CURL *e = m->easy_handle;
        long status = 0;
        curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status);
        CHECK(m->msg == CURLMSG_DONE && m->data.result == CURLE_OK && status / 100 == 2);
        curl_multi_remove_handle(l->multi, e);
        l->over++;
        if (!l->left)
            continue;
        l->left--;
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(e, CURLOPT_HTTPHEADER, l->list);
        CHECK(curl_multi_add_handle(l->multi, e) == CURLM_OK);
    }
}

static void by_poll(const char *kind, uint64_t requests)
{
    struct loop l;
    int running;
    struct used begun = used_now();
    loop_open(&l, requests, false);
    while (l.over < requests) {
        CHECK(curl_multi_perform(l.multi, &running) == CURLM_OK);
        turn(&l);
        if (running)
            curl_multi_poll(l.multi, NULL, 0, 1000, NULL);
    }
    used_report(kind, requests, "requests", begun);
    loop_close(&l);
}

static void by_socket(const char *kind, uint64_t requests)
{
    struct loop l;
    struct epoll_event ready[MOST];
    int running;
    struct used begun = used_now();
    loop_open(&l, requests, true);
    while (l.over < requests) {
        long passed = (long)((clock_mono_ns() - l.due_from_ns) / NS_PER_MS);
        int ms = l.due_ms < 0 ? 1000 : l.due_ms > passed ? (int)(l.due_ms - passed) : 0;
        int n = epoll_wait(l.epoll, ready, MOST, ms);
        for (int i = 0; i < n; i++)
            curl_multi_socket_action(l.multi, ready[i].data.fd,
                                     (ready[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
                                         (ready[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0),
                                     &running);
        if (l.due_ms >= 0 && clock_mono_ns() >= l.due_from_ns + (uint64_t)l.due_ms * NS_PER_MS) {
            l.due_ms = -1;
            curl_multi_socket_action(l.multi, CURL_SOCKET_TIMEOUT, 0, &running);
        }
        turn(&l);
    }
    used_report(kind, requests, "requests", begun);
    loop_close(&l);
}

/* ---- ours -------------------------------------------------------------------------------------
 */

static struct cidr loopback = {.net.bytes = {[10] = 0xff, [11] = 0xff, [12] = 127}, .bits = 104};

static void by_posts(const char *kind, uint64_t requests)
{
    struct posts_opts opts = {.at_once = at_once,
                              .timeout_ns = TIMEOUT_NS,
                              .allowed = &loopback,
                              .allowed_count = 1,
                              .ca_file = ""};
    static struct post all[MOST];
    struct posts *p = posts_new(&opts);
    uint64_t left = requests, over = 0;
    struct used begun = used_now();
    for (unsigned i = 0; i < at_once && left; i++, left--) {
        all[i] = (struct post){
            .url = url, .headers = {headers[0], headers[1], headers[2]}, .body = SLICE(body)};
        posts_start(p, &all[i]);
    }
    while (over < requests) {
        struct post *post = posts_next(p);
        if (!post) {
            posts_wait(p, NS_PER_S);
            continue;
        }
        CHECK(post->end == POST_ANSWERED && post->status / 100 == 2);
        over++;
        if (left && left--)
            posts_start(p, post);
    }
    used_report(kind, requests, "requests", begun);
    posts_free(p);
}

static void by_sink(const char *kind, uint64_t requests, const char *secret_file)
{
    struct webhook_opts opts = {.url = url,
                                .secret_file = secret_file,
                                .ca_file = "",
                                .allowed = &loopback,
                                .allowed_count = 1,
                                .batch_max = 1,
                                .messages_max = BATCH,
                                .at_once = at_once,
                                .timeout_ns = TIMEOUT_NS};
    struct error err = {""};
    struct buf payload;
    struct datum d = {.value = SLICE("21.50")};
    void *w;
    uint64_t position = 0;
    struct sink_message m[BATCH];
    buf_init(&payload, 4096);
    datum_encode(&payload, &d);
    if (webhook_new(&opts, &w, &err) < 0 || webhook_ops.open(w, &position, &err) != SINK_DONE) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    struct used begun = used_now();
    for (uint64_t at = 0; at < requests; at += BATCH) {
        for (unsigned i = 0; i < BATCH; i++) {
            int64_t now_us = clock_wall_us();
            m[i] = (struct sink_message){
                .offset = at + i,
                .record = {.kind = RECORD_DATUM,
                           .account = 7,
                           .feed = 4,
                           .event_us = now_us,
                           .receive_us = now_us,
                           .payload = buf_slice(&payload)},
                .names = {SLICE("acme"), SLICE("truck-17"), SLICE("acme-dev")}};
        }
        struct sink_batch b = {at, at + BATCH, m, BATCH, false};
        if (webhook_ops.send(w, &b, &err) != SINK_DONE) {
            fprintf(stderr, "%s\n", err.text);
            exit(1);
        }
    }
    used_report(kind, requests, "requests", begun);
    webhook_ops.close(w);
    webhook_ops.free(w);
    buf_fini(&payload);
}

int main(int argc, char **argv)
{
    static const char *const kinds[] = {"poll", "socket", "posts", "sink"};
    if (argc < 6) {
        fprintf(stderr,
                "usage: webhook_bench URL CONNECTIONS REQUESTS SECRET_FILE ROUNDS [KIND]\n");
        return 2;
    }
    url = argv[1];
    at_once = (unsigned)strtoul(argv[2], NULL, 10);
    uint64_t requests = strtoull(argv[3], NULL, 10) / BATCH * BATCH;
    CHECK(at_once && at_once <= MOST && requests);
    CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    for (unsigned long round = strtoul(argv[5], NULL, 10); round; round--)
        for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
            if (argc > 6 && strcmp(argv[6], kinds[i]) != 0)
                continue;
            if (i == 0)
                by_poll(kinds[i], requests);
            else if (i == 1)
                by_socket(kinds[i], requests);
            else if (i == 2)
                by_posts(kinds[i], requests);
            else
                by_sink(kinds[i], requests, argv[4]);
        }
    return 0;
}
