/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/sessions_own.h - what sessions.c (the table), sessions_retained.c and sessions_file.c (the
 * snapshot) share.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/ascending.h"
#include "flow/limits.h"
#include "view/pace.h"
#include "view/sessions.h"

/* A session in the table. */
struct session_entry {
    struct session_entry *next_by_number, *next_by_client;
    struct session_account *account;
    size_t bytes;    /* counted for it */
    int64_t told_us; /* when its will was told to be due */
    struct session s;
};

struct retained_entry {
    struct slice topic, payload; /* behind the struct */
    uint64_t offset, credential, client;
    int64_t receive_us, expires_us;
    uint32_t key_id; /* as in struct session */
};

/* What one account has; there as long as it has something. */
struct session_account {
    struct session_account *next;
    uint64_t number;
    uint32_t sessions;
    uint32_t retained_count;
    struct retained_entry **retained; /* ascending by topic */
    uint64_t bytes;
};

/* A group of a shared subscription; there as long as a session has that. */
struct session_group {
    struct session_group *next;
    struct session_account *account;
    uint64_t hash;
    uint32_t sessions; /* that have it */
    uint32_t key_id;   /* as in struct session */
    uint64_t since;    /* no session had it before that position; 0: that is not known */
    uint64_t floor;    /* all its messages at positions below are settled; 0: nothing is known */
    struct ascending given; /* and these places, none below the floor */
    struct slice filter;    /* behind the struct */
};
#define SESSION_GROUP_BUCKETS 4096u /* a power of two */

struct sessions {
    struct sessions_opts opts;
    char *path;
    struct sealer *sealer; /* of the snapshot; NULL: nothing is sealed */
    struct buf plain, sealed;
    uint64_t seed; /* secret: clients choose their ids */
    _Atomic uint64_t last_number;
    pthread_mutex_t lock; /* of all that follows */
    uint64_t mask;        /* buckets less one, of each table */
    struct session_entry **by_number, **by_client;
    struct session_account **accounts;
    struct session_group **groups; /* SESSION_GROUP_BUCKETS */
    uint64_t sweep;                /* bucket of sessions_wills_due */
    struct sessions_stats stats;
    /* The view's thread: */
    uint64_t forget;  /* bucket, where expired ones are looked for next */
    uint64_t applied; /* next offset to apply */
    uint64_t saved;   /* cursor of the snapshot file */
    struct pace pace;
    uint64_t forgot_ns;
};

struct sessions *sessions_new(const struct sessions_opts *opts);
/* Forgets what has expired in a part of the table; all of it in SESSIONS_SWEEP calls. */
void sessions_forget(struct sessions *t, int64_t now_us);

/* ---- sessions.c; with the lock held ---- */
/* The account's entry; made if it is missing and `make`. */
struct session_account *sessions_account(struct sessions *t, uint64_t number, bool make);
/* Frees the account's entry if it holds nothing. */
void sessions_drop_account(struct sessions *t, struct session_account *a);
/* Counts a change of memory. */
void sessions_count(struct sessions *t, struct session_account *a, int64_t bytes);
/* Bytes that the account (NULL: a new one) may still take. */
uint64_t sessions_memory_left(const struct sessions *t, const struct session_account *a);
/* Counts what found no room. */
void sessions_drop(struct sessions *t, uint64_t count);
enum sessions_insert {
    SESSIONS_INSERTED, /* the table has it now */
    SESSIONS_FULL,     /* there is no room, which is counted */
    SESSIONS_THERE,    /* its number or its client id is taken */
};
enum sessions_insert sessions_insert(struct sessions *t, struct session *s);

/* ---- sessions_retained.c; with the lock held ---- */
/* Sets or, if the message is empty, clears the topic's message. */
void retained_apply(struct sessions *t, const struct record *r, uint64_t offset);
/* Takes a copy of the message into the table. False: there is no room. */
bool retained_put(struct sessions *t, uint64_t account, const struct retained_entry *e);
void retained_clear_account(struct sessions *t, struct session_account *a);
/* Forgets those of the account that have expired. */
void retained_forget(struct sessions *t, struct session_account *a, int64_t now_us);

/* ---- sessions_groups.c; with the lock held ---- */
/* One more session of the account has the subscription, if it is a shared one; from that position
 * on, 0: from before. */
void groups_join(struct sessions *t, struct session_account *a, uint32_t key_id,
                 struct slice filter, uint64_t since);
/* One has it no more. */
void groups_leave(struct sessions *t, const struct session_account *a, struct slice filter);
/* A SESSION_GIVEN or SESSION_RETURNED. */
void groups_apply(struct sessions *t, const struct record *r, const struct session_record *event);
/* What a snapshot says of a group; `given` is empty then. Nothing if no session has it. */
void groups_load(struct sessions *t, uint64_t account, struct slice filter, uint64_t floor,
                 struct ascending *given);
