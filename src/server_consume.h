/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_consume.h - the consumer groups of a server, made from the settings, and what /v1/status
 * and /metrics say of them. Main thread, but where it says otherwise.
 */
#pragma once

#include "config.h"
#include "server_sinks.h"
#include "sink/consume.h"

/* `common` says where and of what; `namer` is ready. 0, or a negative errno with a sentence. */
int consumers_open(struct consumers *s, const struct config *c, const struct sink_opts *common,
                   uint64_t hold_bytes, struct error *err);
/* All workers are gone. */
void consumers_close(struct consumers *s);
/* Any thread. */
void consumers_put_status(const struct consumers *s, struct buf *out);
void consumers_put_metrics(const struct consumers *s, struct buf *out);
