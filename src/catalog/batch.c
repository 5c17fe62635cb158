/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/batch.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "catalog/names.h"
#include "catalog/row.h"

static op_run *const ops[] = {
    [CATALOG_ACCOUNT_ADD] = op_account_add,
    [CATALOG_ACCOUNT_REMOVE] = op_account_remove,
    [CATALOG_KEY_ADD] = op_key_add,
    [CATALOG_KEY_REMOVE] = op_key_remove,
    [CATALOG_DEVICE_ADD] = op_device_add,
    [CATALOG_DEVICE_SECRET] = op_device_secret,
    [CATALOG_DEVICE_DISABLE] = op_device_disable,
    [CATALOG_DEVICE_REMOVE] = op_device_remove,
    [CATALOG_FEED_ADD] = op_feed_add,
    [CATALOG_FEED_CHANGE] = op_feed_change,
    [CATALOG_FEED_MARK] = op_feed_mark,
    [CATALOG_FEED_REMOVE] = op_feed_remove,
    [CATALOG_GROUP_ADD] = op_group_add,
    [CATALOG_GROUP_CHANGE] = op_group_change,
    [CATALOG_GROUP_LINK] = op_group_link,
    [CATALOG_GROUP_UNLINK] = op_group_unlink,
    [CATALOG_GROUP_REMOVE] = op_group_remove,
    [CATALOG_ACCOUNT_LIMITS] = op_account_limits,
    [CATALOG_ACCOUNT_DISABLE] = op_account_disable,
    [CATALOG_DEVICE_CHANGE] = op_device_change,
    [CATALOG_KEY_CHANGE] = op_key_change,
    [CATALOG_KEY_SECRET] = op_key_secret,
    [CATALOG_ROLE_LIST] = op_role_list,
    [CATALOG_ROLE_ADD] = op_role_add,
    [CATALOG_ROLE_CHANGE] = op_role_change,
    [CATALOG_ROLE_REMOVE] = op_role_remove,
    [CATALOG_PLAN_LIST] = op_plan_list,
    [CATALOG_PLAN_ADD] = op_plan_add,
    [CATALOG_PLAN_CHANGE] = op_plan_change,
    [CATALOG_PLAN_REMOVE] = op_plan_remove,
    [CATALOG_NOTE] = op_note,
};

enum reason ask_refuse(struct catalog_ask *ask, enum reason reason, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(ask->text, sizeof ask->text, format, args);
    va_end(args);
    return ask->reason = reason;
}

enum reason ask_refuse_db(struct batch *b, struct catalog_ask *ask, int rc)
{
    log_line(LOG_ERROR, "catalog.statement_failed", "path=%s code=%d error=\"%s\"", b->db->path, rc,
             b->db->last.text);
    return ask_refuse(ask, db_reason(rc), "the catalog's database failed: %s", b->db->last.text);
}

/* ---- effects --------------------------------------------------------------------------------- */

void batch_effect(struct batch *b, struct effect e)
{
    if (b->effects_count == b->effects_cap) {
        b->effects_cap = b->effects_cap ? b->effects_cap * 2 : 64;
        b->effects = realloc(b->effects, b->effects_cap * sizeof *b->effects);
        CHECK(b->effects);
    }
    b->effects[b->effects_count++] = e;
}

static void effect_drop(struct effect *e)
{
    switch (e->kind) {
    case PUT_ACCOUNT:
        account_unref(e->record);
        break;
    case PUT_CREDENTIAL:
        credential_unref(e->record);
        break;
    case PUT_FEED:
        feed_unref(e->record);
        break;
    case PUT_GROUP:
        group_unref(e->record);
        break;
    default:
        break;
    }
}

static void drop_effects(struct batch *b, size_t from)
{
    while (b->effects_count > from)
        effect_drop(&b->effects[--b->effects_count]);
}

/* A row we have just written could not be read back: as if a statement had failed. */
static int row_failed(struct batch *b, const struct error *why)
{
    b->db->last = *why;
    return SQLITE_ERROR;
}

/* Makes effects of the rows that the statement has found, `rc` being what its run returned. At
 * least `min` of them, else SQLITE_ERROR. */
static int put_rows(struct batch *b, enum statement s, int rc, bool accounts, size_t min)
{
    size_t from = b->effects_count;
    for (; rc == SQLITE_ROW; rc = db_next(b->db, s)) {
        struct effect e = {.kind = accounts ? PUT_ACCOUNT : PUT_CREDENTIAL};
        struct account *a = NULL;
        struct credential *c = NULL;
        struct error why = {""};
        int bad = accounts ? row_account(b->db, s, &b->ack, &a, &e.number, &why)
                           : row_credential(b->db, s, &c, &e.number, &why);
        if (bad) {
            db_reset(b->db, s);
            return row_failed(b, &why);
        }
        e.record = accounts ? (void *)a : (void *)c;
        batch_effect(b, e);
    }
    db_reset(b->db, s);
    if (rc == SQLITE_DONE && b->effects_count - from < min)
        return row_failed(b, &(struct error){"the row is gone"});
    return rc;
}

int batch_put_account(struct batch *b, uint64_t number)
{
    return put_rows(b, SQL_ACCOUNT_READ, db_run(b->db, SQL_ACCOUNT_READ, num(number)), true, 1);
}

int batch_put_credential(struct batch *b, uint64_t number)
{
    return put_rows(b, SQL_CREDENTIAL_READ, db_run(b->db, SQL_CREDENTIAL_READ, num(number)), false,
                    1);
}

int batch_put_accounts(struct batch *b, enum statement s, struct slice text)
{
    return put_rows(b, s, db_run(b->db, s, txt(text)), true, 0);
}

int batch_put_credentials(struct batch *b, enum statement s, struct slice text)
{
    return put_rows(b, s, db_run(b->db, s, txt(text)), false, 0);
}

int batch_put_feed(struct batch *b, uint64_t number, struct feed **ret)
{
    struct feed *f = NULL;
    struct error why = {"the row is gone"};
    int rc = db_run(b->db, SQL_FEED_READ, num(number));
    if (rc == SQLITE_ROW)
        row_feed(b->db, SQL_FEED_READ, &f, &why);
    db_reset(b->db, SQL_FEED_READ);
    if (!f)
        return rc == SQLITE_ROW || rc == SQLITE_DONE ? row_failed(b, &why) : rc;
    batch_effect(b, (struct effect){.kind = PUT_FEED, .record = f});
    *ret = f;
    return SQLITE_DONE;
}

int batch_put_group(struct batch *b, uint64_t number, struct group **ret)
{
    struct group *g = NULL;
    struct error why = {"the row is gone"};
    int rc = db_run(b->db, SQL_GROUP_READ, num(number));
    if (rc == SQLITE_ROW)
        row_group(b->db, SQL_GROUP_READ, &g, &why);
    db_reset(b->db, SQL_GROUP_READ);
    if (!g)
        return rc == SQLITE_ROW || rc == SQLITE_DONE ? row_failed(b, &why) : rc;
    batch_effect(b, (struct effect){.kind = PUT_GROUP, .record = g});
    if (ret)
        *ret = g;
    return SQLITE_DONE;
}

/* ---- running --------------------------------------------------------------------------------- */

static struct item *item_add(struct batch *b, struct catalog_ask *ask)
{
    if (b->items_count == b->items_cap) {
        b->items_cap = b->items_cap ? b->items_cap * 2 : 64;
        b->items = realloc(b->items, b->items_cap * sizeof *b->items);
        CHECK(b->items);
    }
    struct item *it = &b->items[b->items_count++];
    *it = (struct item){.ask = ask, .effects_end = b->effects_count};
    return it;
}

static enum reason run_op(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    if ((unsigned)ask->op >= sizeof ops / sizeof ops[0])
        return ask_refuse(ask, REASON_bad_request, "there is no such change");
    if (!name_is_text(ask->actor, 256))
        return ask_refuse(ask, REASON_bad_request, "the actor's name is no text");
    if (!name_is_text(ask->from, 256))
        return ask_refuse(ask, REASON_bad_request, "the actor's address is no text");
    /* A feed that a message makes by naming it is data, not an act of somebody's: its dictionary
     * record tells of it. */
    changed_begin(&b->outbox->changed, ask->op != CATALOG_FEED_ADD || ask->must_create);
    enum reason r = ops[ask->op](b, it);
    int rc = r == REASON_ok ? outbox_audit_rest(b->outbox, ask, b->now_us) : SQLITE_DONE;
    return rc == SQLITE_DONE ? r : ask_refuse_db(b, ask, rc);
}

/* One ask in its savepoint. REASON_ok, also when it is refused; else why the transaction failed. */
static enum reason run_ask(struct batch *b, struct item *it)
{
    size_t effects = b->effects_count;
    uint64_t waiting = b->outbox->waiting;
    it->ask->reason = REASON_ok;
    it->ask->text[0] = 0;
    int rc = db_exec(b->db, SQL_SAVEPOINT);
    if (rc != SQLITE_DONE)
        return db_reason(rc);
    if (run_op(b, it) != REASON_ok) {
        drop_effects(b, effects);
        b->outbox->waiting = waiting;
        *it = (struct item){.ask = it->ask};
        if (db_rolled_back(b->db)) /* SQLite ends the transaction itself when the disk is full */
            return it->ask->reason;
        rc = db_exec(b->db, SQL_ROLLBACK_TO);
    }
    it->effects_end = b->effects_count;
    if (rc == SQLITE_DONE)
        rc = db_exec(b->db, SQL_RELEASE);
    return rc == SQLITE_DONE ? REASON_ok : db_reason(rc);
}

/* The transaction is gone, and with it what every ask of it did or was told. */
static void refuse_all(struct batch *b, enum reason reason, uint64_t waiting)
{
    db_rollback(b->db);
    log_line(LOG_ERROR, "catalog.transaction_failed", "path=%s reason=%s asks=%zu error=\"%s\"",
             b->db->path, reason_info(reason)->name, b->items_count, b->db->last.text);
    drop_effects(b, 0);
    b->outbox->waiting = waiting;
    for (size_t i = 0; i < b->items_count; i++) {
        struct catalog_ask *ask = b->items[i].ask;
        b->items[i] = (struct item){.ask = ask};
        ask_refuse(ask, reason, "the catalog's database failed: %s", b->db->last.text);
    }
}

bool batch_run(struct batch *b, struct catalog_ask *asks)
{
    uint64_t waiting = b->outbox->waiting;
    for (struct catalog_ask *ask = asks; ask; ask = ask->next)
        item_add(b, ask);
    b->now_us = clock_wall_us();
    int rc = db_begin(b->db);
    enum reason failed = rc == SQLITE_DONE ? REASON_ok : db_reason(rc);
    for (size_t i = 0; i < b->items_count && failed == REASON_ok; i++)
        failed = run_ask(b, &b->items[i]);
    bool wrote = b->effects_count > 0 || b->outbox->waiting > waiting;
    bool tidies = wrote && outbox_is_untidy(b->outbox);
    if (failed == REASON_ok && tidies && (rc = outbox_tidy(b->outbox)) != SQLITE_DONE)
        failed = db_reason(rc);
    if (failed == REASON_ok && (rc = db_commit(b->db)) != SQLITE_OK)
        failed = db_reason(rc);
    if (failed != REASON_ok) {
        refuse_all(b, failed, waiting);
        return false;
    }
    if (tidies)
        outbox_tidied(b->outbox);
    return wrote;
}

/* ---- publishing and answering ---------------------------------------------------------------- */

/* True: an account or a credential changed. The effect's reference is handed over. */
static bool apply(struct memory *m, struct effect *e)
{
    switch (e->kind) {
    case PUT_ACCOUNT:
        memory_put_account(m, e->record, e->number);
        return true;
    case PUT_CREDENTIAL:
        CHECK(memory_put_credential(m, e->record, e->number));
        return true;
    case PUT_FEED:
        CHECK(memory_put_feed(m, e->record));
        return false;
    case PUT_GROUP:
        CHECK(memory_put_group(m, e->record));
        return false;
    case NO_GROUP:
        memory_remove_group(m, e->number);
        return false;
    case NO_ACCOUNT:
        memory_remove_account(m, e->number);
        return true;
    case NO_CREDENTIAL:
        memory_remove_credential(m, e->number);
        return true;
    case NO_FEED:
        memory_remove_feed(m, e->number);
        return false;
    }
    return false;
}

static void give(struct item *it, struct memory *m)
{
    if (!it->ask || it->ask->reason != REASON_ok)
        return;
    if (it->account)
        it->ask->ret_account = memory_account_by_number(m, it->account);
    if (it->credential)
        it->ask->ret_credential = memory_credential(m, it->credential);
    if (it->feed)
        it->ask->ret_feed = memory_feed_by_number(m, it->feed);
    if (it->group)
        it->ask->ret_group = memory_group_by_number(m, it->group);
}

/* Whether something is called otherwise behind it, or nothing any more. */
static bool renames(struct memory *m, const struct effect *e)
{
    bool is = e->kind == NO_ACCOUNT || e->kind == NO_CREDENTIAL || e->kind == NO_FEED;
    if (e->kind == PUT_FEED) {
        const struct feed *next = e->record;
        struct feed *f = memory_feed_by_number(m, next->number);
        is = f && !slice_eq(f->key, next->key);
        feed_unref(f);
    } else if (e->kind == PUT_ACCOUNT) {
        const struct account *next = e->record;
        struct account *a = memory_account_by_number(m, next->number);
        is = a && !slice_eq(a->name, next->name);
        account_unref(a);
    } else if (e->kind == PUT_CREDENTIAL) {
        const struct credential *next = e->record;
        struct credential *c = memory_credential(m, next->number);
        is = c && !slice_eq(c->name, next->name);
        credential_unref(c);
    }
    return is;
}

static bool apply_next(struct batch *b, struct memory *m, size_t i)
{
    b->renamed = b->renamed || renames(m, &b->effects[i]);
    return apply(m, &b->effects[i]);
}

bool batch_publish(struct batch *b, struct memory *m)
{
    bool moved = false;
    b->renamed = false;
    size_t done = 0;
    for (size_t i = 0; i < b->items_count; i++) {
        struct item *it = &b->items[i];
        if (it->removes)
            give(it, m);
        for (; done < it->effects_end; done++)
            moved |= apply_next(b, m, done);
        if (!it->removes)
            give(it, m);
    }
    for (; done < b->effects_count; done++) /* those of no ask: held back when it was opened */
        moved |= apply_next(b, m, done);
    b->effects_count = 0;
    return moved;
}

void batch_answer(struct batch *b, enum reason reason, const char *text)
{
    for (size_t i = 0; i < b->items_count; i++) {
        struct catalog_ask *ask = b->items[i].ask;
        b->items[i].ask = NULL;
        if (!ask)
            continue;
        if (ask->reason == REASON_ok && reason != REASON_ok)
            ask_refuse(ask, reason, "%s", text);
        ask->done(ask);
    }
}

void batch_clear(struct batch *b)
{
    drop_effects(b, 0);
    b->items_count = 0;
}

void batch_fini(struct batch *b)
{
    batch_clear(b);
    free(b->effects);
    free(b->items);
    *b = (struct batch){0};
}
