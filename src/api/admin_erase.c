/* SPDX-License-Identifier: Apache-2.0 */
#include "api/admin_ops.h"

static const char remains[] =
    "the journal's segments hold what the account sent before now until retention removes them "
    "(journal.retain_size, journal.retain_time), the audit log holds its changes (audit.keep), and "
    "so do backups: nothing is sealed";

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

/* ---- a device -------------------------------------------------------------------------------- */

static const char device_remains[] =
    "data are its account's and stay, but for those of feeds "
    "erased with it; the journal's segments "
    "name its number until retention removes them, and the audit log "
    "its changes (audit.keep), where they are not sealed";

/* The feeds the device is bound to by their whole keys. Returns how many. */
static unsigned feeds_of(struct catalog *c, const struct credential *device,
                         uint64_t ret[FEED_PATTERNS_MAX])
{
    unsigned count = 0;
    for (unsigned i = 0; i < device->patterns_count && i < FEED_PATTERNS_MAX; i++) {
        struct feed *f = catalog_feed(c, device->account->number, device->patterns[i]);
        if (f)
            ret[count++] = f->number;
        feed_unref(f);
    }
    return count;
}

static enum reason remove_all(struct admin *a, struct admin_call *call, const uint64_t *feeds,
                              unsigned count)
{
    struct catalog_ask device = {.op = CATALOG_DEVICE_REMOVE, .name = admin_arg(call, "device")};
    enum reason reason = admin_change(a, call, &device);
    admin_ask_fini(&device);
    for (unsigned i = 0; i < count && reason == REASON_ok; i++) {
        struct catalog_ask feed = {.op = CATALOG_FEED_REMOVE, .feed_number = feeds[i]};
        reason = admin_change(a, call, &feed);
        admin_ask_fini(&feed);
        if (reason == REASON_not_found) /* somebody else removed it meanwhile */
            reason = REASON_ok;
    }
    return reason;
}

enum reason device_erase(struct admin *a, struct admin_call *call)
{
    const struct admin_opts *opts = admin_opts(a);
    struct slice name = admin_arg(call, "device");
    uint64_t feeds[FEED_PATTERNS_MAX];
    struct error err = {""};
    if (!opts->erase_feeds)
        return admin_refuse(call, REASON_bad_request,
                            "a device is erased by the running server, and none runs here");
    struct credential *device = catalog_device(opts->catalog, name);
    if (!device)
        return admin_refuse(call, REASON_not_found, "there is no device \"%.*s\"", SLICE_ARG(name));
    unsigned count = admin_switch(call, "feeds") ? feeds_of(opts->catalog, device, feeds) : 0;
    credential_unref(device);
    if (opts->erase_feeds(opts->erase_arg, feeds, count, &err) < 0)
        return admin_refuse(call, REASON_internal, "%s", err.text);
    enum reason reason = remove_all(a, call, feeds, count);
    if (reason != REASON_ok)
        return reason;
    json_t *result = json_pack("{s:s%,s:i,s:s}", "erased", name.ptr, name.len, "feeds_erased",
                               (int)count, "remains", device_remains);
    admin_confirm(a, result);
    if (opts->erase_end(opts->erase_arg, 0, &err) < 0) {
        json_decref(result);
        return admin_refuse(call, REASON_internal, "%s", err.text);
    }
    call->ret_result = result;
    return REASON_ok;
}
