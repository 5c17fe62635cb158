/* SPDX-License-Identifier: Apache-2.0 */
/* Roles. A change makes a new record of every credential that has the role. */
#include "base/log.h"
#include "catalog/batch.h"
#include "catalog/names.h"
#include "catalog/seed.h"
#include "flow/permission.h"

uint64_t op_count(struct batch *b, enum statement s)
{
    uint64_t n = db_exec(b->db, s) == SQLITE_ROW ? db_number(b->db, s, 0) : UINT64_MAX;
    db_reset(b->db, s);
    return n;
}

static void copy_rules(char to[TOPIC_RULES_MAX + 1], struct slice rules)
{
    memcpy(to, rules.ptr, rules.len < TOPIC_RULES_MAX ? rules.len : TOPIC_RULES_MAX);
}

/* Appends the roles of that name (empty: all) to the answer. */
static int list(struct batch *b, struct catalog_ask *ask)
{
    int rc = db_run(b->db, SQL_ROLE_READ, txt_or_null(ask->name));
    for (; rc == SQLITE_ROW; rc = db_next(b->db, SQL_ROLE_READ)) {
        struct catalog_role role = {.credentials = db_number(b->db, SQL_ROLE_READ, 2)};
        struct slice name = db_text(b->db, SQL_ROLE_READ, 0), bad;
        memcpy(role.name, name.ptr, name.len < USERNAME_MAX ? name.len : USERNAME_MAX);
        permissions_parse(db_text(b->db, SQL_ROLE_READ, 1), '|', &role.permissions, &bad);
        copy_rules(role.publish, db_text(b->db, SQL_ROLE_READ, 3));
        copy_rules(role.subscribe, db_text(b->db, SQL_ROLE_READ, 4));
        buf_put(ask->ret_list, &role, sizeof role);
    }
    db_reset(b->db, SQL_ROLE_READ);
    return rc;
}

static enum reason no_role(struct catalog_ask *ask)
{
    char shown[128];
    return ask_refuse(ask, REASON_not_found, "there is no role \"%s\"", log_text(shown, ask->name));
}

enum reason op_role_list(struct batch *b, struct item *it)
{
    int rc = list(b, it->ask);
    if (rc != SQLITE_DONE)
        return ask_refuse_db(b, it->ask, rc);
    return it->ask->name.len && !it->ask->ret_list->len ? no_role(it->ask) : REASON_ok;
}

/* The permissions as they are stored; "*" stays, so that it means later ones too. */
static enum reason parse(struct catalog_ask *ask, struct buf *ret)
{
    uint64_t mask = 0;
    struct slice bad = {0};
    char shown[128];
    if (!permissions_parse(ask->permissions, ',', &mask, &bad))
        return ask_refuse(ask, REASON_bad_request, "there is no permission \"%s\"",
                          log_text(shown, bad));
    if (ask->publish.len > TOPIC_RULES_MAX || ask->subscribe.len > TOPIC_RULES_MAX)
        return ask_refuse(ask, REASON_bad_request, "topics of a role are longer than %d bytes",
                          TOPIC_RULES_MAX);
    if (!mask)
        return ask_refuse(ask, REASON_bad_request, "a role needs at least one permission");
    if (slice_eq(slice_trim(ask->permissions), SLICE("*")))
        buf_put_str(ret, "*");
    else
        permissions_format(ret, mask, '|');
    return REASON_ok;
}

static int audit(struct batch *b, struct catalog_ask *ask, const char *op)
{
    return outbox_audit(b->outbox, ask,
                        &(struct audit){.op = op, .now_us = b->now_us, .subject = ask->name});
}

static bool exists(struct batch *b, struct slice name)
{
    bool found = db_run(b->db, SQL_ROLE_EXISTS, txt(name)) == SQLITE_ROW;
    db_reset(b->db, SQL_ROLE_EXISTS);
    return found;
}

static enum reason add(struct batch *b, struct catalog_ask *ask, struct slice permissions)
{
    if (!name_is_username(ask->name))
        return ask_refuse(ask, REASON_bad_request,
                          "a role's name has 1 to %d letters, digits, '-' and '_'", USERNAME_MAX);
    if (exists(b, ask->name))
        return ask_refuse(ask, REASON_conflict, "the role \"%.*s\" exists already",
                          SLICE_ARG(ask->name));
    if (op_count(b, SQL_ROLE_COUNT) >= ROLES_MAX)
        return ask_refuse(ask, REASON_bad_request, "there are %d roles, which is the most",
                          ROLES_MAX);
    int rc =
        db_run(b->db, SQL_ROLE_ADD, txt(ask->name), txt(permissions), num(b->db->next[NEXT_CHANGE]),
               txt_or_null(ask->publish), txt_or_null(ask->subscribe));
    if (rc == SQLITE_DONE)
        rc = audit(b, ask, "role_add");
    if (rc == SQLITE_DONE)
        rc = list(b, ask);
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

static enum reason change(struct batch *b, struct catalog_ask *ask, struct slice permissions)
{
    if (!exists(b, ask->name))
        return no_role(ask);
    int rc = db_run(b->db, SQL_ROLE_CHANGE, txt(ask->name), txt(permissions),
                    num(b->db->next[NEXT_CHANGE]), txt_or_null(ask->publish),
                    txt_or_null(ask->subscribe));
    if (rc == SQLITE_DONE)
        rc = audit(b, ask, "role_change");
    if (rc == SQLITE_DONE)
        rc = batch_put_credentials(b, SQL_CREDENTIAL_READ_ROLE, ask->name);
    if (rc == SQLITE_DONE)
        rc = list(b, ask);
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

/* Does it with the permissions as they are stored. */
static enum reason with_permissions(struct batch *b, struct catalog_ask *ask,
                                    enum reason (*does)(struct batch *b, struct catalog_ask *ask,
                                                        struct slice permissions))
{
    struct buf permissions;
    buf_init(&permissions, 4096);
    enum reason r = parse(ask, &permissions);
    if (r == REASON_ok)
        r = does(b, ask, buf_slice(&permissions));
    buf_fini(&permissions);
    return r;
}

enum reason op_role_add(struct batch *b, struct item *it)
{
    return with_permissions(b, it->ask, add);
}

enum reason op_role_change(struct batch *b, struct item *it)
{
    return with_permissions(b, it->ask, change);
}

enum reason op_role_remove(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    struct catalog_role role;
    if (slice_eq(ask->name, SLICE(CATALOG_ROLE_OF_KEYS)) ||
        slice_eq(ask->name, SLICE(CATALOG_ROLE_OF_DEVICES)))
        return ask_refuse(ask, REASON_bad_request,
                          "new keys and devices get the role \"%.*s\": it cannot be removed",
                          SLICE_ARG(ask->name));
    if (!exists(b, ask->name))
        return no_role(ask);
    size_t at = ask->ret_list->len;
    int rc = list(b, ask);
    if (rc != SQLITE_DONE || ask->ret_list->len != at + sizeof role)
        return ask_refuse_db(b, ask, rc);
    memcpy(&role, ask->ret_list->ptr + at, sizeof role);
    if (role.credentials)
        return ask_refuse(ask, REASON_conflict, "%llu keys and devices have the role \"%s\"",
                          (unsigned long long)role.credentials, role.name);
    rc = db_run(b->db, SQL_ROLE_REMOVE, txt(ask->name));
    if (rc == SQLITE_DONE)
        rc = audit(b, ask, "role_remove");
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}
