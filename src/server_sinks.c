/* SPDX-License-Identifier: Apache-2.0 */
#include "server_sinks.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/rand.h"
#include "journal/follow.h"
#include "server_consume.h"
#include "sink/kafka.h"
#include "sink/postgres.h"
#include "sink/remote.h"
#include "sink/rabbitmq.h"
#include "sink/webhook.h"

#define RETRY_NS (200 * NS_PER_MS)
#define DAY_MS   86400000ull

#define U(v) (unsigned long long)(v)

/* ---- names ----------------------------------------------------------------------------------- */

static void let_go(struct sink_namer *n)
{
    account_unref(n->account);
    feed_unref(n->feed);
    credential_unref(n->credential);
    n->account = NULL;
    n->feed = NULL;
    n->credential = NULL;
}

static void give_names(void *arg, const struct record *r, struct sink_names *ret)
{
    struct sink_namer *n = arg;
    let_go(n);
    n->account = r->account ? catalog_account_by_number(n->catalog, r->account) : NULL;
    n->feed = r->feed ? catalog_feed_by_number(n->catalog, r->feed) : NULL;
    n->credential = r->credential ? catalog_credential(n->catalog, r->credential) : NULL;
    if (n->account)
        ret->account = n->account->name;
    if (n->feed)
        ret->feed = n->feed->key;
    if (n->credential && n->credential->kind == CREDENTIAL_DEVICE)
        ret->device = n->credential->name;
}

/* ---- who waits for one ---- */

static void on_moved(void *arg)
{
    struct sinks *s = arg;
    if (s->guest) /* who waits is at the other end */
        link_guest_moved(s->guest);
    pthread_mutex_lock(&s->telling);
    if (s->moved)
        s->moved(s->moved_arg);
    pthread_mutex_unlock(&s->telling);
}

void sinks_tell(struct sinks *s, void (*moved)(void *arg), void *arg)
{
    pthread_mutex_lock(&s->telling);
    s->moved = moved;
    s->moved_arg = arg;
    pthread_mutex_unlock(&s->telling);
}

/* The level that all begin with must not name a sink that is turned off. */
static int check_ack(const struct sinks *s, const struct config *c, struct error *err)
{
    struct ack ack;
    CHECK(ack_parse(slice_str(c->ack.level), &ack)); /* as was checked */
    unsigned i = 0;
    while (i < s->count && strcmp(sink_name(s->at[i]), ack.sink) != 0)
        i++;
    if (ack.level != ACK_DELIVERED || i < s->count)
        return 0;
    return error_set(err, -EINVAL, "ack.level: %s: the sink %s is turned off", c->ack.level,
                     ack.sink);
}

/* ---- kinds ----------------------------------------------------------------------------------- */

/* A sink that is away for long must not bring the journal to its cap, where messages are refused;
 * nor is a segment given up that is being filled. */
static uint64_t hold_of(const struct config *c, uint64_t wanted)
{
    uint64_t most = c->journal.cap_size ? c->journal.cap_size / 2 : UINT64_MAX;
    uint64_t least = 2 * c->journal.segment_size, bytes = wanted < most ? wanted : most;
    return bytes > least ? bytes : least;
}

/* One entry is all that the server has to know of a kind. */
struct kind {
    const char *name; /* of the sink, and of the section of its settings */
    const struct sink_ops *ops;
    bool (*is_on)(const struct config *c);
    /* The settings that every kind has. */
    void (*read)(const struct config *c, struct sink_opts *ret);
    /* What the ops work on; *ret stays NULL if the kind is turned off. 0, or a negative errno with
     * a sentence. */
    int (*make)(const struct config *c, const struct journal_position *at, void **ret,
                struct error *err);
};

#define READ(kind, address)                                                                        \
    static bool is_on_##kind(const struct config *c)                                               \
    {                                                                                              \
        return c->kind.address[0] != 0;                                                            \
    }                                                                                              \
    static void read_##kind(const struct config *c, struct sink_opts *ret)                         \
    {                                                                                              \
        ret->accounts = c->kind.accounts;                                                          \
        ret->feeds = c->kind.feeds;                                                                \
        ret->batch_count = (unsigned)c->kind.batch_max;                                            \
        ret->batch_bytes = c->kind.batch_size;                                                     \
        ret->linger_ns = c->kind.batch_time * NS_PER_MS;                                           \
        ret->retry_max_ns = c->kind.retry_max * NS_PER_MS;                                         \
        ret->hold_bytes = hold_of(c, c->kind.hold_size);                                           \
        ret->dead_bytes = c->kind.dead_size;                                                       \
    }

READ(kafka, brokers)
READ(postgres, url)

static int make_kafka(const struct config *c, const struct journal_position *at, void **ret,
                      struct error *err)
{
    struct kafka_opts opts = {
        .name = "kafka",
        .brokers = c->kafka.brokers,
        .topic = c->kafka.topic,
        .cursor_topic = c->kafka.cursor_topic,
        .key = strcmp(c->kafka.key, "device") == 0 ? KAFKA_KEY_DEVICE : KAFKA_KEY_FEED,
        .headers = strcmp(c->kafka.headers, "full") == 0   ? KAFKA_HEADERS_FULL
                   : strcmp(c->kafka.headers, "none") == 0 ? KAFKA_HEADERS_NONE
                                                           : KAFKA_HEADERS_BRIEF,
        .compression = c->kafka.compression,
        .security = c->kafka.security,
        .mechanism = c->kafka.mechanism,
        .username = c->kafka.username,
        .password_file = c->kafka.password_file,
        .ca_file = c->kafka.ca_file,
        .certificate = c->kafka.certificate,
        .key_file = c->kafka.key_file,
        .message_max = c->kafka.message_max,
        .timeout_ns = c->kafka.timeout * NS_PER_MS,
    };
    memcpy(opts.log_id, at->log_id, sizeof opts.log_id);
    return is_on_kafka(c) ? kafka_new(&opts, ret, err) : 0;
}

static int make_postgres(const struct config *c, const struct journal_position *at, void **ret,
                         struct error *err)
{
    struct postgres_opts opts = {.name = "postgres",
                                 .url = c->postgres.url,
                                 .password_file = c->postgres.password_file,
                                 .schema = c->postgres.schema,
                                 .timeout_ns = c->postgres.timeout * NS_PER_MS,
                                 .keep_days = (c->postgres.keep + DAY_MS - 1) / DAY_MS};
    memcpy(opts.log_id, at->log_id, sizeof opts.log_id);
    return is_on_postgres(c) ? postgres_new(&opts, ret, err) : 0;
}

READ(rabbitmq, url)

static int make_rabbitmq(const struct config *c, const struct journal_position *at, void **ret,
                         struct error *err)
{
    struct rabbitmq_opts opts = {.url = c->rabbitmq.url,
                                 .password_file = c->rabbitmq.password_file,
                                 .ca_file = c->rabbitmq.ca_file,
                                 .exchange = c->rabbitmq.exchange,
                                 .queue = c->rabbitmq.queue,
                                 .routing_key = c->rabbitmq.routing_key,
                                 .mandatory = c->rabbitmq.mandatory,
                                 .batch_max = (unsigned)c->rabbitmq.batch_max,
                                 .timeout_ns = c->rabbitmq.timeout * NS_PER_MS,
                                 .heartbeat_s = (unsigned)(c->rabbitmq.heartbeat / 1000)};
    memcpy(opts.log_id, at->log_id, sizeof opts.log_id);
    return is_on_rabbitmq(c) ? rabbitmq_new(&opts, ret, err) : 0;
}

READ(webhook, url)

/* As was checked: at most CONFIG_NETWORKS_MAX. */
static unsigned read_networks(const char *list, struct cidr *ret)
{
    struct slice rest = slice_str(list), item;
    unsigned count = 0;
    while (config_list_next(&rest, &item)) {
        CHECK(count < CONFIG_NETWORKS_MAX && cidr_parse(item, &ret[count]));
        count++;
    }
    return count;
}

static void read_webhook_own(const struct config *c, struct sink_opts *ret)
{
    read_webhook(c, ret);
    if (c->webhook.retry_dead && strcmp(c->webhook.order, "feed") != 0)
        ret->again = webhook_schedule;
}

static int make_webhook(const struct config *c, const struct journal_position *at, void **ret,
                        struct error *err)
{
    struct cidr allowed[CONFIG_NETWORKS_MAX];
    struct webhook_opts opts = {.url = c->webhook.url,
                                .secret_file = c->webhook.secret_file,
                                .ca_file = c->webhook.ca_file,
                                .allowed = allowed,
                                .by_feed = !strcmp(c->webhook.order, "feed"),
                                .batch_max = (unsigned)c->webhook.events_max,
                                .messages_max = (unsigned)c->webhook.batch_max,
                                .at_once = (unsigned)c->webhook.connections,
                                .timeout_ns = c->webhook.timeout * NS_PER_MS,
                                .source = {.node = (uint16_t)c->server.node}};
    memcpy(opts.source.log_id, at->log_id, sizeof opts.source.log_id);
    opts.allowed_count = read_networks(c->webhook.allow, allowed);
    return is_on_webhook(c) ? webhook_new(&opts, ret, err) : 0;
}

static const struct kind kinds[] = {
    {"kafka", &kafka_ops, is_on_kafka, read_kafka, make_kafka},
    {"postgres", &postgres_ops, is_on_postgres, read_postgres, make_postgres},
    {"rabbitmq", &rabbitmq_ops, is_on_rabbitmq, read_rabbitmq, make_rabbitmq},
    {"webhook", &webhook_ops, is_on_webhook, read_webhook_own, make_webhook},
};
static_assert(sizeof kinds / sizeof *kinds <= SINKS_MAX, "one sink of each kind");

/* ---- life ------------------------------------------------------------------------------------ */

/* Starts the sink, if it is configured. */
static int open_kind(struct sinks *s, const struct kind *k, const struct config *c,
                     const struct sink_opts *common, struct error *err)
{
    struct sink_opts opts = *common;
    struct sink_own *own = &s->own[s->count];
    struct journal_position at = journal_position(opts.journal);
    int rc = k->make(c, &at, &own->of, err);
    if (rc)
        return rc;
    if (!own->of)
        return sink_forget(opts.journal, k->name);
    own->ops = opts.ops = k->ops;
    opts.name = k->name;
    opts.of = own->of;
    opts.arg = s->guest ? (void *)&own->guest_namer : &own->namer;
    k->read(c, &opts);
    opts.breaker.open_max_ns = opts.retry_max_ns;
    opts.breaker.open_ns = opts.retry_max_ns / 4;
    rc = opts.disk->mkdir(opts.disk, opts.dir);
    if (rc < 0)
        rc = error_set(err, rc, "cannot make %s: %s", opts.dir, strerror(-rc));
    else
        rc = sink_start(&opts, &s->at[s->count], err);
    if (rc)
        k->ops->free(own->of);
    else
        s->count++;
    return rc;
}

static bool has_account(void *arg, uint64_t number)
{
    struct account *account =
        catalog_account_by_number(((struct sink_namer *)arg)->catalog, number);
    account_unref(account);
    return account != NULL;
}

/* Webhooks of accounts. */
static int open_hooks(struct sinks *s, const struct config *c, const struct sink_opts *common,
                      struct error *err)
{
    struct journal_position at = journal_position(common->journal);
    char copy[PATH_MAX];
    if (snprintf(copy, sizeof copy, "%s/webhooks.snap", c->server.data) >= (int)sizeof copy)
        return error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long", c->server.data);
    struct hooks_opts opts = {.journal = common->journal,
                              .keyring = common->keyring,
                              .disk = common->disk,
                              .dir = common->dir,
                              .copy = copy,
                              .names = give_names,
                              .has_account = has_account,
                              .arg = &s->hooks_namer,
                              .max = (unsigned)c->webhooks.max,
                              .account_max = (unsigned)c->webhooks.account_max,
                              .at_once = (unsigned)c->webhooks.connections,
                              .timeout_ns = c->webhooks.timeout * NS_PER_MS,
                              .retry_max_ns = c->webhooks.retry_max * NS_PER_MS,
                              .give_up_ns = c->webhooks.give_up * NS_PER_MS,
                              .hold_bytes = hold_of(c, c->webhooks.hold_size),
                              .allowed = s->hooks_allowed,
                              .allowed_count = read_networks(c->webhooks.allow, s->hooks_allowed),
                              .ca_file = c->webhooks.ca_file,
                              .node = (uint16_t)c->server.node,
                              .seed = common->seed + 1};
    if (!c->webhooks.enabled)
        return sink_forget(common->journal, "webhooks");
    memcpy(opts.log_id, at.log_id, sizeof opts.log_id);
    int rc = common->disk->mkdir(common->disk, common->dir);
    if (rc < 0)
        return error_set(err, rc, "cannot make %s: %s", common->dir, strerror(-rc));
    return hooks_open(&opts, &s->hooks, err);
}

/* ---- who runs them --------------------------------------------------------------------------- */

bool sinks_run_here(const struct config *c)
{
    return strcmp(c->server.roles, "ingest") != 0;
}

bool sinks_are_wanted(const struct config *c)
{
    bool any = false;
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
        any = any || kinds[i].is_on(c);
    return any;
}

int sinks_take_lock(const char *dir, struct disk_file **ret, struct error *err)
{
    char path[PATH_MAX];
    struct disk *d = disk_posix(); /* the lock is the machine's own, whatever the others are */
    int rc = d->mkdir(d, dir);
    if (rc < 0)
        return error_set(err, rc, "cannot make %s: %s", dir, strerror(-rc));
    if (snprintf(path, sizeof path, "%s/LOCK", dir) >= (int)sizeof path)
        return error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long", dir);
    rc = d->open(d, path, O_RDWR | O_CREAT, ret);
    if (rc == 0)
        rc = d->lock(d, *ret);
    if (rc == -EWOULDBLOCK)
        return error_set(err, rc,
                         "the sinks of %s are run by another process: a gateway beside it is "
                         "started with --roles ingest",
                         dir);
    return rc < 0 ? error_set(err, rc, "cannot lock %s: %s", path, strerror(-rc)) : 0;
}

/* In this process. */
static int open_here(struct sinks *s, const struct sinks_opts *o, struct sink_opts *common,
                     struct error *err)
{
    char path[PATH_MAX];
    int rc = o->guest ? 0 : sinks_take_lock(common->dir, &s->lock, err);
    /* From the time when they ran in a process of their own. */
    if (!rc && !o->guest) {
        snprintf(path, sizeof path, "%.4000s/cursors", common->dir);
        rc = journal_adopt_cursors(o->journal, path, err);
    }
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds && rc == 0; i++) {
        s->own[s->count].namer.catalog = o->catalog;
        s->own[s->count].guest_namer.guest = o->guest;
        rand_secret(&common->seed, sizeof common->seed);
        rc = open_kind(s, &kinds[i], o->config, common, err);
    }
    if (!rc && o->guest) /* the webhooks of accounts run with the gateway */
        rc = sink_forget(o->journal, "webhooks");
    return rc;
}

/* In another process: here is what tells of them. */
static int open_remote(struct sinks *s, const struct sinks_opts *o, struct error *err)
{
    const struct config *c = o->config;
    char path[PATH_MAX];
    struct link_host_opts host = {.path = path, .journal = o->journal, .sinks = s->at};
    if (snprintf(path, sizeof path, "%s/link.sock", c->server.data) >= (int)sizeof path)
        return error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long", c->server.data);
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const struct kind *k = &kinds[i];
        struct sink_opts opts = {.name = k->name};
        if (!k->is_on(c)) {
            int rc = sink_forget(o->journal, k->name);
            if (rc)
                return error_set(err, rc, "sink %s: %s", k->name, strerror(-rc));
            continue;
        }
        k->read(c, &opts);
        snprintf(s->cursors[i], sizeof s->cursors[i], "sink:%s", k->name);
        uint64_t oldest = journal_position(o->journal).oldest; /* where a new one begins */
        s->at[s->count] =
            sink_remote_new(k->name, o->journal, journal_cursor(o->journal, s->cursors[i], oldest));
        if (!s->at[s->count])
            return error_set(err, -ENOMEM, "no memory for the sink %s", k->name);
        s->count++;
        host.cursors[host.cursors_count++] =
            (struct link_cursor_held){.name = s->cursors[i], .hold_bytes = opts.hold_bytes};
    }
    host.sinks_count = s->count;
    s->link = (struct gateway_link){
        .catalog = o->catalog, .keyring = o->keyring, .moved = on_moved, .moved_arg = s};
    return gateway_link_open(&s->link, &host, err);
}

int sinks_open(struct sinks *s, const struct sinks_opts *o, struct error *err)
{
    const struct config *c = o->config;
    char dir[PATH_MAX];
    struct sink_opts common = {
        .journal = o->journal,
        .keyring = o->keyring,
        .disk = o->disk,
        .dir = dir,
        .names = o->guest ? guest_names : give_names,
        .moved = on_moved,
        .moved_arg = s,
        .retry_ns = RETRY_NS,
        .breaker = {.volume_min = 5, .fail_percent = 50, .window_ns = 60 * NS_PER_S}};
    int rc = 0;
    pthread_mutex_init(&s->telling, NULL);
    if (snprintf(dir, sizeof dir, "%s/sinks", c->server.data) >= (int)sizeof dir)
        return error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long", c->server.data);
    s->guest = o->guest;
    s->consumers.namer.catalog = s->hooks_namer.catalog = o->catalog;
    if (!o->guest)
        rc = consumers_open(&s->consumers, c, &common, hold_of(c, c->consume.hold_size), err);
    if (!rc)
        rc = sinks_run_here(c) ? open_here(s, o, &common, err) : open_remote(s, o, err);
    if (!rc && !o->guest)
        rc = check_ack(s, c, err);
    if (!rc && !o->guest)
        rc = open_hooks(s, c, &common, err);
    if (!rc && o->guest)
        link_guest_attach(o->guest, s->at, s->count);
    return rc;
}

void sinks_close(struct sinks *s)
{
    if (s->guest)
        link_guest_attach(s->guest, NULL, 0);
    gateway_link_close(&s->link);
    hooks_close(s->hooks);
    s->hooks = NULL;
    let_go(&s->hooks_namer);
    for (unsigned i = 0; i < s->count; i++) {
        if (s->own[i].of) {
            sink_stop(s->at[i]);
            s->own[i].ops->free(s->own[i].of);
        } else {
            sink_remote_free(s->at[i]);
        }
        let_go(&s->own[i].namer);
    }
    s->count = 0;
    if (s->lock)
        disk_posix()->close(disk_posix(), s->lock);
    s->lock = NULL;
    consumers_close(&s->consumers);
    let_go(&s->consumers.namer);
    pthread_mutex_destroy(&s->telling);
}

/* ---- what is told ---------------------------------------------------------------------------- */

static void put_hooks_status(const struct sinks *s, struct buf *out)
{
    struct hooks_stats t = hooks_stats(s->hooks);
    buf_printf(out,
               ",\"webhooks\":{\"count\":%llu,\"failing\":%llu,\"disabled\":%llu,\"behind\":%llu,"
               "\"under_way\":%llu,\"delivered\":%llu,\"failures\":%llu,\"dead\":%llu}",
               U(t.count), U(t.failing), U(t.disabled), U(t.behind), U(t.under_way), U(t.delivered),
               U(t.failures), U(t.dead));
}

void sinks_put_status(const struct sinks *s, struct buf *out)
{
    buf_put_str(out, ",\"sinks\":{");
    for (unsigned i = 0; i < s->count; i++) {
        struct sink_stats t = sink_stats(s->at[i]);
        buf_printf(out,
                   "%s\"%s\":{\"state\":\"%s\",\"breaker\":\"%s\",\"position\":%llu,\"lag\":%llu,"
                   "\"lag_bytes\":%llu,\"oldest_ms\":%llu,\"delivered\":%llu,\"batches\":%llu,"
                   "\"failures\":%llu,",
                   i ? "," : "", sink_name(s->at[i]), sink_state_name(t.state),
                   breaker_name(t.breaker), U(t.position), U(t.lag), U(t.lag_bytes),
                   U(t.lag_us / 1000), U(t.delivered), U(t.batches), U(t.failures));
        buf_printf(out,
                   "\"dead_letters\":%llu,\"dead_bytes\":%llu,\"gaps\":%llu,\"given_up\":%llu,"
                   "\"erased\":%llu,\"unreadable\":%llu,\"error\":",
                   U(t.dead_letters), U(t.dead_bytes), U(t.gaps), U(t.given_up), U(t.erased),
                   U(t.unreadable));
        buf_put_json(out, slice_str(t.error));
        buf_put_str(out, "}");
    }
    buf_put_str(out, "}");
    if (s->hooks)
        put_hooks_status(s, out);
    if (s->consumers.consume)
        consumers_put_status(&s->consumers, out);
}

void sinks_put_passed(const struct sinks *s, uint64_t offset, struct buf *out)
{
    buf_put_str(out, ",\"delivered\":{");
    for (unsigned i = 0; i < s->count; i++)
        buf_printf(out, "%s\"%s\":\"%s\"", i ? "," : "", sink_name(s->at[i]),
                   sink_tells(s->at[i], offset));
    buf_put_str(out, "}");
}

struct family {
    const char *name, *type, *help;
    uint64_t values[SINKS_MAX];
    bool ms; /* values are milliseconds, told in seconds */
};

static void put_family(const struct sinks *s, const struct family *f, struct buf *out)
{
    buf_printf(out, "# HELP sluice_sink_%s %s\n# TYPE sluice_sink_%s %s\n", f->name, f->help,
               f->name, f->type);
    for (unsigned i = 0; i < s->count; i++) {
        buf_printf(out, "sluice_sink_%s{sink=\"%s\"} ", f->name, sink_name(s->at[i]));
        if (f->ms)
            buf_printf(out, "%llu.%03llu\n", U(f->values[i] / 1000), U(f->values[i] % 1000));
        else
            buf_printf(out, "%llu\n", U(f->values[i]));
    }
}

static void put_hooks_metrics(const struct sinks *s, struct buf *out)
{
    struct hooks_stats t = hooks_stats(s->hooks);
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } all[] = {
        {"defined", "gauge", "Webhooks of accounts", t.count},
        {"failing", "gauge", "Of these, failing now", t.failing},
        {"disabled", "gauge", "Of these, disabled: they answered 410, or failed for too long",
         t.disabled},
        {"behind", "gauge", "Of these, not at the end of the journal", t.behind},
        {"requests", "gauge", "Requests under way", t.under_way},
        {"delivered_total", "counter", "Messages delivered", t.delivered},
        {"failures_total", "counter", "Attempts that failed because an endpoint did", t.failures},
        {"dead_total", "counter", "Messages refused for good", t.dead}};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        buf_printf(
            out,
            "# HELP sluice_webhooks_%s %s\n# TYPE sluice_webhooks_%s %s\nsluice_webhooks_%s %llu\n",
            all[i].name, all[i].help, all[i].name, all[i].type, all[i].name, U(all[i].value));
}

void sinks_put_metrics(const struct sinks *s, struct buf *out)
{
    enum {
        UP,
        OPEN,
        LAG,
        BYTES,
        AGE,
        SENT,
        BATCHES,
        FAILED,
        RETRIED,
        DEAD,
        LETTERS,
        GAPS,
        LOST,
        N
    };
    struct family f[N] = {
        [UP] = {"up", "gauge", "Whether it delivers: neither failing, nor paused, nor stuck"},
        [OPEN] = {"breaker_open", "gauge", "Whether its breaker keeps it from trying"},
        [LAG] = {"lag_messages", "gauge", "Records of the journal not delivered yet"},
        [BYTES] = {"lag_bytes", "gauge", "Bytes of these, about"},
        [AGE] = {"lag_seconds", "gauge", "Age of the oldest message not delivered", .ms = true},
        [SENT] = {"delivered_total", "counter", "Messages delivered"},
        [BATCHES] = {"batches_total", "counter", "Batches delivered"},
        [FAILED] = {"failures_total", "counter", "Attempts that failed because the target is away"},
        [RETRIED] = {"retries_total", "counter", "Connections tried once more behind a failure"},
        [DEAD] = {"dead_total", "counter", "Messages that the target refused for what they are"},
        [LETTERS] = {"dead_letters", "gauge", "Of these, kept now"},
        [GAPS] = {"gaps_total", "counter", "Stretches of the journal that were gone, or given up"},
        [LOST] = {"given_up_total", "counter",
                  "Records given up, as it lagged by more than it may hold"},
    };
    if (s->hooks)
        put_hooks_metrics(s, out);
    if (s->consumers.consume)
        consumers_put_metrics(&s->consumers, out);
    if (!s->count)
        return;
    for (unsigned i = 0; i < s->count; i++) {
        struct sink_stats t = sink_stats(s->at[i]);
        const uint64_t values[N] = {t.state == SINK_RUNNING,
                                    t.breaker == BREAKER_OPEN,
                                    t.lag,
                                    t.lag_bytes,
                                    t.lag_us / 1000,
                                    t.delivered,
                                    t.batches,
                                    t.failures,
                                    t.retries,
                                    t.dead,
                                    t.dead_letters,
                                    t.gaps,
                                    t.given_up};
        for (unsigned k = 0; k < N; k++)
            f[k].values[i] = values[k];
    }
    for (unsigned k = 0; k < N; k++)
        put_family(s, &f[k], out);
}
