/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/offline.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "base/log.h"
#include "cli/data_lock.h"

#define QUEUE_MAX 10000 /* above what one command asks for at once */

static void run(struct catalog *catalog, const struct config *config,
                const struct admin_command *command, json_t *args, struct slice file,
                unsigned *ret_status, struct buf *ret_body)
{
    struct admin_opts opts = {
        .catalog = catalog, .bcrypt_cost = (unsigned)config->auth.bcrypt_cost, .queue_max = 1};
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

int offline_call(const struct config *config, const struct admin_command *command, json_t *args,
                 struct slice file, unsigned *ret_status, struct buf *ret_body, struct error *err)
{
    struct disk_file *lock;
    struct catalog *catalog;
    char path[PATH_MAX];
    const char *dir = config->server.data;
    if ((size_t)snprintf(path, sizeof path, "%s/catalog.db", dir) >= sizeof path)
        return error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long", dir);
    int rc = data_lock_take(dir, command->changes, &lock, err);
    if (rc)
        return rc;
    log_set_level(LOG_WARN); /* what a server reports of its start is noise here */
    /* Without a journal to emit to, changes wait in the outbox for the next server. */
    rc = catalog_open(&(struct catalog_opts){.path = path, .queue_max = QUEUE_MAX}, &catalog, err);
    if (!rc) {
        run(catalog, config, command, args, file, ret_status, ret_body);
        catalog_close(catalog);
        if (ret_body->failed)
            rc = error_set(err, -ENOMEM, "no memory for the answer");
    }
    data_lock_release(lock);
    return rc;
}
