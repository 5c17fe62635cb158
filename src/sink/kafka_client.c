/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What librdkafka 2.0.2 does by itself: connections, retries, the order within a partition. What it
 * leaves to us: to give up in time, and to know what a failure means.
 *
 * A transaction's calls may be called again when they time out, and go on then; so each is called
 * in short pieces, between which a cancel is seen. After any failure but a transaction that was
 * aborted in good order the producer is thrown away: the next one's init_transactions settles what
 * became of the transaction, on the broker. That also covers the faults of this version in keeping
 * sequence numbers (fixed in 2.3.0), which it reports as fatal errors.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "sink/kafka_own.h"
#include "sink/password.h"

#define ABORT_NS           (2000 * NS_PER_MS)
#define LAST_NS            (500 * NS_PER_MS) /* for what is under way when the sink stops */
#define LOOK_MS            1000
#define DOUBT_NS           (500 * NS_PER_MS) /* after an error, until a broker is asked for */
#define SILENT_NS          (3 * NS_PER_S)    /* likewise without one */
#define LOG_NS             NS_PER_S          /* between two lines of librdkafka's */
#define SOCKET_MAX_MS      60000u
#define TOPIC_WAIT_MS      10000u  /* how long a topic may take to appear once it was asked for */
#define TRANSACTION_MAX_MS 900000u /* brokers' transaction.max.timeout.ms */
#define SECOND_MS          1000u
#define ERROR_TEXT_MAX     256
#define SCRAM_VERSION      0x020601ff /* of librdkafka: 2.6.1 */

#define U(v) (unsigned long long)(v)

char kafka_own_message;

/* ---- what librdkafka says -------------------------------------------------------------------- */

/* Any thread of librdkafka's. While a broker is away there would be several lines a second. */
static void on_log(const rd_kafka_t *rk, int level, const char *what, const char *text)
{
    struct kafka *k = rd_kafka_opaque(rk);
    uint64_t now = clock_mono_ns(), last = atomic_load(&k->logged_ns);
    char safe[128];
    if ((last && now - last < LOG_NS) ||
        !atomic_compare_exchange_strong(&k->logged_ns, &last, now)) {
        atomic_fetch_add(&k->unlogged, 1);
        return;
    }
    log_line(level <= 4 ? LOG_WARN : LOG_DEBUG, "sink.kafka",
             "sink=%s what=%s text=\"%s\" left_out=%u", k->opts.name, what,
             log_text(safe, slice_str(text)), atomic_exchange(&k->unlogged, 0));
}

static bool has_sasl(const struct kafka *k)
{
    return strncmp(k->opts.security, "sasl", 4) == 0;
}

/* Before 2.6.1 the library's last message of SCRAM had a wrong nonce, and nobody looked at it
 * (librdkafka's pull request 4895). */
static bool has_wrong_nonce(const struct kafka *k)
{
    return has_sasl(k) && strncmp(k->opts.mechanism, "SCRAM", 5) == 0 &&
           rd_kafka_version() < SCRAM_VERSION;
}

/* Within a call of ours, as are all that follow. */
static void on_error(rd_kafka_t *rk, int code, const char *text, void *opaque)
{
    struct kafka *k = opaque;
    uint64_t soon = clock_mono_ns() + DOUBT_NS;
    if (k->look_ns > soon)
        k->look_ns = soon;
    if (code == RD_KAFKA_RESP_ERR__AUTHENTICATION && has_wrong_nonce(k))
        snprintf(k->why, sizeof k->why, "brokers of Kafka 4 refuse SCRAM of librdkafka %s: %s",
                 rd_kafka_version_str(), text);
    else if (code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        snprintf(k->why, sizeof k->why, "%s", text);
}

/* Of messages that failed only. What failed first is why the others did: they were thrown away
 * behind it. */
static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    struct kafka *k = opaque;
    bool thrown =
        m->err == RD_KAFKA_RESP_ERR__PURGE_QUEUE || m->err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT;
    if (!m->err || thrown || k->bad)
        return;
    k->bad = m->err;
    k->bad_is_own = m->_private != NULL;
    snprintf(k->bad_topic, sizeof k->bad_topic, "%s", rd_kafka_topic_name(m->rkt));
}

/* ---- settings -------------------------------------------------------------------------------- */

struct setting {
    const char *name, *value;
};

static const struct setting always[] = {
    {"client.id", "sluice"},
    {"statistics.interval.ms", "0"},
    {"log.connection.close", "false"},
    {"log.thread.name", "false"},
    {"reconnect.backoff.ms", "50"},
    {"reconnect.backoff.max.ms", "1000"},
    {"socket.keepalive.enable", "true"},
    {"ssl.endpoint.identification.algorithm", "https"},
};

/* Java's way from a key to a partition: so what other producers write for a device is beside it. */
static const struct setting of_producer[] = {
    {"enable.idempotence", "true"},
    {"partitioner", "murmur2_random"},
    {"linger.ms", "5"},
    {"queue.buffering.max.messages", "200000"},
    {"delivery.report.only.error", "true"},
};

static const struct setting of_consumer[] = {
    {"isolation.level", "read_committed"},
    {"auto.offset.reset", "earliest"},
    {"fetch.wait.max.ms", "100"},
};

/* Settings without a value stay as they are. */
static int set(rd_kafka_conf_t *conf, const char *name, const char *value, struct error *err)
{
    char why[ERROR_TEXT_MAX];
    if (!value[0] || rd_kafka_conf_set(conf, name, value, why, sizeof why) == RD_KAFKA_CONF_OK)
        return 0;
    return error_set(err, -EINVAL, "%s", why);
}

static int set_all(rd_kafka_conf_t *conf, const struct setting *s, size_t n, struct error *err)
{
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = set(conf, s[i].name, s[i].value, err);
    return rc;
}

static int set_number(rd_kafka_conf_t *conf, const char *name, uint64_t value, struct error *err)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", U(value));
    return set(conf, name, text, err);
}

/* What both ends of a connection need to trust each other, but for the password. */
static int set_security(const struct kafka *k, rd_kafka_conf_t *conf, struct error *err)
{
    const struct kafka_opts *o = &k->opts;
    const struct setting s[] = {{"bootstrap.servers", o->brokers},
                                {"security.protocol", o->security},
                                {"ssl.ca.location", o->ca_file},
                                {"ssl.certificate.location", o->certificate},
                                {"ssl.key.location", o->key_file},
                                {"sasl.mechanisms", has_sasl(k) ? o->mechanism : ""},
                                {"sasl.username", has_sasl(k) ? o->username : ""}};
    return set_all(conf, s, sizeof s / sizeof s[0], err);
}

static int set_producer(const struct kafka *k, rd_kafka_conf_t *conf, struct error *err)
{
    uint64_t ms = k->opts.timeout_ns / NS_PER_MS;
    uint64_t transaction_ms = 2 * ms > SECOND_MS ? 2 * ms : SECOND_MS;
    if (transaction_ms > TRANSACTION_MAX_MS)
        transaction_ms = TRANSACTION_MAX_MS;
    int rc = set_all(conf, of_producer, sizeof of_producer / sizeof of_producer[0], err);
    rc = rc ? rc : set(conf, "transactional.id", k->transactional_id, err);
    rc = rc ? rc : set(conf, "compression.codec", k->opts.compression, err);
    rc = rc ? rc : set_number(conf, "message.max.bytes", k->opts.message_max, err);
    rc = rc ? rc : set_number(conf, "transaction.timeout.ms", transaction_ms, err);
    rc = rc ? rc : set_number(conf, "message.timeout.ms", ms, err);
    rc = rc ? rc : set_number(conf, "request.timeout.ms", ms, err);
    rc = rc ? rc
            : set_number(conf, "topic.metadata.propagation.max.ms",
                         ms / 2 < TOPIC_WAIT_MS ? ms / 2 : TOPIC_WAIT_MS, err);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    return rc;
}

/* The settings of a connection, without the password; NULL with a sentence. */
static rd_kafka_conf_t *settings(const struct kafka *k, bool producer, struct error *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    uint64_t ms = k->opts.timeout_ns / NS_PER_MS;
    ms = ms < 2 * SECOND_MS ? 2 * SECOND_MS : ms > SOCKET_MAX_MS ? SOCKET_MAX_MS : ms;
    int rc = set_all(conf, always, sizeof always / sizeof always[0], err);
    rc = rc ? rc : set_security(k, conf, err);
    if (producer)
        rc = rc ? rc : set_producer(k, conf, err);
    else
        rc = rc ? rc : set_all(conf, of_consumer, sizeof of_consumer / sizeof of_consumer[0], err);
    /* A transaction's timeout is the most that this version takes for a producer's sockets. */
    if (producer && ms > 2 * k->opts.timeout_ns / NS_PER_MS)
        ms = 2 * k->opts.timeout_ns / NS_PER_MS;
    rc = rc ? rc : set_number(conf, "socket.timeout.ms", ms, err);
    if (rc == 0)
        return conf;
    rd_kafka_conf_destroy(conf);
    return NULL;
}

int kafka_client_check(const struct kafka *k, struct error *err)
{
    if (has_sasl(k) != (k->opts.username[0] != 0))
        return error_set(err, -EINVAL, "kafka.username: %s",
                         has_sasl(k) ? "kafka.security asks for one"
                                     : "kafka.security makes no use of it");
    rd_kafka_conf_t *conf = settings(k, true, err);
    if (!conf)
        return -EINVAL;
    rd_kafka_conf_destroy(conf);
    return 0;
}

static int set_password(const struct kafka *k, rd_kafka_conf_t *conf, struct error *err)
{
    struct buf text;
    if (!has_sasl(k) || !k->opts.password_file[0])
        return 0;
    int rc = password_read("kafka.password_file", k->opts.password_file, &text, err);
    rc = rc ? rc : set(conf, "sasl.password", text.ptr, err);
    password_forget(&text);
    return rc;
}

/* ---- connections ----------------------------------------------------------------------------- */

static rd_kafka_t *connect_as(struct kafka *k, rd_kafka_type_t type, struct error *err)
{
    char why[ERROR_TEXT_MAX];
    rd_kafka_conf_t *conf = settings(k, type == RD_KAFKA_PRODUCER, err);
    if (!conf)
        return NULL;
    if (set_password(k, conf, err) < 0) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_conf_set_opaque(conf, k);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_error_cb(conf, on_error);
    k->look_ns = clock_mono_ns() + SILENT_NS;
    k->why[0] = 0;
    k->down = false;
    rd_kafka_t *made = rd_kafka_new(type, conf, why, sizeof why);
    if (made)
        return made;
    rd_kafka_conf_destroy(conf);
    error_set(err, -EINVAL, "%s", why);
    return NULL;
}

rd_kafka_t *kafka_client_consumer(struct kafka *k, struct error *err)
{
    return connect_as(k, RD_KAFKA_CONSUMER, err);
}

void kafka_client_close(struct kafka *k)
{
    if (!k->producer)
        return;
    for (unsigned i = 0; i < KAFKA_TOPICS; i++)
        if (k->topics[i])
            rd_kafka_topic_destroy(k->topics[i]);
    memset(k->topics, 0, sizeof k->topics);
    if (k->cursor_topic)
        rd_kafka_topic_destroy(k->cursor_topic);
    k->cursor_topic = NULL;
    rd_kafka_purge(k->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_poll(k->producer, 0);
    rd_kafka_destroy(k->producer);
    k->producer = NULL;
}

void kafka_client_cancel(struct kafka *k)
{
    atomic_store(&k->cancelled_ns, clock_mono_ns());
}

/* Whether no broker can be reached. An error of a connection need not mean that: a host may have
 * several addresses, a cluster several brokers. Nor does every loss of one make an error, or
 * another attempt. So a broker is asked for; one that is slow is there all the same. */
static bool is_down(struct kafka *k, rd_kafka_t *rk)
{
    const struct rd_kafka_metadata *m;
    if (clock_mono_ns() < k->look_ns)
        return false;
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, NULL, &m, LOOK_MS);
    if (!code)
        rd_kafka_metadata_destroy(m);
    k->look_ns = clock_mono_ns() + SILENT_NS;
    rd_kafka_poll(rk, 0);
    k->down = code == RD_KAFKA_RESP_ERR__TRANSPORT;
    return k->down;
}

bool kafka_client_over(struct kafka *k, rd_kafka_t *rk, uint64_t end_ns, const char *what,
                       struct error *err)
{
    uint64_t cancelled_ns = atomic_load(&k->cancelled_ns);
    /* A commit that is about to succeed would leave readers waiting until the next start. */
    if (cancelled_ns && clock_mono_ns() >= cancelled_ns + LAST_NS)
        error_set(err, -ECANCELED, "%s: the sink stops", what);
    else if (is_down(k, rk))
        error_set(err, -ENOTCONN, "%s: %s", what, k->why[0] ? k->why : "no broker answers");
    else if (clock_mono_ns() >= end_ns)
        error_set(err, -ETIMEDOUT, "%s: no answer within %llu ms%s%s", what,
                  U(k->opts.timeout_ns / NS_PER_MS), k->why[0] ? "; last error: " : "", k->why);
    else
        return false;
    return true;
}

/* ---- transactions ---------------------------------------------------------------------------- */

/* Whether the broker does not like a message, or a batch of them, for what it is. All else is for
 * an operator or for time to put right: also a topic that is missing, or that may not be written.
 */
static enum sink_outcome judge(rd_kafka_resp_err_t code)
{
    switch ((int)code) {
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
        return SINK_POISON;
    case RD_KAFKA_RESP_ERR__FENCED:
    case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
        return SINK_MOVED;
    default:
        return SINK_AWAY;
    }
}

/* What became of the transaction, from its error, which is used up. */
static enum sink_outcome judge_error(struct kafka *k, const char *what, rd_kafka_error_t *e,
                                     struct error *err)
{
    rd_kafka_resp_err_t code = rd_kafka_error_code(e);
    bool abortable = rd_kafka_error_txn_requires_abort(e);
    if (k->bad)
        error_set(err, -EIO, "topic %s: %s", k->bad_topic, rd_kafka_err2str(k->bad));
    else if (code == RD_KAFKA_RESP_ERR__FENCED || code == RD_KAFKA_RESP_ERR_PRODUCER_FENCED)
        error_set(err, -ESTALE, "%s: another process writes with our transactional id %s", what,
                  k->transactional_id);
    else
        error_set(err, -EIO, "%s: %s", what, rd_kafka_error_string(e));
    rd_kafka_error_destroy(e);
    enum sink_outcome found = judge(k->bad ? k->bad : code);
    if (found == SINK_POISON && (k->bad_is_own || !abortable))
        found = SINK_AWAY;
    return found;
}

/* Calls what may be called again until it is over. */
static enum sink_outcome call(struct kafka *k, const char *what,
                              rd_kafka_error_t *(*of)(rd_kafka_t *, int), uint64_t limit_ns,
                              struct error *err)
{
    uint64_t end_ns = clock_mono_ns() + limit_ns;
    for (;;) {
        rd_kafka_error_t *e = of(k->producer, KAFKA_POLL_MS);
        if (!e)
            return SINK_DONE;
        rd_kafka_resp_err_t code = rd_kafka_error_code(e);
        if (!rd_kafka_error_is_retriable(e) || code == RD_KAFKA_RESP_ERR__CONFLICT) {
            rd_kafka_poll(k->producer, 0);
            return judge_error(k, what, e, err);
        }
        rd_kafka_error_destroy(e);
        rd_kafka_poll(k->producer, code == RD_KAFKA_RESP_ERR__TIMED_OUT ? 0 : KAFKA_POLL_MS);
        if (kafka_client_over(k, k->producer, end_ns, what, err))
            return SINK_AWAY;
    }
}

enum sink_outcome kafka_client_open(struct kafka *k, struct error *err)
{
    kafka_client_close(k);
    k->producer = connect_as(k, RD_KAFKA_PRODUCER, err);
    if (!k->producer)
        return SINK_AWAY;
    k->bad = RD_KAFKA_RESP_ERR_NO_ERROR;
    enum sink_outcome rc =
        call(k, "connecting", rd_kafka_init_transactions, k->opts.timeout_ns, err);
    return rc == SINK_DONE ? rc : SINK_AWAY;
}

enum sink_outcome kafka_client_tend(struct kafka *k, struct error *err)
{
    char text[ERROR_TEXT_MAX];
    rd_kafka_poll(k->producer, 0);
    if (!rd_kafka_fatal_error(k->producer, text, sizeof text))
        return SINK_DONE;
    error_set(err, -EIO, "%s", text);
    return SINK_AWAY;
}

enum sink_outcome kafka_begin(struct kafka *k, struct error *err)
{
    if (!k->producer) {
        error_set(err, -ENOTCONN, "there is no connection");
        return SINK_AWAY;
    }
    rd_kafka_poll(k->producer, 0);
    k->look_ns = clock_mono_ns() + SILENT_NS; /* what was said since the last batch may be over */
    k->why[0] = 0;
    k->down = false;
    k->bad = RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_error_t *e = rd_kafka_begin_transaction(k->producer);
    if (!e)
        return SINK_DONE;
    enum sink_outcome found = judge_error(k, "begin", e, err);
    return found == SINK_MOVED ? found : SINK_AWAY;
}

/* Why a message was not taken: it itself, or what was before it. */
static enum sink_outcome judge_put(struct kafka *k, const struct kafka_record *m,
                                   const rd_kafka_error_t *e, struct error *err)
{
    char text[ERROR_TEXT_MAX];
    rd_kafka_poll(k->producer, 0);
    rd_kafka_resp_err_t fatal = rd_kafka_fatal_error(k->producer, text, sizeof text);
    if (fatal) {
        error_set(err, -EIO, "%s", text);
        return judge(fatal) == SINK_MOVED ? SINK_MOVED : SINK_AWAY;
    }
    rd_kafka_resp_err_t code = k->bad ? k->bad : rd_kafka_error_code(e);
    bool own = k->bad ? k->bad_is_own : m->opaque != NULL;
    error_set(err, -EIO, "topic %s: %s", k->bad ? k->bad_topic : rd_kafka_topic_name(m->topic),
              rd_kafka_err2str(code));
    return judge(code) == SINK_POISON && own ? SINK_AWAY : judge(code);
}

enum sink_outcome kafka_put(struct kafka *k, const struct kafka_record *m, uint64_t end_ns,
                            struct error *err)
{
    rd_kafka_vu_t v[8] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = m->topic},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = m->partition},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_VALUE,
         .u.mem = {.ptr = (void *)(uintptr_t)m->value.ptr, .size = m->value.len}},
        {.vtype = RD_KAFKA_VTYPE_KEY,
         .u.mem = {.ptr = (void *)(uintptr_t)m->key.ptr, .size = m->key.len}},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = m->time_ms},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = m->opaque},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = m->headers},
    };
    for (;;) {
        rd_kafka_error_t *e = rd_kafka_produceva(k->producer, v, m->headers ? 8 : 7);
        if (!e)
            return SINK_DONE;
        enum sink_outcome found = SINK_DONE;
        if (rd_kafka_error_code(e) != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            found = judge_put(k, m, e, err);
        rd_kafka_error_destroy(e);
        if (found == SINK_DONE) {
            rd_kafka_poll(k->producer, KAFKA_POLL_MS / 10);
            if (kafka_client_over(k, k->producer, end_ns, "queueing", err))
                found = SINK_AWAY;
        }
        if (found != SINK_DONE) {
            if (m->headers)
                rd_kafka_headers_destroy(m->headers);
            return found;
        }
    }
}

enum sink_outcome kafka_commit(struct kafka *k, struct error *err)
{
    enum sink_outcome found =
        call(k, "commit", rd_kafka_commit_transaction, k->opts.timeout_ns, err);
    /* The answer to an earlier attempt may be lost: a later one that is fenced off tells nothing.
     */
    return found == SINK_MOVED ? SINK_AWAY : found;
}

bool kafka_abort(struct kafka *k)
{
    bool stops = atomic_load(&k->cancelled_ns) != 0;
    uint64_t end_ns = clock_mono_ns() + (stops ? LAST_NS : ABORT_NS);
    while (k->producer && !k->down && clock_mono_ns() < end_ns) {
        rd_kafka_error_t *e = rd_kafka_abort_transaction(k->producer, KAFKA_POLL_MS);
        rd_kafka_poll(k->producer, 0);
        if (!e)
            return true;
        bool again = rd_kafka_error_is_retriable(e) &&
                     rd_kafka_error_code(e) == RD_KAFKA_RESP_ERR__TIMED_OUT;
        rd_kafka_error_destroy(e);
        if (!again)
            return false;
    }
    return false;
}
