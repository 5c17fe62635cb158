/* SPDX-License-Identifier: Apache-2.0 */
#include "server_figures.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"

/* Nobody but the server writes there, and what it writes is bounded: no window may refuse it. */
#define LIMITS SLICE("1000000/1s")
#define ACTOR  SLICE("system")

enum { COMMIT_P99, DISK_FREE, HASH_QUEUE, REFUSALS, OWN };

static const struct {
    const char *key, *name, *unit, *description;
} own[OWN] = {
    [COMMIT_P99] = {"commit-p99", "commit p99", "ms",
                    "How long a group commit of the journal took, 99th percentile"},
    [DISK_FREE] = {"disk-free", "disk free", "%", "What is free of the journal's file system"},
    [HASH_QUEUE] = {"hash-queue", "hash queue", "", "Checks that wait for a password hash"},
    [REFUSALS] = {"refusals", "refusals", "1/s", "Requests refused, for whatever reason"},
};

static_assert(OWN + SINKS_MAX <= FIGURES_MAX, "each has room");

/* ---- the account and its feeds --------------------------------------------------------------- */

static int cannot(struct error *err, const struct catalog_ask *ask, enum reason reason,
                  const char *what)
{
    return error_set(err, -EIO, "system.account: %s: %s", what,
                     ask->text[0] ? ask->text : reason_info(reason)->text);
}

static int make_account(struct figures *f, struct catalog *catalog, struct slice name,
                        struct error *err)
{
    struct account *account = catalog_account(catalog, name);
    if (!account) {
        struct catalog_ask ask = {.op = CATALOG_ACCOUNT_ADD,
                                  .actor = ACTOR,
                                  .account = name,
                                  .limits = LIMITS,
                                  .device_limits = LIMITS};
        enum reason reason = catalog_call(catalog, &ask);
        if (reason != REASON_ok)
            return cannot(err, &ask, reason, "the account cannot be made");
        account = ask.ret_account;
    }
    f->account = account->number;
    account_unref(account);
    return 0;
}

static int make_feed(const struct figures *f, struct catalog *catalog, const char *key,
                     const char *name, const char *unit, const char *description, struct error *err)
{
    struct feed *feed = catalog_feed(catalog, f->account, slice_str(key));
    if (feed) {
        feed_unref(feed);
        return 0;
    }
    struct catalog_ask ask = {.op = CATALOG_FEED_ADD,
                              .actor = ACTOR,
                              .account_number = f->account,
                              .key = slice_str(key),
                              .feed_name = slice_str(name),
                              .unit_symbol = slice_str(unit),
                              .description = slice_str(description)};
    enum reason reason = catalog_call(catalog, &ask);
    feed_unref(ask.ret_feed);
    return reason == REASON_ok ? 0 : cannot(err, &ask, reason, key);
}

static void key_of_lag(char out[FIGURE_KEY_MAX], const struct sink *sink)
{
    snprintf(out, FIGURE_KEY_MAX, "lag-%s", sink_name(sink));
}

int figures_open(struct figures *f, const struct config *c, struct catalog *catalog,
                 struct journal *journal, const struct sinks *sinks, struct error *err)
{
    char key[FIGURE_KEY_MAX];
    if (!c->system.figures)
        return 0;
    *f = (struct figures){
        .journal = journal, .sinks = sinks, .every_ns = c->system.interval * NS_PER_MS};
    int rc = make_account(f, catalog, slice_str(c->system.account), err);
    for (unsigned i = 0; i < OWN && rc == 0; i++)
        rc = make_feed(f, catalog, own[i].key, own[i].name, own[i].unit, own[i].description, err);
    for (unsigned i = 0; i < sinks->count && rc == 0; i++) {
        key_of_lag(key, sinks->at[i]);
        rc = make_feed(f, catalog, key, key, "s", "Age of the oldest message not delivered", err);
    }
    f->taken_ns = clock_mono_ns();
    f->refusals = reason_sum();
    metric_quantile_since(METRIC_journal_commit_latency, 0.99, &f->commits);
    return rc;
}

/* ---- taking them ----------------------------------------------------------------------------- */

static void put(struct figure *ret, const char *key, double value)
{
    snprintf(ret->key, sizeof ret->key, "%s", key);
    ret->value = value;
}

/* On the first worker. */
static unsigned take(void *arg, struct figure *ret)
{
    struct figures *f = arg;
    uint64_t now_ns = clock_mono_ns(), refusals = reason_sum();
    double s = (double)(now_ns - f->taken_ns) / (double)NS_PER_S;
    uint64_t p99 = metric_quantile_since(METRIC_journal_commit_latency, 0.99, &f->commits);
    put(&ret[COMMIT_P99], own[COMMIT_P99].key, (double)(p99 / NS_PER_US) / 1000);
    put(&ret[DISK_FREE], own[DISK_FREE].key, (1000 - (double)journal_fill(f->journal)) / 10);
    put(&ret[HASH_QUEUE], own[HASH_QUEUE].key, (double)metric_gauge(METRIC_hash_queue_length));
    put(&ret[REFUSALS], own[REFUSALS].key,
        (double)(uint64_t)((double)(refusals - f->refusals) / s * 10 + 0.5) / 10);
    f->taken_ns = now_ns;
    f->refusals = refusals;
    for (unsigned i = 0; i < f->sinks->count; i++) {
        struct figure *lag = &ret[OWN + i];
        key_of_lag(lag->key, f->sinks->at[i]);
        lag->value = (double)(sink_stats(f->sinks->at[i]).lag_us / 1000) / 1000;
    }
    return OWN + f->sinks->count;
}

struct figure_source figures_source(struct figures *f)
{
    return (struct figure_source){
        .account = f->account, .every_ns = f->every_ns, .take = take, .arg = f};
}
