/* SPDX-License-Identifier: Apache-2.0 */
#include "server_proof.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "journal/format.h"
#include "sink/consume.h"
#include "sink/hooks.h"
#include "view/audit.h"
#include "view/history.h"
#include "view/snapfile.h"

static bool history_is_beyond(struct disk *disk, const char *path, const uint8_t log_id[16],
                              uint64_t end, uint64_t *ret)
{
    (void)disk; /* RocksDB's files are its own */
    return history_beyond(path, log_id, end, ret);
}

/* Whoever is furthest is named; of several, the first. */
static const struct place {
    const char *who, *file;
    bool (*beyond)(struct disk *disk, const char *path, const uint8_t log_id[16], uint64_t end,
                   uint64_t *ret);
} places[] = {
    {"latest", "latest.snap", snapfile_beyond},
    {"session", "session.snap", snapfile_beyond},
    {"rules", "rules.snap", snapfile_beyond},
    {"history", "history", history_is_beyond},
    {"audit", "audit", audit_beyond},
    {"consumer groups", "sinks/consume", consume_beyond},
    {"webhooks", "sinks/webhooks.at", hooks_beyond},
};

static int path_of(char out[PATH_MAX], const char *data, const char *name)
{
    return snprintf(out, PATH_MAX, "%s/%s", data, name) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* What no log can have reached proves nothing, and does not hide what others prove. */
static void take(struct journal_proof *ret, const char *who, const char *path, uint64_t at)
{
    if (at >= OFFSET_MAX)
        log_line(LOG_ERROR, "journal.cursor_impossible", "path=%s name=%s offset=%llu", path, who,
                 (unsigned long long)at);
    if (at >= OFFSET_MAX || at <= ret->offset)
        return;
    *ret = (struct journal_proof){.offset = at};
    snprintf(ret->who, sizeof ret->who, "%s", who);
    snprintf(ret->path, sizeof ret->path, "%.255s", path);
}

static bool on_beyond(void *arg, const uint8_t log_id[16], uint64_t end, struct journal_proof *ret)
{
    const struct proof *p = arg;
    char path[PATH_MAX];
    uint64_t at;
    *ret = (struct journal_proof){.offset = 0};
    for (unsigned i = 0; i < sizeof places / sizeof *places; i++)
        if (path_of(path, p->data, places[i].file) == 0 &&
            places[i].beyond(disk_posix(), path, log_id, end, &at))
            take(ret, places[i].who, path, at);
    return ret->offset > end;
}

int proof_ask(struct proof *p, const char *data, struct journal_opts *opts, struct error *err)
{
    p->data = data;
    int rc = path_of(p->cursors, data, "sinks/cursors");
    if (rc)
        return error_set(err, rc, "%.100s...: the name is too long", data);
    opts->cursors_elsewhere = p->cursors;
    opts->beyond = on_beyond;
    opts->beyond_arg = p;
    return 0;
}
