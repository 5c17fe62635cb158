/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/principal.h - accounts, credentials and feeds as the hot path sees them: immutable records
 * in memory. The catalog makes them and replaces them whole; holders keep a reference while they
 * look at one. Any thread; only what is marked "live" ever changes after publication.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/thread.h"
#include "flow/ack.h"
#include "flow/limits.h"

enum {
#define PERMISSION(name, bit, text) PERM_##name = 1 << (bit),
#include "flow/permissions.def"
#undef PERMISSION
    /* What reaches beyond the credential's own account. In no role unless it is named there. */
    PERM_ADMIN = PERM_admin_read | PERM_admin_write,
};

/* What a window is, as a set. 0: rolling, counts messages, in force. */
enum {
    LIMIT_ROLLING = 0,
    LIMIT_TOKEN = 1,  /* token bucket */
    LIMIT_LEAKY = 2,  /* leaky bucket */
    LIMIT_BYTES = 4,  /* counts the bytes of values */
    LIMIT_SHADOW = 8, /* counts and tells what it would have refused, and refuses nothing */
    LIMIT_BUCKET = LIMIT_TOKEN | LIMIT_LEAKY,
};

/* One limit: rolling, at most `count` in any `window_ms`; a bucket of `count` that is refilled, or
 * drained, in `window_ms`. */
struct window {
    uint32_t count;
    uint32_t window_ms;
    uint8_t kind; /* LIMIT_ flags */
};

/* The limits of one subject; all windows that are no shadows must allow. */
struct limit_set {
    struct window windows[WINDOWS_MAX];
    uint8_t windows_count;
    bool count_accepted; /* false: refused attempts fill rolling windows too (Adafruit's way) */
    uint32_t min_distance_ms; /* between two attempts; 0 = none */
};

/* Which MQTT topics there are in an account. Numbers are part of the catalog's format. */
enum account_topics {
    TOPICS_ADAFRUIT = 0, /* those of Adafruit IO: feeds and groups */
    TOPICS_ANY = 1,      /* any other too, seen by nobody but the account */
};

/* What an account shares across all versions of its record. */
struct account_live {
    /* One past the highest offset this account was told is accepted: reads wait for it. */
    _Atomic uint64_t told;
    /* The same of the last record about its MQTT sessions. */
    _Atomic uint64_t session_told;
    /* Of gate/shares.h, which owns the meaning: */
    _Atomic uint64_t contended_until_ns;
    struct spin lock; /* of the rest */
    uint32_t epoch, active, active_before;
    uint64_t promised_ns;
};

struct account {
    _Atomic uint32_t refs;
    uint64_t number; /* never reused; 0 is nobody */
    struct slice name;
    struct limit_set limits;        /* the account's pool */
    struct limit_set device_limits; /* each credential's own */
    uint32_t feeds_max;
    struct ack ack; /* when a request does not say */
    bool disabled;
    enum account_topics topics;
    int64_t created_us;
    struct account_live *live; /* freed never: numbers are few and not reused */
    struct slice plan;         /* its name */
};

enum verifier_kind { VERIFIER_FAST, VERIFIER_CRYPT };

/* The shield's one slot of a credential (gate/shield.h owns the meaning). Starts all zero. */
struct credential_live {
    struct spin lock;
    uint8_t set;
    uint8_t known; /* a secret of this credential was verified once, this one or an earlier one */
    uint32_t share_epoch; /* of gate/shares.h: under the account's lock */
    uint8_t tag[16];      /* HMAC of (credential, stored hash, secret) that was verified */
    uint64_t version;     /* the credential's version when it was verified or re-checked */
    uint64_t check_at_ns; /* monotonic: when the version must be looked at again */
};

enum credential_kind { CREDENTIAL_KEY, CREDENTIAL_DEVICE };

/* Topics that are no feeds: filters with a comma between, "{name}" as a level being the
 * credential's name (codec/topic.h: topic_rules_cover). Empty: all. */
struct topic_rules {
    struct slice publish, subscribe;
};

/* On top of an account's number: the credential by which the server itself publishes there. Those
 * of the catalog are less. */
#define CREDENTIAL_OWN (1ull << 62)

struct credential {
    _Atomic uint32_t refs;
    uint64_t number;         /* never reused */
    uint64_t version;        /* grows with each change of the credential or its account */
    struct account *account; /* a reference */
    enum credential_kind kind;
    struct slice name;    /* device id, or the key's label */
    uint64_t permissions; /* of its role */
    bool disabled;
    enum verifier_kind verifier_kind;
    uint8_t fast[32];      /* VERIFIER_FAST: domain-separated SHA-256 of the secret */
    struct slice verifier; /* VERIFIER_CRYPT: as crypt(3) wrote it, NUL behind it */
    uint16_t patterns_count;
    struct slice
        *patterns; /* feed keys the device is bound to, '*' at the end matches; none = all */
    struct credential_live *live;     /* shared by all versions of the record */
    struct slice role;                /* its name */
    const struct topic_rules *topics; /* of its role; NULL: all */
};

/* Who a connection turned out to be. It lies in the front; the pipeline fills it and checks with
 * each request that it is still so. All zero: nobody yet. One thread. */
struct principal {
    struct credential *credential; /* a reference */
    uint64_t generation;           /* of the catalog, when the credential was as it is here */
};

enum { FEED_NO_HISTORY = 1, FEED_PUBLIC = 2, FEED_DISABLED = 4 };

struct feed {
    _Atomic uint32_t refs;
    uint64_t number;  /* never reused */
    uint64_t account; /* its owner's number */
    struct slice key; /* "feed", or "group.feed" */
    uint32_t flags;   /* here: what a message looks at lies in one cache line */
    struct slice name;
    struct slice description; /* empty = null */
    struct slice license, unit_type, unit_symbol;
    uint32_t status_timeout; /* minutes */
    bool status_notify;
    int64_t created_us, updated_us;
    uint64_t version; /* grows with each change of what is shown of the feed */
    uint64_t group;   /* number of the group it is in, whose key is a part of the feed's */
    struct slice group_key, group_name;
    struct slice groups; /* keys of further groups it was added to, a comma between */
    /* Where data/next stands: at the datum it gave last. */
    bool has_mark;
    int64_t mark_us;
    uint64_t mark_offset;
};

enum { GROUP_KEPT = 1, GROUP_PUBLIC = 2 };

struct group {
    _Atomic uint32_t refs;
    uint64_t number;  /* never reused */
    uint64_t account; /* its owner's number */
    struct slice key, name, description;
    uint32_t flags;
    uint64_t version; /* as a feed's */
    int64_t created_us, updated_us;
};

/* Takes one more reference and returns the same record. */
struct account *account_ref(struct account *a);
struct credential *credential_ref(struct credential *c);
struct feed *feed_ref(struct feed *f);
struct group *group_ref(struct group *g);
/* Gives one back; the last one frees. NULL is accepted; all return NULL. */
struct account *account_unref(struct account *a);
struct credential *credential_unref(struct credential *c);
struct feed *feed_unref(struct feed *f);
struct group *group_unref(struct group *g);

/* Nobody again. */
void principal_clear(struct principal *p);

/* Records are one allocation: the struct, then its texts. These make one with zeroed fields, one
 * reference and `text_bytes` of room behind it (taken with record_text). NULL: no memory. */
struct account *account_new(size_t text_bytes);
struct credential *credential_new(size_t text_bytes);
struct feed *feed_new(size_t text_bytes);
struct group *group_new(size_t text_bytes);
/* Copies `s` and a NUL to `*at`, moves `*at` behind it and returns the copy. */
struct slice record_text(char **at, struct slice s);

/* Whether the feed is the group's own, or was added to it. */
bool feed_in_group(const struct feed *f, const struct group *g);

/* Whether the credential's patterns cover the feed key (all, when it has none). */
bool credential_covers(const struct credential *c, struct slice feed_key);
