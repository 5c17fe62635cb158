/* SPDX-License-Identifier: Apache-2.0 */
#include "server_sinks.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/rand.h"

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

/* ---- life ------------------------------------------------------------------------------------ */

/* A sink that is away for long must not bring the journal to its cap, where messages are refused;
 * nor is a segment given up that is being filled. */
static uint64_t hold_of(const struct config *c, uint64_t wanted)
{
    uint64_t most = c->journal.cap_size ? c->journal.cap_size / 2 : UINT64_MAX;
    uint64_t least = 2 * c->journal.segment_size, bytes = wanted < most ? wanted : most;
    return bytes > least ? bytes : least;
}

static int open_postgres(struct sinks *s, const struct config *c, const struct sink_opts *common,
                         struct error *err)
{
    struct sink_opts opts = *common;
    struct postgres_opts target = {.name = "postgres",
                                   .url = c->postgres.url,
                                   .password_file = c->postgres.password_file,
                                   .schema = c->postgres.schema,
                                   .timeout_ns = c->postgres.timeout * NS_PER_MS,
                                   .keep_days = (c->postgres.keep + DAY_MS - 1) / DAY_MS};
    struct journal_position position = journal_position(common->journal);
    memcpy(target.log_id, position.log_id, sizeof target.log_id);
    int rc = postgres_new(&target, &s->postgres, err);
    if (rc)
        return rc;
    opts.name = "postgres";
    opts.ops = &postgres_ops;
    opts.of = s->postgres;
    opts.arg = &s->postgres_namer;
    opts.accounts = c->postgres.accounts;
    opts.feeds = c->postgres.feeds;
    opts.batch_count = (unsigned)c->postgres.batch_max;
    opts.batch_bytes = c->postgres.batch_size;
    opts.linger_ns = c->postgres.batch_time * NS_PER_MS;
    opts.retry_max_ns = c->postgres.retry_max * NS_PER_MS;
    opts.breaker.open_max_ns = opts.retry_max_ns;
    opts.breaker.open_ns = opts.retry_max_ns / 4;
    opts.hold_bytes = hold_of(c, c->postgres.hold_size);
    opts.dead_bytes = c->postgres.dead_size;
    rc = sink_start(&opts, &s->at[s->count], err);
    s->count += rc == 0;
    return rc;
}

int sinks_open(struct sinks *s, const struct config *c, struct disk *disk, struct journal *journal,
               struct keyring *keyring, struct catalog *catalog, struct error *err)
{
    char dir[PATH_MAX];
    struct sink_opts common = {
        .journal = journal,
        .keyring = keyring,
        .disk = disk,
        .dir = dir,
        .names = give_names,
        .retry_ns = RETRY_NS,
        .breaker = {.volume_min = 5, .fail_percent = 50, .window_ns = 60 * NS_PER_S}};
    rand_secret(&common.seed, sizeof common.seed);
    s->postgres_namer.catalog = catalog;
    if (!c->postgres.url[0])
        return sink_forget(journal, "postgres");
    if (snprintf(dir, sizeof dir, "%s/sinks", c->server.data) >= (int)sizeof dir)
        return error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long", c->server.data);
    int rc = disk->mkdir(disk, dir);
    if (rc < 0)
        return error_set(err, rc, "cannot make %s: %s", dir, strerror(-rc));
    return open_postgres(s, c, &common, err);
}

void sinks_close(struct sinks *s)
{
    for (unsigned i = 0; i < s->count; i++)
        sink_stop(s->at[i]);
    s->count = 0;
    postgres_free(s->postgres);
    s->postgres = NULL;
    let_go(&s->postgres_namer);
}

/* ---- what is told ---------------------------------------------------------------------------- */

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
}

void sinks_put_passed(const struct sinks *s, uint64_t offset, struct buf *out)
{
    buf_put_str(out, ",\"delivered\":{");
    for (unsigned i = 0; i < s->count; i++)
        buf_printf(out, "%s\"%s\":%s", i ? "," : "", sink_name(s->at[i]),
                   sink_stats(s->at[i]).position > offset ? "true" : "false");
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
