/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/hooks.h - webhooks of accounts: any number of endpoints, each with a URL, secrets, a choice
 * of feeds and a pace of its own, all on one thread (decision 0053). What belongs to an account is
 * posted to its endpoints, at least once, as Standard Webhooks 1.0.0.
 *
 * Owned by the server. Calls from any thread but its own; they wait for a mutex that is held for
 * one turn of the thread, and for the disk: not for workers.
 */
#pragma once

#include "base/error.h"
#include "codec/address.h"
#include "journal/journal.h"
#include "sink/attempts.h"
#include "sink/sink.h"

#define HOOK_URL_MAX    1024
#define HOOK_FEEDS_MAX  512
#define HOOK_SECRET_MAX 64 /* "whsec_" and 32 bytes in base64, and a zero */
#define HOOK_EVENTS_MAX 1000u
#define HOOK_OWED_MAX   32u /* messages of an endpoint that wait to be tried again, or are dead */
#define HOOK_ATTEMPTS   16u /* that are remembered of each */

struct hooks;

struct hooks_opts {
    struct journal *journal;
    struct keyring *keyring; /* NULL: nothing is sealed */
    struct disk *disk;
    const char *dir;  /* of webhooks.json and webhooks.at; exists */
    const char *copy; /* the file that backups hold: see hooks_copy.c */
    void (*names)(void *arg, const struct record *r, struct sink_names *ret); /* see sink_opts */
    bool (*has_account)(void *arg, uint64_t account); /* false: it is gone, and its webhooks go */
    void *arg;
    unsigned max, account_max; /* webhooks in all, and of an account */
    unsigned at_once;          /* requests under way */
    uint64_t queue_bytes;      /* of messages in memory; 0: 64 MiB. An endpoint's share is 1/64 */
    uint64_t timeout_ns, retry_max_ns;
    uint64_t give_up_ns; /* who fails for so long without end is disabled */
    uint64_t hold_bytes;
    const struct cidr *allowed; /* see posts.h; of the caller, for good */
    unsigned allowed_count;
    const char *ca_file;
    uint8_t log_id[16];
    uint16_t node;
    uint64_t seed;
};

/* Reads what is kept, and starts the thread. 0 or a negative errno with a sentence. */
int hooks_open(const struct hooks_opts *opts, struct hooks **ret, struct error *err);
/* Stops without waiting for an answer. Accepts NULL. */
void hooks_close(struct hooks *h);

/* Whether a webhook in the file webhooks.at, which nobody has open, is of that log and beyond
 * `end`; *ret: where the furthest is. Nothing is changed; what is damaged says nothing. */
bool hooks_beyond(struct disk *disk, const char *path, const uint8_t log_id[16], uint64_t end,
                  uint64_t *ret);

/* What an operator says of one. */
struct hook_settings {
    struct slice url;    /* ptr NULL: as it is */
    struct slice feeds;  /* keys and topics, commas between, '*' at the end matches; empty: all.
                            ptr NULL: as they are */
    int by_feed;         /* 0, 1; negative: as it is */
    unsigned events_max; /* 0: as it is */
};

enum hook_state { HOOK_RUNNING, HOOK_FAILING, HOOK_PAUSED, HOOK_DISABLED };
/* "running", "failing", "paused", "disabled". */
const char *hook_state_name(enum hook_state state);

struct hook_info {
    uint64_t id, account;
    char url[HOOK_URL_MAX + 1], feeds[HOOK_FEEDS_MAX + 1];
    bool by_feed;
    unsigned events_max, secrets;
    int64_t created_us;
    enum hook_state state;
    uint64_t position, lag; /* as of a sink */
    uint64_t delivered, failures, gaps;
    unsigned owed, dead;      /* messages to be tried again by the schedule; no more */
    int64_t failing_since_us; /* 0: it does not fail */
    char error[256];          /* of the last failure, while it fails or is disabled */
};

/* All of these: 0 or a negative errno; -ENOENT: there is no such webhook; with a sentence. What
 * changed is durable when they return 0. */
/* Makes one, which gets what comes from now on. -EINVAL; -ENOSPC: there are too many. */
int hooks_add(struct hooks *h, uint64_t account, const struct hook_settings *set, uint64_t *ret_id,
              char secret[HOOK_SECRET_MAX], struct error *err);
int hooks_change(struct hooks *h, uint64_t id, const struct hook_settings *set, struct error *err);
int hooks_remove(struct hooks *h, uint64_t id, struct error *err);
/* Paused: nothing is delivered, and the journal holds what it can. Not paused: it goes on at once,
 * whatever it was waiting for, or disabled for. */
int hooks_pause(struct hooks *h, uint64_t id, bool paused, struct error *err);
/* A new secret signs beside the one before it, until the next rotation. */
int hooks_rotate(struct hooks *h, uint64_t id, char secret[HOOK_SECRET_MAX], struct error *err);
/* Goes on at that offset, so that everything from there is delivered once more. */
int hooks_replay(struct hooks *h, uint64_t id, uint64_t from, struct error *err);
/* Tries dead messages, and those that wait for their time, now. How many. */
int hooks_retry(struct hooks *h, uint64_t id, unsigned *ret_count, struct error *err);
/* Posts a test, waiting at most that long. */
int hooks_test(struct hooks *h, uint64_t id, uint64_t patience_ns, struct attempt *ret,
               struct error *err);

/* The first one with an id of at least `id`, of that account (0: of any). False: there is none. */
bool hooks_next(struct hooks *h, uint64_t id, uint64_t account, struct hook_info *ret);
/* The n-th last attempt of one. False: so many are not remembered. */
bool hooks_attempt(struct hooks *h, uint64_t id, unsigned n, struct attempt *ret);

/* Whether the account has that webhook. Workers may ask. */
bool hooks_has(struct hooks *h, uint64_t id, uint64_t account);

struct hooks_stats {
    uint64_t count, failing, disabled, behind; /* behind: they read on their own */
    uint64_t delivered, failures, dead, under_way;
};
/* As of a turn ago. Workers may ask. */
struct hooks_stats hooks_stats(struct hooks *h);
