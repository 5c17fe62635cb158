/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog/batch.h - asks that share one transaction, and what is to be published of them once their
 * records are in the journal. One thread: the catalog's.
 *
 * A refused ask is rolled back alone (a savepoint each). When the transaction itself fails, every
 * ask of it is refused.
 */
#pragma once

#include "catalog/catalog.h"
#include "catalog/memory.h"
#include "catalog/outbox.h"

/* What one change does to the memory. */
struct effect {
    enum {
        PUT_ACCOUNT,
        PUT_CREDENTIAL,
        PUT_FEED,
        PUT_GROUP,
        NO_ACCOUNT,
        NO_CREDENTIAL,
        NO_FEED,
        NO_GROUP
    } kind;
    uint64_t number; /* PUT_ACCOUNT: version; PUT_CREDENTIAL: account; NO_*: what goes */
    void *record;    /* PUT_*: the effect's reference */
};

/* One ask and what it is about. */
struct item {
    struct catalog_ask *ask; /* NULL: answered already */
    uint64_t account, credential, feed,
        group;          /* the one whose record is the answer; 0: not that kind */
    bool removes;       /* the answer is the record as it was before */
    size_t effects_end; /* its effects end here in the batch's */
};

struct batch {
    struct db *db;
    struct outbox *outbox;
    struct ack ack; /* where neither account nor plan says */
    int64_t now_us;
    struct effect *effects;
    size_t effects_count, effects_cap;
    struct item *items;
    size_t items_count, items_cap;
    bool renamed; /* by batch_publish: something is called otherwise now, or nothing any more */
};

/* Runs all asks (linked by `next`) in one transaction and sets their reason and text. Returns
 * whether it wrote anything. */
bool batch_run(struct batch *b, struct catalog_ask *asks);
/* Shows the effects to the look-ups and gives the asks their records. Returns whether an account or
 * a credential changed. */
bool batch_publish(struct batch *b, struct memory *m);
/* Calls `done` of every ask that is not answered; refuses those that were well first if `reason` is
 * not REASON_ok. */
void batch_answer(struct batch *b, enum reason reason, const char *text);
/* Forgets all; what was not published is given back. */
void batch_clear(struct batch *b);
void batch_fini(struct batch *b);

/* ---- for the operations ---- */
void batch_effect(struct batch *b, struct effect e);
/* Reads the record back from the database and makes it an effect. SQLITE_DONE or an error code. */
int batch_put_account(struct batch *b, uint64_t number);
int batch_put_credential(struct batch *b, uint64_t number);
/* `ret` borrows the effect's reference. */
int batch_put_feed(struct batch *b, uint64_t number, struct feed **ret);
/* The same for all rows that a statement finds by a text: whoever has a role, or a plan. Their
 * records are in memory twice until they are published. */
int batch_put_accounts(struct batch *b, enum statement s, struct slice text);
int batch_put_credentials(struct batch *b, enum statement s, struct slice text);
int batch_put_group(struct batch *b, uint64_t number, struct group **ret);
/* Sets the ask's answer and returns it. */
enum reason ask_refuse(struct catalog_ask *ask, enum reason reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for a failed statement. */
enum reason ask_refuse_db(struct batch *b, struct catalog_ask *ask, int rc);

/* One ask (op_account.c, op_credential.c, op_feed.c): REASON_ok, or what ask_refuse returned. */
typedef enum reason op_run(struct batch *b, struct item *it);
op_run op_account_add, op_account_remove, op_account_limits, op_account_disable;
op_run op_key_add, op_key_change, op_key_secret, op_key_remove;
op_run op_device_add, op_device_change, op_device_secret, op_device_disable, op_device_remove;
op_run op_role_list, op_role_add, op_role_change, op_role_remove;
op_run op_plan_list, op_plan_add, op_plan_change, op_plan_remove;
op_run op_feed_add, op_feed_change, op_feed_mark, op_feed_remove;
op_run op_group_add, op_group_change, op_group_link, op_group_unlink, op_group_remove;
op_run op_note;

/* The account an ask names, by name, else by number; its name is in `name`. */
struct owner {
    uint64_t number;
    char text[USERNAME_MAX + 1];
    struct slice name;
};
enum reason op_find_account(struct batch *b, struct catalog_ask *ask, struct owner *ret);
/* The account of what the ask names; from here on the ask names that account. */
enum reason op_find_owner(struct batch *b, struct catalog_ask *ask, uint64_t account,
                          struct owner *ret);
/* What came of reading the row with that number: `rc` of the statement, and whether there is a
 * record of it. */
enum reason op_read(struct batch *b, struct catalog_ask *ask, int rc, bool has_record,
                    const char *what, uint64_t number);
/* Whether the ask's limits and its ack level are some, and may be stored. */
enum reason op_check_limits(struct catalog_ask *ask);
/* The one number that a statement without row columns but it counts; UINT64_MAX: it failed. */
uint64_t op_count(struct batch *b, enum statement s);

/* ---- op_group.c, for feeds ---- */
/* The group's number; it is made, for its feeds, when it is missing. SQLITE_DONE or an error code.
 */
int op_group_take(struct batch *b, uint64_t account, struct slice key, uint64_t *ret);
/* A feed has left it: a group that was made for its feeds goes with the last one. The same. */
int op_group_left(struct batch *b, uint64_t number);
/* op_feed.c: the feed that the ask names. The caller unrefs. */
enum reason op_read_feed(struct batch *b, struct catalog_ask *ask, struct feed **ret);
/* The same: reads a changed feed back, tells the journal. SQLITE_DONE or an error code. */
int op_feed_changed(struct batch *b, struct catalog_ask *ask, uint64_t number,
                    struct slice account_name);
