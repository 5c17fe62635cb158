/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_views.h - the views of a server: opened, each with its thread, stopped, closed, and what
 * /v1/status says of them. Main thread, but where it says otherwise.
 */
#pragma once

#include <limits.h>

#include "api/admin.h"
#include "config.h"
#include "view/audit.h"
#include "view/history.h"
#include "view/latest.h"
#include "view/rules.h"
#include "view/sessions.h"
#include "view/view.h"
#include "view/yield.h"

/* NULL: not opened. */
struct views {
    struct latest *latest;
    struct history *history;
    struct audit *audit;
    struct sessions *sessions;
    struct rules *rules;
    struct view *latest_view, *history_view, *audit_view, *session_view, *rules_view;
    struct yield *history_yield;
    struct journal *journal;
    struct keyring *keyring;
    struct sealer *sealer; /* of what makes rules; the admin thread's */
    char latest_path[PATH_MAX], history_path[PATH_MAX], audit_path[PATH_MAX];
    char session_path[PATH_MAX], rules_path[PATH_MAX];
};

struct views_opts {
    const struct config *config;
    struct disk *disk;
    struct journal *journal;
    struct keyring *keyring; /* NULL: nothing is sealed */
    void (*on_applied)(
        void *arg); /* a watermark that requests may wait for moved; any view's thread */
    void *arg;
};

/* Opens what they keep and starts their threads. 0, or a negative errno with a sentence; then
 * views_close closes what was opened. */
int views_open(struct views *v, const struct views_opts *opts, struct error *err);
/* Before the catalog is opened, and before anybody may connect: returns when the sessions and the
 * audit log are what the journal says, and sessions that had a connection when the server ended are
 * cut off. 0, or -EINTR when a signal asks the server to stop meanwhile. */
int views_rebuild(struct views *v, struct error *err);
/* Stops the threads; they call on_applied no more. May be repeated. */
void views_stop(struct views *v);
void views_close(struct views *v);

/* The members of /v1/status about them. Any thread. */
void views_put_status(const struct views *v, struct buf *out);
/* The member of a receipt: which are past that offset. Any thread. */
void views_put_passed(const struct views *v, uint64_t offset, struct buf *out);
/* Returns when whatever was changed before now can be read in the audit log; `arg` is the struct
 * views. 0 or a negative errno. Any thread but a view's. */
int views_flush_audit(void *arg);
/* What commands about rules work with: of the admin thread. */
struct admin_rules views_rules(struct views *v, const struct config *c);
