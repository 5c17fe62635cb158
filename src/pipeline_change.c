/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of feeds and groups, to the catalog and back. What is answered is read like any GET:
 * after a change what it made, before a deletion what it deletes.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "pipeline_private.h"

#define TEXTS_MAX   (16u << 20)
#define RETRIES_MAX 16u

static struct catalog_ask *begin_ask(struct job *j, void (*done)(struct catalog_ask *ask))
{
    job_drop_asks(j);
    j->asks = calloc(1, sizeof *j->asks);
    CHECK(j->asks);
    j->asks_count = 1;
    buf_init(&j->texts, TEXTS_MAX);
    struct catalog_ask *ask = &j->asks[0];
    ask->actor = j->credential->name;
    ask->actor_credential = j->credential->number;
    ask->account_number = j->account->number;
    ask->done = done;
    ask->owner = j;
    return ask;
}

/* The answer is read anew; what was written of it is forgotten. */
static void read_again(struct job *j)
{
    struct reply *r = &job_exchange(j)->reply;
    buf_clear(&r->body);
    buf_clear(&r->fields);
    r->version = 0;
    if (j->found)
        buf_clear(&j->found->change);
    read_run(j);
}

static void on_changed(struct job *j)
{
    struct catalog_ask *ask = &j->asks[0];
    if (ask->reason != REASON_ok) {
        char text[sizeof ask->text];
        memcpy(text, ask->text, sizeof text);
        job_refuse(j, ask->reason, text);
        return;
    }
    /* The views must have seen a deletion before the account may look again. */
    remember_told(j->account, journal_durable(j->lane->p->opts.api.journal));
    j->changed = true;
    if (api_deletes(j->match.route->op) || j->match.route->op == OP_KEY_REGENERATE) {
        job_send(j); /* written already */
        return;
    }
    if (ask->ret_feed && !api_is_of_group(j->match.route->op)) {
        feed_unref(j->feed);
        j->feed = ask->ret_feed;
        ask->ret_feed = NULL;
    }
    if (ask->ret_group) {
        group_unref(j->group);
        j->group = ask->ret_group;
        ask->ret_group = NULL;
    }
    read_again(j);
}

static void on_ask_done(struct catalog_ask *ask)
{
    job_post(ask->owner, on_changed);
}

void change_submit(struct job *j)
{
    struct exchange *x = job_exchange(j);
    struct error err = {""};
    job_keep(j);
    struct catalog_ask *ask = begin_ask(j, on_ask_done);
    const struct api_caller c = {
        .account = j->account, .credential = j->credential, .feed = j->feed, .group = j->group};
    enum reason reason = api_change(&j->lane->p->opts.api, &j->match, x, &c, ask, &j->texts, &err);
    if (reason == REASON_ok)
        reason = catalog_submit(j->lane->p->opts.api.catalog, ask);
    if (reason != REASON_ok)
        job_refuse(j, reason, err.text);
}

void change_run(struct job *j)
{
    if (!job_throttle(j, 1, 0))
        return;
    if (api_deletes(j->match.route->op))
        read_run(j); /* and change_submit after it */
    else
        change_submit(j);
}

/* ---- the mark of a feed ---- */

/* Whoever lost a race for data/next reads on behind the winner. */
static void on_moved(struct job *j)
{
    enum reason reason = j->asks[0].reason;
    if (reason == REASON_ok) {
        job_send(j);
        return;
    }
    if (reason != REASON_conflict || ++j->retries > RETRIES_MAX) {
        job_exchange(j)->reply.retry_ns = NS_PER_S;
        job_refuse(j, reason == REASON_conflict ? REASON_busy : reason, NULL);
        return;
    }
    struct feed *now = catalog_feed_by_number(j->lane->p->opts.api.catalog, j->feed->number);
    if (!now) {
        job_refuse(j, REASON_not_found, NULL);
        return;
    }
    feed_unref(j->feed);
    j->feed = now;
    read_again(j);
}

static void on_move_done(struct catalog_ask *ask)
{
    job_post(ask->owner, on_moved);
}

void mark_move(struct job *j)
{
    job_keep(j);
    struct catalog_ask *ask = begin_ask(j, on_move_done);
    ask->op = CATALOG_FEED_MARK;
    ask->feed_number = j->feed->number;
    ask->mark_us = j->found->mark_us;
    ask->mark_offset = j->found->mark_offset;
    ask->mark_checked = j->match.route->op == OP_DATA_NEXT;
    ask->mark_from = j->feed->has_mark;
    ask->mark_from_us = j->feed->mark_us;
    ask->mark_from_offset = j->feed->mark_offset;
    enum reason reason = catalog_submit(j->lane->p->opts.api.catalog, ask);
    if (reason != REASON_ok)
        job_refuse(j, reason, NULL);
}
