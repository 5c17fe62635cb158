/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/result.h - what a run counted, and how it is told: a table for people, JSON for scripts.
 * Owned by the run; one thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "load/histogram.h"
#include "load/ledger.h"
#include "load/load_opts.h"
#include "load/series.h"

struct result {
    uint64_t began_ns, ended_ns;
    uint64_t sent;             /* requests written */
    uint64_t answered;         /* responses read whole, */
    uint64_t answers_refused;  /* and of these, those that say no */
    uint64_t answered_in_time; /* of these, before the end: what the rate is made of */
    uint64_t by_status[600];   /* of MQTT: by reason code */
    uint64_t bytes_sent, bytes_received;
    uint64_t connect_errors; /* connections that could not be opened */
    uint64_t broken;         /* connections that ended with a request unanswered */
    uint64_t dropped;        /* connections that --storm ended with a request unanswered */
    uint64_t closed;         /* connections the server ended in good order */
    uint64_t timed_out;      /* requests given up */
    uint64_t bad_responses;
    uint64_t unsent; /* open loop: due before the end, but no connection was free */
    uint64_t acked;  /* lines written to the ack log */
    int last_error;  /* libuv's, 0 if none */
    char why[256];   /* of TLS or WebSocket; empty: none */
    /* --once: */
    uint64_t devices, accepted;
    uint64_t told;           /* times that a device was told when to come back */
    uint64_t kept, not_kept; /* who came then and was accepted, and who was told again */
    uint64_t told_s_max;     /* the longest wait that was asked for */
    uint64_t refused;        /* devices that were refused for good */
    uint64_t accepted_ns;    /* from the beginning until the last one was accepted */
    /* MQTT: */
    uint64_t logins_refused; /* and subscriptions */
    uint8_t login_code;      /* what the last of them was told */
    uint64_t delivered;      /* messages that came to subscribers */
    unsigned attacks;        /* bits of enum attack: what came of them is in */
    struct attack_counts {
        uint64_t sent, answered;
        uint64_t by_status[600];
        uint64_t closed, failed; /* connections: ended by the server; not opened, or broken */
    } attack[ATTACKS];
    bool verified;                 /* everything was read back: */
    struct ledger_verdict verdict; /* --verify */
    struct histogram latency;      /* of all answers, nanoseconds */
    struct histogram connects; /* from wanting a connection until it is there (MQTT: logged in) */
    struct histogram second;   /* `latency` since the last result_second */
    struct series_point seen;  /* counts at that time */
    struct series series;
    struct histogram delivery; /* from when a message was due until a subscriber had it */
};

/* Counting begins now. */
void result_start(struct result *r, uint64_t now_ns);
/* An answer, `ns` after its request was due; `refused`: it says no. */
static inline void result_answer(struct result *r, uint64_t ns, unsigned status, bool refused)
{
    histogram_add(&r->latency, ns);
    histogram_add(&r->second, ns);
    r->answered++;
    r->answers_refused += refused;
    r->by_status[status]++;
}
/* What went wrong with connections. */
uint64_t result_errors(const struct result *r);
/* A second has passed: it becomes a point of the series, and is returned. */
struct series_point result_second(struct result *r);
double result_seconds(const struct result *r);
/* Answers a second, once the run has ended. */
double result_rate(const struct result *r);
void result_print(const struct result *r, FILE *out);
/* 0 or negative errno. */
int result_write_json(const struct result *r, const struct load_opts *opts, const char *path,
                      struct error *err);
