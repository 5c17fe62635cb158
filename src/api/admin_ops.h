/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/admin_ops.h - the commands behind the table of api/admin.h, and how records look in JSON. All
 * run on the admin thread and may block there. For api/admin*.c only.
 */
#pragma once

#include "api/admin.h"

/* What the commands work with. Constant after admin_new. */
const struct admin_opts *admin_opts(const struct admin *a);

/* Refuses the call with a sentence; returns `reason`. */
enum reason admin_refuse(struct admin_call *call, enum reason reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The argument, or an empty slice with NULL. */
struct slice admin_arg(const struct admin_call *call, const char *name);
bool admin_switch(const struct admin_call *call, const char *name);

enum reason rollup_show(struct admin *a, struct admin_call *call);
enum reason rollup_rebuild(struct admin *a, struct admin_call *call);
enum reason account_add(struct admin *a, struct admin_call *call);
enum reason account_list(struct admin *a, struct admin_call *call);
enum reason account_show(struct admin *a, struct admin_call *call);
enum reason account_remove(struct admin *a, struct admin_call *call);
enum reason key_add(struct admin *a, struct admin_call *call);
enum reason key_list(struct admin *a, struct admin_call *call);
enum reason key_show(struct admin *a, struct admin_call *call);
enum reason key_remove(struct admin *a, struct admin_call *call);
enum reason device_add(struct admin *a, struct admin_call *call);
enum reason device_list(struct admin *a, struct admin_call *call);
enum reason device_show(struct admin *a, struct admin_call *call);
enum reason device_secret(struct admin *a, struct admin_call *call);
enum reason device_disable(struct admin *a, struct admin_call *call);
enum reason device_enable(struct admin *a, struct admin_call *call);
enum reason device_remove(struct admin *a, struct admin_call *call);

/* A new object; nothing in it is secret. */
json_t *admin_json_account(const struct account *account);
json_t *admin_json_credential(const struct credential *credential);

/* ---- secrets ------------------------------------------------------------------------------ */
/* A secret as it is to be stored, and as it is to be shown once. */
struct admin_secret {
    bool generated;
    char text[64]; /* when generated */
    bool has_digest;
    uint8_t digest[32];
    char verifier[VERIFIER_MAX];
};

/* A key: the argument "key", which must be strong, or a new one. */
enum reason admin_secret_of_key(struct admin_call *call, struct admin_secret *ret);
/* A device's: the arguments "secret" or "hash" or a new one, with a bcrypt verifier where the
 * secret is not strong or the switch "bcrypt" is on. Takes as long as the cost says. */
enum reason admin_secret_of_device(struct admin *a, struct admin_call *call,
                                   struct admin_secret *ret);
/* Overwrites it. */
void admin_secret_wipe(struct admin_secret *s);
