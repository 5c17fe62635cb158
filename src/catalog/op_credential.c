/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of keys and devices. */
#include "base/log.h"
#include "catalog/batch.h"
#include "catalog/names.h"
#include "catalog/seed.h"

/* A credential and its account, as an operation found or makes it. */
struct subject {
    struct owner owner;
    uint64_t number;
};

static enum reason check_role(struct batch *b, struct catalog_ask *ask, struct slice role)
{
    char shown[128];
    int rc = db_run(b->db, SQL_ROLE_EXISTS, txt(role));
    db_reset(b->db, SQL_ROLE_EXISTS);
    if (rc == SQLITE_DONE)
        return ask_refuse(ask, REASON_bad_request, "there is no role \"%s\"",
                          log_text(shown, role));
    return rc == SQLITE_ROW ? REASON_ok : ask_refuse_db(b, ask, rc);
}

static enum reason check_secret(struct catalog_ask *ask)
{
    if (ask->has_digest == (ask->verifier.len > 0))
        return ask_refuse(ask, REASON_bad_request,
                          "a device needs one verifier: a digest or a hash");
    if (ask->verifier.len && !name_is_verifier(ask->verifier))
        return ask_refuse(ask, REASON_bad_request,
                          "the password hash is no hash as crypt(3) writes it");
    return REASON_ok;
}

static struct slice digest_of(const struct catalog_ask *ask)
{
    return ask->has_digest ? slice_of(ask->digest, sizeof ask->digest) : SLICE("");
}

/* REASON_ok when the statement finds nothing, else a conflict with this sentence. */
static enum reason check_absent(struct batch *b, struct catalog_ask *ask, enum statement s, int rc,
                                const char *sentence)
{
    db_reset(b->db, s);
    if (rc == SQLITE_ROW)
        return ask_refuse(ask, REASON_conflict, "%s", sentence);
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

static int audit(struct batch *b, struct catalog_ask *ask, const char *op, const struct subject *s)
{
    return outbox_audit(b->outbox, ask,
                        &(struct audit){.op = op,
                                        .now_us = b->now_us,
                                        .account = s->owner.number,
                                        .account_name = s->owner.name,
                                        .subject = ask->name,
                                        .subject_number = s->number});
}

/* Stores the new credential of `owner`. */
static enum reason add(struct batch *b, struct item *it, const struct owner *owner,
                       enum credential_kind kind, struct slice role, struct slice patterns)
{
    struct catalog_ask *ask = it->ask;
    bool device = kind == CREDENTIAL_DEVICE;
    struct subject s = {.owner = *owner, .number = db_take_number(b->db, NEXT_CREDENTIAL)};
    s.owner.name.ptr = s.owner.text;
    int rc = db_run(b->db, SQL_CREDENTIAL_ADD, num(s.number), num(owner->number), num(kind),
                    txt(ask->name), txt(role), txt(patterns), blob_or_null(digest_of(ask)),
                    txt_or_null(device ? ask->verifier : SLICE("")), num(device && ask->disabled),
                    num((uint64_t)b->now_us), num(b->db->next[NEXT_CHANGE]));
    if (rc == SQLITE_DONE)
        rc = audit(b, ask, device ? "device_add" : "key_add", &s);
    if (rc == SQLITE_DONE)
        rc = batch_put_credential(b, s.number);
    it->credential = s.number;
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, ask, rc);
}

static enum reason check_key_digest(struct batch *b, struct catalog_ask *ask)
{
    if (!ask->has_digest || ask->verifier.len)
        return ask_refuse(ask, REASON_bad_request, "an account key is stored as a digest only");
    return check_absent(b, ask, SQL_KEY_FIND_DIGEST,
                        db_run(b->db, SQL_KEY_FIND_DIGEST, blob_or_null(digest_of(ask))),
                        "this key is in use already");
}

static enum reason parse_patterns(struct catalog_ask *ask, struct buf *ret)
{
    if (name_parse_patterns(ask->patterns, ret))
        return REASON_ok;
    return ask_refuse(ask, REASON_bad_request,
                      "patterns are at most %d feed keys, '*' at the end matches any rest",
                      FEED_PATTERNS_MAX);
}

enum reason op_key_add(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    struct slice role = ask->role.len ? ask->role : SLICE(CATALOG_ROLE_OF_KEYS);
    struct owner owner;
    if (!name_is_label(ask->name))
        return ask_refuse(ask, REASON_bad_request, "a key's name has 1 to %d printable bytes",
                          DEVICE_ID_MAX);
    struct buf patterns;
    buf_init(&patterns, FEED_PATTERNS_MAX * (FEED_KEY_MAX + 1));
    enum reason r = parse_patterns(ask, &patterns);
    if (r == REASON_ok)
        r = op_find_account(b, ask, &owner);
    if (r == REASON_ok)
        r = check_role(b, ask, role);
    if (r == REASON_ok)
        r = check_absent(b, ask, SQL_KEY_FIND,
                         db_run(b->db, SQL_KEY_FIND, num(owner.number), txt(ask->name)),
                         "the account has a key of that name already");
    if (r == REASON_ok)
        r = check_key_digest(b, ask);
    if (r == REASON_ok)
        r = add(b, it, &owner, CREDENTIAL_KEY, role, buf_slice(&patterns));
    buf_fini(&patterns);
    return r;
}

enum reason op_device_add(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    struct slice role = ask->role.len ? ask->role : SLICE(CATALOG_ROLE_OF_DEVICES);
    struct owner owner;
    struct buf patterns;
    buf_init(&patterns, FEED_PATTERNS_MAX * (FEED_KEY_MAX + 1));
    enum reason r = check_secret(ask);
    if (!name_is_device_id(ask->name))
        r = ask_refuse(ask, REASON_bad_request,
                       "a device id has 1 to %d printable ASCII characters, no blank and no ':'",
                       DEVICE_ID_MAX);
    if (r == REASON_ok)
        r = parse_patterns(ask, &patterns);
    if (r == REASON_ok)
        r = op_find_account(b, ask, &owner);
    if (r == REASON_ok)
        r = check_role(b, ask, role);
    if (r == REASON_ok)
        r = check_absent(b, ask, SQL_DEVICE_FIND, db_run(b->db, SQL_DEVICE_FIND, txt(ask->name)),
                         "there is a device with that id already");
    if (r == REASON_ok)
        r = add(b, it, &owner, CREDENTIAL_DEVICE, role, buf_slice(&patterns));
    buf_fini(&patterns);
    return r;
}

static enum reason find_device(struct batch *b, struct catalog_ask *ask, struct subject *ret)
{
    char shown[128];
    int rc = db_run(b->db, SQL_DEVICE_FIND, txt(ask->name));
    if (rc == SQLITE_DONE)
        return ask_refuse(ask, REASON_not_found, "there is no device \"%s\"",
                          log_text(shown, ask->name));
    if (rc != SQLITE_ROW)
        return ask_refuse_db(b, ask, rc);
    struct slice name = db_text(b->db, SQL_DEVICE_FIND, 2);
    struct owner *o = &ret->owner;
    ret->number = db_number(b->db, SQL_DEVICE_FIND, 0);
    o->number = db_number(b->db, SQL_DEVICE_FIND, 1);
    o->name = slice_of(o->text, name.len < USERNAME_MAX ? name.len : USERNAME_MAX);
    memcpy(o->text, name.ptr, o->name.len);
    db_reset(b->db, SQL_DEVICE_FIND);
    return REASON_ok;
}

/* The end of a change of a device that stays. */
static enum reason changed(struct batch *b, struct item *it, const struct subject *s, int rc)
{
    if (rc == SQLITE_DONE)
        rc = batch_put_credential(b, s->number);
    it->credential = s->number;
    return rc == SQLITE_DONE ? REASON_ok : ask_refuse_db(b, it->ask, rc);
}

enum reason op_device_secret(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    struct subject s;
    enum reason r = check_secret(ask);
    if (r == REASON_ok)
        r = find_device(b, ask, &s);
    if (r != REASON_ok)
        return r;
    int rc = db_run(b->db, SQL_CREDENTIAL_SECRET, num(s.number), blob_or_null(digest_of(ask)),
                    txt_or_null(ask->verifier), num(b->db->next[NEXT_CHANGE]));
    if (rc == SQLITE_DONE)
        rc = audit(b, ask, "device_secret", &s);
    return changed(b, it, &s, rc);
}

enum reason op_device_disable(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    struct subject s;
    enum reason r = find_device(b, ask, &s);
    if (r != REASON_ok)
        return r;
    int rc = db_run(b->db, SQL_CREDENTIAL_DISABLE, num(s.number), num(ask->disabled),
                    num(b->db->next[NEXT_CHANGE]));
    if (rc == SQLITE_DONE)
        rc = audit(b, ask, "device_disable", &s);
    return changed(b, it, &s, rc);
}

/* Role and patterns, where the ask says some. */
static enum reason change(struct batch *b, struct item *it, const char *op, const struct subject *s)
{
    struct catalog_ask *ask = it->ask;
    struct buf patterns;
    buf_init(&patterns, FEED_PATTERNS_MAX * (FEED_KEY_MAX + 1));
    enum reason r = parse_patterns(ask, &patterns);
    if (r == REASON_ok && ask->role.len)
        r = check_role(b, ask, ask->role);
    if (r == REASON_ok) {
        struct slice text = patterns.len ? buf_slice(&patterns) : SLICE("");
        struct db_value none = {.type = DB_NULL};
        int rc = db_run(b->db, SQL_CREDENTIAL_CHANGE, num(s->number), txt_or_null(ask->role),
                        ask->keep_patterns ? none : txt(text), num(b->db->next[NEXT_CHANGE]));
        if (rc == SQLITE_DONE)
            rc = audit(b, ask, op, s);
        r = changed(b, it, s, rc);
    }
    buf_fini(&patterns);
    return r;
}

static enum reason take_out(struct batch *b, struct item *it, const char *op,
                            const struct subject *s)
{
    int rc = db_run(b->db, SQL_CREDENTIAL_REMOVE, num(s->number));
    if (rc == SQLITE_DONE)
        rc = audit(b, it->ask, op, s);
    if (rc != SQLITE_DONE)
        return ask_refuse_db(b, it->ask, rc);
    it->credential = s->number;
    it->removes = true;
    batch_effect(b, (struct effect){.kind = NO_CREDENTIAL, .number = s->number});
    return REASON_ok;
}

enum reason op_device_remove(struct batch *b, struct item *it)
{
    struct subject s;
    enum reason r = find_device(b, it->ask, &s);
    return r == REASON_ok ? take_out(b, it, "device_remove", &s) : r;
}

enum reason op_device_change(struct batch *b, struct item *it)
{
    struct subject s;
    enum reason r = find_device(b, it->ask, &s);
    return r == REASON_ok ? change(b, it, "device_change", &s) : r;
}

static enum reason find_key(struct batch *b, struct catalog_ask *ask, struct subject *ret)
{
    char shown[128];
    enum reason r = op_find_account(b, ask, &ret->owner);
    if (r != REASON_ok)
        return r;
    int rc = db_run(b->db, SQL_KEY_FIND, num(ret->owner.number), txt(ask->name));
    if (rc == SQLITE_DONE)
        return ask_refuse(ask, REASON_not_found, "the account has no key \"%s\"",
                          log_text(shown, ask->name));
    if (rc != SQLITE_ROW)
        return ask_refuse_db(b, ask, rc);
    ret->number = db_number(b->db, SQL_KEY_FIND, 0);
    db_reset(b->db, SQL_KEY_FIND);
    return REASON_ok;
}

enum reason op_key_change(struct batch *b, struct item *it)
{
    struct subject s;
    enum reason r = find_key(b, it->ask, &s);
    return r == REASON_ok ? change(b, it, "key_change", &s) : r;
}

/* Whoever asked with a key that was replaced meanwhile has no say any more. */
static enum reason check_replaced(struct batch *b, struct catalog_ask *ask, uint64_t number)
{
    struct slice digest = slice_of(ask->replaced, sizeof ask->replaced);
    int rc = db_run(b->db, SQL_KEY_FIND_DIGEST, blob_or_null(digest));
    bool is = rc == SQLITE_ROW && db_number(b->db, SQL_KEY_FIND_DIGEST, 0) == number;
    db_reset(b->db, SQL_KEY_FIND_DIGEST);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return ask_refuse_db(b, ask, rc);
    return is ? REASON_ok
              : ask_refuse(ask, REASON_conflict, "the key was replaced by somebody else meanwhile");
}

enum reason op_key_secret(struct batch *b, struct item *it)
{
    struct catalog_ask *ask = it->ask;
    struct subject s;
    enum reason r = check_key_digest(b, ask);
    if (r == REASON_ok)
        r = find_key(b, ask, &s);
    if (r == REASON_ok && ask->has_replaced)
        r = check_replaced(b, ask, s.number);
    if (r != REASON_ok)
        return r;
    int rc = db_run(b->db, SQL_CREDENTIAL_SECRET, num(s.number), blob_or_null(digest_of(ask)),
                    txt_or_null(SLICE("")), num(b->db->next[NEXT_CHANGE]));
    if (rc == SQLITE_DONE)
        rc = audit(b, ask, "key_secret", &s);
    return changed(b, it, &s, rc);
}

enum reason op_key_remove(struct batch *b, struct item *it)
{
    struct subject s;
    enum reason r = find_key(b, it->ask, &s);
    return r == REASON_ok ? take_out(b, it, "key_remove", &s) : r;
}
