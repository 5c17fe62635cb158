/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/offline.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "base/log.h"
#include "cli/data_lock.h"
#include "journal/journal.h"
#include "server_keyring.h"
#include "server_tls.h"

#define QUEUE_MAX 10000 /* above what one command asks for at once */

static void run(struct catalog *catalog, const struct audit_place *audit,
                const struct psk_master *psk, const struct config *config,
                const struct admin_command *command, json_t *args, struct slice file,
                unsigned *ret_status, struct buf *ret_body)
{
    struct admin_opts opts = {.catalog = catalog,
                              .psk = psk,
                              .audit = *audit,
                              .bcrypt_cost = (unsigned)config->auth.bcrypt_cost,
                              .queue_max = 1};
    struct admin_call call = {
        .noun = command->noun, .verb = command->verb, .actor = "cli", .args = args, .file = file};
    struct admin *admin = admin_new(&opts);
    if (!admin) {
        ret_body->failed = true;
        return;
    }
    admin_run_wait(admin, &call);
    *ret_status = admin_answer(&call, ret_body);
    json_decref(call.ret_result);
    admin_free(admin);
}

/* What opens the audit log's entries, for the commands that read it; without a master key those
 * that are sealed stay so. */
static int open_keyring(const struct config *config, const struct admin_command *command,
                        struct keyring **ret, struct error *err)
{
    bool given = config->encryption.master_key_file[0] || config->encryption.master_key_env[0];
    bool reads = slice_eq(slice_str(command->noun), SLICE("audit"));
    return given && reads ? server_keyring_open(config, disk_posix(), true, ret, err) : 0;
}

static int on_name(void *arg, const char *name)
{
    uint64_t base;
    (void)arg;
    return journal_segment_name(name, &base);
}

static bool journal_has_begun(const char *data)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/journal", data) < (int)sizeof path &&
           disk_posix()->list(disk_posix(), path, on_name, NULL) > 0;
}

int offline_call(const struct config *config, const struct admin_command *command, json_t *args,
                 struct slice file, unsigned *ret_status, struct buf *ret_body, struct error *err)
{
    struct disk_file *lock;
    struct catalog *catalog;
    struct psk_master psk;
    char path[PATH_MAX], audit_dir[PATH_MAX];
    const char *dir = config->server.data;
    struct audit_place audit = {.disk = disk_posix(), .dir = audit_dir};
    if ((size_t)snprintf(path, sizeof path, "%s/catalog.db", dir) >= sizeof path ||
        (size_t)snprintf(audit_dir, sizeof audit_dir, "%s/audit", dir) >= sizeof audit_dir)
        return error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long", dir);
    int rc = data_lock_take(dir, command->changes, &lock, err);
    if (rc)
        return rc;
    log_set_level(LOG_WARN); /* what a server reports of its start is noise here */
    /* Without a journal to emit to, changes wait in the outbox for the next server. */
    rc = server_tls_read_psk(config, &psk, err);
    if (!rc)
        rc = open_keyring(config, command, &audit.keyring, err);
    const struct catalog_opts opts = {.path = path,
                                      .must_exist = journal_has_begun(dir),
                                      .told = audit_told(audit.disk, audit.dir),
                                      .queue_max = QUEUE_MAX};
    if (!rc)
        rc = catalog_open(&opts, &catalog, err);
    if (!rc) {
        run(catalog, &audit, &psk, config, command, args, file, ret_status, ret_body);
        catalog_close(catalog);
        if (ret_body->failed)
            rc = error_set(err, -ENOMEM, "no memory for the answer");
    }
    keyring_close(audit.keyring);
    data_lock_release(lock);
    return rc;
}
