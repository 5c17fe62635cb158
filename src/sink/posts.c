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
 * them anew cost as much as the rest of a request. So is their URL kept, taken apart: given
 * a text, libcurl parses it for each request and puts it together again, 12,000 instructions.
 *
 * libcurl stops watching a connection's socket when an answer is complete, and begins again with
 * the next request. The kernel is not told of that: a socket stays in the epoll set until it is
 * closed, or ready while nobody waits for it.
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
#include "base/digits.h"

#define CONNECT_MAX_NS (10 * NS_PER_S)
#define IDLE_CONN_S    60l
#define READY_MAX      64    /* sockets that are looked at together */
#define ANSWER_PIECE   1024l /* bytes read at once; libcurl allocates them for each request */
#define OWN_HEADERS    2     /* of a request, at most */
#define EXPECT_FROM    1024u /* no libcurl asks whether it may send fewer bytes than that */

/* libcurl's, and the headers of the request that it has. */
struct post_handle {
    CURL *easy;        /* NULL: it was not needed yet */
    char *url;         /* that it has; NULL: none yet */
    CURLU *parts;      /* of it; NULL: libcurl is to take it apart */
    struct post *post; /* under way */
    struct curl_slist headers[OWN_HEADERS + POST_HEADERS_MAX];
};

/* What is known of a socket, by its number. */
struct watch {
    uint8_t told;  /* which of EPOLLIN and EPOLLOUT the kernel looks for; 0: it is not in the set */
    bool waited;   /* libcurl waits for it */
    bool connects; /* it is a connection's, so that its end is told (on_close) */
};

struct posts {
    struct posts_opts opts;
    CURLM *multi;
    struct watch *watches;
    unsigned watch_count;
    struct post_handle *handles; /* at_once of them */
    struct post_handle **idle;   /* those that have no request; the last one is the next */
    unsigned running;
    struct curl_slist *resolve;
    int epoll, wake;                     /* wake: posts_wake, an eventfd */
    struct epoll_event ready[READY_MAX]; /* told by the kernel, not yet to libcurl */
    int ready_at, ready_count;
    bool woken;      /* by posts_wake, and posts_wait has not returned for it yet */
    uint64_t due_ns; /* when libcurl wants to be called though nothing is ready; 0: never */
};

/* ---- sockets that are watched ---------------------------------------------------------------- */

static struct watch *watch_of(struct posts *p, int fd)
{
    if ((unsigned)fd >= p->watch_count) {
        unsigned count = 2 * (unsigned)fd + 64;
        p->watches = realloc(p->watches, count * sizeof *p->watches);
        CHECK(p->watches);
        memset(p->watches + p->watch_count, 0, (count - p->watch_count) * sizeof *p->watches);
        p->watch_count = count;
    }
    return &p->watches[fd];
}

/* Has the kernel look for these of EPOLLIN and EPOLLOUT; 0: for nothing. */
static void tell_kernel(struct posts *p, int fd, uint8_t events)
{
    struct watch *w = watch_of(p, fd);
    struct epoll_event e = {.events = events, .data.fd = fd};
    if (w->told == events)
        return;
    int how = !events ? EPOLL_CTL_DEL : w->told ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    int rc = epoll_ctl(p->epoll, how, fd, &e);
    if (rc != 0 && how == EPOLL_CTL_MOD && errno == ENOENT)
        rc = epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &e); /* one that was closed without a word */
    CHECK(rc == 0 || !events);
    w->told = events;
}

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

static struct post *post_of(void *owner)
{
    return ((const struct post_handle *)owner)->post;
}

static curl_socket_t on_socket(void *owner, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct post *post = post_of(owner);
    struct address a = {0};
    if (purpose != CURLSOCKTYPE_IPCXN || !address_of(&to->addr, &a) ||
        !may_connect(post->posts, &a)) {
        post->forbidden = true;
        return CURL_SOCKET_BAD;
    }
    int fd = socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
    if (fd >= 0)
        *watch_of(post->posts, fd) = (struct watch){.connects = true};
    post->tried = true;
    return fd;
}

static int on_close(void *owner, curl_socket_t fd)
{
    struct posts *p = owner;
    tell_kernel(p, fd, 0);
    *watch_of(p, fd) = (struct watch){0};
    return close(fd);
}

static int on_connected(void *owner, char *address, char *local, int port, int local_port)
{
    struct post *post = post_of(owner);
    struct address a;
    if (address_parse(slice_str(address), &a) && may_connect(post->posts, &a)) {
        post->connected = true;
        return CURL_PREREQFUNC_OK;
    }
    post->forbidden = true;
    post->tried = false;
    return CURL_PREREQFUNC_ABORT;
}

/* ---- answers --------------------------------------------------------------------------------- */

static size_t on_head(char *bytes, size_t size, size_t count, void *owner)
{
    struct post *post = post_of(owner);
    post->head_bytes += size * count;
    if (post->head_bytes <= POST_ANSWER_MAX)
        return size * count;
    post->too_long = true;
    return 0;
}

/* Keeps what it begins with, as text that can be shown anywhere. */
static size_t on_body(char *bytes, size_t size, size_t count, void *owner)
{
    struct post *post = post_of(owner);
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
    CURL *easy = post->handle->easy;
    long status = 0;
    curl_off_t retry_s = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &retry_s);
    post->took_ns = clock_mono_ns() - post->begun_ns;
    post->status = status >= 200 ? (unsigned)status : 0;
    /* Who said enough before he said too much has answered. */
    bool answered = post->status && (code == CURLE_OK || (post->too_long && post->body_bytes));
    /* Of several addresses some may be: it is the others that something became of. */
    bool forbidden = post->forbidden && !post->tried;
    post->end = answered                                              ? POST_ANSWERED
                : forbidden                                           ? POST_FORBIDDEN
                : code == CURLE_OPERATION_TIMEDOUT && post->connected ? POST_TIMED_OUT
                                                                      : POST_FAILED;
    if (answered && retry_s > 0)
        post->retry_after_ns =
            (uint64_t)(retry_s < POST_RETRY_MAX_S ? retry_s : POST_RETRY_MAX_S) * NS_PER_S;
    if (answered) {
        static const char http[] = "HTTP ";
        memcpy(post->why, http, sizeof http);
        char *at = digits_put(post->why + sizeof http - 1, post->status);
        *at = 0;
        if (post->answer[0])
            snprintf(at, sizeof post->why - (size_t)(at - post->why), ": %s", post->answer);
    } else if (forbidden) {
        snprintf(post->why, sizeof post->why,
                 "its address is not on the internet and not in webhook.allow");
    } else {
        snprintf(post->why, sizeof post->why, "%s",
                 post->too_long ? "its answer's head is too long" : curl_easy_strerror(code));
    }
}

/* ---- sockets that are ready ------------------------------------------------------------------ */

static int on_watch(CURL *easy, curl_socket_t fd, int what, void *owner, void *watched)
{
    struct posts *p = owner;
    struct watch *w = watch_of(p, fd);
    uint8_t wanted =
        (uint8_t)((what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0));
    w->waited = what != CURL_POLL_REMOVE;
    if (!w->waited && w->connects && w->told == EPOLLIN)
        return 0; /* silent as a rule, until the next request */
    tell_kernel(p, fd, w->waited ? wanted : 0);
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
        int fd = p->ready[i].data.fd;
        if (fd == p->wake)
            p->woken = read(p->wake, &woken, sizeof woken) > 0;
        else if (watch_of(p, fd)->waited)
            p->ready[p->ready_count++] = p->ready[i];
        else
            tell_kernel(p, fd, 0); /* its peer ended it; libcurl will see when it wants it again */
    }
}

/* ---- URLs ------------------------------------------------------------------------------------ */

static bool part_is(CURLU *u, CURLUPart part, const char *a, const char *b)
{
    char *text = NULL;
    bool is = curl_url_get(u, part, &text, 0) == CURLUE_OK && text[0] &&
              (!a || !strcmp(text, a) || !strcmp(text, b));
    curl_free(text);
    return is;
}

/* ---- one POST -------------------------------------------------------------------------------- */

/* A handle with all settings that no request has for its own. */
static CURL *make_easy(struct posts *p, struct post_handle *h)
{
    CURL *e = curl_easy_init();
    CHECK(e);
    uint64_t connect_ns = p->opts.timeout_ns < CONNECT_MAX_NS ? p->opts.timeout_ns : CONNECT_MAX_NS;
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_DISALLOW_USERNAME_IN_URL, 1l);
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0l);
    curl_easy_setopt(e, CURLOPT_NOPROXY, "*"); /* else it asks the environment, each time */
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
    curl_easy_setopt(e, CURLOPT_BUFFERSIZE, ANSWER_PIECE);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, on_close);
    curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, p);
    curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, on_connected);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_POST, 1l);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, h);
    curl_easy_setopt(e, CURLOPT_PREREQDATA, h);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, h);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, h);
    curl_easy_setopt(e, CURLOPT_PRIVATE, h);
    return e;
}

/* NULL: libcurl itself is to say what it thinks of it. A zone may get lost in its copies. */
static CURLU *parts_of(const char *url)
{
    CURLU *u = curl_url();
    CHECK(u);
    if (curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK &&
        !part_is(u, CURLUPART_ZONEID, NULL, ""))
        return u;
    curl_url_cleanup(u);
    return NULL;
}

/* Most requests of a handle go where the one before went. */
static void set_url(struct post_handle *h, const char *url)
{
    if (h->url && !strcmp(h->url, url))
        return;
    free(h->url);
    curl_url_cleanup(h->parts);
    h->url = strdup(url);
    CHECK(h->url);
    h->parts = parts_of(url);
    curl_easy_setopt(h->easy, CURLOPT_URL, url);
    curl_easy_setopt(h->easy, CURLOPT_CURLU, h->parts);
}

/* The list of the request's headers, which libcurl only reads. */
static struct curl_slist *list_headers(struct post_handle *h, const struct post *post)
{
    const char *text[OWN_HEADERS + POST_HEADERS_MAX] = {"Content-Type: application/json"};
    unsigned count = 1;
    if (post->body.len >= EXPECT_FROM)
        text[count++] = "Expect:"; /* none: that is a round trip of its own */
    for (unsigned i = 0; i < POST_HEADERS_MAX && post->headers[i]; i++)
        text[count++] = post->headers[i];
    for (unsigned i = 0; i < count; i++)
        h->headers[i] = (struct curl_slist){.data = (char *)(uintptr_t)text[i],
                                            .next = i + 1 < count ? &h->headers[i + 1] : NULL};
    return h->headers;
}

void posts_start(struct posts *p, struct post *post)
{
    CHECK(posts_room(p));
    struct post_handle *h = p->idle[posts_room(p) - 1];
    if (!h->easy)
        h->easy = make_easy(p, h);
    CURL *e = h->easy;
    post->posts = p;
    post->handle = h;
    h->post = post;
    post->end = 0;
    post->status = 0;
    post->retry_after_ns = 0;
    post->head_bytes = post->body_bytes = 0;
    post->forbidden = post->tried = post->connected = post->too_long = false;
    memset(post->answer, 0, sizeof post->answer);
    post->begun_ns = clock_mono_ns();
    set_url(h, post->url);
    curl_easy_setopt(e, CURLOPT_POSTFIELDS, post->body.ptr);
    curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)post->body.len);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, list_headers(h, post));
    CHECK(curl_multi_add_handle(p->multi, e) == CURLM_OK);
    p->running++;
}

static void let_go(struct posts *p, struct post *post)
{
    curl_multi_remove_handle(p->multi, post->handle->easy);
    post->handle->post = NULL;
    p->idle[posts_room(p)] = post->handle;
    post->handle = NULL;
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
        struct post *post = post_of(owner);
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
    p->handles = calloc(opts->at_once, sizeof *p->handles);
    p->idle = calloc(opts->at_once, sizeof(struct post_handle *));
    CHECK(p->multi && p->handles && p->idle);
    for (unsigned i = 0; i < opts->at_once; i++)
        p->idle[i] = &p->handles[opts->at_once - 1 - i];
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
    if (opts->resolve) {
        p->resolve = curl_slist_append(NULL, opts->resolve);
        CHECK(p->resolve);
    }
    return p;
}

void posts_free(struct posts *p)
{
    if (!p)
        return;
    CHECK(p->running == 0);
    for (unsigned i = 0; i < p->opts.at_once; i++) {
        if (p->handles[i].easy)
            curl_easy_cleanup(p->handles[i].easy);
        curl_url_cleanup(p->handles[i].parts);
        free(p->handles[i].url);
    }
    curl_multi_cleanup(p->multi);
    close(p->epoll);
    close(p->wake);
    curl_slist_free_all(p->resolve);
    free(p->watches);
    free(p->handles);
    free(p->idle);
    free(p);
}
