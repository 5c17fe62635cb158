/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/changed.h"

#include <errno.h>

#define TEXT_MAX 65536u

const char *const changed_names[CHANGED_KINDS] = {
    [CHANGED_ACCOUNT] = "account", [CHANGED_PLAN] = "plan",     [CHANGED_ROLE] = "role",
    [CHANGED_KEY] = "key",         [CHANGED_DEVICE] = "device", [CHANGED_FEED] = "feed",
    [CHANGED_GROUP] = "group",     [CHANGED_MEMBER] = "member",
};

/* ---- the triggers ----------------------------------------------------------------------------
 * Of each table: kind, number, account, name and state of a row R (NEW or OLD), and the columns
 * whose update is a change; others are bookkeeping. */
#define FLAG_OF(expr) "json(iif(" expr ", 'true', 'false'))"

#define ACCOUNT_OF(R) "'account', " R ".number, " R ".number, " R ".name, "
#define ACCOUNT_STATE(R)                                                                           \
    "json_object('name', " R ".name, 'plan', " R ".plan, 'limits', " R ".limits, "                 \
    "'device_limits', " R                                                                          \
    ".device_limits, 'disabled', " FLAG_OF(R ".disabled") ", "                                     \
                                                          "'topics', iif(" R                       \
                                                          ".topics, 'any', 'adafruit'), "          \
                                                          "'ack', " R ".ack)"

#define PLAN_OF(R) "'plan', 0, 0, " R ".name, "
#define PLAN_STATE(R)                                                                              \
    "json_object('limits', " R ".limits, 'device_limits', " R ".device_limits, "                   \
    "'feeds_max', " R ".feeds_max, 'ack', " R ".ack)"

#define ROLE_OF(R) "'role', 0, 0, " R ".name, "
#define ROLE_STATE(R)                                                                              \
    "json_object('permissions', " R ".permissions, 'publish', " R ".publish, "                     \
    "'subscribe', " R ".subscribe)"

#define CREDENTIAL_OF(R)                                                                           \
    "iif(" R ".kind = 0, 'key', 'device'), " R ".number, " R ".account, " R ".name, "
#define CREDENTIAL_STATE(R)                                                                        \
    "json_object('role', " R ".role, 'patterns', " R ".patterns, "                                 \
    "'verifier', iif(" R ".digest IS NULL, 'crypt', 'fast'), "                                     \
    "'disabled', " FLAG_OF(R ".disabled") ")"

#define FEED_OF(R) "'feed', " R ".number, " R ".account, " R ".key, "
#define FEED_STATE(R)                                                                              \
    "json_object('key', " R ".key, 'name', " R ".name, 'description', " R ".description, "         \
    "'license', " R ".license, 'unit_type', " R ".unit_type, 'unit_symbol', " R ".unit_symbol, "   \
    "'flags', " R ".flags, 'status_timeout', " R ".status_timeout, "                               \
    "'status_notify', " R ".status_notify)"

#define GROUP_OF(R) "'group', " R ".number, " R ".account, " R ".key, "
#define GROUP_STATE(R)                                                                             \
    "json_object('key', " R ".key, 'name', " R ".name, 'description', " R ".description, "         \
    "'flags', " R ".flags)"

#define MEMBER_OF(R)                                                                               \
    "'member', " R ".feed, (SELECT account FROM main.feed WHERE number = " R ".feed), "            \
    "(SELECT key FROM main.feed WHERE number = " R ".feed), "
#define MEMBER_STATE(R) "json_object('group', (SELECT key FROM main.grp WHERE number = " R ".grp))"

#define TRIGGER(table, name, event, verb, of, before, after)                                       \
    "CREATE TEMP TRIGGER " table "_" name " AFTER " event " ON main." table                        \
    " WHEN changed_on() BEGIN SELECT changed_row('" verb "', " of before ", " after "); END;"
#define TRIGGERS(table, columns, OF, STATE)                                                        \
    TRIGGER(table, "made", "INSERT", "+", OF("NEW"), "NULL", STATE("NEW"))                         \
    TRIGGER(table, "changed", "UPDATE OF " columns, "~", OF("NEW"), STATE("OLD"), STATE("NEW"))    \
    TRIGGER(table, "removed", "DELETE", "-", OF("OLD"), STATE("OLD"), "NULL")

static const char triggers[] =
    TRIGGERS("account", "name, plan, limits, device_limits, disabled, topics, ack", ACCOUNT_OF,
             ACCOUNT_STATE)
        TRIGGERS("plan", "limits, device_limits, feeds_max, ack", PLAN_OF, PLAN_STATE)
            TRIGGERS("role", "permissions, publish, subscribe", ROLE_OF, ROLE_STATE)
                TRIGGERS("credential", "name, role, patterns, digest, verifier, disabled",
                         CREDENTIAL_OF, CREDENTIAL_STATE)
                    TRIGGERS("feed",
                             "key, name, description, license, unit_type, unit_symbol, flags, grp, "
                             "status_timeout, status_notify",
                             FEED_OF, FEED_STATE)
                        TRIGGERS("grp", "key, name, description, flags", GROUP_OF, GROUP_STATE)
                            TRIGGERS("member", "grp, feed", MEMBER_OF, MEMBER_STATE);

/* ---- what they call -------------------------------------------------------------------------- */

static void on_on(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    const struct changed *c = sqlite3_user_data(ctx);
    sqlite3_result_int(ctx, c->on);
}

static struct slice text_of(sqlite3_value *v)
{
    const void *ptr = sqlite3_value_text(v);
    return ptr ? slice_of(ptr, (size_t)sqlite3_value_bytes(v)) : SLICE("");
}

static void keep(struct buf *b, sqlite3_value *v)
{
    buf_clear(b);
    buf_put_slice(b, text_of(v));
}

/* verb, kind, number, account, name, before, after */
static void on_row(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    struct changed *c = sqlite3_user_data(ctx);
    struct slice verb = text_of(argv[0]), kind = text_of(argv[1]);
    for (unsigned i = 0; i < CHANGED_KINDS && verb.len; i++) {
        struct changed_row *row = &c->rows[i];
        if (!slice_eq(kind, slice_str(changed_names[i])))
            continue;
        row->count++;
        row->verb = verb.ptr[0];
        row->number = (uint64_t)sqlite3_value_int64(argv[2]);
        row->account = (uint64_t)sqlite3_value_int64(argv[3]);
        keep(&row->name, argv[4]);
        keep(&row->before, argv[5]);
        keep(&row->after, argv[6]);
        if (row->name.failed || row->before.failed || row->after.failed)
            sqlite3_result_error_nomem(ctx);
    }
}

int changed_init(struct changed *c, struct db *db, struct error *err)
{
    *c = (struct changed){0};
    for (unsigned i = 0; i < CHANGED_KINDS; i++) {
        buf_init(&c->rows[i].name, TEXT_MAX);
        buf_init(&c->rows[i].before, TEXT_MAX);
        buf_init(&c->rows[i].after, TEXT_MAX);
    }
    const int flags = SQLITE_UTF8 | SQLITE_INNOCUOUS;
    int rc =
        sqlite3_create_function_v2(db->handle, "changed_on", 0, flags, c, on_on, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_create_function_v2(db->handle, "changed_row", 7, flags, c, on_row, NULL, NULL,
                                        NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db->handle, triggers, NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return error_set(err, -EIO, "%s: %s", db->path, sqlite3_errmsg(db->handle));
    return 0;
}

void changed_fini(struct changed *c)
{
    for (unsigned i = 0; i < CHANGED_KINDS; i++) {
        buf_fini(&c->rows[i].name);
        buf_fini(&c->rows[i].before);
        buf_fini(&c->rows[i].after);
    }
    *c = (struct changed){0};
}

void changed_begin(struct changed *c, bool on)
{
    c->on = on;
    for (unsigned i = 0; i < CHANGED_KINDS; i++)
        c->rows[i].count = 0;
}
