/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of feeds and, with them, of groups. */
#include "base/log.h"
#include "catalog/batch.h"
#include "catalog/names.h"

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

static enum reason check_texts(struct catalog_ask *ask, const struct naming *n)
{
    if (!name_is_feed(n->name))
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

/* The group's number; made if it is missing. SQLITE_DONE or an error code. */
static int take_group(struct batch *b, uint64_t account, struct slice key, uint64_t *ret)
{
    int rc = db_run(b->db, SQL_GROUP_FIND, num(account), txt(key));
    if (rc == SQLITE_ROW) {
        *ret = db_number(b->db, SQL_GROUP_FIND, 0);
        db_reset(b->db, SQL_GROUP_FIND);
        return SQLITE_DONE;
    }
    *ret = db_take_number(b->db, NEXT_GROUP);
    if (rc == SQLITE_DONE)
        rc = db_run(b->db, SQL_GROUP_ADD, num(*ret), num(account), txt(key), txt(key),
                    num((uint64_t)b->now_us));
    return rc;
}

static enum reason insert(struct batch *b, struct item *it, const struct owner *o,
                          const struct naming *n)
{
    struct catalog_ask *ask = it->ask;
    struct feed *made = NULL;
    uint64_t group, number = db_take_number(b->db, NEXT_FEED);
    int rc = take_group(b, o->number, n->group, &group);
    if (rc == SQLITE_DONE)
        rc = db_run(b->db, SQL_FEED_ADD, num(number), num(o->number), num(group), txt(n->key),
                    txt(n->name), txt(ask->description), txt(ask->license), txt(ask->unit_type),
                    txt(ask->unit_symbol), num(ask->feed_flags), num((uint64_t)b->now_us),
                    num(b->db->next[NEXT_CHANGE]));
    if (rc == SQLITE_DONE)
        rc = db_run(b->db, SQL_ACCOUNT_MOVE_FEEDS, num(o->number), num(1));
    if (rc == SQLITE_DONE)
        rc = batch_put_feed(b, number, &made);
    if (rc == SQLITE_DONE)
        rc = outbox_feed(b->outbox, ask, made, o->name);
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
    r = check_texts(ask, n);
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
        rc = db_run(b->db, SQL_GROUP_REMOVE_EMPTY, num(group));
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
