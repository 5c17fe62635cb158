/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog/catalog.h - accounts, keys, devices, roles, plans, feeds and groups. SQLite keeps them
 * (rollback journal, synchronous=FULL); one thread writes, batching what queued meanwhile into one
 * transaction. All records are resident in memory, so a look-up never asks the database and a
 * stranger's unknown ids cost it nothing (docs/decisions/0002-resident-catalog.md).
 *
 * A change and its outbox row are one transaction. The outbox becomes journal records (dictionary,
 * audit): `emit` is called for them in order and must not return before they are durable; after a
 * crash the rest is emitted again, with the same change id. Only then is the change published to
 * the look-ups and is the asker answered: a feed's dictionary record precedes its first datum.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "catalog/listed.h"
#include "flow/principal.h"
#include "flow/reason.h"
#include "flow/record.h"

struct catalog;

struct catalog_opts {
    const char *path;   /* the database file; made if missing */
    bool must_exist;    /* the journal has records: a new one would give their numbers to others */
    uint64_t told;      /* the highest change the journal told: one without it is older; 0: none */
    bool skip_told;     /* then it goes on behind all numbers that can have been given out */
    unsigned queue_max; /* asks waiting, at least 1; beyond it catalog_submit says busy */
    /* Makes records durable in the journal. NULL (command line, no server): rows stay in the outbox
     * until a server runs. 0 or negative errno: tried again later, the change stays unpublished.
     * Called on the catalog's thread with at most REQUEST_RECORDS_MAX records and about 1 MiB, also
     * while catalog_open waits: it must not need the opening thread. */
    int (*emit)(void *arg, const struct record *records, unsigned count);
    void *emit_arg;
    uint32_t emit_wait_ms; /* how long askers wait for a journal that fails; 0 = 5 s */
    /* When accepted is said, where neither account nor plan says; without it ACK_DURABLE. */
    bool has_ack;
    struct ack ack;
    /* Told of every credential that gets loaded or changed (the shield wants its hash's cost).
     * Called on the catalog's thread, and in catalog_open. May be NULL. */
    void (*loaded)(void *arg, const struct credential *c);
    void *loaded_arg;
};

/*
 * Opens or makes the database (refuses a newer format, another program's or a damaged file, one
 * that is missing or empty and must exist, and an old copy, whose next numbers others have had),
 * loads it, starts the thread. A new one gets the roles and plans of catalog/seed.h. What the
 * outbox still owes the journal is emitted first; should that fail, the catalog is open all the
 * same, without the feeds whose dictionary record is owed: they appear once the journal has it. 0
 * or negative errno.
 */
int catalog_open(const struct catalog_opts *opts, struct catalog **ret, struct error *err);
/* Answers what is queued with REASON_stopping, ends the thread, closes. Nobody may look up or
 * submit any more; records that are still held stay, but not what their `live` points to. Accepts
 * NULL. */
void catalog_close(struct catalog *c);

/* Returns when the file holds nothing but what is in the catalog now: it is written anew, and the
 * journal beside it is emptied. 0 or a negative errno. Any thread but the catalog's; changes wait
 * meanwhile. */
int catalog_scrub(struct catalog *c);

/*
 * Copies the database into the new file `path`, some pages at a time, while changes go on between
 * them; when the copy is whole, and before any further change, `at` is called on the catalog's
 * thread: all that the copy knows of is in the journal by then, and all that `emit` was ever given
 * is in the copy. 0 or a negative errno with a sentence. Any thread but the catalog's, one at a
 * time; takes some seconds for a million devices.
 */
int catalog_image(struct catalog *c, const char *path, void (*at)(void *arg), void *arg,
                  struct error *err);
/* Of the database of a restored backup, while nobody has it open: its counters go on at the
 * `jump`-th next multiple of CATALOG_JUMP, as what it was copied from went on too, and no number is
 * to mean two things. 0 or a negative errno with a sentence. */
#define CATALOG_JUMP (1ull << 32) /* more numbers than are taken between two restores */
int catalog_restored(const char *path, uint32_t jump, struct error *err);

/* Grows with every published change of an account or credential. One atomic load. */
uint64_t catalog_generation(struct catalog *c);
/* Grows when an account, a credential or a feed is called otherwise, or is removed: what a number
 * was called may be wrong. One atomic load. */
uint64_t catalog_renamings(struct catalog *c);

/* ---- look-ups: any thread, never block; each returns a new reference, or NULL -------------- */
struct account *catalog_account(struct catalog *c, struct slice name);
struct account *catalog_account_by_number(struct catalog *c, uint64_t number);
struct credential *catalog_device(struct catalog *c, struct slice device_id);
/* An account key, by shield_fast_digest of what was presented. */
struct credential *catalog_key(struct catalog *c, const uint8_t digest[32]);
struct credential *catalog_credential(struct catalog *c, uint64_t number);
struct feed *catalog_feed(struct catalog *c, uint64_t account, struct slice key);
struct feed *catalog_feed_by_number(struct catalog *c, uint64_t number);
struct group *catalog_group(struct catalog *c, uint64_t account, struct slice key);
/* What a key means inside a group: the group's own feed of that name, or else the feed of exactly
 * that key that was added to it. */
struct feed *catalog_feed_in_group(struct catalog *c, const struct group *g, struct slice key);

/* Fetching ahead, for who has many look-ups to do: asks for the cache lines that one will touch. No
 * effect otherwise, and a later look-up may find something else. First the place in the table; when
 * that is here, what it leads to. The hashes are of the texts and mean nothing elsewhere. */
uint64_t catalog_device_hash(const struct catalog *c, struct slice device_id);
uint64_t catalog_feed_hash(const struct catalog *c, uint64_t account, struct slice key);
void catalog_fetch_device(struct catalog *c, uint64_t hash, bool place_is_here);
void catalog_fetch_feed(struct catalog *c, uint64_t hash, bool place_is_here);

/* A snapshot: appends `struct feed *` (references) of the account, in order of creation. Returns
 * how many; the caller unrefs each. */
unsigned catalog_feeds(struct catalog *c, uint64_t account, struct buf *ret);
/* The same for `struct group *`, for `struct account *` of all, and `struct credential *` of one
 * account. */
unsigned catalog_groups(struct catalog *c, uint64_t account, struct buf *ret);
unsigned catalog_accounts(struct catalog *c, struct buf *ret);
unsigned catalog_credentials(struct catalog *c, uint64_t account, enum credential_kind kind,
                             struct buf *ret);

/* ---- changes ------------------------------------------------------------------------------ */
/* Bytes of a feed's description, and of its license, unit type and unit symbol. */
#define FEED_DESCRIPTION_MAX 1024
#define FEED_TEXT_MAX        128

enum catalog_op {
    CATALOG_ACCOUNT_ADD,    /* account, plan ("" = "fleet"), [limits, device_limits, topics,
                               ack] */
    CATALOG_ACCOUNT_REMOVE, /* account: with its keys, devices and feeds */
    CATALOG_KEY_ADD,        /* account, name, digest, [role] */
    CATALOG_KEY_REMOVE,     /* account, name */
    CATALOG_DEVICE_ADD,     /* account, name, verifier or digest, [role, patterns] */
    CATALOG_DEVICE_SECRET,  /* name, verifier or digest: replaces the secret */
    CATALOG_DEVICE_DISABLE, /* name, disabled */
    CATALOG_DEVICE_REMOVE,  /* name */
    CATALOG_FEED_ADD,       /* account_number, key ("feed" or "group.feed"; the group is made when
                               missing; "default.feed" is "feed"; empty: made from feed_name),
                               feed_name (empty: the key's) and the texts. must_create: conflict if
                               it is there; else the existing one is the answer */
    CATALOG_FEED_CHANGE,    /* feed_number and whichever texts, flags and numbers are given; the key
                               is the new last part, or "group.feed" of the same group */
    CATALOG_FEED_MARK,      /* feed_number, mark_us, mark_offset: where data/next stands; with
                               mark_checked conflict unless it still stands where the asker saw it
                             */
    CATALOG_FEED_REMOVE,    /* feed_number: emits RECORD_DELETED for the whole feed; a group other
                               than "default" goes with its last feed */
    CATALOG_GROUP_ADD,      /* account_number, key (empty: made from feed_name), feed_name: the
                               group's name, description, feed_flags GROUP_PUBLIC */
    CATALOG_GROUP_CHANGE,   /* group_number and whichever of these are given; a new key changes the
                               keys of its feeds */
    CATALOG_GROUP_LINK,     /* group_number, feed_number: the feed is in this group too */
    CATALOG_GROUP_UNLINK,   /* the same: no more; taken out of its own group it is in "default" */
    CATALOG_GROUP_REMOVE,   /* group_number: with its own feeds */
    CATALOG_ACCOUNT_LIMITS, /* account, plan ("" = as it is), [limits, device_limits, topics, ack]
                             */
    CATALOG_ACCOUNT_DISABLE, /* account, disabled */
    CATALOG_DEVICE_CHANGE,   /* name, [role, patterns] */
    CATALOG_KEY_CHANGE,      /* account, name, [role, patterns] */
    CATALOG_KEY_SECRET,      /* account, name, digest, [replaced]: replaces the secret */
    CATALOG_ROLE_LIST,       /* [name]: one, else all; like each op of roles it fills ret_list */
    CATALOG_ROLE_ADD,        /* name, permissions, [publish, subscribe] */
    CATALOG_ROLE_CHANGE, /* name, permissions, [publish, subscribe]: of all who have it, at once */
    CATALOG_ROLE_REMOVE, /* name: one that nobody has */
    CATALOG_PLAN_LIST,   /* the same */
    CATALOG_PLAN_ADD,    /* name, [limits, device_limits, feeds_max, ack] */
    CATALOG_PLAN_CHANGE, /* name, [limits, device_limits, feeds_max, ack] */
    CATALOG_PLAN_REMOVE, /* name */
    CATALOG_NOTE,        /* name (what was done: "reload", "backup"), [account, feed_name (to
                            what), description (JSON: more about it)]: changes nothing, writes
                            an audit record */
};

/*
 * One change. The asker owns the struct and every byte it points to until `done`, which is called
 * once, on the catalog's thread, and must only pass it on.
 */
struct catalog_ask {
    enum catalog_op op;
    struct slice actor; /* who asks, for the audit record: "cli", "key:name", "device:id" */
    uint64_t actor_credential;
    struct slice from;    /* the actor's address, when it is known */
    struct slice account; /* name; when it is empty, account_number says which */
    uint64_t account_number;
    struct slice name; /* key's label, device id */
    struct slice plan, role;
    struct slice patterns;                               /* comma-separated feed keys */
    struct slice limits, device_limits;                  /* "60/60s, 10/1s"; empty = the plan's */
    bool keep_limits, keep_device_limits, keep_patterns; /* a change leaves them as they are */
    struct slice permissions;                            /* comma-separated names */
    struct slice publish, subscribe; /* of a role, comma-separated filters; ptr NULL: all, or for a
                                        change as they are */
    struct slice ack; /* as flow/ack.h reads it; empty: the plan's, a plan's: the server's; ptr
                         NULL: a change leaves it as it is */
    bool has_feeds_max;
    uint32_t feeds_max;
    bool has_topics; /* a change without it leaves them as they are */
    enum account_topics topics;
    bool has_digest;
    uint8_t digest[32];
    bool has_replaced; /* CATALOG_KEY_SECRET: conflict unless this is the digest until then */
    uint8_t replaced[32];
    struct slice verifier;
    bool disabled;
    bool must_create;
    /* For a change: ptr NULL, what it is stays. */
    struct slice key, feed_name, description, license, unit_type, unit_symbol;
    uint32_t feed_flags, feed_flags_given; /* a change looks only at those given */
    uint32_t status_timeout;               /* minutes; 0: not given */
    bool status_notify, status_notify_given;
    uint64_t feed_number, group_number;
    int64_t mark_us;
    uint64_t mark_offset;
    bool mark_checked, mark_from; /* it must stand at mark_from_*; false: not begun yet */
    int64_t mark_from_us;
    uint64_t mark_from_offset;

    void (*done)(struct catalog_ask *ask);
    void *owner;
    /* The answer: */
    /* ok, conflict, not_found, feed_limit, bad_request, stopping; internal, disk_full, busy: the
     * database failed. journal_failed: the journal did not take the records in time; the text says
     * whether the change is stored (it then takes effect by itself later) or was not begun. */
    enum reason reason;
    char text[160]; /* a sentence when refused: what and where */
    /* Of these the one that the op is about: a new reference, the asker's. What was removed is
     * given as it last was. NULL when refused. */
    struct account *ret_account;
    struct credential *ret_credential;
    struct feed *ret_feed;
    struct buf *ret_list; /* the asker's: struct catalog_role or catalog_plan are appended */
    struct group *ret_group;

    struct catalog_ask *next; /* the catalog's */
};

/* Queues the change. REASON_ok, or busy/stopping: then `done` is not called. */
enum reason catalog_submit(struct catalog *c, struct catalog_ask *ask);
/* The same, waiting for the answer, which is returned. Not for workers. */
enum reason catalog_call(struct catalog *c, struct catalog_ask *ask);

/* The key Adafruit IO makes from a feed's name: lower case, blank and '_' become '-', '.' becomes
 * "-dot-". Appends it. False: the name is none (letters, digits, blank, '-', '_', '.', at least one
 * letter or digit, at most 128), or the key would be longer than 128. Pure. */
bool catalog_key_from_name(struct slice name, struct buf *out);

struct catalog_stats {
    uint64_t accounts, credentials, feeds, queue_length, transactions;
    uint64_t outbox;    /* records that changes still owe the journal */
    uint64_t outbox_ns; /* for how long the oldest of them; 0: none, or there is no journal */
};
struct catalog_stats catalog_stats(struct catalog *c);
