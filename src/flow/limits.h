/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/limits.h - the fixed maxima, all in one place. What an operator may want to change is a
 * setting in options.def instead; these are the bounds of formats and tables.
 */
#pragma once

#define LIVE_BYTES_MAX      (64u << 20) /* batches on their way to subscribers */
#define SHARE_MEMBERS_MAX   1024u       /* of one group of a shared subscription */
#define SHARE_ASLEEP_MAX    4096u       /* groups without a member that are remembered */
#define SHARE_BYTES_MAX     (16u << 20) /* messages of such groups on their way between workers */
#define SHARE_GIVEN_MAX     65536u      /* settled above the first message of a group that is not */
#define SHARE_OPEN_MAX      262144u     /* messages of a group that are not settled */
#define DELIVER_WINDOW_MAX  100u        /* messages under way to an MQTT client, if it takes more */
#define DELIVER_FLIGHTS_MAX 1024u       /* these, and what is over behind one of them */
#define REPLAY_BYTES        (64u << 20) /* of journal that a view reads again after a crash, about */
#define MQTT_CLIENT_ID_MAX  256         /* bytes; 3.1 has 23, which nobody keeps to */
#define SESSION_NAME_MAX    (MQTT_CLIENT_ID_MAX + 17) /* of a client id, or of what has none */
#define MQTT_ALIASES_MAX    16          /* topics that get an alias on their way to one client */
#define UNPROVEN_BYTES_MAX  (64u << 20) /* bodies waiting for a password hash, of a worker, */
#define UNPROVEN_FREE       4096u       /* but for those of so few bytes each */
#define USERNAME_MAX        64          /* bytes of an account's name */
#define FEED_KEY_MAX        257         /* "group.feed", each at most 128 */
#define FEED_NAME_MAX       128
#define IDEMPOTENCY_KEY_MAX 255
#define DEVICE_ID_MAX       128
#define SECRET_MAX          256        /* bytes of a secret as presented */
#define BCRYPT_SECRET_MAX   72         /* bcrypt reads no further; longer ones are refused */
#define VERIFIER_MAX        128        /* a stored hash, "$2b$..." or "$y$..." */
#define VALUE_MAX           1024       /* a datum's value with history on (Adafruit's limit) */
#define VALUE_BIG_MAX       102400     /* with history off */
#define REQUEST_RECORDS_MAX 1000       /* elements of one request */
#define BATCH_BYTES_MAX     (4u << 20) /* body of one journal batch; above the request body limit */
#define BATCH_RECORDS_MAX   65536u
#define WINDOWS_MAX         4 /* limits of one limit set */
#define WORKERS_MAX         64
#define FEED_PATTERNS_MAX   16   /* patterns a device is bound to */
#define TOPIC_MAX           1024 /* bytes of an MQTT topic or filter */
#define TOPIC_RULES_MAX     1024 /* bytes of the filters of a role, for publishing or subscribing */
#define SESSION_SUBS_MAX    256  /* subscriptions of one session */
#define SESSION_ACKED_MAX   4096 /* messages a session's client has above the first it has not */
#define SESSION_OUT_MAX     1024 /* packet ids in use to a client */
#define SESSION_IN_MAX      1024 /* QoS 2 packet ids that a client has not released */
#define MISSED_READ_BYTES                                                                          \
    (256u << 10)                       /* messages read for a session from the journal at a time   \
                                        */
#define MISSED_MESSAGE_MAX (16u << 20) /* those of the last record on top of that */
#define SESSION_WILL_MAX   65536       /* bytes of a will's message and properties */
#define RETAINED_MAX       262144      /* the same of a retained message */
#define CAPTURE_BYTES_MAX  (4u << 20)  /* recorded requests that nobody has taken yet */
#define CAPTURE_LINE_MAX   (32u << 10) /* one of them */
#define CAPTURE_LEASE_NS   (10000000000ull) /* recording ends so long after somebody took them */
#define SINKS_MAX          4                /* of a server: one of each kind */
#define FATES_MAX          262144u /* messages a sink remembers the outcome of, a byte each */
#define AWAITING_MAX       65536u  /* answers of a worker that wait for sinks; more do not */
#define LATE_MAX           16384u  /* receipts of a worker that are to be pushed; more are not */
/* Profiles of the server itself (prof/prof.h): */
#define PROFILE_SECONDS     30 /* as pprof asks for */
#define PROFILE_SECONDS_MAX 300
#define PROFILE_BYTES_MAX   (12u << 20) /* one that is larger ends early */
#define PROFILE_ASKS_MAX    16          /* that wait for the profiler's thread */
#define OWN_COMMANDS_MAX    4           /* of accounts' own keys, under way; one of an account */
/* Consumer groups (docs/consume.md): */
#define CONSUME_GROUP_MAX    64         /* bytes of a name */
#define CONSUME_FEEDS_MAX    1024       /* bytes of the patterns that choose feeds */
#define CONSUME_MESSAGES_MAX 1000       /* of one answer, and tokens of one request */
#define CONSUME_ANSWER_BYTES (1u << 20) /* of one answer, as in the journal; the last on top */
#define CONSUME_WAITING_MAX  256        /* fetches that wait in a group */
#define CONSUME_WAIT_S_MAX   60
#define CONSUME_LEASE_S_MAX  3600
#define CONSUME_DELAY_S_MAX  3600
#define CONSUME_FRAME_BYTES  65536      /* of a message by WebSocket, and of those in hand */
#define CONSUME_TOLD_MAX     16         /* of these that have no answer yet */
#define CONSUME_ID_BYTES     128        /* by which a client knows an answer again */
#define CONSUME_READ_BATCHES 64         /* of the journal, read for a group at a time */
#define CONSUME_FILE_BYTES   (4u << 20) /* that their file grows by until it is written anew */
/* Rules (docs/rules.md): */
#define RULE_VALUE_MAX   1024           /* bytes of a message of its own, and of one it passes on */
#define RULE_MS_MAX      31622400000ull /* a year */
#define RULE_PENDING_MAX 64u /* messages that a rule owes; more are dropped and counted */
#define RULE_DEPTH_MAX   4u  /* rules that may set off one another in a row */
#define RULE_ERROR_MAX   160
