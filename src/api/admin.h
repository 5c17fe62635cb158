/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/admin.h - what an operator does to accounts, keys and devices. One table of commands serves
 * the command line (its help, its arguments) and the server's admin socket alike.
 *
 * One thread works off a queue: changes wait for the catalog, a password hash takes as long as its
 * cost says, and a removal waits until all workers have let go. No worker ever waits for that.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "catalog/catalog.h"
#include "flow/reason.h"
#include "gate/psk.h"
#include "sink/hooks.h"
#include "sink/sink.h"
#include "view/audit.h"

struct admin;
struct history;
struct latest;
struct rules;
struct rule_record;
struct admin_call;

/* ---- the table ---------------------------------------------------------------------------- */
enum admin_arg_kind {
    ADMIN_NEEDED, /* must be given; the command line takes these by position, in order */
    ADMIN_OPTION, /* may be given */
    ADMIN_SWITCH, /* "true" or absent */
    ADMIN_FILE,   /* a CSV file: over HTTP the body, and the other arguments stand in the query */
};

/* What a value is. To a command all are texts: see admin_arg. */
enum admin_arg_type {
    ADMIN_TEXT,
    ADMIN_COUNT, /* a number; in JSON it may be one, and a text of digits */
    ADMIN_LIST,  /* names with commas between; in JSON it may be an array of texts */
};

struct admin_arg {
    const char *name;        /* of the member in `args` */
    const char *placeholder; /* in help: "ACCOUNT" */
    enum admin_arg_kind kind;
    bool secret; /* better not on a command line: "-" reads it from standard input */
    const char *text;
    enum admin_arg_type type;
};

#define ADMIN_ARGS_MAX 8

/*
 * A row is a command of the command line, of the admin socket and of HTTP, and an operation of GET
 * /openapi.json at once. `result` names the schema of its answer in api/openapi.json; a test fails
 * when it is missing there, or here, and test/test_openapi.py wants a call of it.
 */
struct admin_command {
    const char *noun;
    const char *verb;
    const char *text;
    const char *example;                   /* a whole command line */
    bool changes;                          /* false: only looks */
    struct admin_arg args[ADMIN_ARGS_MAX]; /* up to the first without a name */
    enum reason (*run)(struct admin *a, struct admin_call *call); /* on the admin thread */
    const char *result;                                           /* schema of the answer */
};

/* The rows, in the order of help; the last has no noun. Constant. */
extern const struct admin_command admin_commands[];
/* NULL: there is no such command. */
const struct admin_command *admin_find(struct slice noun, struct slice verb);

/* What an account's own key may do too: the path /v1/NOUN/VERB. Of these the argument `account`
 * need not be given. */
bool admin_is_own(const struct admin_command *c);
/* Of "NOUN/VERB". */
const struct admin_command *admin_find_path(struct slice path);
/* The arguments in a query (each once) or in a body (a JSON object), as a new object. NULL: what is
 * wrong is in `why`. */
json_t *admin_args_of_query(struct slice query, struct error *why);
json_t *admin_args_of_body(struct slice body, struct error *why);

/* Whether it has an ADMIN_FILE. */
bool admin_takes_file(const struct admin_command *c);
/* The names in a mask of permissions, as a new list. */
json_t *admin_permission_names(uint64_t mask);

/* ---- running them ------------------------------------------------------------------------- */
/* Rules: which there are, and how more are made. */
struct admin_rules {
    struct rules *all; /* NULL: no server runs */
    /* Stores the record, and returns when the view has applied it: 0, -ETIMEDOUT if that takes
     * long, or another negative errno; with a sentence. */
    int (*say)(void *arg, const struct rule_record *r, struct error *err);
    void *arg;
    unsigned max, account_max;
};

/* Where there is no catalog: who asks the process that has one (link/guest.h). */
struct admin_elsewhere {
    /* The name of an account, a feed (`of` 0, 1); empty: it has none any more. False: nobody can
     * tell now. */
    bool (*name)(void *arg, unsigned of, uint64_t number, struct buf *out);
    /* Puts what was done into the audit log; `note` as for CATALOG_NOTE. */
    enum reason (*note)(void *arg, const struct catalog_ask *note, char text[256]);
    void *arg;
    const char *const *nouns; /* of the commands that are run here; NULL at the end */
    const char *sentence;     /* for who wants another one */
};

struct admin_opts {
    struct catalog *catalog;                 /* NULL: `elsewhere` */
    const struct admin_elsewhere *elsewhere; /* outlives it; NULL: all commands are run here */
    struct history *history;                 /* NULL: no server runs */
    struct latest *latest;                   /* likewise */
    uint16_t node;                           /* a part of the ids of data */
    struct shares *shares;                   /* likewise, and so the next two */
    struct throttle *throttle;
    struct refusals *refusals;
    /* Called after a removal, a disable or a new secret; returns when every worker has let go of
     * what was revoked. 0 or negative errno (then the result says so). NULL: nobody to wait for. */
    int (*barrier)(void *arg);
    void *barrier_arg;
    /* Before and after the removal of an account, or of feeds (then erase_end is told of account
     * 0), that is to be erased. 0 or a negative errno and a sentence. NULL: no server runs. */
    int (*erase_begin)(void *arg, uint64_t account, struct error *err);
    int (*erase_feeds)(void *arg, const uint64_t *feeds, unsigned count, struct error *err);
    int (*erase_end)(void *arg, uint64_t account, struct error *err);
    void *erase_arg;
    struct audit_place audit; /* where the audit log is */
    /* Returns when all changes up to now are in it, or soon with -ETIMEDOUT: 0 or a negative errno.
     * NULL: no server runs. */
    int (*audit_flush)(void *arg);
    void *audit_arg;
    /* A backup: keeps the server's state of now still beside it, as *ret says, until it is released
     * by its token (-ESTALE: it is not there). 0 or a negative errno with a sentence. NULL: no
     * server runs. */
    int (*backup_stage)(void *arg, json_t **ret, struct error *err);
    int (*backup_release)(void *arg, const char *token, struct error *err);
    void *backup_arg;
    /* Sinks, and the journal they read. NULL: no server runs. */
    struct sink *const *sinks;
    unsigned sinks_count;
    bool sinks_elsewhere; /* in another process: only looked at here */
    struct hooks *hooks;  /* NULL: likewise, or they are turned off */
    struct journal *journal;
    struct admin_rules rules;
    const struct psk_master *psk; /* devices' pre-shared keys are derived from it */
    bool sealed; /* data are sealed: nothing of an erased account can be read anywhere */
    /* Reads the settings again. 0 with an object of what changed, or a negative errno with a
     * sentence, and everything is as it was. NULL: no server runs. */
    int (*reload)(void *arg, json_t **ret, struct error *err);
    void *reload_arg;
    unsigned bcrypt_cost; /* of new verifiers */
    unsigned queue_max;   /* calls waiting; beyond it they are answered with busy */
};

/* One call. The asker owns it, and all it points to, until `done`. */
struct admin_call {
    const char *noun;
    const char *verb;
    /* For the audit record: who, as "key:ACCOUNT/NAME" or "device:ID"; NULL is "admin", whoever may
     * open the socket. The credential's number, 0 for none. */
    const char *actor;
    uint64_t actor_credential;
    uint64_t own_account; /* whose webhooks and rules alone it is about; 0: of any */
    char from[64];        /* the address the call came from; empty: this machine */
    json_t *args;      /* an object of values (true for a switch); NULL: none. Rewritten to texts */
    struct slice file; /* of the command's ADMIN_FILE */
    void (*done)(struct admin_call *call);
    void *owner;
    /* The answer: */
    enum reason reason; /* ok, bad_request, not_found, conflict, busy, stopping, ... */
    json_t *ret_result; /* ok: an object, the asker's reference; else NULL */
    char text[256];     /* a sentence when refused */

    struct admin_call *next; /* the admin's */
};

/* Starts the thread. NULL: no memory. */
struct admin *admin_new(const struct admin_opts *opts);
/* Finishes the running call, answers the waiting ones with `stopping`, ends the thread. Accepts
 * NULL. Calls must not come in any more. */
void admin_free(struct admin *a);

/* Of verifiers from now on. On the admin thread only: from opts.reload. */
void admin_set_bcrypt_cost(struct admin *a, unsigned cost);

/* Queues the call. `done` is called exactly once: on the admin thread, or before this returns when
 * the queue is full. It must only pass the call on. Any thread. */
void admin_run(struct admin *a, struct admin_call *call);
/* The same, waiting for the answer; sets `done` and `owner` itself. Not for workers. */
enum reason admin_run_wait(struct admin *a, struct admin_call *call);

/* The body of the answer over HTTP: the result, or {"error": sentence, "reason": name}. Returns the
 * status. */
unsigned admin_answer(const struct admin_call *call, struct buf *out);
