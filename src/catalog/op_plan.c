/* SPDX-License-Identifier: Apache-2.0 */
/* Plans. A change makes a new record of every account that has the plan, and of its credentials. */
#include "base/log.h"
#include "catalog/batch.h"
#include "catalog/names.h"
#include "catalog/seed.h"

#define FEEDS_MAX_DEFAULT 1000000

static void copy(char *out, struct slice text, size_t max)
{
    size_t n = text.len < max ? text.len : max;
    if (n)
        memcpy(out, text.ptr, n);
    out[n] = 0;
}

/* Appends the plans of that name (empty: all) to the answer. */
static int list(struct batch *b, struct catalog_ask *ask)
{
    int rc = db_run(b->db, SQL_PLAN_READ, txt_or_null(ask->name));
    for (; rc == SQLITE_ROW; rc = db_next(b->db, SQL_PLAN_READ)) {
        struct catalog_plan plan = {.feeds_max = db_number(b->db, SQL_PLAN_READ, 3),
                                    .accounts = db_number(b->db, SQL_PLAN_READ, 4)};
        copy(plan.name, db_text(b->db, SQL_PLAN_READ, 0), USERNAME_MAX);
        copy(plan.limits, db_text(b->db, SQL_PLAN_READ, 1), LIMITS_TEXT_MAX);
        copy(plan.device_limits, db_text(b->db, SQL_PLAN_READ, 2), LIMITS_TEXT_MAX);
        copy(plan.ack, db_text(b->db, SQL_PLAN_READ, 5), ACK_TEXT_MAX);
        buf_put(ask->ret_list, &plan, sizeof plan);
    }
    db_reset(b->db, SQL_PLAN_READ);
    return rc;
}

static enum reason no_plan(struct catalog_ask *ask)
{
    char shown[128];
    return ask_refuse(ask, REASON_not_found, "there is no plan \"%s\"", log_text(shown, ask->name));
}

enum reason op_plan_list(struct batch *b, struct item *it)
{
    int rc = list(b, it->ask);
    if (rc != SQLITE_DONE)
        return ask_refuse_db(b, it->ask, rc);
    return it->ask->name.len && !it->ask->ret_list->len ? no_plan(it->ask) : REASON_ok;
}

static int audit(struct batch *b, struct catalog_ask *ask, const char *op)
{
    return outbox_audit(b->outbox, ask,
                        &(struct audit){.op = op, .now_us = b->now_us, .subject = ask->name});
}

static bool exists(struct batch *b, struct slice name)
{
    bool found = db_run(b->db, SQL_PLAN_EXISTS, txt(name)) == SQLITE_ROW;
    db_reset(b->db, SQL_PLAN_EXISTS);
    return found;
}

/* Empty limits are none at all, and no NULL; so is an empty ack level. */
static struct db_value limits(struct slice text)
{
    return txt(text.len ? text : SLICE(""));
}

enum reason op_plan_add(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    if (!name_is_username(ask->name))
        return ask_refuse(ask, REASON_bad_request,
                          "a plan's name has 1 to %d letters, digits, '-' and '_'", USERNAME_MAX);
    if (exists(b, ask->name))
        return ask_refuse(ask, REASON_conflict, "the plan \"%.*s\" exists already",
                          SLICE_ARG(ask->name));
    if (op_count(b, SQL_PLAN_COUNT) >= PLANS_MAX)
        return ask_refuse(ask, REASON_bad_request, "there are %d plans, which is the most",
                          PLANS_MAX);
    enum reason r = op_check_limits(ask);
    if (r != REASON_ok)
        return r;
    int rc =
        db_run(b->db, SQL_PLAN_ADD, txt(ask->name), limits(ask->limits), limits(ask->device_limits),
               num(ask->has_feeds_max ? ask->feeds_max : FEEDS_MAX_DEFAULT),
               num(b->db->next[NEXT_CHANGE]), txt_or_null(ask->ack));
    if (rc == SQLITE_DONE)
        rc = audit(b, ask, "plan_add");
    if (rc == SQLITE_DONE)
        rc = list(b, ask);
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

enum reason op_plan_change(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    const struct db_value none = {.type = DB_NULL};
    enum reason r = op_check_limits(ask);
    if (r != REASON_ok)
        return r;
    if (!exists(b, ask->name))
        return no_plan(ask);
    int rc = db_run(b->db, SQL_PLAN_CHANGE, txt(ask->name),
                    ask->keep_limits ? none : limits(ask->limits),
                    ask->keep_device_limits ? none : limits(ask->device_limits),
                    ask->has_feeds_max ? num(ask->feeds_max) : none, num(b->db->next[NEXT_CHANGE]),
                    ask->ack.ptr ? limits(ask->ack) : none);
    if (rc == SQLITE_DONE)
        rc = audit(b, ask, "plan_change");
    if (rc == SQLITE_DONE)
        rc = batch_put_accounts(b, SQL_ACCOUNT_READ_PLAN, ask->name);
    if (rc == SQLITE_DONE)
        rc = list(b, ask);
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

enum reason op_plan_remove(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    struct catalog_plan plan;
    if (slice_eq(ask->name, SLICE(CATALOG_PLAN_DEFAULT)))
        return ask_refuse(ask, REASON_bad_request,
                          "new accounts get the plan \"%.*s\": it cannot be removed",
                          SLICE_ARG(ask->name));
    if (!exists(b, ask->name))
        return no_plan(ask);
    size_t at = ask->ret_list->len;
    int rc = list(b, ask);
    if (rc != SQLITE_DONE || ask->ret_list->len != at + sizeof plan)
        return ask_refuse_db(b, ask, rc);
    memcpy(&plan, ask->ret_list->ptr + at, sizeof plan);
    if (plan.accounts)
        return ask_refuse(ask, REASON_conflict, "%llu accounts have the plan \"%s\"",
                          (unsigned long long)plan.accounts, plan.name);
    rc = db_run(b->db, SQL_PLAN_REMOVE, txt(ask->name));
    if (rc == SQLITE_DONE)
        rc = audit(b, ask, "plan_remove");
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}
