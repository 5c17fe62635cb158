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

enum reason quarantine_list(struct admin *a, struct admin_call *call);
enum reason quarantine_add(struct admin *a, struct admin_call *call);
enum reason quarantine_remove(struct admin *a, struct admin_call *call);
enum reason throttle_explain(struct admin *a, struct admin_call *call); /* admin_throttle.c */
enum reason config_reload(struct admin *a, struct admin_call *call);    /* admin_reload.c */
enum reason audit_list(struct admin *a, struct admin_call *call);       /* admin_audit.c */
enum reason audit_check(struct admin *a, struct admin_call *call);
enum reason backup_begin(struct admin *a, struct admin_call *call);   /* admin_backup.c */
enum reason backup_release(struct admin *a, struct admin_call *call); /* the same */
enum reason capture_lines(struct admin *a, struct admin_call *call);  /* admin_capture.c */
enum reason sink_list(struct admin *a, struct admin_call *call);      /* admin_sinks.c */
enum reason sink_pause_it(struct admin *a, struct admin_call *call);
enum reason sink_resume_it(struct admin *a, struct admin_call *call);
enum reason sink_replay_it(struct admin *a, struct admin_call *call);
enum reason sink_test_it(struct admin *a, struct admin_call *call);
enum reason sink_log(struct admin *a, struct admin_call *call);
enum reason webhook_add(struct admin *a, struct admin_call *call); /* admin_webhooks.c */
enum reason webhook_list(struct admin *a, struct admin_call *call);
enum reason webhook_show(struct admin *a, struct admin_call *call);
enum reason webhook_change(struct admin *a, struct admin_call *call);
enum reason webhook_remove(struct admin *a, struct admin_call *call);
enum reason webhook_pause(struct admin *a, struct admin_call *call);
enum reason webhook_resume(struct admin *a, struct admin_call *call);
enum reason webhook_rotate(struct admin *a, struct admin_call *call);
enum reason webhook_replay(struct admin *a, struct admin_call *call);
enum reason webhook_retry(struct admin *a, struct admin_call *call);
enum reason webhook_try(struct admin *a, struct admin_call *call);
enum reason webhook_log(struct admin *a, struct admin_call *call);
enum reason rule_add(struct admin *a, struct admin_call *call); /* admin_rules.c */
enum reason rule_list(struct admin *a, struct admin_call *call);
enum reason rule_remove(struct admin *a, struct admin_call *call);
enum reason rule_test(struct admin *a, struct admin_call *call);
enum reason dead_list(struct admin *a, struct admin_call *call);
enum reason dead_retry(struct admin *a, struct admin_call *call);
enum reason rollup_show(struct admin *a, struct admin_call *call);
enum reason rollup_rebuild(struct admin *a, struct admin_call *call);
enum reason account_add(struct admin *a, struct admin_call *call);
enum reason account_list(struct admin *a, struct admin_call *call);
enum reason account_show(struct admin *a, struct admin_call *call);
enum reason account_change(struct admin *a, struct admin_call *call);
enum reason account_disable(struct admin *a, struct admin_call *call);
enum reason account_enable(struct admin *a, struct admin_call *call);
enum reason account_remove(struct admin *a, struct admin_call *call);
enum reason account_erase(struct admin *a, struct admin_call *call);  /* admin_erase.c */
enum reason device_erase(struct admin *a, struct admin_call *call);   /* the same */
enum reason account_export(struct admin *a, struct admin_call *call); /* admin_export.c */
enum reason key_add(struct admin *a, struct admin_call *call);
enum reason key_list(struct admin *a, struct admin_call *call);
enum reason key_show(struct admin *a, struct admin_call *call);
enum reason key_change(struct admin *a, struct admin_call *call);
enum reason key_regenerate(struct admin *a, struct admin_call *call);
enum reason key_remove(struct admin *a, struct admin_call *call);
enum reason device_add(struct admin *a, struct admin_call *call);
enum reason device_import(struct admin *a, struct admin_call *call); /* admin_import.c */
enum reason device_list(struct admin *a, struct admin_call *call);
enum reason device_show(struct admin *a, struct admin_call *call);
enum reason device_change(struct admin *a, struct admin_call *call);
enum reason device_secret(struct admin *a, struct admin_call *call);
enum reason device_psk(struct admin *a, struct admin_call *call);
enum reason device_disable(struct admin *a, struct admin_call *call);
enum reason device_enable(struct admin *a, struct admin_call *call);
enum reason device_remove(struct admin *a, struct admin_call *call);

/* admin_roles.c */
enum reason role_list(struct admin *a, struct admin_call *call);
enum reason role_show(struct admin *a, struct admin_call *call);
enum reason role_add(struct admin *a, struct admin_call *call);
enum reason role_change(struct admin *a, struct admin_call *call);
enum reason role_remove(struct admin *a, struct admin_call *call);
enum reason plan_list(struct admin *a, struct admin_call *call);
enum reason plan_show(struct admin *a, struct admin_call *call);
enum reason plan_add(struct admin *a, struct admin_call *call);
enum reason plan_change(struct admin *a, struct admin_call *call);
enum reason plan_remove(struct admin *a, struct admin_call *call);
enum reason permission_list(struct admin *a, struct admin_call *call);

/* ---- for the commands --------------------------------------------------------------------- */
/* Has the catalog make the change. Refused: the call says why. The records of the answer are to be
 * given back by admin_ask_fini either way. */
enum reason admin_change(struct admin *a, struct admin_call *call, struct catalog_ask *ask);
/* What it is called, as a new text; NULL: nothing any more, or nobody can tell now. */
enum { ADMIN_NAME_ACCOUNT, ADMIN_NAME_FEED };
json_t *admin_name(struct admin *a, unsigned of, uint64_t number);
void admin_ask_fini(struct catalog_ask *ask);
/* Waits until every worker knows of the change, and says so in the result. A failure is a part of
 * it and no refusal: the change is stored, and a new secret must be shown. */
void admin_confirm(struct admin *a, json_t *result);
/* The number under that name, or `fallback`. False: refused. */
bool admin_number(struct admin_call *call, const char *name, unsigned fallback, unsigned max,
                  unsigned *ret);

/* The argument "ack", of which the catalog checks the form; here, that there is such a sink. False:
 * refused. */
bool admin_fill_ack(struct admin *a, struct admin_call *call, struct catalog_ask *ask);

/* A time, a day, or how long ago, as "2026-11-28T16:00:00Z", "2026-11-28" or "24h". False: it is
 * none of these. */
bool admin_moment(struct slice text, int64_t *ret_us);

/* The argument as a place in the journal: an offset, or a time, which the journal knows by its
 * segments; `fallback` if it is not there. False: refused. */
bool admin_place(struct admin *a, struct admin_call *call, const char *name, bool behind,
                 uint64_t fallback, uint64_t *ret);

/* A new string, empty for no text; and a time as people write it. */
json_t *admin_json_text(struct slice s);
json_t *admin_json_time(int64_t us);
/* A new object; nothing in it is secret. */
json_t *admin_json_attempt(const struct attempt *a);
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

/* A new key. */
void admin_secret_new_key(struct admin_secret *ret);
/* A key: the argument "key", which must be strong, or a new one. */
enum reason admin_secret_of_key(struct admin_call *call, struct admin_secret *ret);
/* A device's: the arguments "secret" or "hash" or a new one, with a bcrypt verifier where the
 * secret is not strong or the switch "bcrypt" is on. Takes as long as the cost says. */
enum reason admin_secret_of_device(struct admin *a, struct admin_call *call,
                                   struct admin_secret *ret);
/* Overwrites it. */
void admin_secret_wipe(struct admin_secret *s);
