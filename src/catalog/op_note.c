/* SPDX-License-Identifier: Apache-2.0 */
/* What matters and changes no row: an audit record alone. */
#include <stdio.h>

#include "catalog/batch.h"
#include "catalog/names.h"

#define NOTE_MAX 4096

enum reason op_note(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    char op[64];
    struct owner o = {0};
    if (!name_is_username(ask->name) || ask->name.len >= sizeof op)
        return ask_refuse(ask, REASON_bad_request, "what was done is no word");
    if (!name_is_text(ask->feed_name, NOTE_MAX) || !name_is_text(ask->description, NOTE_MAX))
        return ask_refuse(ask, REASON_bad_request, "what was done is no text, or too long");
    enum reason r =
        ask->account.len || ask->account_number ? op_find_account(b, ask, &o) : REASON_ok;
    if (r != REASON_ok)
        return r;
    snprintf(op, sizeof op, "%.*s", SLICE_ARG(ask->name));
    int rc = outbox_audit(b->outbox, ask,
                          &(struct audit){.op = op,
                                          .now_us = b->now_us,
                                          .account = o.number,
                                          .account_name = o.name,
                                          .subject = ask->feed_name,
                                          .note = ask->description});
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}
