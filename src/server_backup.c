/* SPDX-License-Identifier: Apache-2.0 */
#include "server_backup.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"

int stager_open(struct stager *s, const struct backup_source *source, struct error *err)
{
    s->source = *source;
    snprintf(s->data, sizeof s->data, "%s", source->data);
    s->source.data = s->data;
    pthread_mutex_init(&s->lock, NULL);
    return backup_unstage(s->source.disk, s->source.data, err);
}

void stager_close(struct stager *s)
{
    if (s->source.data)
        pthread_mutex_destroy(&s->lock);
    s->source.data = NULL;
}

static json_t *answer_of(const struct stager *s, const struct backup_staged *staged)
{
    char id[2 * sizeof staged->log_id + 1];
    for (unsigned i = 0; i < sizeof staged->log_id; i++)
        snprintf(id + 2 * i, 3, "%02x", staged->log_id[i]);
    return json_pack("{s:s, s:s, s:I, s:b, s:o}", "token", staged->token, "log_id", id, "position",
                     (json_int_t)staged->position, "sealed", (int)staged->sealed, "folder",
                     json_sprintf("%s/%s", s->source.data, BACKUP_FOLDER));
}

int stager_stage(void *arg, json_t **ret, struct error *err)
{
    struct stager *s = arg;
    struct backup_staged staged;
    pthread_mutex_lock(&s->lock);
    int rc = backup_stage(&s->source, &staged, err);
    s->staged = rc == 0;
    pthread_mutex_unlock(&s->lock);
    if (rc) {
        log_line(LOG_ERROR, "backup.stage_failed", "error=\"%s\"", err->text);
        return rc;
    }
    log_line(LOG_INFO, "backup.staged", "position=%llu", (unsigned long long)staged.position);
    *ret = answer_of(s, &staged);
    return 0;
}

static int drop(struct stager *s, struct error *err)
{
    int rc = backup_unstage(s->source.disk, s->source.data, err);
    if (rc == 0)
        s->staged = false;
    return rc;
}

int stager_release(void *arg, const char *token, struct error *err)
{
    struct stager *s = arg;
    pthread_mutex_lock(&s->lock);
    int rc = backup_is_staged(s->source.disk, s->source.data, token)
                 ? drop(s, err)
                 : error_set(err, -ESTALE, "there is no backup under way with that token");
    pthread_mutex_unlock(&s->lock);
    return rc;
}

int stager_drop(struct stager *s, struct error *err)
{
    pthread_mutex_lock(&s->lock);
    if (s->staged)
        log_line(LOG_WARN, "backup.dropped", "why=\"something is erased\"");
    int rc = drop(s, err);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

void stager_look(struct stager *s)
{
    struct disk_file *lock;
    struct error err = {""};
    if (!s->staged || pthread_mutex_trylock(&s->lock) != 0)
        return;
    if (s->staged && backup_lock(s->source.data, &lock, &err) == 0) {
        log_line(LOG_WARN, "backup.dropped", "why=\"the command that copied it has ended\"");
        if (drop(s, &err) < 0)
            log_line(LOG_ERROR, "backup.drop_failed", "error=\"%s\"", err.text);
        disk_posix()->close(disk_posix(), lock);
    }
    pthread_mutex_unlock(&s->lock);
}
