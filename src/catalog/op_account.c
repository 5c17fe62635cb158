/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of accounts. */
#include "base/log.h"
#include "catalog/batch.h"
#include "catalog/names.h"
#include "catalog/seed.h"
#include "flow/limit.h"

enum reason op_find_account(struct batch *b, struct catalog_ask *ask, struct owner *ret)
{
    char shown[128];
    bool by_name = ask->account.len > 0;
    enum statement s = by_name ? SQL_ACCOUNT_FIND : SQL_ACCOUNT_FIND_NUMBER;
    int rc =
        by_name ? db_run(b->db, s, txt(ask->account)) : db_run(b->db, s, num(ask->account_number));
    if (rc == SQLITE_ROW) {
        struct slice name = db_text(b->db, s, 1);
        ret->number = db_number(b->db, s, 0);
        ret->name = slice_of(ret->text, name.len < USERNAME_MAX ? name.len : USERNAME_MAX);
        memcpy(ret->text, name.ptr, ret->name.len);
        db_reset(b->db, s);
        return REASON_ok;
    }
    if (rc != SQLITE_DONE)
        return ask_refuse_db(b, ask, rc);
    if (by_name)
        return ask_refuse(ask, REASON_not_found, "there is no account \"%s\"",
                          log_text(shown, ask->account));
    return ask_refuse(ask, REASON_not_found, "there is no account %llu",
                      (unsigned long long)ask->account_number);
}

enum reason op_find_owner(struct batch *b, struct catalog_ask *ask, uint64_t account,
                          struct owner *ret)
{
    ask->account = (struct slice){0};
    ask->account_number = account;
    return op_find_account(b, ask, ret);
}

enum reason op_read(struct batch *b, struct catalog_ask *ask, int rc, bool has_record,
                    const char *what, uint64_t number)
{
    if (rc == SQLITE_DONE)
        return ask_refuse(ask, REASON_not_found, "there is no %s %llu", what,
                          (unsigned long long)number);
    if (!has_record)
        return ask_refuse_db(b, ask, rc == SQLITE_ROW ? SQLITE_ERROR : rc);
    return REASON_ok;
}

static enum reason check_plan(struct batch *b, struct catalog_ask *ask, struct slice plan)
{
    char shown[128];
    int rc = db_run(b->db, SQL_PLAN_EXISTS, txt(plan));
    db_reset(b->db, SQL_PLAN_EXISTS);
    if (rc == SQLITE_DONE)
        return ask_refuse(ask, REASON_bad_request, "there is no plan \"%s\"",
                          log_text(shown, plan));
    return rc == SQLITE_ROW ? REASON_ok : ask_refuse_db(b, ask, rc);
}

enum reason op_check_limits(struct catalog_ask *ask)
{
    struct limit_set set;
    struct ack ack;
    struct error why;
    if (limit_set_parse(ask->limits, &set, &why))
        return ask_refuse(ask, REASON_bad_request, "limits: %.140s", why.text);
    if (limit_set_parse(ask->device_limits, &set, &why))
        return ask_refuse(ask, REASON_bad_request, "device limits: %.130s", why.text);
    if (ask->limits.len > LIMITS_TEXT_MAX || ask->device_limits.len > LIMITS_TEXT_MAX)
        return ask_refuse(ask, REASON_bad_request, "limits are longer than %d characters",
                          LIMITS_TEXT_MAX);
    if (ask->ack.len && !ack_parse(ask->ack, &ack))
        return ask_refuse(ask, REASON_bad_request, "ack must be " ACK_WORDS);
    return REASON_ok;
}

static struct audit audit_of(const struct batch *b, const char *op, const struct owner *o)
{
    return (struct audit){.op = op,
                          .now_us = b->now_us,
                          .account = o->number,
                          .account_name = o->name,
                          .subject = o->name,
                          .subject_number = o->number};
}

enum reason op_account_add(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    struct slice plan = ask->plan.len ? ask->plan : SLICE(CATALOG_PLAN_DEFAULT);
    if (!name_is_username(ask->account))
        return ask_refuse(ask, REASON_bad_request,
                          "a username has 1 to %d letters, digits, '-' and '_'", USERNAME_MAX);
    if (name_is_reserved(ask->account))
        return ask_refuse(ask, REASON_bad_request, "the username \"%.*s\" is reserved",
                          SLICE_ARG(ask->account));
    enum reason r = op_check_limits(ask);
    if (r == REASON_ok)
        r = check_plan(b, ask, plan);
    if (r != REASON_ok)
        return r;
    int rc = db_run(b->db, SQL_ACCOUNT_FIND, txt(ask->account));
    db_reset(b->db, SQL_ACCOUNT_FIND);
    if (rc == SQLITE_ROW)
        return ask_refuse(ask, REASON_conflict, "the account \"%.*s\" exists already",
                          SLICE_ARG(ask->account));
    struct owner o = {.number = db_take_number(b->db, NEXT_ACCOUNT), .name = ask->account};
    struct audit a = audit_of(b, "account_add", &o);
    uint64_t change = b->db->next[NEXT_CHANGE];
    if (rc == SQLITE_DONE)
        rc = db_run(b->db, SQL_ACCOUNT_ADD, num(o.number), txt(o.name), txt(plan),
                    txt_or_null(ask->limits), txt_or_null(ask->device_limits),
                    num((uint64_t)b->now_us), num(change), num(ask->topics), txt_or_null(ask->ack));
    if (rc == SQLITE_DONE)
        rc = outbox_account(b->outbox, ask, b->now_us, o.number, o.name);
    if (rc == SQLITE_DONE)
        rc = batch_put_account(b, o.number);
    uint64_t group;
    if (rc == SQLITE_DONE)
        rc = op_group_take(b, o.number, SLICE("default"), &group);
    if (rc == SQLITE_DONE)
        rc = outbox_audit(b->outbox, ask, &a);
    it->account = o.number;
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

enum reason op_account_limits(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    struct owner o;
    enum reason r = op_check_limits(ask);
    if (r == REASON_ok && ask->plan.len)
        r = check_plan(b, ask, ask->plan);
    if (r == REASON_ok)
        r = op_find_account(b, ask, &o);
    if (r != REASON_ok)
        return r;
    struct audit a = audit_of(b, "account_limits", &o);
    const struct db_value none = {.type = DB_NULL};
    int rc = db_run(b->db, SQL_ACCOUNT_LIMITS, num(o.number), txt_or_null(ask->plan),
                    num(ask->keep_limits), txt_or_null(ask->limits), num(ask->keep_device_limits),
                    txt_or_null(ask->device_limits), num(b->db->next[NEXT_CHANGE]),
                    ask->has_topics ? num(ask->topics) : none, num(!ask->ack.ptr),
                    txt_or_null(ask->ack));
    if (rc == SQLITE_DONE)
        rc = outbox_audit(b->outbox, ask, &a);
    if (rc == SQLITE_DONE)
        rc = batch_put_account(b, o.number);
    it->account = o.number;
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

enum reason op_account_disable(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    struct owner o;
    enum reason r = op_find_account(b, ask, &o);
    if (r != REASON_ok)
        return r;
    struct audit a = audit_of(b, "account_disable", &o);
    int rc = db_run(b->db, SQL_ACCOUNT_DISABLE, num(o.number), num(ask->disabled),
                    num(b->db->next[NEXT_CHANGE]));
    if (rc == SQLITE_DONE)
        rc = outbox_audit(b->outbox, ask, &a);
    if (rc == SQLITE_DONE)
        rc = batch_put_account(b, o.number);
    it->account = o.number;
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

enum reason op_account_remove(struct batch *b, struct item *it)
{
    static const enum statement parts[] = {SQL_ACCOUNT_REMOVE_MEMBERS, SQL_ACCOUNT_REMOVE_FEEDS,
                                           SQL_ACCOUNT_REMOVE_GROUPS,
                                           SQL_ACCOUNT_REMOVE_CREDENTIALS, SQL_ACCOUNT_REMOVE};
    struct catalog_ask *ask = it->ask;
    struct owner o;
    enum reason r = op_find_account(b, ask, &o);
    if (r != REASON_ok)
        return r;
    struct audit a = audit_of(b, "account_remove", &o);
    uint64_t feeds = 0;
    int rc = outbox_deleted_all(b->outbox, ask, b->now_us, o.number, &feeds);
    for (unsigned i = 0; i < sizeof parts / sizeof parts[0] && rc == SQLITE_DONE; i++)
        rc = db_run(b->db, parts[i], num(o.number));
    if (rc == SQLITE_DONE)
        rc = outbox_audit(b->outbox, ask, &a);
    if (rc != SQLITE_DONE)
        return ask_refuse_db(b, ask, rc);
    it->account = o.number;
    it->removes = true;
    batch_effect(b, (struct effect){.kind = NO_ACCOUNT, .number = o.number});
    return REASON_ok;
}
