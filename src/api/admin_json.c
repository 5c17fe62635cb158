/* SPDX-License-Identifier: Apache-2.0 */
/* Catalog records as JSON objects. */
#include "api/admin_ops.h"

#include "base/check.h"
#include "codec/text.h"
#include "flow/limit.h"

json_t *admin_json_text(struct slice s)
{
    return json_stringn(s.ptr ? s.ptr : "", s.len);
}

static json_t *text_of_limits(const struct limit_set *l)
{
    struct buf text;
    buf_init(&text, 1000);
    limit_set_format(&text, l);
    json_t *ret = admin_json_text(buf_slice(&text));
    buf_fini(&text);
    return ret;
}

json_t *admin_json_time(int64_t us)
{
    struct buf text;
    buf_init(&text, 100);
    time_format_s(&text, us);
    json_t *ret = admin_json_text(buf_slice(&text));
    buf_fini(&text);
    return ret;
}

static json_t *text_of_ack(const struct ack *ack)
{
    struct buf text;
    buf_init(&text, ACK_TEXT_MAX);
    ack_format(&text, ack);
    json_t *ret = admin_json_text(buf_slice(&text));
    buf_fini(&text);
    return ret;
}

json_t *admin_json_account(const struct account *account)
{
    CHECK(account); /* the catalog answers every change with its record */
    return json_pack("{s:o, s:I, s:b, s:o, s:o, s:o, s:i, s:o, s:s, s:o}", "name",
                     admin_json_text(account->name), "number", (json_int_t)account->number,
                     "disabled", account->disabled, "plan", admin_json_text(account->plan),
                     "limits", text_of_limits(&account->limits), "device_limits",
                     text_of_limits(&account->device_limits), "feeds_max", (int)account->feeds_max,
                     "ack", text_of_ack(&account->ack), "topics",
                     account->topics == TOPICS_ANY ? "any" : "adafruit", "created",
                     admin_json_time(account->created_us));
}

json_t *admin_permission_names(uint64_t mask)
{
    json_t *ret = json_array();
#define PERMISSION(name, bit, text)                                                                \
    if (mask & PERM_##name)                                                                        \
        json_array_append_new(ret, json_string(#name));
#include "flow/permissions.def"
#undef PERMISSION
    return ret;
}

/* "*" is how a pattern covers every feed, so that is what a credential without patterns is shown
 * with.
 */
static json_t *patterns_of(const struct credential *credential)
{
    json_t *ret = json_array();
    for (unsigned i = 0; i < credential->patterns_count; i++)
        json_array_append_new(ret, admin_json_text(credential->patterns[i]));
    if (credential->patterns_count == 0)
        json_array_append_new(ret, json_string("*"));
    return ret;
}

static const char *verifier_name(const struct credential *credential)
{
    return credential->verifier_kind == VERIFIER_FAST         ? "fast"
           : slice_starts(credential->verifier, SLICE("$2"))  ? "bcrypt"
           : slice_starts(credential->verifier, SLICE("$y$")) ? "yescrypt"
                                                              : "crypt";
}

json_t *admin_json_credential(const struct credential *credential)
{
    CHECK(credential);
    json_t *ret = json_pack("{s:o, s:o, s:I, s:b}", "name", admin_json_text(credential->name),
                            "account", admin_json_text(credential->account->name), "number",
                            (json_int_t)credential->number, "disabled", credential->disabled);
    if (credential->kind == CREDENTIAL_DEVICE)
        json_object_set_new(ret, "verifier", json_string(verifier_name(credential)));
    json_object_set_new(ret, "feeds", patterns_of(credential));
    json_object_set_new(ret, "role", admin_json_text(credential->role));
    json_object_set_new(ret, "permissions", admin_permission_names(credential->permissions));
    return ret;
}
