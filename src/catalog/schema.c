/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers (of accounts, credentials, feeds, groups, changes) come from counters in `meta`, written
 * in the transaction that used them: none is ever used twice, also not after its row is gone.
 * `change_id` in a row is the change that last touched it.
 *
 * A migration, once released, is never edited: the next one is appended.
 */
#include "catalog/schema.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "catalog/seed.h"

#define APPLICATION_ID 0x534c5543 /* "SLUC" */
#define STRING_OF(x)   #x
#define STRING(x)      STRING_OF(x)

#define SEED_ROLE(name, permissions) "INSERT INTO role VALUES ('" name "', '" permissions "');"
#define SEED_PLAN(name, limits, device_limits, feeds)                                              \
    "INSERT INTO plan VALUES ('" name "', '" limits "', '" device_limits "', " STRING(feeds) ");"

static const char *const migrations[] = {
    "PRAGMA application_id = " STRING(
        APPLICATION_ID) ";"
                        "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, "
                        "WITHOUT ROWID;"
                        "INSERT INTO meta VALUES ('next_account', 1), ('next_credential', 1), "
                        "('next_feed', 1),"
                        "  ('next_group', 1), ('next_change', 1);"
                        "CREATE TABLE role ("
                        "  name TEXT PRIMARY KEY,"
                        "  permissions TEXT NOT NULL" /* names of permissions.def with '|' between,
                                                         or '*' */
                        ") STRICT, WITHOUT ROWID;"
                        "CREATE TABLE plan ("
                        "  name TEXT PRIMARY KEY,"
                        "  limits TEXT NOT NULL,"
                        "  device_limits TEXT NOT NULL,"
                        "  feeds_max INTEGER NOT NULL"
                        ") STRICT, WITHOUT ROWID;"
                        "CREATE TABLE account ("
                        "  number INTEGER PRIMARY KEY,"
                        "  name TEXT NOT NULL UNIQUE,"
                        "  plan TEXT NOT NULL REFERENCES plan (name),"
                        "  limits TEXT," /* NULL: the plan's */
                        "  device_limits TEXT,"
                        "  disabled INTEGER NOT NULL,"
                        "  feeds INTEGER NOT NULL," /* how many it has, so that its maximum costs no
                                                       count */
                        "  created_us INTEGER NOT NULL,"
                        "  change_id INTEGER NOT NULL"
                        ") STRICT;"
                        "CREATE TABLE credential ("
                        "  number INTEGER PRIMARY KEY,"
                        "  account INTEGER NOT NULL REFERENCES account (number),"
                        "  kind INTEGER NOT NULL CHECK (kind IN (0, 1))," /* key, device */
                        "  name TEXT NOT NULL,"
                        "  role TEXT NOT NULL REFERENCES role (name),"
                        "  patterns TEXT NOT NULL,"
                        "  digest BLOB CHECK (length(digest) = 32)," /* fast verifier */
                        "  verifier TEXT,"                           /* crypt(3) verifier */
                        "  disabled INTEGER NOT NULL,"
                        "  created_us INTEGER NOT NULL,"
                        "  change_id INTEGER NOT NULL,"
                        "  UNIQUE (account, kind, name),"
                        "  CHECK ((digest IS NULL) <> (verifier IS NULL))"
                        ") STRICT;"
                        "CREATE UNIQUE INDEX credential_device ON credential (name) WHERE kind = 1;"
                        "CREATE UNIQUE INDEX credential_key ON credential (digest) WHERE kind = 0;"
                        "CREATE TABLE grp ("
                        "  number INTEGER PRIMARY KEY,"
                        "  account INTEGER NOT NULL REFERENCES account (number),"
                        "  key TEXT NOT NULL,"
                        "  name TEXT NOT NULL,"
                        "  created_us INTEGER NOT NULL,"
                        "  UNIQUE (account, key)"
                        ") STRICT;"
                        "CREATE TABLE feed ("
                        "  number INTEGER PRIMARY KEY,"
                        "  account INTEGER NOT NULL REFERENCES account (number),"
                        "  grp INTEGER NOT NULL,"
                        "  key TEXT NOT NULL," /* with its group, as it is looked up */
                        "  name TEXT NOT NULL,"
                        "  description TEXT NOT NULL,"
                        "  license TEXT NOT NULL,"
                        "  unit_type TEXT NOT NULL,"
                        "  unit_symbol TEXT NOT NULL,"
                        "  flags INTEGER NOT NULL,"
                        "  status_timeout INTEGER NOT NULL,"
                        "  status_notify INTEGER NOT NULL,"
                        "  created_us INTEGER NOT NULL,"
                        "  updated_us INTEGER NOT NULL,"
                        "  change_id INTEGER NOT NULL,"
                        "  UNIQUE (account, key)"
                        ") STRICT;"
                        "CREATE TABLE outbox (" /* journal records that a change owes, in order */
                        "  change_id INTEGER PRIMARY KEY,"
                        "  kind INTEGER NOT NULL,"
                        "  account INTEGER NOT NULL,"
                        "  feed INTEGER NOT NULL,"
                        "  credential INTEGER NOT NULL,"
                        "  at_us INTEGER NOT NULL,"
                        "  payload TEXT NOT NULL"
                        ") STRICT;" CATALOG_ROLES(SEED_ROLE) CATALOG_PLANS(SEED_PLAN),

    /* 2: administrators; changes of roles and plans make new versions of whoever has them. */
    "ALTER TABLE role ADD COLUMN change_id INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE plan ADD COLUMN change_id INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX credential_role ON credential (role);"
    "CREATE INDEX account_plan ON account (plan);"
    "INSERT INTO role VALUES ('admin', 'admin_read|admin_write', 0);",

    /* 3: groups as records of their own, which feeds of other groups may be added to; where
     * data/next stands in a feed. */
    "ALTER TABLE grp ADD COLUMN description TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE grp ADD COLUMN flags INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE grp ADD COLUMN updated_us INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE grp ADD COLUMN change_id INTEGER NOT NULL DEFAULT 0;"
    "UPDATE grp SET updated_us = created_us;"
    "CREATE TABLE member (" /* the feed is in this group too */
    "  grp INTEGER NOT NULL,"
    "  feed INTEGER NOT NULL,"
    "  PRIMARY KEY (grp, feed)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX member_feed ON member (feed);"
    "ALTER TABLE feed ADD COLUMN mark_us INTEGER;"
    "ALTER TABLE feed ADD COLUMN mark_offset INTEGER;",

    /* 4: which MQTT topics there are in an account (enum account_topics). */
    "ALTER TABLE account ADD COLUMN topics INTEGER NOT NULL DEFAULT 0;",

    /* 5: which topics that are no feeds a role may use: filters with a comma between; empty: all.
     */
    ("ALTER TABLE role ADD COLUMN publish TEXT NOT NULL DEFAULT '';"
     "ALTER TABLE role ADD COLUMN subscribe TEXT NOT NULL DEFAULT '';"),

    /* 6: when accepted is said (flow/ack.h); of a plan empty: as the server has it, of an account
     * NULL: as the plan has it. */
    ("ALTER TABLE plan ADD COLUMN ack TEXT NOT NULL DEFAULT '';"
     "ALTER TABLE account ADD COLUMN ack TEXT;"),
};

#define MIGRATIONS (int)(sizeof migrations / sizeof migrations[0])

static int read_number(sqlite3 *db, const char *sql, int64_t *ret)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return rc == SQLITE_ROW ? 0 : -EIO;
}

static int migrate(sqlite3 *db, int from)
{
    char version[64];
    sqlite3_snprintf(sizeof version, version, "PRAGMA user_version = %d", from + 1);
    if (sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_exec(db, migrations[from], NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_exec(db, version, NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK)
        return 0;
    return -EIO; /* the caller closes the database, which rolls back */
}

int schema_apply(sqlite3 *db, const char *path, struct error *err)
{
    int64_t version = 0, application = 0, tables = 0;
    if (read_number(db, "PRAGMA user_version", &version) ||
        read_number(db, "PRAGMA application_id", &application) ||
        read_number(db, "SELECT count(*) FROM sqlite_schema", &tables))
        return error_set(err, -EIO, "%s: %s", path, sqlite3_errmsg(db));
    if (application != APPLICATION_ID && (version || application || tables))
        return error_set(err, -EINVAL, "%s: this database is not a catalog of Sluice", path);
    if (version > MIGRATIONS)
        return error_set(err, -EPROTONOSUPPORT,
                         "%s: its format is %lld, newer than the %d this program knows; use the "
                         "program that wrote it",
                         path, (long long)version, MIGRATIONS);
    for (int i = (int)version; i < MIGRATIONS; i++) {
        if (migrate(db, i))
            return error_set(err, -EIO, "%s: format %d: %s", path, i + 1, sqlite3_errmsg(db));
    }
    return 0;
}
