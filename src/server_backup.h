/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_backup.h - the server's part in a backup: it keeps its state of one moment still
 * (backup/stage.h) until the command that copies it is through. Stage, release and drop on the
 * admin thread, or on the main thread before that runs; look on the main thread.
 */
#pragma once

#include <jansson.h>
#include <pthread.h>

#include "backup/stage.h"

#define STAGER_LOOK_MS 60000u /* how often stager_look should be called */

struct stager {
    struct backup_source source;
    char data[4096];
    pthread_mutex_t lock; /* around the folder and `staged` */
    _Atomic bool staged;
};

/* Removes what an earlier process left. Copies the source's path. 0 or a negative errno with a
 * sentence. */
int stager_open(struct stager *s, const struct backup_source *source, struct error *err);
/* Accepts a zeroed struct. */
void stager_close(struct stager *s);
/* For admin_opts: `arg` is the stager. *ret names what is staged and where. */
int stager_stage(void *arg, json_t **ret, struct error *err);
/* Removes the folder if it is the one with that token: else -ESTALE. */
int stager_release(void *arg, const char *token, struct error *err);
/* Removes the folder, whoever copies it: what is erased must not stay in it. 0 or a negative errno
 * with a sentence. */
int stager_drop(struct stager *s, struct error *err);
/* Removes a folder whose command has died: nobody holds backup.lock. Never waits. */
void stager_look(struct stager *s);
