/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/flood.h - what a connection that lasts does at a cost, though nothing is stored of it:
 * counted in windows of its own, per credential and per address, so that one client cannot keep a
 * worker busy with it. Made by the pipeline for a front; one thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum flood {
    FLOOD_SUBSCRIBE, /* a SUBSCRIBE or UNSUBSCRIBE packet */
    FLOOD_REFUSED,   /* something was refused for what its sender did */
};

struct flood_verdict {
    bool allow;         /* there was room */
    uint32_t remaining; /* how many more there is room for, in the tightest window ... */
    uint32_t window_ms; /* ... which is so long; 0: there is no limit */
};
