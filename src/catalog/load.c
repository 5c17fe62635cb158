/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/load.h"

#include <errno.h>

#include "catalog/row.h"

struct load {
    struct memory *memory;
    struct batch *batch;
    struct db *db;
    bool hold;
    struct error *err;
};

static int orphan(struct load *l, const char *table, uint64_t number, uint64_t account)
{
    return error_set(l->err, -EBADMSG, "%s: %s %llu belongs to account %llu, which is not there",
                     l->db->path, table, (unsigned long long)number, (unsigned long long)account);
}

static int load_account(struct load *l, enum statement s)
{
    struct account *a;
    uint64_t version;
    int rc = row_account(l->db, s, &l->batch->ack, &a, &version, l->err);
    if (rc)
        return rc;
    memory_put_account(l->memory, a, version);
    return 0;
}

static int load_credential(struct load *l, enum statement s)
{
    struct credential *c;
    uint64_t account;
    int rc = row_credential(l->db, s, &c, &account, l->err);
    if (rc)
        return rc;
    uint64_t number = c->number;
    return memory_put_credential(l->memory, c, account) ? 0
                                                        : orphan(l, "credential", number, account);
}

static int load_group(struct load *l, enum statement s)
{
    struct group *g;
    int rc = row_group(l->db, s, &g, l->err);
    if (rc)
        return rc;
    uint64_t number = g->number, account = g->account;
    return memory_put_group(l->memory, g) ? 0 : orphan(l, "group", number, account);
}

static int load_feed(struct load *l, enum statement s)
{
    struct feed *f;
    int rc = row_feed(l->db, s, &f, l->err);
    if (rc)
        return rc;
    uint64_t number = f->number, account = f->account;
    if (!l->hold)
        return memory_put_feed(l->memory, f) ? 0 : orphan(l, "feed", number, account);
    struct account *a = memory_account_by_number(l->memory, account);
    if (!a) {
        feed_unref(f);
        return orphan(l, "feed", number, account);
    }
    account_unref(a);
    batch_effect(l->batch, (struct effect){.kind = PUT_FEED, .record = f});
    return 0;
}

static int each_row(struct load *l, enum statement s, int (*row)(struct load *, enum statement))
{
    int rc = db_exec(l->db, s);
    for (; rc == SQLITE_ROW; rc = db_next(l->db, s)) {
        int fail = row(l, s);
        if (fail) {
            db_reset(l->db, s);
            return fail;
        }
    }
    if (rc == SQLITE_DONE)
        return 0;
    int code = (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB ? -EBADMSG : -EIO;
    return error_set(l->err, code, "%s: %s", l->db->path, l->db->last.text);
}

int load_all(struct memory *m, struct batch *b, bool hold_owed, struct error *err)
{
    struct load l = {.memory = m, .batch = b, .db = b->db, .err = err};
    int rc = each_row(&l, SQL_ACCOUNT_READ_ALL, load_account);
    if (!rc)
        rc = each_row(&l, SQL_CREDENTIAL_READ_ALL, load_credential);
    if (!rc)
        rc = each_row(&l, SQL_GROUP_READ_ALL, load_group);
    if (!rc)
        rc = each_row(&l, hold_owed ? SQL_FEED_READ_SETTLED : SQL_FEED_READ_ALL, load_feed);
    l.hold = true;
    if (!rc && hold_owed)
        rc = each_row(&l, SQL_FEED_READ_OWED, load_feed);
    sqlite3_db_release_memory(b->db->handle); /* pages that were read once */
    return rc;
}
