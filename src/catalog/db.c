/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/db.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "catalog/catalog.h"
#include "catalog/schema.h"
#include "journal/disk.h"

static const char *const statement_sql[] = {
#define STATEMENT(name, sql) [SQL_##name] = sql,
#include "catalog/statements.def"
#undef STATEMENT
};

static const char *const counter_names[] = {
    [NEXT_ACCOUNT] = "next_account", [NEXT_CREDENTIAL] = "next_credential",
    [NEXT_FEED] = "next_feed",       [NEXT_GROUP] = "next_group",
    [NEXT_CHANGE] = "next_change",
};

/* journal_size_limit: a huge transaction leaves no huge journal file behind. */
static const char pragmas[] = "PRAGMA locking_mode = EXCLUSIVE;"
                              "PRAGMA journal_mode = PERSIST;"
                              "PRAGMA journal_size_limit = 4194304;"
                              "PRAGMA synchronous = FULL;"
                              "PRAGMA cache_size = -16384;"
                              "PRAGMA temp_store = MEMORY;"
                              "PRAGMA cell_size_check = ON;"
                              "PRAGMA trusted_schema = OFF;"
                              "PRAGMA secure_delete = ON;"
                              "PRAGMA foreign_keys = ON;"
                              "BEGIN EXCLUSIVE; COMMIT;";

static int open_errno(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
        return -EACCES;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EBADMSG;
    default:
        return -EIO;
    }
}

/* Remembers the sentence: a rollback, or the next statement, would overwrite SQLite's. */
static int failed(struct db *db, int rc)
{
    error_set(&db->last, 0, "%s", db->handle ? sqlite3_errmsg(db->handle) : "no memory");
    return rc;
}

static int open_failed(struct db *db, int rc, struct error *err)
{
    if ((rc & 0xff) == SQLITE_BUSY)
        return error_set(err, -EBUSY, "%s: another process has the catalog open", db->path);
    failed(db, rc);
    return error_set(err, open_errno(rc), "%s: %s", db->path, db->last.text);
}

static int prepare_all(struct db *db, struct error *err)
{
    for (unsigned i = 0; i < STATEMENTS; i++) {
        int rc = sqlite3_prepare_v3(db->handle, statement_sql[i], -1, SQLITE_PREPARE_PERSISTENT,
                                    &db->statements[i], NULL);
        if (rc != SQLITE_OK)
            return open_failed(db, rc, err);
    }
    return 0;
}

#define COUNTER_MAX ((uint64_t)INT64_MAX / 2) /* of a counter: SQLite's numbers have a sign */

static int read_counters(struct db *db, struct error *err)
{
    for (unsigned i = 0; i < COUNTERS; i++) {
        int rc = db_run(db, SQL_META_GET, txt(slice_str(counter_names[i])));
        if (rc == SQLITE_DONE ||
            (rc == SQLITE_ROW && db_number(db, SQL_META_GET, 0) - 1 >= COUNTER_MAX))
            return error_set(err, -EBADMSG, "%s: the counter %s is gone or wrong", db->path,
                             counter_names[i]);
        if (rc != SQLITE_ROW)
            return open_failed(db, rc, err);
        db->next[i] = db->written[i] = db_number(db, SQL_META_GET, 0);
        db_reset(db, SQL_META_GET);
    }
    return 0;
}

/* Walks every page once (about 0.8 us a device, as long as loading them): a damaged index would
 * otherwise show only when something is not found that is there. */
static int check_pages(struct db *db, struct error *err)
{
    sqlite3_stmt *s = NULL;
    int fail = 0;
    int rc = sqlite3_prepare_v2(db->handle, "PRAGMA quick_check(1)", -1, &s, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(s);
    const char *says = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;
    if (!says)
        fail = open_failed(db, rc, err);
    else if (strcmp(says, "ok") != 0)
        fail = error_set(err, -EBADMSG, "%s: damaged: %s", db->path, says);
    sqlite3_finalize(s);
    return fail;
}

/* A new file is made for its owner's eyes only: it holds verifiers. (SQLite gives its journal the
 * same mode.) One that exists must not be opened here: closing it would drop the locks that a
 * connection of this process has on it. */
int db_make_private(const char *path, bool must_be_new)
{
    int fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == EEXIST && !must_be_new ? 0 : -errno;
    close(fd);
    return 0;
}

/* SQLite would wait for the other end of a pipe. */
static int check_kinds(const char *path, struct error *err)
{
    static const char *const ends[] = {"", "-journal", "-wal"};
    char name[PATH_MAX];
    int rc = 0;
    for (unsigned i = 0; !rc && i < sizeof ends / sizeof *ends; i++) {
        if (snprintf(name, sizeof name, "%s%s", path, ends[i]) >= (int)sizeof name)
            return error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long", path);
        rc = disk_check_kind(name);
    }
    return rc ? error_set(err, rc, "%s: %s", name, disk_strerror(rc)) : 0;
}

int db_require(const char *path, struct error *err)
{
    struct stat st;
    bool missing = stat(path, &st) != 0;
    if (missing ? errno != ENOENT : !S_ISREG(st.st_mode) || st.st_size > 0)
        return 0; /* what else is wrong, opening it will say */
    return error_set(err, -ENOENT,
                     "%s: it is %s, but the journal has records: a new one would give their "
                     "accounts' and feeds' numbers to others. Restore it, or begin with another "
                     "data directory",
                     path, missing ? "missing" : "empty");
}

int db_open(struct db *db, const char *path, struct error *err)
{
    *db = (struct db){0};
    int fail = check_kinds(path, err);
    if (fail)
        return fail;
    db->path = strdup(path);
    if (!db->path)
        return error_set(err, -ENOMEM, "%s: no memory", path);
    db_make_private(path, false); /* SQLite says what is wrong */
    int rc = sqlite3_open_v2(path, &db->handle,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                                 SQLITE_OPEN_EXRESCODE,
                             NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db->handle, pragmas, NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        fail = open_failed(db, rc, err);
    if (!fail)
        fail = schema_apply(db->handle, path, err);
    if (!fail)
        fail = check_pages(db, err);
    if (!fail)
        fail = prepare_all(db, err);
    if (!fail)
        fail = read_counters(db, err);
    if (fail)
        db_close(db);
    return fail;
}

int db_scrub(struct db *db)
{
    int rc = sqlite3_exec(db->handle,
                          "PRAGMA journal_size_limit = 0; VACUUM;"
                          "PRAGMA journal_size_limit = 4194304;",
                          NULL, NULL, NULL);
    return rc == SQLITE_OK ? rc : failed(db, rc);
}

void db_close(struct db *db)
{
    for (unsigned i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(db->statements[i]);
    sqlite3_close(db->handle);
    free(db->path);
    *db = (struct db){0};
}

static int bind(sqlite3_stmt *s, int at, const struct db_value *v)
{
    const char *ptr = v->bytes.len ? v->bytes.ptr : "";
    switch (v->type) {
    case DB_NUMBER:
        return sqlite3_bind_int64(s, at, (sqlite3_int64)v->number);
    case DB_TEXT:
        return sqlite3_bind_text64(s, at, ptr, v->bytes.len, SQLITE_STATIC, SQLITE_UTF8);
    case DB_BLOB:
        return sqlite3_bind_blob64(s, at, ptr, v->bytes.len, SQLITE_STATIC);
    default:
        return sqlite3_bind_null(s, at);
    }
}

int db_next(struct db *db, enum statement s)
{
    int rc = sqlite3_step(db->statements[s]);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        failed(db, rc);
    if (rc != SQLITE_ROW)
        sqlite3_reset(db->statements[s]);
    return rc;
}

int db_run_values(struct db *db, enum statement s, const struct db_value *values)
{
    sqlite3_reset(db->statements[s]);
    for (int i = 0; values[i].type != DB_END; i++) {
        int rc = bind(db->statements[s], i + 1, &values[i]);
        if (rc != SQLITE_OK)
            return failed(db, rc);
    }
    return db_next(db, s);
}

int db_exec(struct db *db, enum statement s)
{
    sqlite3_reset(db->statements[s]);
    return db_next(db, s);
}

void db_reset(struct db *db, enum statement s)
{
    sqlite3_reset(db->statements[s]);
}

uint64_t db_number(struct db *db, enum statement s, int column)
{
    return (uint64_t)sqlite3_column_int64(db->statements[s], column);
}

struct slice db_text(struct db *db, enum statement s, int column)
{
    const void *ptr = sqlite3_column_text(db->statements[s], column);
    return slice_of(ptr, (size_t)sqlite3_column_bytes(db->statements[s], column));
}

struct slice db_blob(struct db *db, enum statement s, int column)
{
    const void *ptr = sqlite3_column_blob(db->statements[s], column);
    return slice_of(ptr, (size_t)sqlite3_column_bytes(db->statements[s], column));
}

bool db_is_null(struct db *db, enum statement s, int column)
{
    return sqlite3_column_type(db->statements[s], column) == SQLITE_NULL;
}

int db_begin(struct db *db)
{
    return db_exec(db, SQL_BEGIN);
}

int db_commit(struct db *db)
{
    int rc = SQLITE_DONE;
    for (unsigned i = 0; i < COUNTERS && rc == SQLITE_DONE; i++) {
        if (db->next[i] != db->written[i])
            rc = db_run(db, SQL_META_SET, txt(slice_str(counter_names[i])), num(db->next[i]));
    }
    if (rc == SQLITE_DONE)
        rc = db_exec(db, SQL_COMMIT);
    if (rc != SQLITE_DONE) {
        db_rollback(db);
        return rc;
    }
    memcpy(db->written, db->next, sizeof db->written);
    return SQLITE_OK;
}

void db_rollback(struct db *db)
{
    if (!db_rolled_back(db))
        db_exec(db, SQL_ROLLBACK);
}

bool db_rolled_back(struct db *db)
{
    return sqlite3_get_autocommit(db->handle) != 0;
}

uint64_t db_take_number(struct db *db, enum counter c)
{
    CHECK(db->next[c] < INT64_MAX);
    return db->next[c]++;
}

enum reason db_reason(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return REASON_disk_full;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return REASON_busy;
    default:
        return REASON_internal;
    }
}

/* Counters go on at the `jump`-th multiple of CATALOG_JUMP behind where they are, or behind `least`
 * if that is further. */
static int jump_behind(struct db *db, uint64_t least, uint32_t jump, struct error *err)
{
    for (unsigned i = 0; i < COUNTERS; i++) {
        uint64_t from = db->next[i] > least ? db->next[i] : least;
        uint64_t multiple = from / CATALOG_JUMP + jump;
        if (multiple >= COUNTER_MAX / CATALOG_JUMP)
            return error_set(err, -ERANGE, "%s: the counter %s cannot jump %u times further",
                             db->path, counter_names[i], jump);
        db->next[i] = multiple * CATALOG_JUMP;
    }
    int code = db_begin(db);
    if (code == SQLITE_DONE)
        code = db_commit(db);
    return code == SQLITE_OK ? 0 : open_failed(db, code, err);
}

int db_check_told(struct db *db, uint64_t told, bool skips, struct error *err)
{
    unsigned long long known = db->next[NEXT_CHANGE] - 1;
    if (told <= known)
        return 0;
    if (!skips)
        return error_set(err, -ESTALE,
                         "%s: it is older than the journal: it ends with change %llu, the journal "
                         "tells of %llu. It would give numbers of accounts and feeds to others, "
                         "and what was revoked since would be in force. Restore the newest one, or "
                         "start with journal.skip_corrupt to go on behind all numbers given out",
                         db->path, known, (unsigned long long)told);
    int rc = jump_behind(db, told, 1, err);
    if (rc == 0)
        log_line(LOG_WARN, "catalog.older", "path=%s last_change=%llu journal_tells=%llu", db->path,
                 known, (unsigned long long)told);
    return rc;
}

int catalog_restored(const char *path, uint32_t jump, struct error *err)
{
    struct db db;
    int rc = db_open(&db, path, err);
    if (rc < 0)
        return rc;
    rc = jump_behind(&db, 0, jump, err);
    db_close(&db);
    return rc;
}
