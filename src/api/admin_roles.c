/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Roles, plans, and the permissions that there are. A change of a role or a plan is in force for
 * all who have it before it is answered.
 */
#include "api/admin_ops.h"

#include "codec/topic.h"
#include "flow/permission.h"

#define LIST_BYTES_MAX (4u << 20)
_Static_assert(LIST_BYTES_MAX > PLANS_MAX * sizeof(struct catalog_plan) &&
                   LIST_BYTES_MAX > ROLES_MAX * sizeof(struct catalog_role),
               "a list has room for all");

static json_t *json_of_role(const void *record)
{
    const struct catalog_role *role = record;
    return json_pack("{s:s, s:o, s:s, s:s, s:I}", "name", role->name, "permissions",
                     admin_permission_names(role->permissions), "publish",
                     role->publish[0] ? role->publish : "#", "subscribe",
                     role->subscribe[0] ? role->subscribe : "#", "credentials",
                     (json_int_t)role->credentials);
}

static json_t *json_of_plan(const void *record)
{
    const struct catalog_plan *plan = record;
    return json_pack("{s:s, s:s, s:s, s:I, s:s, s:I}", "name", plan->name, "limits", plan->limits,
                     "device_limits", plan->device_limits, "feeds_max", (json_int_t)plan->feeds_max,
                     "ack", plan->ack, "accounts", (json_int_t)plan->accounts);
}

/* What roles and plans have in common: how one of them is shown, and what all are called. */
struct kind {
    size_t bytes;
    json_t *(*json)(const void *record);
    const char *name, *all;
};

static const struct kind role_kind = {sizeof(struct catalog_role), json_of_role, "role", "roles"};
static const struct kind plan_kind = {sizeof(struct catalog_plan), json_of_plan, "plan", "plans"};

/* Asks for all of the kind. */
static enum reason answer_all(struct admin *a, struct admin_call *call, enum catalog_op op,
                              const struct kind *k)
{
    struct buf list;
    buf_init(&list, LIST_BYTES_MAX);
    struct catalog_ask ask = {.op = op, .ret_list = &list};
    enum reason reason = admin_change(a, call, &ask);
    if (reason == REASON_ok) {
        json_t *array = json_array();
        for (size_t at = 0; at < list.len; at += k->bytes)
            json_array_append_new(array, k->json(list.ptr + at));
        call->ret_result =
            json_pack("{s:o, s:i}", k->all, array, "total", (int)json_array_size(array));
    }
    admin_ask_fini(&ask);
    buf_fini(&list);
    return reason;
}

/* Asks about one of the kind, and shows it. */
static enum reason answer_one(struct admin *a, struct admin_call *call, struct catalog_ask *ask,
                              const struct kind *k)
{
    struct buf list;
    buf_init(&list, LIST_BYTES_MAX);
    ask->name = admin_arg(call, k->name);
    ask->ret_list = &list;
    enum reason reason = admin_change(a, call, ask);
    if (reason == REASON_ok && list.len >= k->bytes)
        call->ret_result = k->json(list.ptr);
    admin_ask_fini(ask);
    buf_fini(&list);
    return reason;
}

static enum reason answer_removed(struct admin *a, struct admin_call *call, enum catalog_op op,
                                  const struct kind *k)
{
    struct catalog_ask ask = {.op = op};
    enum reason reason = answer_one(a, call, &ask, k);
    if (reason == REASON_ok) {
        json_decref(call->ret_result);
        call->ret_result = json_pack("{s:s%}", "removed", ask.name.ptr, ask.name.len);
    }
    return reason;
}

/* ---- roles -------------------------------------------------------------------------------- */
enum reason role_list(struct admin *a, struct admin_call *call)
{
    return answer_all(a, call, CATALOG_ROLE_LIST, &role_kind);
}

enum reason role_show(struct admin *a, struct admin_call *call)
{
    struct catalog_ask ask = {.op = CATALOG_ROLE_LIST};
    return answer_one(a, call, &ask, &role_kind);
}

/* Fills in what the arguments say. False: refused. */
static bool fill_role(struct admin_call *call, struct catalog_ask *ask)
{
    ask->permissions = admin_arg(call, "permissions");
    ask->publish = admin_arg(call, "publish");
    ask->subscribe = admin_arg(call, "subscribe");
    const struct slice *both[] = {&ask->publish, &ask->subscribe};
    for (unsigned i = 0; i < 2; i++) {
        if (both[i]->ptr && !topic_rules_valid(*both[i])) {
            admin_refuse(call, REASON_bad_request,
                         "%s must be MQTT topic filters, none of them empty",
                         i ? "subscribe" : "publish");
            return false;
        }
    }
    return true;
}

enum reason role_add(struct admin *a, struct admin_call *call)
{
    struct catalog_ask ask = {.op = CATALOG_ROLE_ADD};
    return fill_role(call, &ask) ? answer_one(a, call, &ask, &role_kind) : REASON_bad_request;
}

enum reason role_change(struct admin *a, struct admin_call *call)
{
    struct catalog_ask ask = {.op = CATALOG_ROLE_CHANGE};
    if (!fill_role(call, &ask))
        return REASON_bad_request;
    enum reason reason = answer_one(a, call, &ask, &role_kind);
    if (reason == REASON_ok)
        admin_confirm(a, call->ret_result);
    return reason;
}

enum reason role_remove(struct admin *a, struct admin_call *call)
{
    return answer_removed(a, call, CATALOG_ROLE_REMOVE, &role_kind);
}

/* ---- plans -------------------------------------------------------------------------------- */
enum reason plan_list(struct admin *a, struct admin_call *call)
{
    return answer_all(a, call, CATALOG_PLAN_LIST, &plan_kind);
}

enum reason plan_show(struct admin *a, struct admin_call *call)
{
    struct catalog_ask ask = {.op = CATALOG_PLAN_LIST};
    return answer_one(a, call, &ask, &plan_kind);
}

/* Fills in what the arguments say. False: refused. */
static bool fill_plan(struct admin *a, struct admin_call *call, struct catalog_ask *ask)
{
    unsigned feeds_max = 0;
    ask->limits = admin_arg(call, "limits");
    ask->device_limits = admin_arg(call, "device_limits");
    ask->keep_limits = !ask->limits.ptr;
    ask->keep_device_limits = !ask->device_limits.ptr;
    if (!admin_fill_ack(a, call, ask))
        return false;
    ask->has_feeds_max = admin_arg(call, "feeds_max").len > 0;
    if (!admin_number(call, "feeds_max", 0, UINT32_MAX, &feeds_max))
        return false;
    ask->feeds_max = feeds_max;
    return true;
}

enum reason plan_add(struct admin *a, struct admin_call *call)
{
    struct catalog_ask ask = {.op = CATALOG_PLAN_ADD};
    return fill_plan(a, call, &ask) ? answer_one(a, call, &ask, &plan_kind) : REASON_bad_request;
}

enum reason plan_change(struct admin *a, struct admin_call *call)
{
    struct catalog_ask ask = {.op = CATALOG_PLAN_CHANGE};
    if (!fill_plan(a, call, &ask))
        return REASON_bad_request;
    enum reason reason = answer_one(a, call, &ask, &plan_kind);
    if (reason == REASON_ok)
        admin_confirm(a, call->ret_result);
    return reason;
}

enum reason plan_remove(struct admin *a, struct admin_call *call)
{
    return answer_removed(a, call, CATALOG_PLAN_REMOVE, &plan_kind);
}

/* ---- permissions -------------------------------------------------------------------------- */
enum reason permission_list(struct admin *a, struct admin_call *call)
{
    (void)a;
    json_t *list = json_array();
#define PERMISSION(name, bit, text)                                                                \
    json_array_append_new(list, json_pack("{s:s, s:s}", "name", #name, "text", text));
#include "flow/permissions.def"
#undef PERMISSION
    call->ret_result =
        json_pack("{s:o, s:i}", "permissions", list, "total", (int)json_array_size(list));
    return REASON_ok;
}
