/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of feeds. */
#include "base/log.h"
#include "catalog/batch.h"
#include "catalog/names.h"
#include "catalog/row.h"

#define STATUS_TIMEOUT 4320u /* minutes: Adafruit's default */

#define FEED_FLAGS (FEED_NO_HISTORY | FEED_PUBLIC | FEED_DISABLED)

/* Adafruit's sentence, word for word. */
static const char bad_name[] =
    "Validation failed: Name may contain only letters, digits, underscores, spaces, or dashes";

/* What the new feed is called. */
struct naming {
    struct slice group, key, name;
    struct buf made; /* holds `key` when it was made from the name */
};

static enum reason take_names(struct catalog_ask *ask, struct naming *n)
{
    char shown[128];
    struct slice key = ask->key, feed;
    if (!key.len) {
        if (!catalog_key_from_name(ask->feed_name, &n->made))
            return ask_refuse(ask, REASON_bad_request, "%s", bad_name);
        key = buf_slice(&n->made);
    }
    if (!name_split_key(key, &n->group, &feed, &n->key))
        return ask_refuse(
            ask, REASON_bad_request,
            "\"%.40s\" is no feed key: \"feed\" or \"group.feed\", each of 1 to 128 of a-z, "
            "0-9 and '-'",
            log_text(shown, key));
    n->name = ask->feed_name.len ? ask->feed_name : feed;
    return REASON_ok;
}

static enum reason check_texts(struct catalog_ask *ask, struct slice name)
{
    if (!name_is_feed(name))
        return ask_refuse(ask, REASON_bad_request, "%s", bad_name);
    if (!name_is_text(ask->description, FEED_DESCRIPTION_MAX))
        return ask_refuse(ask, REASON_bad_request,
                          "a feed's description is at most %d bytes of UTF-8",
                          FEED_DESCRIPTION_MAX);
    if (!name_is_text(ask->license, FEED_TEXT_MAX) ||
        !name_is_text(ask->unit_type, FEED_TEXT_MAX) ||
        !name_is_text(ask->unit_symbol, FEED_TEXT_MAX))
        return ask_refuse(
            ask, REASON_bad_request,
            "a feed's license, unit type and unit symbol are at most %d bytes of UTF-8",
            FEED_TEXT_MAX);
    if (ask->feed_flags & ~(uint32_t)FEED_FLAGS)
        return ask_refuse(ask, REASON_bad_request, "a feed has no such flags");
    return REASON_ok;
}

static enum reason check_room(struct batch *b, struct catalog_ask *ask, const struct owner *o)
{
    int rc = db_run(b->db, SQL_ACCOUNT_FEEDS, num(o->number));
    if (rc != SQLITE_ROW)
        return ask_refuse_db(b, ask, rc);
    uint64_t feeds = db_number(b->db, SQL_ACCOUNT_FEEDS, 0);
    uint64_t max = db_number(b->db, SQL_ACCOUNT_FEEDS, 1);
    db_reset(b->db, SQL_ACCOUNT_FEEDS);
    if (feeds < max)
        return REASON_ok;
    return ask_refuse(ask, REASON_feed_limit,
                      "the account \"%.*s\" has %llu feeds, its plan allows %llu",
                      SLICE_ARG(o->name), (unsigned long long)feeds, (unsigned long long)max);
}

int op_feed_changed(struct batch *b, struct catalog_ask *ask, uint64_t number,
                    struct slice account_name)
{
    struct feed *f = NULL;
    int rc = batch_put_feed(b, number, &f);
    return rc == SQLITE_DONE ? outbox_feed(b->outbox, ask, f, account_name) : rc;
}

static enum reason insert(struct batch *b, struct item *it, const struct owner *o,
                          const struct naming *n)
{
    struct catalog_ask *ask = it->ask;
    uint64_t group, number = db_take_number(b->db, NEXT_FEED);
    int rc = op_group_take(b, o->number, n->group, &group);
    if (rc == SQLITE_DONE)
        rc = db_run(
            b->db, SQL_FEED_ADD, num(number), num(o->number), num(group), txt(n->key), txt(n->name),
            txt(ask->description), txt(ask->license), txt(ask->unit_type), txt(ask->unit_symbol),
            num(ask->feed_flags), num(ask->status_timeout ? ask->status_timeout : STATUS_TIMEOUT),
            num(ask->status_notify), num((uint64_t)b->now_us), num(b->db->next[NEXT_CHANGE]));
    if (rc == SQLITE_DONE)
        rc = db_run(b->db, SQL_ACCOUNT_MOVE_FEEDS, num(o->number), num(1));
    if (rc == SQLITE_DONE)
        rc = op_feed_changed(b, ask, number, o->name);
    it->feed = number;
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

static enum reason add_named(struct batch *b, struct item *it, const struct naming *n)
{
    struct catalog_ask *ask = it->ask;
    struct owner o;
    enum reason r = op_find_account(b, ask, &o);
    if (r != REASON_ok)
        return r;
    int rc = db_run(b->db, SQL_FEED_FIND, num(o.number), txt(n->key));
    if (rc == SQLITE_ROW) {
        it->feed = db_number(b->db, SQL_FEED_FIND, 0);
        db_reset(b->db, SQL_FEED_FIND);
        if (ask->must_create)
            return ask_refuse(ask, REASON_conflict, "the feed \"%.*s\" exists already",
                              SLICE_ARG(n->key));
        return REASON_ok;
    }
    if (rc != SQLITE_DONE)
        return ask_refuse_db(b, ask, rc);
    r = check_texts(ask, n->name);
    if (r == REASON_ok)
        r = check_room(b, ask, &o);
    return r == REASON_ok ? insert(b, it, &o, n) : r;
}

enum reason op_feed_add(struct batch *b, struct item *it)
{
    struct naming n = {0};
    buf_init(&n.made, FEED_KEY_MAX + 8 * FEED_NAME_MAX);
    enum reason r = take_names(it->ask, &n);
    if (r == REASON_ok)
        r = add_named(b, it, &n);
    buf_fini(&n.made);
    return r;
}

/* ---- a feed that is there ---- */

enum reason op_read_feed(struct batch *b, struct catalog_ask *ask, struct feed **ret)
{
    struct error why = {"the row is gone"};
    *ret = NULL;
    int rc = db_run(b->db, SQL_FEED_READ, num(ask->feed_number));
    if (rc == SQLITE_ROW && row_feed(b->db, SQL_FEED_READ, ret, &why))
        b->db->last = why;
    db_reset(b->db, SQL_FEED_READ);
    return op_read(b, ask, rc, *ret != NULL, "feed", ask->feed_number);
}

/* The feed, and whose it is. The caller unrefs. */
static enum reason find(struct batch *b, struct catalog_ask *ask, struct feed **ret,
                        struct owner *ret_owner)
{
    enum reason r = op_read_feed(b, ask, ret);
    if (r == REASON_ok)
        r = op_find_owner(b, ask, (*ret)->account, ret_owner);
    if (r != REASON_ok)
        *ret = feed_unref(*ret);
    return r;
}

/* The key it shall have: with its group, whatever was sent. */
static enum reason new_key(struct batch *b, struct catalog_ask *ask, const struct feed *f,
                           struct buf *key)
{
    struct slice group, part, whole;
    bool grouped = !slice_eq(f->group_key, SLICE("default"));
    if (!ask->key.ptr) {
        buf_put_slice(key, f->key);
        return REASON_ok;
    }
    if (!memchr(ask->key.ptr, '.', ask->key.len) && grouped) {
        buf_put_slice(key, f->group_key);
        buf_put_u8(key, '.');
    }
    buf_put_slice(key, ask->key);
    char shown[128];
    if (key->failed || !name_split_key(buf_slice(key), &group, &part, &whole) ||
        !slice_eq(group, f->group_key))
        return ask_refuse(ask, REASON_bad_request,
                          "key: \"%.40s\" is no key for a feed of the group \"%.40s\": 1 to 128 "
                          "of a-z, 0-9 and '-'",
                          log_text(shown, ask->key), f->group_key.ptr);
    size_t cut = (size_t)(whole.ptr - key->ptr); /* "default.feed" is "feed" */
    buf_consume(key, cut);
    if (slice_eq(buf_slice(key), f->key))
        return REASON_ok;
    int rc = db_run(b->db, SQL_FEED_FIND, num(f->account), txt(buf_slice(key)));
    db_reset(b->db, SQL_FEED_FIND);
    if (rc == SQLITE_ROW)
        return ask_refuse(ask, REASON_conflict, "key: the feed \"%.*s\" exists already",
                          SLICE_ARG(buf_slice(key)));
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

static void keep_text(struct slice *to, struct slice is)
{
    if (!to->ptr)
        *to = is;
}

static enum reason change(struct batch *b, struct catalog_ask *ask, const struct feed *f,
                          const struct owner *o, struct slice key)
{
    keep_text(&ask->feed_name, f->name);
    keep_text(&ask->description, f->description);
    keep_text(&ask->license, f->license);
    keep_text(&ask->unit_type, f->unit_type);
    keep_text(&ask->unit_symbol, f->unit_symbol);
    ask->feed_flags =
        (f->flags & ~ask->feed_flags_given) | (ask->feed_flags & ask->feed_flags_given);
    enum reason r = check_texts(ask, ask->feed_name);
    if (r != REASON_ok)
        return r;
    int rc = db_run(b->db, SQL_FEED_CHANGE, num(f->number), txt(key), txt(ask->feed_name),
                    txt(ask->description), txt(ask->license), txt(ask->unit_type),
                    txt(ask->unit_symbol), num(ask->feed_flags),
                    num(ask->status_timeout ? ask->status_timeout : f->status_timeout),
                    num(ask->status_notify_given ? ask->status_notify : f->status_notify),
                    num((uint64_t)b->now_us), num(b->db->next[NEXT_CHANGE]));
    if (rc == SQLITE_DONE)
        rc = op_feed_changed(b, ask, f->number, o->name);
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

enum reason op_feed_change(struct batch *b, struct item *it)
{
    struct feed *f;
    struct owner o;
    struct buf key;
    buf_init(&key, 2 * FEED_KEY_MAX);
    enum reason r = find(b, it->ask, &f, &o);
    if (r == REASON_ok)
        r = new_key(b, it->ask, f, &key);
    if (r == REASON_ok)
        r = change(b, it->ask, f, &o, buf_slice(&key));
    it->feed = it->ask->feed_number;
    buf_fini(&key);
    feed_unref(f);
    return r;
}

/* No record in the journal: it says nothing of the data, only how far a reader has got. */
enum reason op_feed_mark(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    struct feed *f;
    struct owner o;
    enum reason r = find(b, ask, &f, &o);
    if (r != REASON_ok)
        return r;
    bool stands = f->has_mark == ask->mark_from &&
                  (!f->has_mark ||
                   (f->mark_us == ask->mark_from_us && f->mark_offset == ask->mark_from_offset));
    feed_unref(f);
    if (ask->mark_checked && !stands)
        return ask_refuse(ask, REASON_conflict, "somebody else has read on");
    int rc = db_run(b->db, SQL_FEED_MARK, num(ask->feed_number), num((uint64_t)ask->mark_us),
                    num(ask->mark_offset));
    if (rc == SQLITE_DONE)
        rc = batch_put_feed(b, ask->feed_number, &f);
    it->feed = ask->feed_number;
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

enum reason op_feed_remove(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    uint64_t number = ask->feed_number;
    int rc = db_run(b->db, SQL_FEED_FIND_NUMBER, num(number));
    if (rc == SQLITE_DONE)
        return ask_refuse(ask, REASON_not_found, "there is no feed %llu",
                          (unsigned long long)number);
    if (rc != SQLITE_ROW)
        return ask_refuse_db(b, ask, rc);
    uint64_t account = db_number(b->db, SQL_FEED_FIND_NUMBER, 0);
    uint64_t group = db_number(b->db, SQL_FEED_FIND_NUMBER, 1);
    db_reset(b->db, SQL_FEED_FIND_NUMBER);
    rc = db_run(b->db, SQL_FEED_REMOVE, num(number));
    if (rc == SQLITE_DONE)
        rc = db_run(b->db, SQL_MEMBER_REMOVE_FEED, num(number));
    if (rc == SQLITE_DONE)
        rc = op_group_left(b, group);
    if (rc == SQLITE_DONE)
        rc = db_run(b->db, SQL_ACCOUNT_MOVE_FEEDS, num(account), num((uint64_t)-1));
    if (rc == SQLITE_DONE)
        rc = outbox_deleted(b->outbox, ask, b->now_us, account, number);
    if (rc != SQLITE_DONE)
        return ask_refuse_db(b, ask, rc);
    it->feed = number;
    it->removes = true;
    batch_effect(b, (struct effect){.kind = NO_FEED, .number = number});
    return REASON_ok;
}
