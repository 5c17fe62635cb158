/* SPDX-License-Identifier: Apache-2.0 */
#include "server_consume.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"

#define U(v) (unsigned long long)(v)

int consumers_open(struct consumers *s, const struct config *c, const struct sink_opts *common,
                   uint64_t hold_bytes, struct error *err)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/consume", common->dir) >= (int)sizeof path)
        return error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long", common->dir);
    int rc = common->disk->mkdir(common->disk, common->dir);
    if (rc < 0)
        return error_set(err, rc, "cannot make %s: %s", common->dir, strerror(-rc));
    s->max = (unsigned)c->consume.groups_max;
    const struct consume_opts opts = {.journal = common->journal,
                                      .keyring = common->keyring,
                                      .disk = common->disk,
                                      .path = path,
                                      .node = (uint16_t)c->server.node,
                                      .names = common->names,
                                      .arg = &s->namer,
                                      .groups_max = s->max,
                                      .account_groups_max =
                                          (unsigned)c->consume.groups_per_account_max,
                                      .window_messages = (uint32_t)c->consume.window,
                                      .window_bytes = c->consume.window_size,
                                      .hold_bytes = hold_bytes,
                                      .idle_ns = c->consume.idle_time * NS_PER_MS};
    return consume_start(&opts, &s->consume, err);
}

void consumers_close(struct consumers *s)
{
    consume_stop(s->consume);
    s->consume = NULL;
}

/* The caller's to free. */
static struct consume_stats *stats_of(const struct consumers *s, unsigned *ret_count)
{
    struct consume_stats *all = calloc(s->max, sizeof *all);
    CHECK(all);
    *ret_count = consume_stats(s->consume, all, s->max);
    return all;
}

void consumers_put_status(const struct consumers *s, struct buf *out)
{
    unsigned n;
    struct consume_stats *all = stats_of(s, &n);
    buf_put_str(out, ",\"consumers\":[");
    for (unsigned i = 0; i < n; i++) {
        const struct consume_stats *t = &all[i];
        buf_put_str(out, i ? ",{\"account\":" : "{\"account\":");
        buf_put_json(out, slice_str(t->account_name));
        buf_printf(out,
                   ",\"group\":\"%s\",\"position\":%llu,\"lag\":%llu,\"leased\":%llu,"
                   "\"waiting\":%llu,\"connected\":%llu,\"delivered\":%llu,\"redelivered\":%llu,"
                   "\"acknowledged\":%llu,\"returned\":%llu,\"expired\":%llu,\"missed\":%llu}",
                   t->name, U(t->position), U(t->lag), U(t->leased), U(t->waiting), U(t->connected),
                   U(t->delivered), U(t->redelivered), U(t->acked), U(t->nacked), U(t->expired),
                   U(t->missed));
    }
    buf_put_str(out, "]");
    free(all);
}

static uint64_t value_of(const struct consume_stats *t, unsigned family)
{
    const uint64_t values[] = {t->lag, t->leased, t->waiting};
    return values[family];
}

void consumers_put_metrics(const struct consumers *s, struct buf *out)
{
    static const char *const families[][2] = {
        {"lag_records", "Records of the journal that a group is not past"},
        {"leased_messages", "Messages that a group's consumers have now"},
        {"waiting_fetches", "Fetches of a group that wait for a message"}};
    unsigned n;
    struct consume_stats *all = stats_of(s, &n);
    for (unsigned f = 0; n && f < sizeof families / sizeof *families; f++) {
        buf_printf(out, "# HELP sluice_consume_%s %s\n# TYPE sluice_consume_%s gauge\n",
                   families[f][0], families[f][1], families[f][0]);
        for (unsigned i = 0; i < n; i++)
            buf_printf(out, "sluice_consume_%s{account=\"%s\",group=\"%s\"} %llu\n", families[f][0],
                       all[i].account_name, all[i].name, U(value_of(&all[i], f)));
    }
    free(all);
}
