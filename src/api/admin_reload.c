/* SPDX-License-Identifier: Apache-2.0 */
/* The running server reads its settings again; what changed is written into the audit log. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/admin_ops.h"

#define NOTE_BYTES_MAX 4000 /* what the catalog takes is a little more */

/* The names alone, of a change that is too long to be noted with its values. */
static json_t *names_of(json_t *result)
{
    json_t *ret = json_object(), *list, *one;
    const char *member;
    size_t i;
    json_object_foreach(result, member, list)
    {
        if (!json_is_array(list))
            continue;
        json_t *names = json_array();
        json_array_foreach(list, i, one) json_array_append(names, json_object_get(one, "setting"));
        json_object_set_new(ret, member, names);
    }
    return ret;
}

static enum reason note(struct admin *a, struct admin_call *call, json_t *result)
{
    char *text = json_dumps(result, JSON_COMPACT);
    if (text && strlen(text) > NOTE_BYTES_MAX) {
        json_t *names = names_of(result);
        free(text);
        text = json_dumps(names, JSON_COMPACT);
        json_decref(names);
    }
    struct catalog_ask ask = {.op = CATALOG_NOTE,
                              .name = SLICE("reload"),
                              .feed_name = slice_str("settings"),
                              .description = slice_str(text ? text : "{}")};
    enum reason reason = admin_change(a, call, &ask);
    admin_ask_fini(&ask);
    free(text);
    return reason;
}

enum reason config_reload(struct admin *a, struct admin_call *call)
{
    const struct admin_opts *o = admin_opts(a);
    struct error err = {""};
    json_t *result = NULL;
    if (!o->reload)
        return admin_refuse(call, REASON_bad_request,
                            "no server runs here: the settings are read when one starts");
    if (o->reload(o->reload_arg, &result, &err))
        return admin_refuse(call, REASON_bad_request, "%s", err.text);
    if (json_array_size(json_object_get(result, "changed"))) {
        enum reason reason = note(a, call, result);
        if (reason != REASON_ok) {
            char why[sizeof call->text];
            snprintf(why, sizeof why, "%s", call->text);
            json_decref(result);
            return admin_refuse(call, reason,
                                "the new settings are in force, but the audit log could not be "
                                "told: %s",
                                why);
        }
    }
    call->ret_result = result;
    return REASON_ok;
}
