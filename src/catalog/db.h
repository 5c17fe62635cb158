/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog/db.h - the SQLite database under the catalog: its one connection, the statements of
 * statements.def prepared once, and the counters that numbers come from. One thread at a time.
 *
 * Rollback journal in PERSIST mode, synchronous=FULL, exclusive lock: a commit is then one that
 * survives power loss. (WAL of SQLite 3.40 can corrupt the file when it is reset; DELETE mode would
 * need the directory synced too, or power loss brings a deleted journal back and undoes a commit
 * that the journal already knows of.)
 */
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"
#include "flow/reason.h"

enum statement {
#define STATEMENT(name, sql) SQL_##name,
#include "catalog/statements.def"
#undef STATEMENT
    STATEMENTS
};

enum counter { NEXT_ACCOUNT, NEXT_CREDENTIAL, NEXT_FEED, NEXT_GROUP, NEXT_CHANGE, COUNTERS };

struct db {
    sqlite3 *handle;
    char *path;
    sqlite3_stmt *statements[STATEMENTS];
    uint64_t next[COUNTERS];    /* the next number to be used */
    uint64_t written[COUNTERS]; /* as the database has it */
    struct error last;          /* what the last failed statement said */
};

/* Opens or makes the file, takes it for this process alone, brings its format up to date. 0 or
 * negative errno with a sentence that names the file. On failure *db is as db_close leaves it. */
int db_open(struct db *db, const char *path, struct error *err);
/* Writes the file anew without what was deleted, and empties the rollback journal. Outside of any
 * transaction. SQLITE_OK or an error code. */
int db_scrub(struct db *db);
void db_close(struct db *db);
/* -ENOENT with a sentence when the file is missing or empty; else 0. */
int db_require(const char *path, struct error *err);
/* -ESTALE with a sentence when the database does not know of the change `told`; with `skips` its
 * counters go on behind all that can have been given out meanwhile. 0, or another negative errno
 * with a sentence. */
int db_check_told(struct db *db, uint64_t told, bool skips, struct error *err);
/* Makes an empty file that only its owner may read: it will hold verifiers. One that is there stays
 * as it is, or with `must_be_new` is -EEXIST. 0 or a negative errno. */
int db_make_private(const char *path, bool must_be_new);

/* A value for a statement. The bytes of a text stay the caller's until the next run. */
struct db_value {
    enum { DB_END, DB_NUMBER, DB_NULL, DB_TEXT, DB_BLOB } type;
    uint64_t number;
    struct slice bytes;
};

static inline struct db_value num(uint64_t v)
{
    return (struct db_value){.type = DB_NUMBER, .number = v};
}

static inline struct db_value txt(struct slice s)
{
    return (struct db_value){.type = DB_TEXT, .bytes = s};
}

/* NULL when it is empty. */
static inline struct db_value txt_or_null(struct slice s)
{
    return (struct db_value){.type = s.len ? DB_TEXT : DB_NULL, .bytes = s};
}

static inline struct db_value blob_or_null(struct slice s)
{
    return (struct db_value){.type = s.len ? DB_BLOB : DB_NULL, .bytes = s};
}

/* Runs a statement with its values, the last one all zero. SQLITE_ROW: the columns of the first row
 * can be read, and db_reset must follow. SQLITE_DONE: no row. Else an SQLite error code. */
int db_run_values(struct db *db, enum statement s, const struct db_value *values);
#define db_run(db, s, ...)                                                                         \
    db_run_values((db), (s), (const struct db_value[]){__VA_ARGS__, {.type = DB_END}})
/* The same without values. */
int db_exec(struct db *db, enum statement s);
/* The next row: SQLITE_ROW, SQLITE_DONE, or an error code. */
int db_next(struct db *db, enum statement s);
void db_reset(struct db *db, enum statement s);
/* A column of the current row; texts are valid until the next call on this statement. */
uint64_t db_number(struct db *db, enum statement s, int column);
struct slice db_text(struct db *db, enum statement s, int column);
struct slice db_blob(struct db *db, enum statement s, int column);
bool db_is_null(struct db *db, enum statement s, int column);

/* Begins a transaction. An SQLite code. */
int db_begin(struct db *db);
/* Writes the counters that moved and commits; on failure all is rolled back. An SQLite code. */
int db_commit(struct db *db);
void db_rollback(struct db *db);
/* Whether a failure has ended the transaction already. */
bool db_rolled_back(struct db *db);
/* A number nobody ever had. */
uint64_t db_take_number(struct db *db, enum counter c);

/* What an asker is told of a failed statement. */
enum reason db_reason(int rc);
