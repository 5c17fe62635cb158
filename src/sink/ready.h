/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/ready.h - waiting for the socket of a client library that is polled by us. For sink/ only;
 * any thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define READY_LOOK_MS 100 /* how soon a cancel is seen */

/* Waits until the socket is ready for one of `events` (poll(2)). False: the time is up (a
 * clock_mono_ns), it is cancelled, or there is no socket (fd negative). */
bool ready_wait(int fd, short events, uint64_t end_ns, const _Atomic bool *cancelled);
