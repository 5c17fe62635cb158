/* SPDX-License-Identifier: Apache-2.0 */
#include "server_erase.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "flow/session_record.h"

#define LIST_MAX (64u << 20)

static int failed(struct error *err, int rc, const char *what)
{
    return error_set(err, rc, "%s: %s; the next start finishes the erasure", what,
                     disk_strerror(rc));
}

/* ---- the list -------------------------------------------------------------------------------- */

static int read_list(const struct eraser *e, struct buf *out)
{
    buf_init(out, LIST_MAX);
    int rc = disk_read_file(e->disk, e->path, out);
    return rc == -ENOENT ? 0 : rc;
}

static int note(struct eraser *e, const char *word, uint64_t account)
{
    struct buf list;
    int rc = read_list(e, &list);
    buf_printf(&list, "%s %llu", word, (unsigned long long)account);
    for (unsigned i = 0; i < e->feeds_count; i++)
        buf_printf(&list, " %llu", (unsigned long long)e->feeds[i]);
    buf_put_u8(&list, '\n');
    if (rc == 0)
        rc = list.failed ? -EFBIG : disk_replace(e->disk, e->path, list.ptr, list.len);
    buf_fini(&list);
    return rc;
}

/* The number at the front, and the space before it. False: there is none. */
static bool next_number(struct slice *line, uint64_t *ret)
{
    size_t at = 1;
    uint64_t v = 0;
    if (line->len < 2 || line->ptr[0] != ' ')
        return false;
    for (; at < line->len && line->ptr[at] >= '0' && line->ptr[at] <= '9' && at < 20; at++)
        v = v * 10 + (uint64_t)(line->ptr[at] - '0');
    *line = slice_from(*line, at);
    *ret = v;
    return at > 1;
}

struct entry {
    bool done;
    uint64_t account;
    struct slice feeds; /* as they stand there */
};

/* The next line. False: the end, or a line that is none (*ret_bad). */
static bool next_entry(struct slice *rest, struct entry *ret, bool *ret_bad)
{
    const char *end = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;
    *ret_bad = rest->len && !end;
    if (!end)
        return false;
    struct slice line = slice_of(rest->ptr, (size_t)(end - rest->ptr));
    *rest = slice_from(*rest, line.len + 1);
    ret->done = slice_starts(line, SLICE("done "));
    *ret_bad = !ret->done && !slice_starts(line, SLICE("account "));
    line = *ret_bad ? line : slice_from(line, ret->done ? 4 : 7);
    *ret_bad = *ret_bad || !next_number(&line, &ret->account);
    ret->feeds = line;
    return !*ret_bad;
}

/* ---- one account ----------------------------------------------------------------------------- */

static void forget_feeds(struct eraser *e)
{
    free(e->feeds);
    e->feeds = NULL;
    e->feeds_count = 0;
}

static int collect_feeds(struct eraser *e, uint64_t account)
{
    struct buf list;
    buf_init(&list, SIZE_MAX / 2);
    unsigned count = catalog_feeds(e->catalog, account, &list);
    struct feed **feeds = (void *)list.ptr;
    forget_feeds(e);
    e->feeds = calloc(count + 1, sizeof *e->feeds);
    for (unsigned i = 0; i < count; i++) {
        if (e->feeds)
            e->feeds[e->feeds_count++] = feeds[i]->number;
        feed_unref(feeds[i]);
    }
    buf_fini(&list);
    return e->feeds ? 0 : -ENOMEM;
}

int erasure_begin(struct eraser *e, uint64_t account, struct error *err)
{
    int rc = collect_feeds(e, account);
    if (rc == 0)
        rc = note(e, "account", account);
    return rc < 0 ? error_set(err, rc, "%s: %s", e->path, disk_strerror(rc)) : 0;
}

int erasure_begin_feeds(struct eraser *e, const uint64_t *feeds, unsigned count, struct error *err)
{
    forget_feeds(e);
    e->feeds = calloc(count + 1, sizeof *e->feeds);
    if (!e->feeds)
        return error_set(err, -ENOMEM, "%s: no memory", e->path);
    if (count)
        memcpy(e->feeds, feeds, count * sizeof *feeds);
    e->feeds_count = count;
    int rc = note(e, "account", 0);
    return rc < 0 ? error_set(err, rc, "%s: %s", e->path, disk_strerror(rc)) : 0;
}

/* All sessions and retained messages of the account. */
static int end_sessions(struct eraser *e, uint64_t account, int64_t now)
{
    struct buf payload;
    buf_init(&payload, 64);
    session_record_encode(
        &payload, &(struct session_record){.event = SESSION_ENDED, .end = SESSION_END_ERASED});
    struct record r = {.kind = RECORD_SESSION,
                       .account = account,
                       .event_us = now,
                       .receive_us = now,
                       .payload = buf_slice(&payload)};
    int rc = e->emit(e->arg, &r, 1);
    buf_fini(&payload);
    return rc;
}

/* What workers had in hand when the account left the catalog may come behind the records that
 * delete its feeds. The first round brings into the journal what was there, the second deletes that
 * too. */
static int delete_data(struct eraser *e, uint64_t account)
{
    int rc = 0;
    for (unsigned round = 0; rc == 0 && round < 2; round++) {
        int64_t now = clock_wall_us();
        if (e->running)
            rc = e->barrier(e->arg);
        for (unsigned i = 0; rc == 0 && i < e->feeds_count; i++) {
            struct record r = {.kind = RECORD_DELETED,
                               .account = account,
                               .feed = e->feeds[i],
                               .event_us = now,
                               .receive_us = now};
            rc = e->emit(e->arg, &r, 1);
        }
        if (rc == 0 && account)
            rc = end_sessions(e, account, now);
    }
    return rc;
}

static int erase(struct eraser *e, uint64_t account, struct error *err)
{
    int rc = stager_drop(e->stager, err);
    if (rc < 0)
        return rc;
    rc = delete_data(e, account);
    if (rc < 0)
        return failed(err, rc, "journal");
    rc = view_flush(*e->latest_view, 0);
    if (rc == 0)
        rc = view_flush(*e->history_view, 0);
    if (rc == 0) /* its entries are sealed there, as long as there is the key */
        rc = view_flush(*e->audit_view, 0);
    if (rc == 0)
        rc = view_flush(*e->session_view, 0);
    if (rc == 0)
        rc = view_flush(*e->rules_view, 0);
    if (rc < 0)
        return failed(err, rc, "views");
    if (account || e->feeds_count)
        history_scrub(e->history, e->feeds, e->feeds_count);
    if (account && e->keyring && (rc = keyring_destroy(e->keyring, account)) < 0)
        return failed(err, rc, "keyring");
    rc = catalog_scrub(e->catalog);
    return rc < 0 ? failed(err, rc, "catalog") : 0;
}

int erasure_end(struct eraser *e, uint64_t account, struct error *err)
{
    int rc = erase(e, account, err);
    forget_feeds(e);
    if (rc < 0)
        return rc;
    rc = note(e, "done", account);
    if (rc < 0)
        return failed(err, rc, e->path);
    log_line(LOG_INFO, "account.erased", "account=%llu", (unsigned long long)account);
    return 0;
}

int on_erase_begin(void *arg, uint64_t account, struct error *err)
{
    struct eraser *e = arg;
    e->running = true;
    return erasure_begin(e, account, err);
}

int on_erase_feeds(void *arg, const uint64_t *feeds, unsigned count, struct error *err)
{
    struct eraser *e = arg;
    e->running = true;
    return erasure_begin_feeds(e, feeds, count, err);
}

int on_erase_end(void *arg, uint64_t account, struct error *err)
{
    struct eraser *e = arg;
    int rc = erasure_end(e, account, err);
    if (e->keyring)
        metric_set(METRIC_keyring_keys, keyring_stats(e->keyring).keys);
    return rc;
}

/* ---- at start -------------------------------------------------------------------------------- */

static int remove_account(struct eraser *e, uint64_t account, struct error *err)
{
    struct catalog_ask ask = {
        .op = CATALOG_ACCOUNT_REMOVE, .account_number = account, .actor = SLICE("erase")};
    enum reason reason = catalog_call(e->catalog, &ask);
    account_unref(ask.ret_account);
    if (reason == REASON_ok || reason == REASON_not_found)
        return 0;
    return error_set(err, -EIO, "account %llu cannot be erased: %s", (unsigned long long)account,
                     ask.text[0] ? ask.text : reason_info(reason)->text);
}

/* An account that left the catalog before has its keys again, from a backup of the keyring: that
 * they are destroyed once more is told by this. */
static int note_keys(struct eraser *e, uint64_t account, struct error *err)
{
    char subject[32];
    snprintf(subject, sizeof subject, "%llu", (unsigned long long)account);
    struct catalog_ask ask = {.op = CATALOG_NOTE,
                              .actor = SLICE("erase"),
                              .name = SLICE("account_erase"),
                              .feed_name = slice_str(subject),
                              .description =
                                  SLICE("\"keys of an account that is gone, destroyed\"")};
    enum reason reason = catalog_call(e->catalog, &ask);
    if (reason == REASON_ok)
        return 0;
    return error_set(err, -EIO, "account %s cannot be erased: %s", subject,
                     ask.text[0] ? ask.text : reason_info(reason)->text);
}

static int finish(struct eraser *e, struct entry *entry, bool done, struct error *err)
{
    uint64_t account = entry->account, feed;
    struct account *a = catalog_account_by_number(e->catalog, account);
    bool here = a != NULL;
    account_unref(a);
    if (done && !here && !(e->keyring && keyring_key_of(e->keyring, account)))
        return 0;
    log_line(LOG_INFO, "account.erase_resumed", "account=%llu", (unsigned long long)account);
    forget_feeds(e);
    e->feeds = calloc(entry->feeds.len / 2 + 1, sizeof *e->feeds);
    if (!e->feeds)
        return error_set(err, -ENOMEM, "%s: no memory", e->path);
    while (next_number(&entry->feeds, &feed))
        e->feeds[e->feeds_count++] = feed;
    int rc = 0;
    if (here)
        rc = remove_account(e, account, err);
    else if (e->keyring && keyring_key_of(e->keyring, account))
        rc = note_keys(e, account, err);
    return rc < 0 ? rc : erasure_end(e, account, err);
}

/* Whether the list says further down that it is done. */
static bool is_done(struct slice rest, uint64_t account)
{
    struct entry other;
    bool bad;
    while (next_entry(&rest, &other, &bad))
        if (other.done && other.account == account)
            return true;
    return false;
}

int erasures_finish(struct eraser *e, struct error *err)
{
    struct buf list;
    int rc = read_list(e, &list);
    if (rc < 0)
        error_set(err, rc, "%s: %s", e->path, disk_strerror(rc));
    struct slice rest = buf_slice(&list);
    struct entry entry;
    bool bad = false;
    while (rc == 0 && next_entry(&rest, &entry, &bad))
        rc = entry.done ? 0 : finish(e, &entry, is_done(rest, entry.account), err);
    if (rc == 0 && bad)
        rc = error_set(err, -EBADMSG, "%s is damaged: a line is none", e->path);
    buf_fini(&list);
    return rc;
}
