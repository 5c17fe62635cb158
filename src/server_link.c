/* SPDX-License-Identifier: Apache-2.0 */
#include "server_link.h"

#include <stdio.h>

/* ---- the gateway's process: on the link's threads -------------------------------------------- */

static void name_of(void *arg, enum link_of of, uint64_t number, struct buf *out)
{
    struct catalog *c = ((struct gateway_link *)arg)->catalog;
    if (of == LINK_OF_ACCOUNT) {
        struct account *a = catalog_account_by_number(c, number);
        buf_put_slice(out, a ? a->name : (struct slice){0});
        account_unref(a);
    } else if (of == LINK_OF_FEED) {
        struct feed *f = catalog_feed_by_number(c, number);
        buf_put_slice(out, f ? f->key : (struct slice){0});
        feed_unref(f);
    } else {
        struct credential *d = catalog_credential(c, number);
        bool is_device = d && d->kind == CREDENTIAL_DEVICE;
        buf_put_slice(out, is_device ? d->name : (struct slice){0});
        credential_unref(d);
    }
}

static uint64_t names_changed(void *arg)
{
    return catalog_renamings(((struct gateway_link *)arg)->catalog);
}

static uint64_t keys_changed(void *arg)
{
    const struct gateway_link *l = arg;
    return l->keyring ? keyring_changes(l->keyring) : 0;
}

static enum reason note(void *arg, const struct link_note_text *n, char text[256])
{
    struct gateway_link *l = arg;
    struct catalog_ask ask = {.op = CATALOG_NOTE,
                              .name = n->what,
                              .account_number = n->account,
                              .feed_name = n->subject,
                              .description = n->more,
                              .actor = n->actor,
                              .actor_credential = n->credential,
                              .from = n->from};
    enum reason reason = catalog_call(l->catalog, &ask);
    snprintf(text, 256, "%s",
             reason == REASON_ok ? ""
             : ask.text[0]       ? ask.text
                                 : reason_info(reason)->text);
    return reason;
}

static void moved(void *arg)
{
    struct gateway_link *l = arg;
    l->moved(l->moved_arg);
}

int gateway_link_open(struct gateway_link *l, const struct link_host_opts *opts, struct error *err)
{
    struct link_host_opts o = *opts;
    o.name = name_of;
    o.names_changed = names_changed;
    o.keys_changed = keys_changed;
    o.note = note;
    o.moved = moved;
    o.arg = l;
    return link_host_open(&o, &l->host, err);
}

void gateway_link_close(struct gateway_link *l)
{
    link_host_close(l->host);
    l->host = NULL;
}

/* ---- the process of the sinks ---------------------------------------------------------------- */

static bool look_up(struct guest_namer *n, enum link_of of, uint64_t number,
                    char text[LINK_GUEST_NAME_MAX], struct slice *ret)
{
    *ret = (struct slice){0};
    if (!number)
        return true;
    if (!link_guest_name(n->guest, of, number, text))
        return false;
    *ret = slice_str(text);
    return true;
}

void guest_names(void *arg, const struct record *r, struct sink_names *ret)
{
    struct guest_namer *n = arg;
    ret->unknown = !look_up(n, LINK_OF_ACCOUNT, r->account, n->account, &ret->account) ||
                   !look_up(n, LINK_OF_FEED, r->feed, n->feed, &ret->feed) ||
                   !look_up(n, LINK_OF_DEVICE, r->credential, n->device, &ret->device);
}
