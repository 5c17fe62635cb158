/* SPDX-License-Identifier: Apache-2.0 */
#include "backup/offline.h"

#include <errno.h>
#include <limits.h>

#include "backup/files.h"
#include "view/audit.h"

#define QUEUE_MAX 1 /* nobody asks for anything */

static int open_journal(const struct backup_offline_opts *o, struct backup_source *ret,
                        struct error *err)
{
    char path[PATH_MAX];
    int rc = path_join(path, o->data, "journal", err);
    struct journal_opts opts = o->journal;
    opts.disk = o->disk;
    opts.dir = path;
    opts.ring_bytes = opts.pending_bytes = 1u << 20;
    return rc ? rc : journal_open(&opts, &ret->journal, err);
}

/* What is sealed stays so: nothing is read. */
static int open_history(const struct backup_offline_opts *o, struct backup_source *ret,
                        struct error *err)
{
    char path[PATH_MAX];
    uint64_t cursor;
    int rc = path_join(path, o->data, "history", err);
    struct history_opts opts = {.path = path,
                                .open_bytes_max = o->history_open_max,
                                .flush_bytes = UINT64_MAX,
                                .flush_ns = UINT64_MAX,
                                .cache_bytes = o->history_cache_bytes};
    struct journal_position p = journal_position(ret->journal);
    memcpy(opts.log_id, p.log_id, sizeof opts.log_id);
    return rc ? rc : history_open(&opts, &ret->history, &cursor, err);
}

/* Without a journal to emit to, what the outbox owes stays in it, and in the copy. */
static int open_catalog(const struct backup_offline_opts *o, struct backup_source *ret,
                        struct error *err)
{
    char path[PATH_MAX], audit[PATH_MAX];
    int rc = path_join(path, o->data, "catalog.db", err);
    if (rc == 0)
        rc = path_join(audit, o->data, "audit", err);
    const struct catalog_opts opts = {.path = path,
                                      .must_exist = journal_durable(ret->journal) > 0,
                                      .told = rc ? 0 : audit_told(o->disk, audit),
                                      .queue_max = QUEUE_MAX};
    return rc ? rc : catalog_open(&opts, &ret->catalog, err);
}

int backup_offline_open(const struct backup_offline_opts *opts, struct backup_source *ret,
                        struct error *err)
{
    *ret = (struct backup_source){.disk = opts->disk, .data = opts->data};
    int rc = open_journal(opts, ret, err);
    if (rc == 0)
        rc = open_history(opts, ret, err);
    if (rc == 0)
        rc = open_catalog(opts, ret, err);
    if (rc)
        backup_offline_close(ret);
    return rc;
}

void backup_offline_close(struct backup_source *source)
{
    catalog_close(source->catalog);
    history_close(source->history);
    journal_close(source->journal);
    *source = (struct backup_source){0};
}
