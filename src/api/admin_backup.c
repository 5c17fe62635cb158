/* SPDX-License-Identifier: Apache-2.0 */
/* The server's part in a backup; the command that asks does the copying. */
#include <errno.h>

#include "api/admin_ops.h"

enum reason backup_begin(struct admin *a, struct admin_call *call)
{
    const struct admin_opts *o = admin_opts(a);
    struct slice to = admin_arg(call, "to");
    struct error err = {""};
    if (!o->backup_stage)
        return admin_refuse(call, REASON_bad_request,
                            "no server runs here: sluice backup needs none");
    struct catalog_ask ask = {.op = CATALOG_NOTE,
                              .name = SLICE("backup"),
                              .feed_name = to.len ? to : SLICE("somewhere"),
                              .description = SLICE("{}")};
    enum reason reason = admin_change(a, call, &ask);
    admin_ask_fini(&ask);
    if (reason != REASON_ok)
        return reason;
    if (o->backup_stage(o->backup_arg, &call->ret_result, &err) < 0)
        return admin_refuse(call, REASON_internal, "%s", err.text);
    return REASON_ok;
}

enum reason backup_release(struct admin *a, struct admin_call *call)
{
    const struct admin_opts *o = admin_opts(a);
    const char *token = admin_arg(call, "token").ptr;
    struct error err = {""};
    if (!o->backup_release)
        return admin_refuse(call, REASON_bad_request, "no server runs here");
    int rc = o->backup_release(o->backup_arg, token, &err);
    if (rc < 0)
        return admin_refuse(call, rc == -ESTALE ? REASON_not_found : REASON_internal, "%s",
                            err.text);
    call->ret_result = json_pack("{s:s}", "removed", token);
    return REASON_ok;
}
