/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device import: a fleet that has its secrets already, from CSV. The first line names the columns;
 * then every line is a device. Lines go to the catalog in portions, each as a rule one transaction.
 *
 * A line that is wrong is left out and reported with its number and column, the others are
 * imported: whoever imports 100,000 devices wants to correct three and send the file again. A line
 * whose device is there already with the same hash changes nothing, so sending it again is safe.
 */
#include "api/admin_ops.h"

#include <pthread.h>

#include "base/log.h"
#include "catalog/names.h"
#include "codec/csv.h"
#include "gate/shield.h"

#define PORTION    2000 /* devices of one transaction: some ten milliseconds */
#define ERRORS_MAX 100  /* that are told; all are counted */

enum column { DEVICE, HASH, ROLE, FEEDS, COLUMNS };
static const char *const column_names[COLUMNS] = {"device", "hash", "role", "feeds"};

/* A line on its way. */
struct entry {
    struct catalog_ask ask;
    unsigned line;
};

struct import {
    struct admin *admin;
    struct admin_call *call;
    struct csv csv;
    int at[COLUMNS]; /* where each column is in a line; -1: nowhere */
    struct slice role, feeds;
    struct buf roles; /* struct catalog_role: all there are */
    struct account *account;
    struct entry *entries;
    unsigned count;
    unsigned added, unchanged, refused;
    json_t *errors;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    unsigned waiting; /* under the lock: asks that are not answered */
};

/* ---- what is wrong with a line ------------------------------------------------------------ */

static void report(struct import *m, unsigned line, int field, const char *sentence)
{
    m->refused++;
    if (json_array_size(m->errors) >= ERRORS_MAX)
        return;
    const char *name = NULL;
    for (unsigned i = 0; i < COLUMNS; i++)
        if (field >= 0 && m->at[i] == field)
            name = column_names[i];
    json_t *text = json_string(sentence);
    json_array_append_new(m->errors,
                          json_pack("{s:i, s:i, s:s?, s:o}", "line", (int)line, "column", field + 1,
                                    "name", name, "error", text ? text : json_string("no UTF-8")));
}

static void report_at(struct import *m, const struct csv_record *r, enum column c,
                      const char *sentence)
{
    report(m, r->line, m->at[c] < 0 ? (int)r->count : m->at[c], sentence);
}

static struct slice value(const struct import *m, const struct csv_record *r, enum column c,
                          struct slice fallback)
{
    int at = m->at[c];
    return at >= 0 && at < (int)r->count && r->fields[at].len ? r->fields[at] : fallback;
}

/* ---- the first line ----------------------------------------------------------------------- */

/* What the first line says. False: refused, which it must be as a whole. */
static bool read_head(struct import *m)
{
    struct csv_record head;
    struct error why;
    enum csv_outcome outcome = csv_next(&m->csv, &head, &why);
    if (outcome == CSV_BAD) {
        admin_refuse(m->call, REASON_bad_request, "line %u, column %u: %s", head.line,
                     head.count + 1, why.text);
        return false;
    }
    for (unsigned i = 0; outcome == CSV_RECORD && i < head.count; i++) {
        char shown[64];
        unsigned c = 0;
        while (c < COLUMNS && !slice_eq_nocase(head.fields[i], slice_str(column_names[c])))
            c++;
        if (c == COLUMNS || m->at[c] >= 0) {
            admin_refuse(m->call, REASON_bad_request,
                         "line %u, column %u: \"%s\" %s; the first line names the columns: "
                         "device,hash and, if wished, role,feeds",
                         head.line, i + 1, log_text(shown, head.fields[i]),
                         c == COLUMNS ? "is no column" : "is there twice");
            return false;
        }
        m->at[c] = (int)i;
    }
    if (m->at[DEVICE] >= 0 && m->at[HASH] >= 0)
        return true;
    admin_refuse(m->call, REASON_bad_request,
                 "the first line must name the columns: device,hash and, if wished, role,feeds");
    return false;
}

static bool role_exists(const struct import *m, struct slice name)
{
    const struct catalog_role *roles = (const void *)m->roles.ptr;
    for (size_t i = 0; i < m->roles.len / sizeof *roles; i++)
        if (slice_eq(name, slice_str(roles[i].name)))
            return true;
    return false;
}

/* ---- lines -------------------------------------------------------------------------------- */

static bool feeds_are_good(struct slice feeds)
{
    struct buf stored;
    buf_init(&stored, FEED_PATTERNS_MAX * (FEED_KEY_MAX + 1));
    bool good = name_parse_patterns(feeds, &stored);
    buf_fini(&stored);
    return good;
}

/* Whether the device is there already just so. False, with a report: it is another's, or has
 * another hash. */
static bool is_there(struct import *m, const struct csv_record *r, struct slice hash,
                     const struct credential *device)
{
    if (device->account->number == m->account->number && slice_eq(device->verifier, hash)) {
        m->unchanged++;
        return true;
    }
    report_at(m, r, DEVICE,
              "there is a device with that id already, with another secret or of another account");
    return false;
}

/* One line becomes an ask, or is reported. */
static void take(struct import *m, const struct csv_record *r)
{
    struct slice name = value(m, r, DEVICE, SLICE("")), hash = value(m, r, HASH, SLICE("")),
                 role = value(m, r, ROLE, m->role), feeds = value(m, r, FEEDS, m->feeds);
    const char *problem = NULL;
    char text[200];
    if (!name_is_device_id(name)) {
        report_at(m, r, DEVICE,
                  "a device id has 1 to 128 printable ASCII characters, no blank and no ':'");
        return;
    }
    problem = !hash.len                  ? "it is missing"
              : hash.len >= VERIFIER_MAX ? "it is too long"
                                         : shield_verifier_problem(hash);
    if (problem) {
        snprintf(text, sizeof text, "that hash cannot be used: %s", problem);
        report_at(m, r, HASH, text);
        return;
    }
    if (role.len && !role_exists(m, role)) {
        report_at(m, r, ROLE, "there is no such role");
        return;
    }
    if (!feeds_are_good(feeds)) {
        report_at(m, r, FEEDS, "feeds are at most 16 feed keys, '*' at the end matches any rest");
        return;
    }
    struct credential *device = catalog_device(admin_opts(m->admin)->catalog, name);
    if (device) {
        is_there(m, r, hash, device);
        credential_unref(device);
        return;
    }
    m->entries[m->count++] = (struct entry){.line = r->line,
                                            .ask = {.op = CATALOG_DEVICE_ADD,
                                                    .account_number = m->account->number,
                                                    .name = name,
                                                    .role = role,
                                                    .patterns = feeds,
                                                    .verifier = hash}};
}

/* ---- portions ----------------------------------------------------------------------------- */

static void on_added(struct catalog_ask *ask)
{
    struct import *m = ask->owner;
    pthread_mutex_lock(&m->lock);
    if (--m->waiting == 0)
        pthread_cond_signal(&m->moved);
    pthread_mutex_unlock(&m->lock);
}

static void submit(struct import *m)
{
    struct catalog *catalog = admin_opts(m->admin)->catalog;
    const char *actor = m->call->actor ? m->call->actor : "admin";
    m->waiting = m->count;
    for (unsigned i = 0; i < m->count; i++) {
        struct catalog_ask *ask = &m->entries[i].ask;
        ask->actor = slice_str(actor);
        ask->actor_credential = m->call->actor_credential;
        ask->done = on_added;
        ask->owner = m;
        enum reason reason = catalog_submit(catalog, ask);
        if (reason != REASON_ok) {
            ask->reason = reason;
            snprintf(ask->text, sizeof ask->text, "%s", reason_info(reason)->text);
            on_added(ask);
        }
    }
    pthread_mutex_lock(&m->lock);
    while (m->waiting)
        pthread_cond_wait(&m->moved, &m->lock);
    pthread_mutex_unlock(&m->lock);
}

/* Has the catalog make the devices that were taken, and waits for it. */
static void flush(struct import *m)
{
    submit(m);
    for (unsigned i = 0; i < m->count; i++) {
        struct catalog_ask *ask = &m->entries[i].ask;
        if (ask->reason == REASON_ok)
            m->added++;
        else
            report(m, m->entries[i].line, m->at[DEVICE], ask->text);
        credential_unref(ask->ret_credential);
    }
    m->count = 0;
}

static void read_lines(struct import *m)
{
    struct csv_record r;
    struct error why;
    for (enum csv_outcome o; (o = csv_next(&m->csv, &r, &why)) != CSV_END;) {
        if (o == CSV_BAD)
            report(m, r.line, (int)r.count, why.text);
        else
            take(m, &r);
        if (m->count == PORTION)
            flush(m);
    }
    flush(m);
}

static enum reason read_file(struct import *m)
{
    struct catalog_ask ask = {.op = CATALOG_ROLE_LIST, .ret_list = &m->roles};
    enum reason reason = admin_change(m->admin, m->call, &ask);
    if (reason != REASON_ok)
        return reason;
    if (!read_head(m))
        return REASON_bad_request;
    if (m->role.len && !role_exists(m, m->role))
        return admin_refuse(m->call, REASON_bad_request, "there is no role \"%.*s\"",
                            SLICE_ARG(m->role));
    if (!feeds_are_good(m->feeds))
        return admin_refuse(m->call, REASON_bad_request, "\"%.*s\" are no feeds",
                            SLICE_ARG(m->feeds));
    read_lines(m);
    m->call->ret_result =
        json_pack("{s:i, s:i, s:i, s:O}", "added", (int)m->added, "unchanged", (int)m->unchanged,
                  "refused", (int)m->refused, "errors", m->errors);
    return REASON_ok;
}

enum reason device_import(struct admin *a, struct admin_call *call)
{
    struct slice name = admin_arg(call, "account");
    unsigned second_line = 2;
    if (!admin_number(call, "first_line", 2, INT32_MAX, &second_line))
        return REASON_bad_request;
    struct import m = {.admin = a,
                       .call = call,
                       .at = {-1, -1, -1, -1},
                       .role = admin_arg(call, "role"),
                       .feeds = admin_arg(call, "feeds"),
                       .account = catalog_account(admin_opts(a)->catalog, name),
                       .entries = calloc(PORTION, sizeof(struct entry)),
                       .errors = json_array(),
                       .lock = PTHREAD_MUTEX_INITIALIZER,
                       .moved = PTHREAD_COND_INITIALIZER};
    buf_init(&m.roles, 1u << 20);
    csv_init(&m.csv, call->file, second_line ? second_line - 1 : 0);
    enum reason reason = REASON_internal;
    if (!m.account)
        reason =
            admin_refuse(call, REASON_not_found, "there is no account \"%.*s\"", SLICE_ARG(name));
    else if (m.entries)
        reason = read_file(&m);
    csv_fini(&m.csv);
    buf_fini(&m.roles);
    json_decref(m.errors);
    account_unref(m.account);
    free(m.entries);
    return reason;
}
