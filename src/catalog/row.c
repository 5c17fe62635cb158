/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/row.h"

#include <errno.h>

#include "flow/limit.h"
#include "flow/permission.h"

static int no_memory(struct db *db, struct error *err)
{
    return error_set(err, -ENOMEM, "%s: no memory for a record", db->path);
}

static int bad_row(struct db *db, const char *table, uint64_t number, const char *what,
                   struct error *err)
{
    return error_set(err, -EBADMSG, "%s: %s %llu: %s", db->path, table, (unsigned long long)number,
                     what);
}

/* A text column; false when it is NULL. */
static bool take_text(struct db *db, enum statement s, int column, struct slice *ret)
{
    *ret = db_text(db, s, column);
    return !db_is_null(db, s, column);
}

int row_account(struct db *db, enum statement s, const struct ack *ack, struct account **ret,
                uint64_t *ret_version, struct error *err)
{
    uint64_t number = db_number(db, s, 0);
    struct slice name, plan, limits, device_limits;
    struct limit_set account_set, device_set;
    struct ack own = *ack;
    struct error why;
    if (number == 0 || number >= db->next[NEXT_ACCOUNT])
        return bad_row(db, "account", number, "the number was never given out", err);
    if (!take_text(db, s, 1, &name) || name.len == 0 || name.len > USERNAME_MAX)
        return bad_row(db, "account", number, "no name", err);
    if (!take_text(db, s, 2, &limits) || !take_text(db, s, 3, &device_limits))
        return bad_row(db, "account", number, "its plan is missing", err);
    if (limit_set_parse(limits, &account_set, &why) ||
        limit_set_parse(device_limits, &device_set, &why))
        return bad_row(db, "account", number, why.text, err);
    if (db_text(db, s, 10).len && !ack_parse(db_text(db, s, 10), &own))
        return bad_row(db, "account", number, "no known ack level", err);
    plan = db_text(db, s, 8);
    struct account *a = account_new(name.len + plan.len + 2);
    if (!a)
        return no_memory(db, err);
    char *at = (char *)(a + 1);
    a->number = number;
    a->name = record_text(&at, name);
    a->plan = record_text(&at, plan);
    a->limits = account_set;
    a->ack = own;
    a->device_limits = device_set;
    uint64_t feeds_max = db_number(db, s, 4);
    a->feeds_max = feeds_max > UINT32_MAX ? UINT32_MAX : (uint32_t)feeds_max;
    a->disabled = db_number(db, s, 5) != 0;
    a->created_us = (int64_t)db_number(db, s, 6);
    a->topics = db_number(db, s, 9) == TOPICS_ANY ? TOPICS_ANY : TOPICS_ADAFRUIT;
    *ret_version = db_number(db, s, 7);
    *ret = a;
    return 0;
}

/* ---- credentials ----------------------------------------------------------------------------- */

static unsigned split_patterns(struct slice s, struct slice ret[FEED_PATTERNS_MAX])
{
    unsigned n = 0;
    while (s.len && n < FEED_PATTERNS_MAX) {
        const char *comma = memchr(s.ptr, ',', s.len);
        struct slice item = slice_of(s.ptr, comma ? (size_t)(comma - s.ptr) : s.len);
        ret[n++] = item;
        s = slice_from(s, item.len + (comma ? 1 : 0));
    }
    return s.len ? FEED_PATTERNS_MAX + 1 : n;
}

/* What a credential's row holds, checked. */
struct credential_row {
    uint64_t number, permissions;
    struct slice name, role, verifier, digest;
    struct topic_rules topics;
    unsigned patterns_count;
    struct slice patterns[FEED_PATTERNS_MAX];
};

static const char *check_credential(struct db *db, enum statement s, struct credential_row *r)
{
    struct slice permissions, patterns, bad;
    r->number = db_number(db, s, 0);
    if (r->number == 0 || r->number >= db->next[NEXT_CREDENTIAL])
        return "the number was never given out";
    if (!take_text(db, s, 3, &r->name) || r->name.len == 0 || r->name.len > DEVICE_ID_MAX)
        return "no name";
    if (!take_text(db, s, 4, &permissions))
        return "its role is missing";
    if (!permissions_parse(permissions, '|', &r->permissions, &bad))
        return "its role has a permission that does not exist";
    if (!take_text(db, s, 5, &patterns))
        return "no patterns";
    r->patterns_count = split_patterns(patterns, r->patterns);
    if (r->patterns_count > FEED_PATTERNS_MAX)
        return "too many patterns";
    r->digest = db_blob(db, s, 6);
    r->verifier = db_text(db, s, 7);
    if (r->digest.len ? r->digest.len != 32 : r->verifier.len == 0)
        return "no verifier";
    if (r->verifier.len >= VERIFIER_MAX)
        return "its verifier is too long";
    if (db_number(db, s, 2) > CREDENTIAL_DEVICE)
        return "of no known kind";
    if (db_is_null(db, s, 9))
        return "its account is not there";
    if (!take_text(db, s, 10, &r->role))
        return "no role";
    r->topics = (struct topic_rules){db_text(db, s, 11), db_text(db, s, 12)};
    return NULL;
}

int row_credential(struct db *db, enum statement s, struct credential **ret, uint64_t *ret_account,
                   struct error *err)
{
    struct credential_row r;
    const char *wrong = check_credential(db, s, &r);
    if (wrong)
        return bad_row(db, "credential", r.number, wrong, err);
    size_t array = r.patterns_count * sizeof(struct slice);
    size_t text = r.name.len + r.role.len + r.verifier.len + 3;
    bool has_rules = r.topics.publish.len || r.topics.subscribe.len;
    size_t rules = has_rules ? sizeof r.topics : 0;
    if (has_rules)
        text += r.topics.publish.len + r.topics.subscribe.len + 2;
    for (unsigned i = 0; i < r.patterns_count; i++)
        text += r.patterns[i].len + 1;
    struct credential *c = credential_new(array + rules + text);
    if (!c)
        return no_memory(db, err);
    char *at = (char *)(c + 1) + array + rules;
    c->number = r.number;
    c->kind = (enum credential_kind)db_number(db, s, 2);
    c->name = record_text(&at, r.name);
    c->role = record_text(&at, r.role);
    c->permissions = r.permissions;
    c->verifier_kind = r.digest.len ? VERIFIER_FAST : VERIFIER_CRYPT;
    if (r.digest.len)
        memcpy(c->fast, r.digest.ptr, sizeof c->fast);
    c->verifier = record_text(&at, r.digest.len ? SLICE("") : r.verifier);
    c->patterns_count = (uint16_t)r.patterns_count;
    c->patterns = r.patterns_count ? (void *)(c + 1) : NULL;
    for (unsigned i = 0; i < r.patterns_count; i++)
        c->patterns[i] = record_text(&at, r.patterns[i]);
    if (has_rules) {
        struct topic_rules *topics = (void *)((char *)(c + 1) + array);
        topics->publish = record_text(&at, r.topics.publish);
        topics->subscribe = record_text(&at, r.topics.subscribe);
        c->topics = topics;
    }
    c->disabled = db_number(db, s, 8) != 0;
    c->version = db_number(db, s, 9);
    *ret_account = db_number(db, s, 1);
    *ret = c;
    return 0;
}

/* ---- feeds ----------------------------------------------------------------------------------- */

int row_feed(struct db *db, enum statement s, struct feed **ret, struct error *err)
{
    enum {
        KEY,
        NAME,
        DESCRIPTION,
        LICENSE,
        UNIT_TYPE,
        UNIT_SYMBOL,
        GROUP_KEY,
        GROUP_NAME,
        GROUPS,
        TEXTS
    };
    static const int columns[TEXTS] = {2, 3, 4, 5, 6, 7, 14, 15, 19};
    struct slice texts[TEXTS];
    size_t bytes = 0;
    uint64_t number = db_number(db, s, 0);
    if (number == 0 || number >= db->next[NEXT_FEED])
        return bad_row(db, "feed", number, "the number was never given out", err);
    for (unsigned i = 0; i < TEXTS; i++) {
        if (!take_text(db, s, columns[i], &texts[i]))
            return bad_row(db, "feed", number, "a text or its group is missing", err);
        bytes += texts[i].len + 1;
    }
    if (texts[KEY].len == 0 || texts[KEY].len > FEED_KEY_MAX)
        return bad_row(db, "feed", number, "no key", err);
    struct feed *f = feed_new(bytes);
    if (!f)
        return no_memory(db, err);
    char *at = (char *)(f + 1);
    f->number = number;
    f->account = db_number(db, s, 1);
    f->key = record_text(&at, texts[KEY]);
    f->name = record_text(&at, texts[NAME]);
    f->description = record_text(&at, texts[DESCRIPTION]);
    f->license = record_text(&at, texts[LICENSE]);
    f->unit_type = record_text(&at, texts[UNIT_TYPE]);
    f->unit_symbol = record_text(&at, texts[UNIT_SYMBOL]);
    f->flags = (uint32_t)db_number(db, s, 8);
    f->status_timeout = (uint32_t)db_number(db, s, 9);
    f->status_notify = db_number(db, s, 10) != 0;
    f->created_us = (int64_t)db_number(db, s, 11);
    f->updated_us = (int64_t)db_number(db, s, 12);
    f->group = db_number(db, s, 13);
    f->group_key = record_text(&at, texts[GROUP_KEY]);
    f->group_name = record_text(&at, texts[GROUP_NAME]);
    f->groups = record_text(&at, texts[GROUPS]);
    f->has_mark = !db_is_null(db, s, 16);
    f->mark_us = (int64_t)db_number(db, s, 16);
    f->mark_offset = db_number(db, s, 17);
    f->version = db_number(db, s, 18);
    *ret = f;
    return 0;
}

int row_group(struct db *db, enum statement s, struct group **ret, struct error *err)
{
    struct slice key, name, description;
    uint64_t number = db_number(db, s, 0);
    if (number == 0 || number >= db->next[NEXT_GROUP])
        return bad_row(db, "group", number, "the number was never given out", err);
    if (!take_text(db, s, 2, &key) || key.len == 0 || key.len > FEED_NAME_MAX ||
        !take_text(db, s, 3, &name) || !take_text(db, s, 4, &description))
        return bad_row(db, "group", number, "no key, or a text is missing", err);
    struct group *g = group_new(key.len + name.len + description.len + 3);
    if (!g)
        return no_memory(db, err);
    char *at = (char *)(g + 1);
    g->number = number;
    g->account = db_number(db, s, 1);
    g->key = record_text(&at, key);
    g->name = record_text(&at, name);
    g->description = record_text(&at, description);
    g->flags = (uint32_t)db_number(db, s, 5);
    g->created_us = (int64_t)db_number(db, s, 6);
    g->updated_us = (int64_t)db_number(db, s, 7);
    g->version = db_number(db, s, 8);
    *ret = g;
    return 0;
}
