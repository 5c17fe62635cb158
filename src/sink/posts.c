/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a connection goes is decided when its socket is made (on_socket): that is behind every
 * resolution, so that a name which means something else a moment later gains nothing. on_connected
 * looks once more before a request is sent, over kept connections too.
 *
 * libcurl 7.88: a handle whose name is still being resolved waits for the resolver's thread when it
 * is removed, and with it everything else here, unless CURLOPT_QUICK_EXIT is set. MAXFILESIZE only
 * believes Content-Length, so bytes are counted here. TIMEOUT covers all of a transfer.
 *
 * libcurl is told which sockets are ready (curl_multi_socket_action). With curl_multi_perform it
 * would ask the kernel about each of them, each time. Handles keep their settings: making all of
 * them anew cost as much as the rest of a request.
 */
#include "sink/posts.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"

#define CONNECT_MAX_NS (10 * NS_PER_S)
#define IDLE_CONN_S    60l
#define READY_MAX      64 /* sockets that are looked at together */

struct posts {
    struct posts_opts opts;
    CURLM *multi;
    CURL **idle; /* handles, to be used again */
    unsigned idle_count, running;
    struct curl_slist *resolve;
    int epoll, wake;                     /* wake: posts_wake, an eventfd */
    struct epoll_event ready[READY_MAX]; /* told by the kernel, not yet to libcurl */
    int ready_at, ready_count;
    bool woken;      /* by posts_wake, and posts_wait has not returned for it yet */
    uint64_t due_ns; /* when libcurl wants to be called though nothing is ready; 0: never */
};

/* ---- addresses ------------------------------------------------------------------------------- */

static bool may_connect(const struct posts *p, const struct address *a)
{
    return !address_is_special(a) || cidr_covers(p->opts.allowed, p->opts.allowed_count, a);
}

static bool address_of(const struct sockaddr *s, struct address *ret)
{
    static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};
    if (s->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, s, sizeof in);
        memcpy(ret->bytes, v4, sizeof v4);
        memcpy(ret->bytes + 12, &in.sin_addr, 4);
        return true;
    }
    if (s->sa_family != AF_INET6)
        return false;
    struct sockaddr_in6 in6;
    memcpy(&in6, s, sizeof in6);
    memcpy(ret->bytes, &in6.sin6_addr, 16);
    return true;
}

static curl_socket_t on_socket(void *owner, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct post *post = owner;
    struct address a = {0};
    if (purpose != CURLSOCKTYPE_IPCXN || !address_of(&to->addr, &a) ||
        !may_connect(post->posts, &a)) {
        post->forbidden = true;
        return CURL_SOCKET_BAD;
    }
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

static int on_connected(void *owner, char *address, char *local, int port, int local_port)
{
    struct post *post = owner;
    struct address a;
    if (address_parse(slice_str(address), &a) && may_connect(post->posts, &a)) {
        post->connected = true;
        return CURL_PREREQFUNC_OK;
    }
    post->forbidden = true;
    return CURL_PREREQFUNC_ABORT;
}

/* ---- answers --------------------------------------------------------------------------------- */

static size_t on_head(char *bytes, size_t size, size_t count, void *owner)
{
    struct post *post = owner;
    post->head_bytes += size * count;
    if (post->head_bytes <= POST_ANSWER_MAX)
        return size * count;
    post->too_long = true;
    return 0;
}

/* Keeps what it begins with, as text that can be shown anywhere. */
static size_t on_body(char *bytes, size_t size, size_t count, void *owner)
{
    struct post *post = owner;
    size_t n = size * count, at = post->body_bytes;
    for (size_t i = 0; i < n && at + i < POST_ANSWER_KEPT; i++) {
        bool plain = bytes[i] >= ' ' && bytes[i] < 127;
        post->answer[at + i] = bytes[i];
        if (!plain)
            post->answer[at + i] = bytes[i] == '\n' || bytes[i] == '\t' ? ' ' : '?';
    }
    post->body_bytes += n;
    if (post->body_bytes <= POST_ANSWER_MAX)
        return n;
    post->too_long = true;
    return 0;
}

static void conclude(struct posts *p, struct post *post, CURLcode code)
{
    CURL *easy = post->easy;
    long status = 0;
    curl_off_t retry_s = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &retry_s);
    post->took_ns = clock_mono_ns() - post->begun_ns;
    post->status = status >= 200 ? (unsigned)status : 0;
    /* Who said enough before he said too much has answered. */
    bool answered = post->status && (code == CURLE_OK || (post->too_long && post->body_bytes));
    post->end = answered                                              ? POST_ANSWERED
                : post->forbidden                                     ? POST_FORBIDDEN
                : code == CURLE_OPERATION_TIMEDOUT && post->connected ? POST_TIMED_OUT
                                                                      : POST_FAILED;
    if (answered && retry_s > 0)
        post->retry_after_ns =
            (uint64_t)(retry_s < POST_RETRY_MAX_S ? retry_s : POST_RETRY_MAX_S) * NS_PER_S;
    if (answered)
        snprintf(post->why, sizeof post->why, "HTTP %u%s%s", post->status,
                 post->answer[0] ? ": " : "", post->answer);
    else if (post->forbidden)
        snprintf(post->why, sizeof post->why,
                 "its address is not on the internet and not in webhook.allow");
    else
        snprintf(post->why, sizeof post->why, "%s",
                 post->too_long ? "its answer's head is too long" : curl_easy_strerror(code));
}

/* ---- sockets that are ready ------------------------------------------------------------------ */

static int on_watch(CURL *easy, curl_socket_t fd, int what, void *owner, void *watched)
{
    struct posts *p = owner;
    struct epoll_event e = {.data.fd = fd};
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
        e.events |= EPOLLIN;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
        e.events |= EPOLLOUT;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(p->epoll, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    CHECK(epoll_ctl(p->epoll, watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e) == 0);
    curl_multi_assign(p->multi, fd, p);
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *owner)
{
    ((struct posts *)owner)->due_ns = ms < 0 ? 0 : clock_mono_ns() + (uint64_t)ms * NS_PER_MS;
    return 0;
}

static int bits_of(uint32_t events)
{
    return (events & EPOLLIN ? CURL_CSELECT_IN : 0) | (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
           (events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
}

/* Asks the kernel, and waits at most that long. */
static void look(struct posts *p, int ms)
{
    uint64_t woken;
    int n = epoll_wait(p->epoll, p->ready, READY_MAX, ms);
    p->ready_at = p->ready_count = 0;
    for (int i = 0; i < n; i++) {
        if (p->ready[i].data.fd == p->wake)
            p->woken = read(p->wake, &woken, sizeof woken) > 0;
        else
            p->ready[p->ready_count++] = p->ready[i];
    }
}

/* ---- one POST -------------------------------------------------------------------------------- */

/* A handle with all settings that no request has for its own. */
static CURL *make_easy(const struct posts *p)
{
    CURL *e = curl_easy_init();
    CHECK(e);
    uint64_t connect_ns = p->opts.timeout_ns < CONNECT_MAX_NS ? p->opts.timeout_ns : CONNECT_MAX_NS;
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_DISALLOW_USERNAME_IN_URL, 1l);
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0l);
    curl_easy_setopt(e, CURLOPT_PROXY, "");
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1l);
    curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1l);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)(p->opts.timeout_ns / NS_PER_MS));
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)(connect_ns / NS_PER_MS));
    curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, IDLE_CONN_S);
    if (p->opts.ca_file[0])
        curl_easy_setopt(e, CURLOPT_CAINFO, p->opts.ca_file);
    if (p->resolve)
        curl_easy_setopt(e, CURLOPT_RESOLVE, p->resolve);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, on_connected);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_POST, 1l);
    return e;
}

static struct curl_slist *add_header(struct curl_slist *list, const char *header)
{
    struct curl_slist *longer = curl_slist_append(list, header);
    CHECK(longer);
    return longer;
}

void posts_start(struct posts *p, struct post *post)
{
    CHECK(posts_room(p));
    CURL *e = p->idle_count ? p->idle[--p->idle_count] : make_easy(p);
    post->posts = p;
    post->easy = e;
    post->end = 0;
    post->status = 0;
    post->retry_after_ns = 0;
    post->head_bytes = post->body_bytes = 0;
    post->forbidden = post->connected = post->too_long = false;
    memset(post->answer, 0, sizeof post->answer);
    post->begun_ns = clock_mono_ns();
    struct curl_slist *list = add_header(NULL, "Content-Type: application/json");
    list = add_header(list, "Expect:"); /* no round trip of its own */
    for (unsigned i = 0; i < POST_HEADERS_MAX && post->headers[i]; i++)
        list = add_header(list, post->headers[i]);
    post->list = list;
    curl_easy_setopt(e, CURLOPT_URL, post->url);
    curl_easy_setopt(e, CURLOPT_POSTFIELDS, post->body.ptr);
    curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)post->body.len);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, list);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, post);
    curl_easy_setopt(e, CURLOPT_PREREQDATA, post);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, post);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, post);
    curl_easy_setopt(e, CURLOPT_PRIVATE, post);
    CHECK(curl_multi_add_handle(p->multi, e) == CURLM_OK);
    p->running++;
}

static void let_go(struct posts *p, struct post *post)
{
    curl_multi_remove_handle(p->multi, post->easy);
    p->idle[p->idle_count++] = post->easy;
    curl_slist_free_all(post->list);
    post->easy = post->list = NULL;
    p->running--;
}

/* One that libcurl is done with; NULL: none. */
static struct post *take_over(struct posts *p)
{
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(p->multi, &left));) {
        char *owner = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode code = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &owner);
        struct post *post = (void *)owner;
        conclude(p, post, code);
        let_go(p, post);
        return post;
    }
    return NULL;
}

struct post *posts_next(struct posts *p)
{
    int running;
    for (;;) {
        struct post *over = take_over(p);
        if (over)
            return over;
        if (p->due_ns && clock_mono_ns() >= p->due_ns) {
            p->due_ns = 0; /* it says when next */
            curl_multi_socket_action(p->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        } else if (p->ready_at < p->ready_count) {
            const struct epoll_event *e = &p->ready[p->ready_at++];
            curl_multi_socket_action(p->multi, e->data.fd, bits_of(e->events), &running);
        } else {
            look(p, 0);
            if (!p->ready_count)
                return NULL;
        }
    }
}

void posts_abandon(struct posts *p, struct post *post)
{
    let_go(p, post);
}

unsigned posts_room(const struct posts *p)
{
    return p->opts.at_once - p->running;
}

void posts_wait(struct posts *p, uint64_t ns)
{
    uint64_t now_ns = clock_mono_ns(), due_ns = p->due_ns;
    if (due_ns && due_ns < now_ns + ns)
        ns = due_ns > now_ns ? due_ns - now_ns : 0;
    if (!p->woken && p->ready_at == p->ready_count)
        look(p, ns ? (int)(ns / NS_PER_MS) + 1 : 0);
    p->woken = false;
}

void posts_wake(struct posts *p)
{
    uint64_t one = 1;
    CHECK(write(p->wake, &one, sizeof one) == sizeof one);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void begin_once(void)
{
    CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

static bool part_is(CURLU *u, CURLUPart part, const char *a, const char *b)
{
    char *text = NULL;
    bool is = curl_url_get(u, part, &text, 0) == CURLUE_OK && text[0] &&
              (!a || !strcmp(text, a) || !strcmp(text, b));
    curl_free(text);
    return is;
}

int post_check_url(const char *url, struct error *err)
{
    CURLU *u = curl_url();
    CHECK(u);
    int rc = 0;
    if (curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK ||
        !part_is(u, CURLUPART_HOST, NULL, ""))
        rc = error_set(err, -EINVAL, "it is no URL");
    else if (!part_is(u, CURLUPART_SCHEME, "https", "http"))
        rc = error_set(err, -EINVAL, "it must begin with https:// or http://");
    else if (part_is(u, CURLUPART_USER, NULL, "") || part_is(u, CURLUPART_PASSWORD, NULL, ""))
        rc = error_set(err, -EINVAL, "it must have no user and no password");
    else if (part_is(u, CURLUPART_FRAGMENT, NULL, ""))
        rc = error_set(err, -EINVAL, "it must have no fragment");
    curl_url_cleanup(u);
    return rc;
}

struct posts *posts_new(const struct posts_opts *opts)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, begin_once);
    struct posts *p = calloc(1, sizeof *p);
    CHECK(p && opts->at_once);
    p->opts = *opts;
    p->multi = curl_multi_init();
    p->idle = calloc(opts->at_once, sizeof *p->idle);
    CHECK(p->multi && p->idle);
    p->epoll = epoll_create1(EPOLL_CLOEXEC);
    p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(p->epoll >= 0 && p->wake >= 0);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = p->wake};
    CHECK(epoll_ctl(p->epoll, EPOLL_CTL_ADD, p->wake, &e) == 0);
    curl_multi_setopt(p->multi, CURLMOPT_SOCKETFUNCTION, on_watch);
    curl_multi_setopt(p->multi, CURLMOPT_SOCKETDATA, p);
    curl_multi_setopt(p->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(p->multi, CURLMOPT_TIMERDATA, p);
    curl_multi_setopt(p->multi, CURLMOPT_MAXCONNECTS, (long)opts->at_once);
    if (opts->resolve)
        p->resolve = add_header(NULL, opts->resolve);
    return p;
}

void posts_free(struct posts *p)
{
    if (!p)
        return;
    CHECK(p->running == 0);
    for (unsigned i = 0; i < p->idle_count; i++)
        curl_easy_cleanup(p->idle[i]);
    curl_multi_cleanup(p->multi);
    close(p->epoll);
    close(p->wake);
    curl_slist_free_all(p->resolve);
    free(p->idle);
    free(p);
}
