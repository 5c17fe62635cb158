/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of groups. A feed belongs to one group, whose key is a part of its own ("group.feed"; of
 * "default" it is not), and goes with it. Besides, it may be added to any number of other groups,
 * which changes neither its key nor its life (table member).
 */
#include "base/log.h"
#include "catalog/batch.h"
#include "catalog/names.h"
#include "catalog/row.h"

int op_group_take(struct batch *b, uint64_t account, struct slice key, uint64_t *ret)
{
    int rc = db_run(b->db, SQL_GROUP_FIND, num(account), txt(key));
    if (rc == SQLITE_ROW) {
        *ret = db_number(b->db, SQL_GROUP_FIND, 0);
        db_reset(b->db, SQL_GROUP_FIND);
        return SQLITE_DONE;
    }
    if (rc != SQLITE_DONE)
        return rc;
    bool first = slice_eq(key, SLICE("default"));
    *ret = db_take_number(b->db, NEXT_GROUP);
    rc = db_run(b->db, SQL_GROUP_ADD, num(*ret), num(account), txt(key),
                txt(first ? SLICE("Default") : key), txt(SLICE("")), num(0),
                num((uint64_t)b->now_us), num(b->db->next[NEXT_CHANGE]));
    return rc == SQLITE_DONE ? batch_put_group(b, *ret, NULL) : rc;
}

int op_group_left(struct batch *b, uint64_t number)
{
    int rc = db_run(b->db, SQL_GROUP_IDLE, num(number));
    db_reset(b->db, SQL_GROUP_IDLE);
    if (rc != SQLITE_ROW)
        return rc;
    rc = db_run(b->db, SQL_GROUP_REMOVE, num(number));
    batch_effect(b, (struct effect){.kind = NO_GROUP, .number = number});
    return rc;
}

/* ---- names ---- */

static enum reason check_texts(struct catalog_ask *ask)
{
    if (!name_is_feed(ask->feed_name))
        return ask_refuse(ask, REASON_bad_request,
                          "name: 1 to %d letters, digits, blanks, '-', '_' and '.', with a letter",
                          FEED_NAME_MAX);
    if (!name_is_text(ask->description, FEED_DESCRIPTION_MAX))
        return ask_refuse(ask, REASON_bad_request, "description: at most %d bytes of UTF-8",
                          FEED_DESCRIPTION_MAX);
    if (ask->feed_flags & ~(uint32_t)(GROUP_KEPT | GROUP_PUBLIC))
        return ask_refuse(ask, REASON_bad_request, "a group has no such flags");
    return REASON_ok;
}

/* The key is one, and no group of the account but `self` has it. */
static enum reason check_key(struct batch *b, struct catalog_ask *ask, uint64_t account,
                             struct slice key, uint64_t self)
{
    char shown[128];
    if (!name_is_key_part(key))
        return ask_refuse(ask, REASON_bad_request,
                          "key: \"%.40s\" is no key of a group: 1 to 128 of a-z, 0-9 and '-'",
                          log_text(shown, key));
    int rc = db_run(b->db, SQL_GROUP_FIND, num(account), txt(key));
    bool taken = rc == SQLITE_ROW && db_number(b->db, SQL_GROUP_FIND, 0) != self;
    db_reset(b->db, SQL_GROUP_FIND);
    if (taken)
        return ask_refuse(ask, REASON_conflict, "key: the group \"%.*s\" exists already",
                          SLICE_ARG(key));
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

/* An account has at most as many groups as feeds. */
static enum reason check_room(struct batch *b, struct catalog_ask *ask, const struct owner *o)
{
    int rc = db_run(b->db, SQL_ACCOUNT_FEEDS, num(o->number));
    uint64_t max = rc == SQLITE_ROW ? db_number(b->db, SQL_ACCOUNT_FEEDS, 1) : 0;
    db_reset(b->db, SQL_ACCOUNT_FEEDS);
    if (rc == SQLITE_ROW)
        rc = db_run(b->db, SQL_GROUP_COUNT, num(o->number));
    if (rc != SQLITE_ROW)
        return ask_refuse_db(b, ask, rc);
    uint64_t groups = db_number(b->db, SQL_GROUP_COUNT, 0);
    db_reset(b->db, SQL_GROUP_COUNT);
    if (groups < max)
        return REASON_ok;
    return ask_refuse(
        ask, REASON_feed_limit,
        "the account \"%.*s\" has %llu groups; its plan allows as many as feeds: %llu",
        SLICE_ARG(o->name), (unsigned long long)groups, (unsigned long long)max);
}

/* The group, and whose it is. The caller unrefs. */
static enum reason find(struct batch *b, struct catalog_ask *ask, struct group **ret,
                        struct owner *ret_owner)
{
    struct error why = {"the row is gone"};
    *ret = NULL;
    int rc = db_run(b->db, SQL_GROUP_READ, num(ask->group_number));
    if (rc == SQLITE_ROW && row_group(b->db, SQL_GROUP_READ, ret, &why))
        b->db->last = why;
    db_reset(b->db, SQL_GROUP_READ);
    enum reason r = op_read(b, ask, rc, *ret != NULL, "group", ask->group_number);
    return r == REASON_ok ? op_find_owner(b, ask, (*ret)->account, ret_owner) : r;
}

/* The group's row has changed: shows it, and tells the journal. */
static int changed(struct batch *b, struct catalog_ask *ask, uint64_t number)
{
    struct group *g = NULL;
    int rc = batch_put_group(b, number, &g);
    return rc == SQLITE_DONE ? outbox_group(b->outbox, ask, g, b->now_us, false) : rc;
}

/* ---- add, change, remove ---- */

static enum reason add(struct batch *b, struct item *it, const struct owner *o, struct slice key)
{
    struct catalog_ask *ask = it->ask;
    if (!ask->feed_name.len)
        ask->feed_name = key;
    enum reason r = check_texts(ask);
    if (r == REASON_ok)
        r = check_key(b, ask, o->number, key, 0);
    if (r == REASON_ok)
        r = check_room(b, ask, o);
    if (r != REASON_ok)
        return r;
    it->group = db_take_number(b->db, NEXT_GROUP);
    int rc = db_run(b->db, SQL_GROUP_ADD, num(it->group), num(o->number), txt(key),
                    txt(ask->feed_name), txt(ask->description), num(ask->feed_flags | GROUP_KEPT),
                    num((uint64_t)b->now_us), num(b->db->next[NEXT_CHANGE]));
    if (rc == SQLITE_DONE)
        rc = changed(b, ask, it->group);
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

enum reason op_group_add(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    struct owner o;
    struct buf made;
    buf_init(&made, FEED_KEY_MAX + 8 * FEED_NAME_MAX);
    enum reason r = op_find_account(b, ask, &o);
    if (r == REASON_ok && !ask->key.len && !catalog_key_from_name(ask->feed_name, &made))
        r = check_texts(ask) != REASON_ok
                ? ask->reason
                : ask_refuse(ask, REASON_bad_request, "name: no key can be made from it");
    if (r == REASON_ok)
        r = add(b, it, &o, ask->key.len ? ask->key : buf_slice(&made));
    buf_fini(&made);
    return r;
}

/* Numbers of the group's own feeds, then of those added to it; *ret_own: how many are its own. */
static int list_feeds(struct batch *b, uint64_t account, uint64_t group, struct buf *ret,
                      unsigned *ret_own)
{
    struct buf added;
    buf_init(&added, 1u << 30);
    *ret_own = 0;
    int rc = db_run(b->db, SQL_GROUP_FEEDS, num(account), num(group));
    for (; rc == SQLITE_ROW; rc = db_next(b->db, SQL_GROUP_FEEDS)) {
        bool own = db_number(b->db, SQL_GROUP_FEEDS, 1) == 0;
        uint64_t number = db_number(b->db, SQL_GROUP_FEEDS, 0);
        buf_put(own ? ret : &added, &number, sizeof number);
        *ret_own += own;
    }
    db_reset(b->db, SQL_GROUP_FEEDS);
    buf_put_slice(ret, buf_slice(&added));
    bool failed = ret->failed || added.failed;
    buf_fini(&added);
    return failed ? SQLITE_NOMEM : rc;
}

/* What is shown of these feeds has changed with their group. */
static int touch_feeds(struct batch *b, struct catalog_ask *ask, struct slice numbers,
                       unsigned from, struct slice account_name)
{
    int rc = SQLITE_DONE;
    for (size_t at = from * sizeof(uint64_t); rc == SQLITE_DONE && at < numbers.len;
         at += sizeof(uint64_t)) {
        uint64_t number;
        memcpy(&number, numbers.ptr + at, sizeof number);
        rc = db_run(b->db, SQL_FEED_TOUCH, num(number), num((uint64_t)b->now_us),
                    num(b->db->next[NEXT_CHANGE]));
        if (rc == SQLITE_DONE)
            rc = op_feed_changed(b, ask, number, account_name);
    }
    return rc;
}

static enum reason change(struct batch *b, struct catalog_ask *ask, const struct group *g,
                          const struct owner *o)
{
    struct slice key = ask->key.ptr ? ask->key : g->key;
    bool moves = !slice_eq(key, g->key);
    if (!ask->feed_name.ptr)
        ask->feed_name = g->name;
    if (!ask->description.ptr)
        ask->description = g->description;
    ask->feed_flags = GROUP_KEPT | (g->flags & ~ask->feed_flags_given) |
                      (ask->feed_flags & ask->feed_flags_given);
    enum reason r = check_texts(ask);
    if (r == REASON_ok)
        r = check_key(b, ask, g->account, key, g->number);
    if (r == REASON_ok && moves && slice_eq(g->key, SLICE("default")))
        r = ask_refuse(ask, REASON_bad_request, "key: that of the group \"default\" stays");
    if (r != REASON_ok)
        return r;
    struct buf feeds;
    buf_init(&feeds, 1u << 30);
    unsigned own;
    int rc = db_run(b->db, SQL_GROUP_CHANGE, num(g->number), txt(key), txt(ask->feed_name),
                    txt(ask->description), num(ask->feed_flags), num((uint64_t)b->now_us),
                    num(b->db->next[NEXT_CHANGE]));
    if (rc == SQLITE_DONE && moves)
        rc = db_run(b->db, SQL_GROUP_MOVE_FEEDS, num(g->account), num(g->number), txt(key),
                    num((uint64_t)b->now_us), num(b->db->next[NEXT_CHANGE]));
    if (rc == SQLITE_DONE)
        rc = list_feeds(b, g->account, g->number, &feeds, &own);
    if (rc == SQLITE_DONE)
        rc = changed(b, ask, g->number);
    if (rc == SQLITE_DONE && (moves || !slice_eq(ask->feed_name, g->name)))
        rc = touch_feeds(b, ask, buf_slice(&feeds), 0, o->name);
    buf_fini(&feeds);
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

enum reason op_group_change(struct batch *b, struct item *it)
{
    struct group *g;
    struct owner o;
    enum reason r = find(b, it->ask, &g, &o);
    if (r == REASON_ok)
        r = change(b, it->ask, g, &o);
    it->group = it->ask->group_number;
    group_unref(g);
    return r;
}

static int remove_all(struct batch *b, struct catalog_ask *ask, const struct group *g,
                      const struct owner *o, struct slice feeds, unsigned own)
{
    int rc = SQLITE_DONE;
    for (unsigned i = 0; rc == SQLITE_DONE && i < own; i++) {
        uint64_t number;
        memcpy(&number, feeds.ptr + i * sizeof number, sizeof number);
        rc = db_run(b->db, SQL_FEED_REMOVE, num(number));
        if (rc == SQLITE_DONE)
            rc = db_run(b->db, SQL_MEMBER_REMOVE_FEED, num(number));
        if (rc == SQLITE_DONE)
            rc = outbox_deleted(b->outbox, ask, b->now_us, g->account, number);
        batch_effect(b, (struct effect){.kind = NO_FEED, .number = number});
    }
    if (rc == SQLITE_DONE && own)
        rc = db_run(b->db, SQL_ACCOUNT_MOVE_FEEDS, num(g->account), num(-(uint64_t)own));
    if (rc == SQLITE_DONE)
        rc = db_run(b->db, SQL_MEMBER_REMOVE_GROUP, num(g->number));
    if (rc == SQLITE_DONE)
        rc = touch_feeds(b, ask, feeds, own, o->name);
    if (rc == SQLITE_DONE)
        rc = db_run(b->db, SQL_GROUP_REMOVE, num(g->number));
    if (rc == SQLITE_DONE)
        rc = outbox_group(b->outbox, ask, g, b->now_us, true);
    batch_effect(b, (struct effect){.kind = NO_GROUP, .number = g->number});
    return rc;
}

enum reason op_group_remove(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    struct group *g;
    struct owner o;
    struct buf feeds;
    enum reason r = find(b, ask, &g, &o);
    if (r == REASON_ok && slice_eq(g->key, SLICE("default")))
        r = ask_refuse(ask, REASON_bad_request, "the group \"default\" stays");
    if (r == REASON_ok) {
        unsigned own;
        buf_init(&feeds, 1u << 30);
        int rc = list_feeds(b, g->account, g->number, &feeds, &own);
        if (rc == SQLITE_DONE)
            rc = remove_all(b, ask, g, &o, buf_slice(&feeds), own);
        if (rc != SQLITE_DONE)
            r = ask_refuse_db(b, ask, rc);
        buf_fini(&feeds);
    }
    it->group = ask->group_number;
    it->removes = true;
    group_unref(g);
    return r;
}

/* ---- feeds in and out ---- */

static enum reason find_both(struct batch *b, struct catalog_ask *ask, struct group **ret_group,
                             struct feed **ret_feed, struct owner *ret_owner)
{
    *ret_feed = NULL;
    enum reason r = find(b, ask, ret_group, ret_owner);
    if (r == REASON_ok)
        r = op_read_feed(b, ask, ret_feed);
    if (r == REASON_ok && (*ret_feed)->account != (*ret_group)->account)
        r = op_read(b, ask, SQLITE_DONE, false, "feed", ask->feed_number);
    return r;
}

/* Group and feed have changed; rc as it was so far. */
static enum reason both_changed(struct batch *b, struct item *it, const struct owner *o, int rc)
{
    struct catalog_ask *ask = it->ask;
    uint64_t now_us = (uint64_t)b->now_us;
    if (rc == SQLITE_DONE)
        rc = db_run(b->db, SQL_GROUP_TOUCH, num(ask->group_number), num(now_us),
                    num(b->db->next[NEXT_CHANGE]));
    if (rc == SQLITE_DONE)
        rc = batch_put_group(b, ask->group_number, NULL);
    if (rc == SQLITE_DONE)
        rc = db_run(b->db, SQL_FEED_TOUCH, num(ask->feed_number), num(now_us),
                    num(b->db->next[NEXT_CHANGE]));
    if (rc == SQLITE_DONE)
        rc = op_feed_changed(b, ask, ask->feed_number, o->name);
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

enum reason op_group_link(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    struct group *g;
    struct feed *f;
    struct owner o;
    enum reason r = find_both(b, ask, &g, &f, &o);
    if (r == REASON_ok && !feed_in_group(f, g))
        r = both_changed(b, it, &o, db_run(b->db, SQL_MEMBER_ADD, num(g->number), num(f->number)));
    it->group = ask->group_number;
    feed_unref(f);
    group_unref(g);
    return r;
}

/* Out of the group it belongs to: into "default", under the last part of its key. */
static enum reason move_out(struct batch *b, struct item *it, const struct feed *f,
                            const struct owner *o)
{
    struct catalog_ask *ask = it->ask;
    struct slice key = slice_from(f->key, f->group_key.len + 1);
    uint64_t group;
    int rc = db_run(b->db, SQL_FEED_FIND, num(f->account), txt(key));
    db_reset(b->db, SQL_FEED_FIND);
    if (rc == SQLITE_ROW)
        return ask_refuse(ask, REASON_conflict, "the feed \"%.*s\" exists already", SLICE_ARG(key));
    if (rc == SQLITE_DONE)
        rc = op_group_take(b, f->account, SLICE("default"), &group);
    if (rc == SQLITE_DONE)
        rc = db_run(b->db, SQL_MEMBER_REMOVE, num(group), num(f->number));
    if (rc == SQLITE_DONE)
        rc = db_run(b->db, SQL_FEED_MOVE, num(f->number), num(group), txt(key),
                    num((uint64_t)b->now_us), num(b->db->next[NEXT_CHANGE]));
    return both_changed(b, it, o, rc);
}

enum reason op_group_unlink(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    struct group *g;
    struct feed *f;
    struct owner o;
    enum reason r = find_both(b, ask, &g, &f, &o);
    if (r == REASON_ok && !feed_in_group(f, g))
        r = ask_refuse(ask, REASON_not_found, "the feed is not in this group");
    else if (r == REASON_ok && f->group != g->number)
        r = both_changed(b, it, &o,
                         db_run(b->db, SQL_MEMBER_REMOVE, num(g->number), num(f->number)));
    else if (r == REASON_ok && slice_eq(g->key, SLICE("default")))
        r = ask_refuse(ask, REASON_bad_request,
                       "a feed leaves \"default\" only when it is deleted");
    else if (r == REASON_ok)
        r = move_out(b, it, f, &o);
    it->group = ask->group_number;
    feed_unref(f);
    group_unref(g);
    return r;
}
