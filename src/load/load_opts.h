/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/load_opts.h - what `sluice load` was asked to do, from its arguments. Constant once parsed;
 * all text borrows from argv.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"
#include "codec/mqtt.h"
#include "load/arrival.h"
#include "load/url.h"

#define LOAD_HEADERS_MAX     16
#define LOAD_CONNECTIONS_MAX 60000
#define LOAD_DEVICES_MAX     1000000
#define LOAD_FEEDS_MAX       1000000
#define LOAD_PAYLOAD_MAX     1000000

/* Who runs beside the fleet, and what one run is when it is an adversary's. */
enum attack {
    ATTACK_SECRETS,   /* guesses the secret of one device */
    ATTACK_DEVICES,   /* sends as devices that nobody knows */
    ATTACK_FLOOD,     /* one device of the fleet that never stops, whatever it is told */
    ATTACK_SLOW,      /* sends a byte a second */
    ATTACK_OVERSIZE,  /* announces a gigabyte; or a header without end */
    ATTACK_MALFORMED, /* what is no HTTP */
    ATTACKS,          /* none of these */
};

struct load_opts {
    struct url url;         /* its target may hold %device% */
    enum mqtt_version mqtt; /* NONE: HTTP */
    const char *ca;         /* PEM file; NULL: what the system believes */
    bool insecure;          /* whatever the certificate says */

    const char *method;
    const char *payload; /* may hold %device% and %seq% */
    const char *feed;    /* NULL: payload is used as it is */
    const char *headers[LOAD_HEADERS_MAX];
    unsigned headers_count;

    /* MQTT: */
    const char *topic;     /* may hold %device% and %feed% */
    const char *subscribe; /* the filter of the subscribers */
    unsigned qos, window, feeds, payload_bytes, subscribers;

    const char *devices; /* CSV file */
    unsigned create;     /* so many are made first, and that file is written; 0: it is read */
    const char *account, *admin_key;
    const char *device, *token, *key; /* device and token may hold %seq% */
    bool basic; /* Authorization: Basic instead of X-Device-Id and X-Device-Token */
    bool fixed; /* each connection keeps its device */

    unsigned connections;
    uint32_t source_first, sources; /* IPv4 addresses connections come from in turn; 0: any */
    bool reconnect;
    enum attack attack;          /* ATTACKS: an honest fleet */
    unsigned attacks;            /* a bit each */
    unsigned attack_connections; /* of each */
    double attack_rate;          /* of each; 0: as fast as answers come */
    bool once;                   /* a connection for each device, until it was accepted */
    double rate; /* requests a second in all, at the most; 0: as fast as answers come */
    struct arrival arrival;
    const char *shape;
    uint64_t storm_ns;               /* when all connections break; 0: never */
    uint64_t think_ns, think_ns_max; /* between answer and next request; 0: none */
    uint64_t run_ns, warmup_ns, timeout_ns;
    uint64_t drain_ns; /* so long answers are awaited after the end */
    uint64_t requests; /* stop after so many; 0: no bound */
    uint64_t seed;

    const char *json, *ack_log, *html;
    struct url watch_url;         /* whose /metrics are shown; no host: nobody's */
    const char *replay, *compare; /* recordings; NULL: none */
    double speed;                 /* of the replay: 2 is twice as fast */
    const char *verify_key;       /* NULL: nothing is read back */
    struct url verify_url;        /* where from */
    uint64_t first_sequence;
    bool sequenced; /* every message has its sequence in its value */
    bool quiet;
};

enum load_opts_outcome { LOAD_OPTS_RUN, LOAD_OPTS_HELP, LOAD_OPTS_WRONG };

/* WRONG: `err` says what. Uses getopt, so one caller at a time. */
enum load_opts_outcome load_opts_parse(int argc, char **argv, struct load_opts *ret,
                                       struct error *err);
extern const char load_opts_help[];
extern const char *const load_attack_names[ATTACKS];
