/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/outbox.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "flow/limits.h"

#define CHUNK_RECORDS REQUEST_RECORDS_MAX
#define CHUNK_BYTES   (1u << 20) /* of one emit: well below the journal's batch */
#define PAYLOAD_MAX   131072u    /* far above the longest: all texts escaped */

int outbox_init(struct outbox *o, struct db *db, struct error *err)
{
    *o = (struct outbox){.db = db};
    buf_init(&o->text, PAYLOAD_MAX);
    buf_init(&o->payloads, CHUNK_BYTES + PAYLOAD_MAX);
    o->records = calloc(CHUNK_RECORDS, sizeof *o->records);
    if (!o->records)
        return error_set(err, -ENOMEM, "%s: no memory", db->path);
    if (db_exec(db, SQL_OUTBOX_COUNT) != SQLITE_ROW)
        return error_set(err, -EIO, "%s: %s", db->path, db->last.text);
    o->waiting = db_number(db, SQL_OUTBOX_COUNT, 0);
    db_reset(db, SQL_OUTBOX_COUNT);
    return changed_init(&o->changed, db, err);
}

void outbox_fini(struct outbox *o)
{
    free(o->records);
    buf_fini(&o->text);
    buf_fini(&o->payloads);
    changed_fini(&o->changed);
    *o = (struct outbox){0};
}

/* ---- building payloads ----------------------------------------------------------------------- */

static void put_name(struct buf *b, const char *name)
{
    buf_put_u8(b, b->len ? ',' : '{');
    buf_put_json(b, slice_str(name));
    buf_put_u8(b, ':');
}

static void put_number(struct buf *b, const char *name, uint64_t v)
{
    put_name(b, name);
    buf_put_dec(b, v);
}

static void put_text(struct buf *b, const char *name, struct slice v)
{
    put_name(b, name);
    buf_put_json(b, v);
}

static void put_text_if(struct buf *b, const char *name, struct slice v)
{
    if (v.len)
        put_text(b, name, v);
}

static void put_flag(struct buf *b, const char *name, bool v)
{
    put_name(b, name);
    buf_put_str(b, v ? "true" : "false");
}

static void put_when(struct buf *b, int64_t us)
{
    char text[32];
    time_t s = (time_t)(us / US_PER_S);
    struct tm tm;
    gmtime_r(&s, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    put_text(b, "when", slice_str(text));
}

/* Begins a payload with the change id that `add` will give its row. */
static struct buf *begin(struct outbox *o)
{
    buf_clear(&o->text);
    put_number(&o->text, "change_id", o->db->next[NEXT_CHANGE]);
    return &o->text;
}

static int add(struct outbox *o, const struct catalog_ask *ask, enum record_kind kind,
               int64_t now_us, uint64_t account, uint64_t feed, struct slice payload)
{
    int rc = db_run(o->db, SQL_OUTBOX_ADD, num(db_take_number(o->db, NEXT_CHANGE)), num(kind),
                    num(account), num(feed), num(ask->actor_credential), num((uint64_t)now_us),
                    txt(payload));
    if (rc == SQLITE_DONE)
        o->waiting++;
    return rc;
}

static int end(struct outbox *o, const struct catalog_ask *ask, enum record_kind kind,
               int64_t now_us, uint64_t account, uint64_t feed)
{
    buf_put_u8(&o->text, '}');
    if (o->text.failed) {
        error_set(&o->db->last, 0, "no memory for a journal record");
        return SQLITE_NOMEM;
    }
    return add(o, ask, kind, now_us, account, feed, buf_slice(&o->text));
}

int outbox_account(struct outbox *o, const struct catalog_ask *ask, int64_t now_us, uint64_t number,
                   struct slice name)
{
    struct buf *b = begin(o);
    put_text(b, "type", SLICE("account"));
    put_number(b, "account", number);
    put_text(b, "name", name);
    return end(o, ask, RECORD_DICTIONARY, now_us, number, 0);
}

int outbox_feed(struct outbox *o, const struct catalog_ask *ask, const struct feed *f,
                struct slice account_name)
{
    struct buf *b = begin(o);
    put_text(b, "type", SLICE("feed"));
    put_number(b, "account", f->account);
    put_text(b, "account_name", account_name);
    put_number(b, "feed", f->number);
    put_text(b, "key", f->key);
    put_text(b, "name", f->name);
    put_number(b, "group", f->group);
    put_text(b, "group_key", f->group_key);
    put_text(b, "group_name", f->group_name);
    put_text_if(b, "description", f->description);
    put_text_if(b, "license", f->license);
    put_text_if(b, "unit_type", f->unit_type);
    put_text_if(b, "unit_symbol", f->unit_symbol);
    put_flag(b, "history", !(f->flags & FEED_NO_HISTORY));
    put_flag(b, "public", f->flags & FEED_PUBLIC);
    put_flag(b, "enabled", !(f->flags & FEED_DISABLED));
    put_number(b, "created_us", (uint64_t)f->created_us);
    return end(o, ask, RECORD_DICTIONARY, f->updated_us, f->account, f->number);
}

int outbox_group(struct outbox *o, const struct catalog_ask *ask, const struct group *g,
                 int64_t now_us, bool removed)
{
    struct buf *b = begin(o);
    put_text(b, "type", SLICE("group"));
    put_number(b, "account", g->account);
    put_number(b, "group", g->number);
    put_text(b, "key", g->key);
    put_text(b, "name", g->name);
    put_text_if(b, "description", g->description);
    if (removed)
        put_flag(b, "removed", true);
    return end(o, ask, RECORD_DICTIONARY, now_us, g->account, 0);
}

int outbox_deleted(struct outbox *o, const struct catalog_ask *ask, int64_t now_us,
                   uint64_t account, uint64_t feed)
{
    return add(o, ask, RECORD_DELETED, now_us, account, feed, SLICE(""));
}

int outbox_deleted_all(struct outbox *o, const struct catalog_ask *ask, int64_t now_us,
                       uint64_t account, uint64_t *ret_count)
{
    int rc =
        db_run(o->db, SQL_OUTBOX_ADD_DELETED, num(o->db->next[NEXT_CHANGE]), num(RECORD_DELETED),
               num(account), num(ask->actor_credential), num((uint64_t)now_us));
    if (rc != SQLITE_DONE)
        return rc;
    *ret_count = (uint64_t)sqlite3_changes64(o->db->handle);
    o->db->next[NEXT_CHANGE] += *ret_count;
    o->waiting += *ret_count;
    return rc;
}

/* The row an operation is about: the one of the kind that its name begins with. */
static const struct changed_row *row_of(const struct changed *c, const char *op)
{
    size_t len = strcspn(op, "_");
    for (unsigned i = 0; i < CHANGED_KINDS; i++)
        if (c->rows[i].count && slice_eq(slice_of(op, len), slice_str(changed_names[i])))
            return &c->rows[i];
    return NULL;
}

static void put_json_if(struct buf *b, const char *name, struct slice json)
{
    if (!json.len)
        return;
    put_name(b, name);
    buf_put_slice(b, json);
}

/* How many rows of other kinds went along, and how many of its own kind. */
static void put_with(struct buf *b, const struct changed *c, const struct changed_row *row)
{
    const char *before = "{";
    for (unsigned i = 0; i < CHANGED_KINDS; i++) {
        unsigned count = c->rows[i].count;
        if (!count || (&c->rows[i] == row && count == 1))
            continue;
        if (*before == '{')
            put_name(b, "with");
        buf_printf(b, "%s\"%s\":%u", before, changed_names[i], count);
        before = ",";
    }
    if (*before == ',')
        buf_put_u8(b, '}');
}

int outbox_audit(struct outbox *o, const struct catalog_ask *ask, const struct audit *a)
{
    const struct changed_row *row = row_of(&o->changed, a->op);
    struct buf *b = begin(o);
    put_when(b, a->now_us);
    put_text(b, "actor", ask->actor);
    put_text_if(b, "from", ask->from);
    put_text(b, "op", slice_str(a->op));
    put_text(b, "account", a->account_name);
    put_number(b, "account_number", a->account);
    put_text(b, "subject", a->subject);
    put_number(b, "subject_number", a->subject_number);
    if (row && row->count == 1) {
        put_json_if(b, "before", buf_slice(&row->before));
        put_json_if(b, "after", buf_slice(&row->after));
    }
    put_with(b, &o->changed, row);
    put_json_if(b, "note", a->note);
    changed_begin(&o->changed, o->changed.on);
    return end(o, ask, RECORD_AUDIT, a->now_us, a->account, 0);
}

static const char *verb_of(const struct changed_row *row)
{
    return row->verb == '+' ? "add" : row->verb == '-' ? "remove" : "change";
}

int outbox_audit_rest(struct outbox *o, const struct catalog_ask *ask, int64_t now_us)
{
    const struct changed_row *row = NULL;
    char op[32], name[USERNAME_MAX + 1];
    /* A change of a group moves its feeds too; it is the group that was changed. */
    bool group = ask->op == CATALOG_GROUP_CHANGE || ask->op == CATALOG_GROUP_REMOVE;
    for (unsigned i = group ? CHANGED_GROUP : 0; i < CHANGED_KINDS && !row; i++) {
        if (!o->changed.rows[i].count)
            continue;
        row = &o->changed.rows[i];
        snprintf(op, sizeof op, "%s_%s", changed_names[i], verb_of(row));
    }
    if (!row)
        return SQLITE_DONE;
    struct audit a = {.op = op,
                      .now_us = now_us,
                      .account = row->account,
                      .subject = buf_slice(&row->name),
                      .subject_number = row->number};
    int rc = row->account ? db_run(o->db, SQL_ACCOUNT_FIND_NUMBER, num(row->account)) : SQLITE_DONE;
    if (rc == SQLITE_ROW) {
        struct slice found = db_text(o->db, SQL_ACCOUNT_FIND_NUMBER, 1);
        a.account_name = slice_of(name, found.len < USERNAME_MAX ? found.len : USERNAME_MAX);
        memcpy(name, found.ptr, a.account_name.len);
        db_reset(o->db, SQL_ACCOUNT_FIND_NUMBER);
    }
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? outbox_audit(o, ask, &a) : rc;
}

/* ---- emitting -------------------------------------------------------------------------------- */

/* The next rows as records, their payloads in o->payloads. How many, or negative errno. */
static int read_chunk(struct outbox *o, uint64_t *ret_last)
{
    struct db *db = o->db;
    int n = 0;
    buf_clear(&o->payloads);
    int rc = db_run(db, SQL_OUTBOX_READ, num(o->emitted), num(CHUNK_RECORDS));
    for (; rc == SQLITE_ROW && o->payloads.len < CHUNK_BYTES; rc = db_next(db, SQL_OUTBOX_READ)) {
        struct slice payload = db_text(db, SQL_OUTBOX_READ, 6);
        int64_t at_us = (int64_t)db_number(db, SQL_OUTBOX_READ, 5);
        o->records[n++] = (struct record){
            .kind = (enum record_kind)db_number(db, SQL_OUTBOX_READ, 1),
            .account = db_number(db, SQL_OUTBOX_READ, 2),
            .feed = db_number(db, SQL_OUTBOX_READ, 3),
            .credential = db_number(db, SQL_OUTBOX_READ, 4),
            .event_us = at_us,
            .receive_us = at_us,
            .payload.len = payload.len,
        };
        buf_put_slice(&o->payloads, payload);
        *ret_last = db_number(db, SQL_OUTBOX_READ, 0);
    }
    db_reset(db, SQL_OUTBOX_READ);
    if ((rc != SQLITE_ROW && rc != SQLITE_DONE) || o->payloads.failed)
        return -EIO;
    const char *at = o->payloads.ptr; /* only now: it has stopped moving */
    for (int i = 0; i < n; i++) {
        o->records[i].payload.ptr = o->records[i].payload.len ? at : "";
        at += o->records[i].payload.len;
    }
    return n;
}

int outbox_emit(struct outbox *o, int (*emit)(void *, const struct record *, unsigned), void *arg)
{
    while (o->waiting) {
        uint64_t last = o->emitted;
        int n = read_chunk(o, &last);
        if (n < 0)
            return n;
        if (n == 0)
            break;
        int rc = emit(arg, o->records, (unsigned)n);
        if (rc)
            return rc < 0 ? rc : -EIO;
        o->emitted = last;
        o->waiting -= (uint64_t)n < o->waiting ? (uint64_t)n : o->waiting;
    }
    o->waiting = 0;
    return 0;
}

bool outbox_is_untidy(const struct outbox *o)
{
    return o->removed < o->emitted;
}

int outbox_tidy(struct outbox *o)
{
    return db_run(o->db, SQL_OUTBOX_REMOVE, num(o->emitted));
}

void outbox_tidied(struct outbox *o)
{
    o->removed = o->emitted;
}
