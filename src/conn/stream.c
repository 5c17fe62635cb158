/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A socket and its uv_poll_t. libuv's own streams were measured: read(2) and write(2), which they
 * use, cost the kernel more than recv(2) and send(2), on every request and every answer.
 *
 * Reading goes into the worker's scratch block, so an idle connection holds no buffer; only what
 * the owner leaves unconsumed is copied to `kept`. Writing is tried at once; only what the kernel
 * refuses is copied.
 */
#include "conn/stream_private.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "conn/hoard.h"
#include "conn/opening_private.h"
#include "conn/tls_private.h"
#include "conn/ws_private.h"

#define OUTPUT_MAX (256u << 20) /* owners stop producing long before: this only bounds a bug */
#define READS_MAX  16u          /* of one connection in a turn: others wait */

#define LINGER_NS (2 * NS_PER_S)

/* What a newcomer's request costs until it is answered, at least: most of it is done when the
 * worker settles. */
#define NEWCOMER_NS   (40 * NS_PER_US)
#define NEWCOMER_READ 16384u /* at once: refusals of many small requests take their time too */

static void watch(struct stream *s);
static void read_some(struct stream *s);

void stream_set_owner(struct stream *s, const struct stream_ops *ops, void *owner, size_t input_max)
{
    s->ops = ops;
    s->owner = owner;
    s->kept.max = input_max;
}

struct worker *stream_worker(const struct stream *s)
{
    return s->worker;
}

const struct address *stream_peer(const struct stream *s)
{
    return &s->peer;
}

bool stream_is_proxied(const struct stream *s)
{
    return s->proxied;
}

void stream_set_peer(struct stream *s, const struct address *peer)
{
    s->peer = *peer;
}

bool stream_count_in(struct stream *s, unsigned *open, unsigned max)
{
    if (__atomic_fetch_add(open, 1, __ATOMIC_RELAXED) >= max) {
        __atomic_fetch_sub(open, 1, __ATOMIC_RELAXED);
        return false;
    }
    if (s->open)
        __atomic_fetch_sub(s->open, 1, __ATOMIC_RELAXED);
    s->open = open;
    return true;
}

bool stream_begin_websocket(struct stream *s)
{
    s->ws = ws_conn_new(s);
    return s->ws != NULL;
}

void stream_disown(struct stream *s)
{
    s->ops = NULL;
    s->owner = NULL;
    stream_close(s);
}

bool stream_is_tls(const struct stream *s)
{
    return s->tls != NULL;
}

struct slice stream_alpn(const struct stream *s)
{
    return s->tls ? tls_conn_alpn(s->tls) : (struct slice){0};
}

struct slice stream_identity(const struct stream *s)
{
    return s->tls ? tls_conn_identity(s->tls) : (struct slice){0};
}

size_t stream_kept(const struct stream *s)
{
    return s->kept.len;
}

size_t stream_unsent(const struct stream *s)
{
    return s->unsent.len - s->unsent_at;
}

uint64_t stream_stuck_ns(const struct stream *s)
{
    return s->stuck_ns;
}

void stream_unstuck(struct stream *s)
{
    s->stuck_ns = stream_unsent(s) ? worker_now_ns(s->worker) : 0;
}

static inline void recount(struct stream *s)
{
    if (stream_keeps(s) != s->counted)
        hoard_count(s);
}

void stream_elsewhere(struct stream *s, size_t bytes)
{
    s->elsewhere = bytes;
    recount(s);
}

uint64_t stream_sent(const struct stream *s)
{
    /* What the kernel holds and the peer has not acknowledged (SIOCOUTQ, tcp(7)) does not count: a
     * socket buffer of megabytes would show a slow but steady reader only in bursts. */
    uint64_t left = s->sent;
    int held = 0;
    if (ioctl(s->fd, SIOCOUTQ, &held) == 0 && held > 0)
        left -= (uint64_t)held < left ? (uint64_t)held : left;
    return left;
}

/* ---- in ---- */

static void take_bytes(struct stream *s, char *ptr, size_t len);

/* What an owner left to the next one goes the way of new input. */
static void hand_on(struct stream *s, const char *ptr, size_t len, bool from_kept)
{
    struct buf rest;
    buf_init(&rest, len);
    buf_put(&rest, ptr, len);
    if (from_kept)
        buf_fini(&s->kept);
    if (rest.failed)
        stream_close(s);
    for (size_t at = 0; at < rest.len && !s->closing; at += WORKER_SCRATCH) {
        size_t n = rest.len - at < WORKER_SCRATCH ? rest.len - at : WORKER_SCRATCH;
        char *to = worker_scratch(s->worker);
        memcpy(to, rest.ptr + at, n);
        take_bytes(s, to, n);
    }
    buf_fini(&rest);
}

/* Offers input to the owner and keeps what it leaves. `ptr` is the scratch block or `kept` itself.
 */
static void offer(struct stream *s, char *ptr, size_t len)
{
    bool from_kept = ptr == s->kept.ptr;
    const void *owner = s->owner;
    s->offering = true;
    if (!from_kept)
        worker_scratch_hold(s->worker, len);
    size_t used = s->ops->on_input(s->owner, ptr, len);
    if (from_kept) /* these bytes move */
        worker_settle(s->worker);
    else
        worker_scratch_done(s->worker);
    s->offering = false;
    CHECK(used <= len);
    if (s->lingering) {
        buf_fini(&s->kept);
    } else if (s->owner != owner) {
        hand_on(s, ptr + used, len - used, from_kept);
    } else if (from_kept) {
        buf_consume(&s->kept, used);
        if (!s->kept.len)
            buf_fini(&s->kept);
        else if (used)
            hoard_renew(s);
    } else if (used < len && !s->closing) {
        buf_put(&s->kept, ptr + used, len - used);
        if (s->kept.failed)
            stream_close(s);
    }
    recount(s);
}

/* WebSocket's end is told like that of the socket: once the owner has been offered what came
 * before. */
static void tell_end(struct stream *s)
{
    enum ws_end end = s->ws ? ws_conn_end(s->ws) : WS_END_NOT;
    if (end == WS_END_NOT || s->told_end || s->paused || s->finishing || s->closing)
        return;
    s->told_end = true;
    if (end == WS_END_BROKEN) /* the client is told so by its close frame */
        stream_finish(s);
    else
        s->ops->on_end(s->owner);
}

static void take_bytes(struct stream *s, char *ptr, size_t len)
{
    if (s->ws)
        len = ws_conn_take(s->ws, ptr, len);
    if (s->closing) /* a pong could not be sent */
        return;
    if (len && !s->kept.len) {
        offer(s, ptr, len);
    } else if (len) {
        buf_put(&s->kept, ptr, len);
        if (s->kept.failed)
            stream_close(s);
        recount(s);
        if (s->closing)
            return;
        offer(s, s->kept.ptr, s->kept.len);
    }
    tell_end(s);
}

static void take_input(struct stream *s, char *ptr, size_t len)
{
    metric_add(METRIC_bytes_received, len);
    take_bytes(s, ptr, len);
}

void stream_take_early(struct stream *s, struct slice bytes)
{
    if (!bytes.len || s->closing)
        return;
    char *to = worker_scratch(s->worker);
    memcpy(to, bytes.ptr, bytes.len);
    take_input(s, to, bytes.len);
}

/* Whether somebody wants input and there is room for it. */
static bool wants_input(const struct stream *s)
{
    if (s->closing || s->ended)
        return false;
    if (s->lingering)
        return true;
    return !s->paused && !s->finishing && (s->opening || s->kept.len < s->kept.max) &&
           (!s->ws || (ws_conn_end(s->ws) == WS_END_NOT && !ws_conn_choked(s->ws)));
}

static bool is_held(const struct stream *s)
{
    return s->hold && *s->hold && !s->lingering;
}

bool stream_held(const struct stream *s)
{
    return is_held(s) || (s->place.next && !s->lingering);
}

static void list_drop(struct stream *s)
{
    if (s->place.next)
        s->put_off = false;
    stream_list_drop(&s->place);
}

static void list_put(struct stream_place *list, struct stream *s)
{
    list_drop(s);
    stream_list_put(list, &s->place);
}

/* Puts all of a list behind those of another. */
static void list_move(struct stream_place *from, struct stream_place *to)
{
    if (stream_list_is_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    stream_list_init(from);
}

/* The first of a list that has one, off it. */
static struct stream *list_take(struct stream_place *list)
{
    struct stream *s = (struct stream *)((char *)list->next - offsetof(struct stream, place));
    list_drop(s);
    return s;
}

void stream_lists_init(struct stream_lists *l)
{
    stream_list_init(&l->held);
    stream_list_init(&l->again);
    stream_list_init(&l->newcomers);
}

void stream_let_go(struct stream_lists *l)
{
    while (!stream_list_is_empty(&l->held))
        watch(list_take(&l->held));
}

void stream_again(struct stream *s)
{
    struct stream_lists *l = worker_streams(s->worker);
    if (!s->closing && !s->place.next)
        list_put(s->known ? &l->again : &l->newcomers, s);
}

void stream_set_known(struct stream *s, bool known)
{
    if (s->known != known) {
        s->known = known;
        hoard_move(s);
    }
    if (known && s->put_off) /* it has waited for long enough */
        list_put(&worker_streams(s->worker)->again, s);
}

static void go_on(struct stream *s)
{
    read_some(s);
    watch(s);
}

static void go_on_with_newcomer(struct worker *w, struct stream *s)
{
    uint64_t begun = clock_mono_ns();
    go_on(s);
    uint64_t took = clock_mono_ns() - begun;
    worker_toiled(w, took > NEWCOMER_NS ? took : NEWCOMER_NS);
}

/* Those who are put on a list meanwhile go on a turn later. */
void stream_go_on(struct worker *w)
{
    struct stream_lists *l = worker_streams(w);
    struct stream_place mine;
    stream_list_init(&mine);
    list_move(&l->again, &mine);
    while (!stream_list_is_empty(&mine))
        go_on(list_take(&mine));
    list_move(&l->newcomers, &mine);
    /* One at least, or what else is toil could take all the time there is. */
    for (bool first = true; !stream_list_is_empty(&mine) && (first || worker_may_toil(w));
         first = false)
        go_on_with_newcomer(w, list_take(&mine));
    list_move(&l->newcomers, &mine);
    list_move(&mine, &l->newcomers);
}

bool stream_lists_wait(const struct stream_lists *l)
{
    return !stream_list_is_empty(&l->again) || !stream_list_is_empty(&l->newcomers);
}

void stream_may_hold(struct stream *s)
{
    s->hold = worker_hold_flag(s->worker);
}

/* What TLS lets through. Whether another read may bring more. */
static bool read_tls(struct stream *s, char *to, size_t room)
{
    ssize_t n = tls_conn_read(s->tls, to, room);
    if (n > 0)
        take_input(s, to, (size_t)n);
    if (n >= 0)
        return n > 0 && tls_conn_has_more(s->tls);
    if (n == TLS_READ_BROKEN) { /* the peer is told so by an alert */
        stream_finish(s);
        return false;
    }
    s->ended = true;
    if (n == TLS_READ_GONE)
        stream_close(s);
    else
        s->ops->on_end(s->owner);
    return false;
}

/* One read. Whether another may bring more at once. */
static bool read_once(struct stream *s)
{
    size_t room = s->known ? WORKER_SCRATCH : NEWCOMER_READ;
    if (s->kept.len && s->kept.max - s->kept.len < room)
        room = s->kept.max - s->kept.len;
    char *to = worker_scratch(s->worker);
    if (s->tls && !s->lingering)
        return read_tls(s, to, room);
    ssize_t n = recv(s->fd, to, room, MSG_DONTWAIT);
    if (n > 0) {
        if (!s->lingering)
            take_input(s, to, (size_t)n);
        return (size_t)n == room;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    s->ended = true;
    if (n < 0 || s->lingering)
        stream_close(s);
    else
        s->ops->on_end(s->owner);
    return false;
}

static void read_some(struct stream *s)
{
    if (s->opening && !s->finishing && !s->closing) {
        opening_read(s->opening);
        if (s->opening || !s->tls) /* else bytes may have come along with the handshake's last */
            return;
    }
    unsigned most = s->known ? READS_MAX : 1;
    for (unsigned i = 0; i < most && wants_input(s) && !is_held(s); i++) {
        if (!read_once(s))
            break;
    }
}

void stream_hand_over(struct stream *s)
{
    CHECK(!s->offering);
    s->paused = false;
    if (s->closing)
        return;
    if (s->kept.len)
        hand_on(s, s->kept.ptr, s->kept.len, true);
    recount(s);
    watch(s);
}

void stream_pause(struct stream *s)
{
    s->paused = true;
    if (!s->offering)
        watch(s);
}

void stream_resume(struct stream *s)
{
    s->paused = false;
    if (s->offering || s->closing)
        return;
    if (s->kept.len)
        offer(s, s->kept.ptr, s->kept.len);
    tell_end(s);
    watch(s);
}

/* ---- out ---- */

/* What became of a send. False: the connection is broken, and being closed. */
static bool note_sent(struct stream *s, ssize_t n, size_t *ret_sent)
{
    *ret_sent = n > 0 ? (size_t)n : 0;
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        stream_close(s);
        return false;
    }
    s->sent += *ret_sent;
    metric_add(METRIC_bytes_sent, *ret_sent);
    return true;
}

/* Sends what the kernel takes of the bytes. As note_sent. */
static bool send_some(struct stream *s, struct slice bytes, size_t *ret_sent)
{
    ssize_t n = send(s->fd, bytes.ptr, bytes.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    return note_sent(s, n, ret_sent);
}

static bool send_both(struct stream *s, struct slice head, struct slice body, size_t *ret_sent)
{
    struct iovec parts[] = {{(void *)(uintptr_t)head.ptr, head.len},
                            {(void *)(uintptr_t)body.ptr, body.len}};
    struct msghdr all = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t n = sendmsg(s->fd, &all, MSG_DONTWAIT | MSG_NOSIGNAL);
    return note_sent(s, n, ret_sent);
}

static void on_linger_due(struct deadline *d)
{
    stream_close((struct stream *)((char *)d - offsetof(struct stream, linger)));
}

/* All is sent: says so to the peer, and drops what it still sends for a while. Closing at once with
 * unread input would make the kernel reset the connection and may take the answer with it (RFC 9112
 * section 9.6). */
static void linger(struct stream *s)
{
    if (s->ws)
        ws_conn_bye(s->ws);
    if (s->tls)
        tls_conn_bye(s->tls);
    if (stream_unsent(s) || s->closing) { /* comes back when that is sent too */
        if (!s->offering)
            watch(s);
        return;
    }
    if (s->ended || shutdown(s->fd, SHUT_WR) != 0) {
        stream_close(s);
        return;
    }
    s->lingering = true;
    s->put_off = false; /* what it still sends is dropped, which costs nothing */
    s->linger.due = on_linger_due;
    deadline_set(worker_wheel(s->worker), &s->linger, worker_now_ns(s->worker) + LINGER_NS);
    if (s->offering) /* the owner still looks at it: offer() drops it */
        return;
    buf_fini(&s->kept);
    recount(s);
    watch(s);
}

static void send_unsent(struct stream *s)
{
    size_t sent;
    if (!send_some(s, slice_from(buf_slice(&s->unsent), s->unsent_at), &sent))
        return;
    s->unsent_at += sent;
    if (stream_unsent(s))
        return;
    buf_fini(&s->unsent);
    s->unsent_at = 0;
    s->stuck_ns = 0;
    recount(s);
    if (s->finishing)
        linger(s);
    else if (s->ops)
        s->ops->on_drained(s->owner);
}

void stream_write(struct stream *s, struct slice bytes)
{
    if (s->ws)
        ws_conn_write(s->ws, bytes);
    else
        stream_send(s, bytes);
}

void stream_send(struct stream *s, struct slice bytes)
{
    if (s->tls && !s->closing && bytes.len)
        tls_conn_write(s->tls, bytes);
    else if (!s->tls)
        stream_put(s, bytes);
}

/* Keeps what the kernel did not take. What it took before makes room, or who reads steadily but
 * never all would have ever more kept. */
static void keep_unsent(struct stream *s, struct slice bytes)
{
    if (s->unsent_at > s->unsent.len / 2) {
        buf_consume(&s->unsent, s->unsent_at);
        s->unsent_at = 0;
    }
    buf_put_slice(&s->unsent, bytes);
    if (!s->stuck_ns)
        s->stuck_ns = worker_now_ns(s->worker);
    if (s->unsent.failed)
        stream_close(s);
    recount(s);
    if (!s->offering)
        watch(s);
}

void stream_put(struct stream *s, struct slice bytes)
{
    if (s->closing || !bytes.len)
        return;
    if (!stream_unsent(s)) {
        size_t sent;
        if (!send_some(s, bytes, &sent) || sent == bytes.len)
            return;
        bytes = slice_from(bytes, sent);
    }
    keep_unsent(s, bytes);
}

void stream_write_both(struct stream *s, struct slice head, struct slice body)
{
    CHECK(!s->ws);
    if (s->tls || stream_unsent(s)) {
        stream_write(s, head);
        stream_write(s, body);
        return;
    }
    size_t sent;
    if (s->closing || !send_both(s, head, body, &sent) || sent == head.len + body.len)
        return;
    if (sent < head.len)
        keep_unsent(s, slice_from(head, sent));
    if (!s->closing)
        keep_unsent(s, slice_from(body, sent > head.len ? sent - head.len : 0));
}

void stream_finish(struct stream *s)
{
    if (s->finishing || s->closing)
        return;
    s->finishing = true;
    if (!stream_unsent(s))
        linger(s);
    else if (!s->offering)
        watch(s);
}

/* ---- the handle ---- */

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct stream *s = handle->data;
    if (status < 0) { /* EPOLLERR without input: recv or send would say why, nobody asks */
        stream_close(s);
        return;
    }
    if (events & UV_WRITABLE && stream_unsent(s))
        send_unsent(s);
    if (events & UV_READABLE) {
        if (s->known || s->lingering)
            read_some(s);
        else if (!s->place.next)
            stream_again(s);
        else
            s->put_off = true; /* told once more: it waits for longer than a turn */
    }
    watch(s);
}

/* Watches for what can be done now. Changing it costs two system calls with libuv, so it is done
 * when all that one event brings is done. */
static void watch(struct stream *s)
{
    if (s->closing)
        return;
    bool in = wants_input(s) && !s->put_off;
    if (in && is_held(s)) {
        list_put(&worker_streams(s->worker)->held, s);
        in = false;
    } else if (in && s->tls && !s->opening && !s->lingering && tls_conn_has_more(s->tls)) {
        stream_again(s);
    }
    int interest = (in ? UV_READABLE : 0) | (stream_unsent(s) ? UV_WRITABLE : 0);
    if (interest == s->interest)
        return;
    s->interest = interest;
    int rc = interest ? uv_poll_start(&s->poll, interest, on_poll) : uv_poll_stop(&s->poll);
    if (rc != 0)
        stream_close(s);
}

struct stream *stream_new(struct worker *w, int fd)
{
    struct stream *s = calloc(1, sizeof *s);
    if (!s || uv_poll_init(worker_loop(w), &s->poll, fd) != 0) {
        free(s);
        close(fd);
        return NULL;
    }
    s->poll.data = s;
    s->fd = fd;
    s->worker = w;
    buf_init(&s->unsent, OUTPUT_MAX);
    return s;
}

void stream_begin(struct stream *s)
{
    watch(s);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct stream *s = handle->data;
    if (s->ops)
        s->ops->on_closed(s->owner);
    if (s->open)
        __atomic_fetch_sub(s->open, 1, __ATOMIC_RELAXED);
    metric_move(METRIC_connections_open, -1);
    ws_conn_free(s->ws);
    tls_conn_free(s->tls);
    buf_fini(&s->kept);
    buf_fini(&s->unsent);
    free(s);
}

void stream_close(struct stream *s)
{
    if (s->ws && !s->closing && !stream_unsent(s))
        ws_conn_bye(s->ws); /* may fail, and then closes */
    if (s->tls && !s->closing && !stream_unsent(s))
        tls_conn_bye(s->tls); /* the same */
    if (s->closing)
        return;
    s->closing = true;
    if (s->opening)
        opening_end(s->opening);
    list_drop(s);
    hoard_drop(s);
    certified_drop(s);
    deadline_clear(&s->linger);
    uv_close((uv_handle_t *)&s->poll, on_handle_closed);
    close(s->fd); /* libuv has forgotten it already */
    s->fd = -1;
}
