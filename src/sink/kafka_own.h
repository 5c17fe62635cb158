/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/kafka_own.h - what the files of the Kafka sink share. For sink/kafka*.c only; the sink's
 * thread, but for librdkafka's own threads, which only log, and kafka_client_cancel.
 */
#pragma once

#include <librdkafka/rdkafka.h>

#include "base/buf.h"
#include "sink/kafka.h"

#define KAFKA_TOPICS     256u /* handles of topics that are kept at hand */
#define KAFKA_TOPIC_MAX  249u /* bytes of a topic's name; Kafka's own limit */
#define KAFKA_KEY_MAX    (USERNAME_MAX + 1 + TOPIC_MAX)
#define KAFKA_POLL_MS    100 /* how soon a cancel is seen */
#define KAFKA_CURSOR_MAX 128 /* bytes of the cursor's key */

struct kafka {
    struct kafka_opts opts;
    char log_id[33];
    char cursor_key[KAFKA_CURSOR_MAX];       /* "<log id>/<sink>" */
    char transactional_id[KAFKA_CURSOR_MAX]; /* "sluice-<log id>-<sink>" */
    rd_kafka_t *producer;                    /* NULL: there is no connection */
    rd_kafka_topic_t *topics[KAFKA_TOPICS];  /* by a hash of the name; may be NULL */
    char cursor_name[KAFKA_TOPIC_MAX + 1];   /* "<setting>.<log id>" */
    rd_kafka_topic_t *cursor_topic;
    bool topic_checked; /* the cursor's topic is there and is compacted */
    uint64_t next;      /* where the cursor is */
    struct buf name, key, number;
    _Atomic uint64_t cancelled_ns; /* 0: not */
    _Atomic uint64_t logged_ns;    /* see log_cb */
    _Atomic unsigned unlogged;
    /* What callbacks of the sink's own thread have said: */
    bool down;               /* no broker could be reached */
    uint64_t look_ns;        /* when to see whether a broker can be reached at all */
    char why[256];           /* of the last error of a connection */
    rd_kafka_resp_err_t bad; /* of the transaction's first message that failed */
    bool bad_is_own;         /* it was none of the batch */
    char bad_topic[KAFKA_TOPIC_MAX + 1];
};

/* ---- kafka_client.c: connections, and what their failures mean ------------------------------- */

/* What a message was sent for, as its opaque: those of the batch have none. */
extern char kafka_own_message;

/* Whether librdkafka takes the settings. 0, or -EINVAL with a sentence. */
int kafka_client_check(const struct kafka *k, struct error *err);
/* Makes the producer and begins its transactions: a former self's is aborted, and it can write no
 * more. DONE or AWAY; kafka_client_close in either case, some time. */
enum sink_outcome kafka_client_open(struct kafka *k, struct error *err);
void kafka_client_close(struct kafka *k);
/* Hears what there is to be said while nothing is sent. AWAY: the producer is of no use any more.
 */
enum sink_outcome kafka_client_tend(struct kafka *k, struct error *err);
/* A consumer that sees only what is committed; NULL with a sentence. */
rd_kafka_t *kafka_client_consumer(struct kafka *k, struct error *err);
/* All waits end now, and those to come at once. Any thread. */
void kafka_client_cancel(struct kafka *k);
/* Whether it makes no sense to wait any longer; then `err` says why. */
bool kafka_client_over(struct kafka *k, rd_kafka_t *rk, uint64_t end_ns, const char *what,
                       struct error *err);

/* One transaction at a time. */
enum sink_outcome kafka_begin(struct kafka *k, struct error *err);
/* Queues a message; takes `headers`. `opaque`: see above. DONE, POISON (it is too large), AWAY. */
struct kafka_record {
    rd_kafka_topic_t *topic;
    int32_t partition; /* RD_KAFKA_PARTITION_UA: by the key */
    struct slice key;
    struct slice value; /* ptr NULL: none */
    int64_t time_ms;    /* 0: now */
    rd_kafka_headers_t *headers;
    void *opaque;
};
enum sink_outcome kafka_put(struct kafka *k, const struct kafka_record *m, uint64_t end_ns,
                            struct error *err);
/* Sends what is queued, and commits. POISON, MOVED: it can be aborted, and nothing of it is there.
 * AWAY: nobody knows. */
enum sink_outcome kafka_commit(struct kafka *k, struct error *err);
/* False: nobody knows what is open; a new producer will abort it. */
bool kafka_abort(struct kafka *k);

/* ---- kafka_cursor.c -------------------------------------------------------------------------- */

/* Makes the topic of the cursor, or sees that it is one that forgets nothing. DONE or AWAY. */
enum sink_outcome kafka_cursor_prepare(struct kafka *k, struct error *err);
/* Where the cursor is; *position stays if there is none. DONE or AWAY. */
enum sink_outcome kafka_cursor_find(struct kafka *k, uint64_t *position, struct error *err);
/* Puts the cursor into the transaction at hand. */
enum sink_outcome kafka_cursor_put(struct kafka *k, uint64_t next, struct error *err);

/* ---- kafka_message.c: messages as Kafka has them ------------------------------------------------
 */

/* Whether a topic can be made from that template. 0, or -EINVAL with a sentence. */
int kafka_template_check(const char *template, struct error *err);
/* Puts a message of a batch into the transaction at hand. DONE, POISON or AWAY. */
enum sink_outcome kafka_message_put(struct kafka *k, const struct sink_message *m, bool again,
                                    uint64_t end_ns, struct error *err);
