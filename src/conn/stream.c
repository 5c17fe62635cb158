/* SPDX-License-Identifier: Apache-2.0 */
/*
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

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"

#define OUTPUT_MAX (256u << 20) /* owners stop producing long before: this only bounds a bug */

#define LINGER_NS (2 * NS_PER_S)

static void read_more(struct stream *s);

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

size_t stream_kept(const struct stream *s)
{
    return s->kept.len;
}

size_t stream_unsent(const struct stream *s)
{
    return s->writing.len + s->queued.len;
}

uint64_t stream_sent(const struct stream *s)
{
    /* One write at a time is with libuv: what is not in its queue any more has left. What the
     * kernel holds and the peer has not acknowledged (SIOCOUTQ, tcp(7)) does not count: a socket
     * buffer of megabytes would show a slow but steady reader only in bursts. */
    uint64_t left = s->sent + s->writing.len - uv_stream_get_write_queue_size(&s->handle.stream);
    int held = 0;
    if (ioctl(s->fd, SIOCOUTQ, &held) == 0 && held > 0)
        left -= (uint64_t)held < left ? (uint64_t)held : left;
    return left;
}

/* Offers input to the owner and keeps what it leaves. `ptr` is the scratch block or `kept` itself.
 */
static void offer(struct stream *s, char *ptr, size_t len)
{
    bool from_kept = ptr == s->kept.ptr;
    s->offering = true;
    size_t used = s->ops->on_input(s->owner, ptr, len);
    if (from_kept) /* these bytes move */
        worker_settle(s->worker);
    else
        worker_scratch_hold(s->worker, len);
    s->offering = false;
    CHECK(used <= len);
    if (s->lingering) {
        buf_fini(&s->kept);
    } else if (from_kept) {
        buf_consume(&s->kept, used);
        if (!s->kept.len)
            buf_fini(&s->kept);
    } else if (used < len && !s->closing) {
        buf_put(&s->kept, ptr + used, len - used);
        if (s->kept.failed)
            stream_close(s);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    struct stream *s = handle->data;
    size_t room = WORKER_SCRATCH;
    if (s->kept.len && s->kept.max - s->kept.len < room)
        room = s->kept.max - s->kept.len;
    *ret = uv_buf_init(worker_scratch(s->worker), (unsigned)room);
}

static void on_read(uv_stream_t *handle, ssize_t n, const uv_buf_t *b)
{
    struct stream *s = handle->data;
    if (n == 0 || s->closing)
        return;
    if (s->lingering) {
        if (n < 0)
            stream_close(s);
        return;
    }
    if (n < 0) {
        uv_read_stop(handle);
        s->reading = false;
        if (n != UV_EOF) {
            stream_close(s);
            return;
        }
        s->ended = true;
        s->ops->on_end(s->owner);
        return;
    }
    metric_add(METRIC_bytes_received, (uint64_t)n);
    if (s->kept.len) {
        buf_put(&s->kept, b->base, (size_t)n);
        if (s->kept.failed) {
            stream_close(s);
            return;
        }
        offer(s, s->kept.ptr, s->kept.len);
    } else {
        offer(s, b->base, (size_t)n);
    }
    read_more(s);
}

/* Reads when somebody wants input and there is room for it. */
static void read_more(struct stream *s)
{
    bool want = !s->closing && !s->ended &&
                (s->lingering || (!s->paused && !s->finishing && s->kept.len < s->kept.max));
    if (want && !s->reading)
        s->reading = uv_read_start(&s->handle.stream, on_alloc, on_read) == 0;
    else if (!want && s->reading) {
        uv_read_stop(&s->handle.stream);
        s->reading = false;
    }
}

void stream_begin(struct stream *s)
{
    buf_init(&s->writing, OUTPUT_MAX);
    buf_init(&s->queued, OUTPUT_MAX);
    read_more(s);
}

void stream_pause(struct stream *s)
{
    s->paused = true;
    if (!s->offering)
        read_more(s);
}

void stream_resume(struct stream *s)
{
    s->paused = false;
    if (s->offering || s->closing)
        return;
    if (s->kept.len)
        offer(s, s->kept.ptr, s->kept.len);
    read_more(s);
}

static void on_linger_due(struct deadline *d)
{
    stream_close((struct stream *)((char *)d - offsetof(struct stream, linger)));
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    (void)status; /* whatever came of it, the linger's deadline or the peer's end closes */
    (void)request;
}

/* All is sent: says so to the peer, and drops what it still sends for a while. Closing at once with
 * unread input would make the kernel reset the connection and may take the answer with it (RFC 9112
 * section 9.6). */
static void linger(struct stream *s)
{
    if (s->ended || uv_shutdown(&s->shutdown, &s->handle.stream, on_shutdown) != 0) {
        stream_close(s);
        return;
    }
    s->lingering = true;
    s->linger.due = on_linger_due;
    deadline_set(worker_wheel(s->worker), &s->linger, worker_now_ns(s->worker) + LINGER_NS);
    if (s->offering) /* the owner still looks at it: offer() drops it */
        return;
    buf_fini(&s->kept);
    read_more(s);
}

static void on_written(uv_write_t *request, int status);

static void write_queued(struct stream *s)
{
    struct buf empty = s->writing;
    s->writing = s->queued;
    s->queued = empty;
    uv_buf_t b = uv_buf_init(s->writing.ptr, (unsigned)s->writing.len);
    s->write.data = s;
    if (uv_write(&s->write, &s->handle.stream, &b, 1, on_written) != 0)
        stream_close(s);
}

static void on_written(uv_write_t *request, int status)
{
    struct stream *s = request->data;
    if (status == 0) {
        s->sent += s->writing.len;
        metric_add(METRIC_bytes_sent, s->writing.len);
    }
    buf_clear(&s->writing);
    if (s->closing)
        return;
    if (status != 0) {
        stream_close(s);
        return;
    }
    if (s->queued.len) {
        write_queued(s);
        return;
    }
    buf_fini(&s->writing);
    buf_fini(&s->queued);
    if (s->finishing)
        linger(s);
    else
        s->ops->on_drained(s->owner);
}

void stream_write(struct stream *s, struct slice bytes)
{
    if (s->closing || !bytes.len)
        return;
    if (!stream_unsent(s)) {
        /* Not uv_try_write: its write(2) costs the kernel more than send(2), on every answer. */
        ssize_t n = send(s->fd, bytes.ptr, bytes.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            stream_close(s);
            return;
        }
        if (n > 0) {
            s->sent += (uint64_t)n;
            metric_add(METRIC_bytes_sent, (uint64_t)n);
            bytes = slice_from(bytes, (size_t)n);
        }
        if (!bytes.len)
            return;
    }
    buf_put_slice(&s->queued, bytes);
    if (s->queued.failed) {
        stream_close(s);
        return;
    }
    if (!s->writing.len)
        write_queued(s);
}

void stream_finish(struct stream *s)
{
    if (s->finishing || s->closing)
        return;
    s->finishing = true;
    if (!stream_unsent(s))
        linger(s);
    else if (!s->offering)
        read_more(s);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct stream *s = handle->data;
    if (s->ops)
        s->ops->on_closed(s->owner);
    if (s->open)
        __atomic_fetch_sub(s->open, 1, __ATOMIC_RELAXED);
    metric_move(METRIC_connections_open, -1);
    buf_fini(&s->kept);
    buf_fini(&s->writing);
    buf_fini(&s->queued);
    free(s);
}

void stream_close(struct stream *s)
{
    if (s->closing)
        return;
    s->closing = true;
    s->reading = false;
    deadline_clear(&s->linger);
    uv_close(&s->handle.any, on_handle_closed);
}
