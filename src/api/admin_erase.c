/* SPDX-License-Identifier: Apache-2.0 */
#include "api/admin_ops.h"

static const char remains[] =
    "the journal's segments hold what the account sent before now until retention removes them "
    "(journal.retain_size, journal.retain_time), and so do backups: nothing is sealed";

enum reason account_erase(struct admin *a, struct admin_call *call)
{
    const struct admin_opts *opts = admin_opts(a);
    struct slice name = admin_arg(call, "account");
    struct error err = {""};
    if (!opts->erase_begin)
        return admin_refuse(call, REASON_bad_request,
                            "an account is erased by the running server, and none runs here");
    struct account *account = catalog_account(opts->catalog, name);
    if (!account)
        return admin_refuse(call, REASON_not_found, "there is no account \"%.*s\"",
                            SLICE_ARG(name));
    uint64_t number = account->number;
    account_unref(account);
    if (opts->erase_begin(opts->erase_arg, number, &err) < 0)
        return admin_refuse(call, REASON_internal, "%s", err.text);
    struct catalog_ask ask = {.op = CATALOG_ACCOUNT_REMOVE, .account = name};
    enum reason reason = admin_change(a, call, &ask);
    admin_ask_fini(&ask);
    if (reason != REASON_ok)
        return reason;
    json_t *result =
        json_pack("{s:s%,s:I}", "erased", name.ptr, name.len, "account_number", (json_int_t)number);
    admin_confirm(a, result);
    if (opts->erase_end(opts->erase_arg, number, &err) < 0) {
        json_decref(result);
        return admin_refuse(call, REASON_internal, "%s", err.text);
    }
    if (!opts->sealed && result)
        json_object_set_new(result, "remains", json_string(remains));
    call->ret_result = result;
    return REASON_ok;
}
