/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn/stream_private.h - what listener.c and stream.c share. Nobody else includes it.
 */
#pragma once

#include "base/buf.h"
#include "conn/stream.h"

struct stream {
    union {
        uv_handle_t any;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } handle;
    uv_os_fd_t fd; /* the handle's */
    struct worker *worker;
    const struct stream_ops *ops; /* NULL until an owner is set */
    void *owner;
    struct address peer;
    struct buf kept;    /* input not consumed yet */
    struct buf writing; /* handed to libuv */
    struct buf queued;  /* waits for `writing` */
    uv_write_t write;
    uint64_t sent;
    uv_shutdown_t shutdown;
    struct deadline linger; /* of a finished stream: how long it may still drain input */
    unsigned *open;         /* the listeners' shared count */
    bool paused, reading, ended, finishing, lingering, closing, offering;
};

/* Starts a stream on an accepted handle (already initialised). */
void stream_begin(struct stream *s);
