/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/course.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "journal/follow.h"
#include "journal/record.h"

#define IDLE_NS  (200 * NS_PER_MS)
#define RETRY_NS (1000 * NS_PER_MS)
/* How long a stretch without any message waits for one, before the target's cursor is moved over it
 * for its own sake. */
#define EMPTY_NS (2 * NS_PER_S)

/* Batches of the journal that are looked through at a time without finding enough. */
#define TURNS_MAX 64u

#define WHYS_BYTES 65536u

#define U(v) (unsigned long long)(v)

/* ---- selection ------------------------------------------------------------------------------- */

bool course_item(struct slice *rest, struct slice *ret)
{
    if (!rest->len)
        return false;
    const char *comma = memchr(rest->ptr, ',', rest->len);
    *ret = slice_of(rest->ptr, comma ? (size_t)(comma - rest->ptr) : rest->len);
    *rest = slice_from(*rest, comma ? ret->len + 1 : ret->len);
    *ret = slice_trim(*ret);
    return true;
}

bool course_listed(const char *list, struct slice name)
{
    struct slice rest = slice_str(list), item;
    while (course_item(&rest, &item)) {
        if (item.len && item.ptr[item.len - 1] == '*'
                ? slice_starts(name, slice_of(item.ptr, item.len - 1))
                : slice_eq(name, item))
            return true;
    }
    return false;
}

bool course_selects(const char *accounts, const char *feeds, const struct record *r,
                    const struct sink_names *names)
{
    /* Of what is deleted the names may be gone while the target still has it. */
    bool all = r->kind == RECORD_DELETED;
    struct slice feed = r->kind == RECORD_PUBLISH ? r->topic : names->feed;
    return (!accounts[0] || course_listed(accounts, names->account) ||
            (all && !names->account.len)) &&
           (!feeds[0] || course_listed(feeds, feed) || (all && !feed.len));
}

static bool is_message(const struct record *r)
{
    return r->kind == RECORD_DATUM || r->kind == RECORD_PUBLISH || r->kind == RECORD_CHANGED ||
           r->kind == RECORD_DELETED;
}

/* ---- one record ------------------------------------------------------------------------------ */

static struct slice keep(struct course *c, struct slice s)
{
    size_t at = c->text.len;
    CHECK(c->text.cap - at >= s.len); /* else what points into it would be lost */
    buf_put_slice(&c->text, s);
    return slice_of(c->text.ptr + at, s.len);
}

/* The same names as the message before has them are not kept twice. */
static struct slice keep_name(struct course *c, struct slice name, struct slice before)
{
    return slice_eq(name, before) ? before : keep(c, name);
}

static void note(struct course *c, uint64_t from, uint64_t to, enum fate fate)
{
    if (c->fates)
        fates_note(c->fates, from, to, fate);
}

/* Opens the record if it is sealed. False: it is left out. */
static bool open_record(struct course *c, struct record *r, uint64_t offset)
{
    if (r->key_id == 0)
        return true;
    enum seal_outcome found = c->sealer ? unseal_record(c->sealer, r, &c->opened) : SEAL_UNKNOWN;
    CHECK(found != SEAL_MEMORY);
    if (found == SEAL_PLAIN || found == SEAL_DONE) {
        r->payload = keep(c, r->payload);
        return true;
    }
    if (found == SEAL_ERASED) {
        c->erased++;
        return false;
    }
    c->unreadable++;
    if (!c->told_unreadable)
        log_line(LOG_ERROR, "sink.sealed_unreadable", "sink=%s offset=%llu key=%u", c->opts->name,
                 U(offset), r->key_id);
    c->told_unreadable = true;
    return false;
}

/* Adds the record whose bytes these are, if it is wanted; else says why it is left out. */
static enum fate add(struct course *c, const struct record *seen, struct slice raw, uint64_t offset,
                     bool select)
{
    struct sink_message *m = &c->messages[c->count];
    const struct sink_names *before =
        c->count ? &m[-1].names : &(struct sink_names){.unknown = false};
    struct sink_names names = {.unknown = false};
    if (!is_message(seen) || (c->opts->wants && !c->opts->wants(c->opts->wants_arg, seen)))
        return FATE_NOT_SELECTED;
    c->opts->names(c->opts->arg, seen, &names);
    if (names.unknown) {
        c->unnamed = true;
        c->stalled_us = seen->receive_us;
        return FATE_UNKNOWN;
    }
    if (select && !course_selects(c->opts->accounts, c->opts->feeds, seen, &names))
        return FATE_NOT_SELECTED;
    size_t was = c->text.len;
    m->offset = offset;
    m->verdict = SINK_UNKNOWN;
    m->why = NULL;
    m->own = 0;
    m->raw = keep(c, raw);
    CHECK(record_decode(m->raw, &m->record) == raw.len);
    if (!open_record(c, &m->record, offset)) {
        c->text.len = was;
        return FATE_UNREADABLE;
    }
    m->names = (struct sink_names){.account = keep_name(c, names.account, before->account),
                                   .feed = keep_name(c, names.feed, before->feed),
                                   .device = keep_name(c, names.device, before->device)};
    c->count++;
    return FATE_UNKNOWN;
}

enum course_letter course_message(struct course *c, uint64_t offset, struct slice raw)
{
    struct record r;
    if (record_decode(raw, &r) != raw.len)
        return COURSE_NONE;
    add(c, &r, raw, offset, false);
    bool unnamed = c->unnamed;
    c->unnamed = false;
    return c->count ? COURSE_MESSAGE : unnamed ? COURSE_UNNAMED : COURSE_NONE;
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool is_full(const struct course *c)
{
    return c->count == c->opts->batch_count || c->text.len >= c->opts->batch_bytes;
}

/* Takes records of what the journal gave, until that is used up or the batch is full. */
static void take(struct course *c)
{
    struct record r;
    while (c->given_left && !is_full(c)) {
        size_t at = c->given_at;
        int more = journal_batch_record(&c->given, &c->given_at, &r);
        if (more <= 0) { /* the batch had a right checksum: trying again cannot help */
            log_line(LOG_ERROR, "sink.bad_batch", "sink=%s skipped_from=%llu records=%llu",
                     c->opts->name, U(c->given_offset), U(c->given_left));
            c->unreadable += c->given_left;
            note(c, c->given_offset, c->given_offset + c->given_left, FATE_UNREADABLE);
            c->given_offset += c->given_left;
            c->given_left = 0;
        } else {
            c->read++;
            c->read_bytes += c->given_at - at;
            enum fate fate = add(c, &r, slice_of(c->given.body.ptr + at, c->given_at - at),
                                 c->given_offset, true);
            if (c->unnamed) {
                c->read--;
                c->read_bytes -= c->given_at - at;
                c->given_at = at;
                return;
            }
            note(c, c->given_offset, c->given_offset + 1, fate);
            c->stalled_us = 0;
            c->past_us = r.receive_us;
            c->given_offset++;
            c->given_left--;
        }
        c->to = c->given_offset;
        if (c->to >= c->end)
            c->given_left = 0;
    }
}

/* Asks the journal for more. False: there is none, or *ret_failed. */
static bool more(struct course *c, bool *ret_failed)
{
    uint64_t from = journal_reader_offset(c->reader);
    int next = journal_reader_next(c->reader, &c->given);
    if (next < 0) {
        if (!c->failing) {
            log_line(LOG_ERROR, "sink.read_failed", "sink=%s offset=%llu error=%s", c->opts->name,
                     U(from), strerror(-next));
            c->stalled_us = clock_wall_us();
        }
        c->failing = next;
        *ret_failed = true;
        return false;
    }
    c->failing = 0;
    c->stalled_us = 0;
    if (next == JOURNAL_WAIT) {
        c->past_us = clock_wall_us();
        return false;
    }
    c->given_at = 0;
    c->given_offset = c->given.first_offset;
    c->given_left = c->given.count;
    if (next == JOURNAL_GAP) {
        c->to = journal_reader_offset(c->reader);
        if (c->to > c->end)
            c->to = c->end;
        c->given_left = 0;
        c->gaps++;
        note(c, from, c->to, FATE_GIVEN_UP);
        log_line(LOG_WARN, "sink.gap", "sink=%s from=%llu to=%llu", c->opts->name, U(from),
                 U(c->to));
    }
    return true;
}

static bool is_awaited(const struct course *c)
{
    return c->waiters && atomic_load(c->waiters);
}

enum course_found course_fill(struct course *c, uint64_t now_ns, uint64_t *ret_ns)
{
    bool failed = false;
    unsigned most = c->opts->turns ? c->opts->turns : TURNS_MAX;
    *ret_ns = 0;
    if (journal_went_back(c->opts->journal)) { /* a batch that is ready is not of that log either */
        *ret_ns = RETRY_NS;
        return COURSE_FAILED;
    }
    for (unsigned turns = 0; !c->ready; turns++) {
        bool empty = c->to == c->from;
        if (c->to >= c->end && empty)
            return COURSE_OVER;
        c->ready = is_full(c) || c->to >= c->end || turns == most;
        if (c->ready)
            break;
        if (c->unnamed || (c->given_left == 0 && !more(c, &failed))) {
            failed = failed || c->unnamed;
            c->unnamed = false;
            uint64_t due = c->begun_ns + (is_awaited(c) ? 0
                                          : c->count    ? c->opts->linger_ns
                                                        : EMPTY_NS);
            if (empty || now_ns < due) {
                *ret_ns = empty ? (failed ? RETRY_NS : IDLE_NS) : due - now_ns;
                return failed               ? COURSE_FAILED
                       : empty || !c->count ? COURSE_NOTHING
                                            : COURSE_LINGERS;
            }
            c->ready = true;
            break;
        }
        unsigned before = c->count;
        take(c);
        if (empty || (before == 0 && c->count))
            c->begun_ns = now_ns;
    }
    return COURSE_READY;
}

void course_keep_whys(struct course *c)
{
    for (unsigned i = c->first; i < c->count; i++) {
        struct sink_message *m = &c->messages[i];
        if (m->verdict != SINK_REFUSED ||
            (m->why >= c->whys.ptr && m->why < c->whys.ptr + c->whys.len))
            continue;
        size_t at = c->whys.len, len = strlen(m->why) + 1;
        if (c->whys.cap - at < len) { /* where so many are refused, nobody reads them all */
            m->why = "it was refused, as others were before it";
            continue;
        }
        buf_put(&c->whys, m->why, len);
        m->why = c->whys.ptr + at;
    }
}

void course_next(struct course *c, uint64_t from)
{
    c->from = from;
    c->count = c->first = c->bad_end = 0;
    c->ready = false;
    buf_clear(&c->text);
    buf_clear(&c->whys);
    if (c->to < from)
        c->to = from;
}

int course_begin(struct course *c, bool named, uint64_t from, uint64_t end, struct error *err)
{
    char name[COURSE_CURSOR_BYTES];
    snprintf(name, sizeof name, "sink:%s", c->opts->name);
    struct journal_reader *reader;
    int rc = journal_reader_open(c->opts->journal,
                                 &(struct journal_reader_opts){
                                     .name = named ? name : NULL, .has_start = true, .start = from},
                                 &reader, err);
    if (rc)
        return rc;
    if (!c->messages) {
        size_t most = (size_t)c->opts->batch_bytes + 2 * BATCH_BYTES_MAX + COURSE_NAMES_MAX;
        c->messages = calloc(c->opts->batch_count, sizeof *c->messages);
        buf_init(&c->text, most);
        buf_init(&c->opened, BATCH_BYTES_MAX);
        buf_init(&c->whys, WHYS_BYTES);
        CHECK(c->messages && buf_reserve(&c->text, most) && buf_reserve(&c->whys, WHYS_BYTES));
    }
    journal_reader_close(c->reader);
    c->reader = reader;
    c->end = end;
    c->given_left = 0;
    c->to = from;
    course_next(c, from);
    return 0;
}

void course_end(struct course *c)
{
    journal_reader_close(c->reader);
    free(c->messages);
    buf_fini(&c->text);
    buf_fini(&c->opened);
    buf_fini(&c->whys);
    c->reader = NULL;
    c->messages = NULL;
}
