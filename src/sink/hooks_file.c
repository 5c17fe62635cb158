/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two files, each written as one: webhooks.json, what operators said, and webhooks.at, how far each
 * is. The second one may be a second old: what lies between is delivered once more. One that is of
 * another journal says nothing.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "sink/hooks_own.h"

static void put_log_id(const uint8_t log_id[16], char out[33])
{
    for (unsigned i = 0; i < 16; i++)
        snprintf(out + 2 * i, 3, "%02x", log_id[i]);
}

/* ---- writing --------------------------------------------------------------------------------- */

int hooks_write_json(const struct hooks *h, const char *path, json_t *o)
{
    char *text = json_dumps(o, JSON_COMPACT);
    CHECK(text);
    int rc = disk_replace(h->opts.disk, path, text, strlen(text));
    explicit_bzero(text, strlen(text)); /* there are secrets in it */
    free(text);
    json_decref(o);
    return rc;
}

json_t *hook_to_json(const struct hook *k)
{
    json_t *secrets = json_pack("[s]", k->secrets[0]);
    if (k->secrets[1][0])
        json_array_append_new(secrets, json_string(k->secrets[1]));
    return json_pack("{s:I, s:I, s:s, s:s, s:b, s:i, s:o, s:I, s:b, s:s}", "id", (json_int_t)k->id,
                     "account", (json_int_t)k->account, "url", k->url, "feeds", k->feeds, "by_feed",
                     k->by_feed, "events_max", (int)k->events_max, "secrets", secrets, "created_us",
                     (json_int_t)k->created_us, "paused", k->paused, "disabled", k->disabled);
}

int hooks_save(struct hooks *h)
{
    json_t *list = json_array();
    int rc = hooks_save_copy(h);
    for (const struct hook *k = h->all; k; k = k->next)
        json_array_append_new(list, hook_to_json(k));
    if (rc) {
        json_decref(list);
        return rc;
    }
    return hooks_write_json(h, h->path,
                            json_pack("{s:i, s:I, s:o}", "format", 1, "next_id",
                                      (json_int_t)h->next_id, "webhooks", list));
}

int hooks_save_positions(struct hooks *h)
{
    char log[33];
    json_t *list = json_array();
    put_log_id(h->opts.log_id, log);
    for (const struct hook *k = h->all; k; k = k->next) {
        json_t *owed = json_array();
        for (unsigned i = 0; i < k->owed_count; i++)
            json_array_append_new(owed,
                                  json_pack("[I, I, i]", (json_int_t)k->owed[i].offset,
                                            (json_int_t)k->owed[i].due_us, (int)k->owed[i].tried));
        json_array_append_new(list, json_pack("{s:I, s:I, s:I, s:o}", "id", (json_int_t)k->id, "at",
                                              (json_int_t)hook_position(h, k), "failing_since_us",
                                              (json_int_t)k->failing_since_us, "owed", owed));
    }
    return hooks_write_json(h, h->at_path, json_pack("{s:s, s:o}", "log", log, "webhooks", list));
}

/* ---- reading --------------------------------------------------------------------------------- */

int hooks_read_json(struct disk *disk, const char *path, json_t **ret, struct error *err)
{
    struct buf text;
    json_error_t why;
    buf_init(&text, SIZE_MAX / 2);
    int rc = disk_read_file(disk, path, &text);
    if (rc == 0) {
        *ret = json_loadb(text.ptr, text.len, 0, &why);
        if (!*ret)
            rc = error_set(err, -EBADMSG, "%s:%d: %s; move it away to go on", path, why.line,
                           why.text);
    } else if (rc == -ENOENT) {
        rc = 0;
    } else {
        error_set(err, rc, "%s: %s", path, disk_strerror(rc));
    }
    if (text.ptr)
        explicit_bzero(text.ptr, text.len);
    buf_fini(&text);
    return rc;
}

static bool take_secrets(struct hook *k, const json_t *secrets)
{
    struct buf lines;
    buf_init(&lines, 4 * HOOK_SECRET_MAX);
    for (unsigned i = 0; i < 2 && i < json_array_size(secrets); i++) {
        const char *s = json_string_value(json_array_get(secrets, i));
        snprintf(k->secrets[i], HOOK_SECRET_MAX, "%s", s ? s : "");
        buf_printf(&lines, "%s\n", k->secrets[i]);
    }
    bool good = webhook_secrets_parse(buf_slice(&lines), &k->keys, NULL) == 0;
    buf_fini(&lines);
    return good;
}

struct hook *hook_from_json(const json_t *o)
{
    json_int_t id, account, created_us;
    const char *url, *feeds, *disabled;
    json_t *secrets, *from = json_incref((json_t *)(uintptr_t)o);
    int by_feed, events_max, paused;
    int bad = json_unpack(from, "{s:I, s:I, s:s, s:s, s:b, s:i, s:o, s:I, s:b, s:s}", "id", &id,
                          "account", &account, "url", &url, "feeds", &feeds, "by_feed", &by_feed,
                          "events_max", &events_max, "secrets", &secrets, "created_us", &created_us,
                          "paused", &paused, "disabled", &disabled);
    struct hook *k = bad ? NULL : calloc(1, sizeof *k);
    if (k) {
        k->id = (uint64_t)id;
        k->account = (uint64_t)account;
        k->url = strdup(url);
        k->feeds = strdup(feeds);
        k->by_feed = by_feed;
        k->events_max = (unsigned)events_max;
        k->created_us = created_us;
        k->paused = paused;
        snprintf(k->disabled, sizeof k->disabled, "%s", disabled);
        k->attempts = attempts_new(HOOK_ATTEMPTS);
        if (!take_secrets(k, secrets) || events_max < 1 || !k->url || !k->feeds) {
            hook_free(k);
            k = NULL;
        }
    }
    json_decref(from);
    return k;
}

static void read_owed(struct hook *k, const json_t *list)
{
    size_t i;
    json_t *o;
    json_array_foreach(list, i, o)
    {
        json_int_t offset, due_us;
        int tried;
        if (k->owed_count == HOOK_OWED_MAX || json_unpack(o, "[I, I, i]", &offset, &due_us, &tried))
            continue;
        k->owed[k->owed_count++] = (struct owed){
            .offset = (uint64_t)offset,
            .due_us = due_us,
            .tried = tried < 0 || tried > WEBHOOK_PAUSES ? WEBHOOK_PAUSES : (uint32_t)tried};
    }
}

/* What the file says of each webhook; NULL: it is of another log. */
static json_t *positions_of(const json_t *file, const uint8_t log_id[16])
{
    char log[33];
    const char *of = json_string_value(json_object_get(file, "log"));
    put_log_id(log_id, log);
    return of && strcmp(of, log) == 0 ? json_object_get(file, "webhooks") : NULL;
}

static void read_positions(struct hooks *h, const json_t *file)
{
    size_t i;
    json_t *o;
    json_array_foreach(positions_of(file, h->opts.log_id), i, o)
    {
        struct hook *k = hooks_find(h, (uint64_t)json_integer_value(json_object_get(o, "id")));
        uint64_t at = (uint64_t)json_integer_value(json_object_get(o, "at"));
        if (!k)
            continue;
        k->read_at = at < k->read_at ? at : k->read_at;
        k->failing_since_us = json_integer_value(json_object_get(o, "failing_since_us"));
        read_owed(k, json_object_get(o, "owed"));
    }
}

static void reach(uint64_t *furthest, const json_t *at, uint64_t more)
{
    json_int_t n = json_integer_value(at);
    if (n >= 0 && (uint64_t)n + more > *furthest)
        *furthest = (uint64_t)n + more;
}

/* What is owed was read, too. */
bool hooks_beyond(struct disk *disk, const char *path, const uint8_t log_id[16], uint64_t end,
                  uint64_t *ret)
{
    json_t *file = NULL, *o, *owed;
    size_t i, k;
    uint64_t at = 0;
    if (hooks_read_json(disk, path, &file, NULL) < 0)
        return false;
    json_array_foreach(positions_of(file, log_id), i, o)
    {
        reach(&at, json_object_get(o, "at"), 0);
        json_array_foreach(json_object_get(o, "owed"), k, owed)
            reach(&at, json_array_get(owed, 0), json_is_array(owed));
    }
    json_decref(file);
    *ret = at;
    return at > end;
}

void hooks_prepend(struct hooks *h, struct hook *k)
{
    k->behind = true;
    k->read_at = journal_durable(h->opts.journal);
    k->neighbour = h->buckets[k->account % HOOKS_BUCKETS];
    h->buckets[k->account % HOOKS_BUCKETS] = k;
    k->next = h->all;
    h->all = k;
    h->count++;
}

int hooks_load(struct hooks *h, struct error *err)
{
    json_t *file = NULL, *at = NULL;
    int rc = hooks_read_json(h->opts.disk, h->path, &file, err);
    if (rc == 0 && !file)
        return hooks_load_copy(h, err);
    if (rc == 0)
        rc = hooks_read_json(h->opts.disk, h->at_path, &at, err);
    if (rc == 0 && file && json_integer_value(json_object_get(file, "format")) != 1)
        rc = error_set(err, -EBADMSG, "%s is of a version that is not known here", h->path);
    const json_t *list = json_object_get(file, "webhooks");
    for (size_t i = json_array_size(list); rc == 0 && i-- > 0;) {
        struct hook *k = hook_from_json(json_array_get(list, i));
        if (k)
            hooks_prepend(h, k);
        else
            rc = error_set(err, -EBADMSG, "%s: the webhook number %zu is damaged", h->path, i);
    }
    if (rc == 0) {
        h->next_id = (uint64_t)json_integer_value(json_object_get(file, "next_id"));
        read_positions(h, at);
        if (h->count && (rc = hooks_save_copy(h)) != 0) /* a version before made none */
            error_set(err, rc, "%s: %s", h->copy_path, disk_strerror(rc));
    }
    hooks_list_owners(h);
    json_decref(file);
    json_decref(at);
    return rc;
}
