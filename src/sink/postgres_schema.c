/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables and how they came to be: a list of steps, each a version further, run in one
 * transaction under an advisory lock. A table's partitions are days of the time a message was
 * received, not of what its sender says: that may be any, and each would want a partition.
 *
 * Where the database has the extension TimescaleDB when the table is made, the table is one of its
 * hypertables instead, and its chunks are the days. What the table is it stays.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "codec/civil.h"
#include "sink/postgres_own.h"

#define MAINTAIN_NS (3600 * NS_PER_S)
#define AGAIN_NS    (600 * NS_PER_S) /* likewise, where the table was locked */
#define LOCK_MS     1000             /* for so long readers are held up by who waits for the lock */
#define DAYS_AHEAD  3                /* partitions made before their day */
#define DAY_US      ((int64_t)DAY_S * US_PER_S)
#define LOCK_KEY    72835911 /* of no meaning but to be ours */

/* "@" stands for the schema, "~" for how a table that is no hypertable is divided. Never change one
 * that was released: add another. */
static const char *const steps[] = {
    "CREATE TABLE @.cursor ("
    "sink text PRIMARY KEY, log text NOT NULL, next bigint NOT NULL, "
    "updated timestamptz NOT NULL DEFAULT now());"
    "CREATE TABLE @.message ("
    "received timestamptz NOT NULL, ts timestamptz NOT NULL, position bigint NOT NULL, "
    "account text, feed text, device text, topic text, value text NOT NULL, "
    "number double precision, lat double precision, lon double precision, ele double precision, "
    "account_no bigint NOT NULL, feed_no bigint, device_no bigint)~;"
    "CREATE INDEX message_feed_ts ON @.message (account, feed, ts DESC);"
    "CREATE INDEX message_device_ts ON @.message (device, ts DESC) WHERE device IS NOT NULL;"
    "CREATE INDEX message_received ON @.message USING brin (received) WITH (pages_per_range = 32);"
    /* Many times of a range, not only its ends: one device without a clock would spoil each. */
    "CREATE INDEX message_ts ON @.message USING brin (ts timestamptz_minmax_multi_ops) WITH "
    "(pages_per_range = 32);",
};

#define VERSION (sizeof steps / sizeof *steps)

static enum sink_outcome run(struct postgres *p, struct pq_answer *ret, struct error *err)
{
    buf_put_u8(&p->sql, 0);
    return pq_run(&p->pq, p->sql.ptr, ret, err);
}

static void put_step(struct buf *out, const char *step, const struct postgres *p)
{
    for (; *step; step++) {
        if (*step == '@')
            buf_put_str(out, p->opts.schema);
        else if (*step != '~')
            buf_put_u8(out, (uint8_t)*step);
        else if (!p->timescale[0])
            buf_put_str(out, " PARTITION BY RANGE (received)");
    }
}

/* Called this way it is in all versions 2. Its own index would be on `received`, as ours is. */
static void put_hypertable(struct buf *out, const struct postgres *p)
{
    buf_printf(out,
               "SELECT %s.create_hypertable('%s.message', 'received', chunk_time_interval => "
               "interval '1 day', create_default_indexes => false);",
               p->timescale, p->opts.schema);
}

/* An answer of one text; "" if there was none. */
static enum sink_outcome ask(struct postgres *p, struct error *err)
{
    struct pq_answer answer = {.cell = &p->cell};
    enum sink_outcome rc = run(p, &answer, err);
    if (!answer.found)
        buf_clear(&p->cell);
    buf_put_u8(&p->cell, 0);
    return rc;
}

static enum sink_outcome find_timescale(struct postgres *p, struct error *err)
{
    buf_clear(&p->sql);
    buf_put_str(&p->sql, "SELECT quote_ident(nspname) FROM pg_extension e JOIN pg_namespace n "
                         "ON n.oid = e.extnamespace WHERE extname = 'timescaledb'");
    enum sink_outcome rc = ask(p, err);
    if (rc == SINK_DONE)
        snprintf(p->timescale, sizeof p->timescale, "%s", p->cell.ptr);
    return rc;
}

/* What the table is, which may have been made before the extension was there. */
static enum sink_outcome find_kind(struct postgres *p, struct error *err)
{
    buf_clear(&p->sql);
    buf_printf(&p->sql, "SELECT relkind FROM pg_class WHERE oid = '%s.message'::regclass",
               p->opts.schema);
    enum sink_outcome rc = ask(p, err);
    if (rc != SINK_DONE)
        return rc;
    p->hypertable = p->cell.ptr[0] == 'r';
    if (!p->hypertable || p->timescale[0])
        return SINK_DONE;
    error_set(err, -ENOENT, "%s.message is a hypertable, and the extension timescaledb is gone",
              p->opts.schema);
    return SINK_AWAY;
}

static enum sink_outcome climb(struct postgres *p, struct error *err)
{
    const char *schema = p->opts.schema;
    buf_clear(&p->sql);
    /* CREATE SCHEMA IF NOT EXISTS wants the right to make one even if it is there. */
    buf_printf(
        &p->sql,
        "BEGIN; SELECT pg_advisory_xact_lock(%d); "
        "DO $$ BEGIN IF to_regnamespace('%s') IS NULL THEN CREATE SCHEMA %s; END IF; END $$; "
        "CREATE TABLE IF NOT EXISTS %s.version (version int NOT NULL); "
        "SELECT coalesce(max(version), 0) FROM %s.version",
        LOCK_KEY, schema, schema, schema, schema);
    enum sink_outcome rc = ask(p, err);
    if (rc != SINK_DONE)
        return rc;
    unsigned long have = strtoul(p->cell.ptr, NULL, 10);
    if (have > VERSION) {
        error_set(err, -EPROTONOSUPPORT, "schema %s has version %lu; this Sluice knows %zu", schema,
                  have, VERSION);
        return SINK_AWAY;
    }
    buf_clear(&p->sql);
    for (unsigned long v = have; v < VERSION; v++) {
        put_step(&p->sql, steps[v], p);
        if (v == 0 && p->timescale[0])
            put_hypertable(&p->sql, p);
        buf_printf(&p->sql, "INSERT INTO %s.version VALUES (%lu);", schema, v + 1);
    }
    buf_put_str(&p->sql, "COMMIT");
    rc = run(p, NULL, err);
    if (rc == SINK_DONE && have < VERSION)
        log_line(LOG_INFO, "postgres.migrated", "schema=%s from=%lu to=%zu", schema, have, VERSION);
    return rc == SINK_DONE ? find_kind(p, err) : rc;
}

enum sink_outcome postgres_migrate(struct postgres *p, struct error *err)
{
    enum sink_outcome rc = find_timescale(p, err);
    if (rc == SINK_DONE)
        rc = climb(p, err);
    return rc == SINK_DONE ? rc : SINK_AWAY;
}

/* ---- days ------------------------------------------------------------------------------------ */

void postgres_forget_days(struct postgres *p)
{
    p->days_count = 0;
}

static bool is_known(const struct postgres *p, int64_t day)
{
    for (unsigned i = p->days_count; i-- > 0;)
        if (p->days[i] == day)
            return true;
    return false;
}

static void know(struct postgres *p, int64_t day)
{
    if (p->days_count == POSTGRES_DAYS_MAX)
        p->days_count = 0; /* asking again is all it costs */
    p->days[p->days_count++] = day;
}

/* One that the name of a partition can have. */
static bool is_day(int64_t day)
{
    int64_t year = civil_at(day).year;
    return year >= 1970 && year < 9999;
}

/* "20261128", or with a dash between. */
static void put_day(struct buf *out, const char *dash, int64_t day)
{
    struct civil c = civil_at(day);
    buf_printf(out, "%04d%s%02u%s%02u", (int)c.year, dash, c.month, dash, c.day);
}

static enum sink_outcome make_day(struct postgres *p, int64_t day, struct error *err)
{
    if (p->hypertable || is_known(p, day) || !is_day(day))
        return SINK_DONE;
    buf_clear(&p->sql);
    buf_printf(&p->sql, "CREATE TABLE IF NOT EXISTS %s.message_", p->opts.schema);
    put_day(&p->sql, "", day);
    buf_printf(&p->sql, " PARTITION OF %s.message FOR VALUES FROM ('", p->opts.schema);
    put_day(&p->sql, "-", day);
    buf_put_str(&p->sql, " 00:00:00+00') TO ('");
    put_day(&p->sql, "-", day + 1);
    buf_put_str(&p->sql, " 00:00:00+00')");
    enum sink_outcome rc = run(p, NULL, err);
    if (rc == SINK_DONE)
        know(p, day);
    return rc;
}

enum sink_outcome postgres_partition(struct postgres *p, int64_t receive_us, struct error *err)
{
    return make_day(p, civil_floor_div(receive_us, DAY_US), err);
}

/* "message_20261128" to a day. */
static bool parse_day(struct slice name, int64_t *ret)
{
    int year, month, day;
    char text[32];
    if (name.len != 16 || !slice_starts(name, SLICE("message_")))
        return false;
    memcpy(text, name.ptr, name.len);
    text[name.len] = 0;
    if (sscanf(text + 8, "%4d%2d%2d", &year, &month, &day) != 3 || month < 1 || month > 12)
        return false;
    *ret = civil_days((struct civil){year, (unsigned)month, (unsigned)day});
    return true;
}

static enum sink_outcome drop_day(struct postgres *p, int64_t day, struct error *err)
{
    buf_clear(&p->sql);
    buf_printf(&p->sql, "DROP TABLE IF EXISTS %s.message_", p->opts.schema);
    put_day(&p->sql, "", day);
    enum sink_outcome rc = run(p, NULL, err);
    if (rc == SINK_DONE)
        log_line(LOG_INFO, "postgres.partition_dropped", "schema=%s day=%lld", p->opts.schema,
                 (long long)day);
    return rc;
}

/* Learns which partitions there are; drops those before `oldest`. */
static enum sink_outcome look_at_days(struct postgres *p, int64_t oldest, struct error *err)
{
    struct pq_answer answer = {.cell = &p->cell};
    buf_clear(&p->sql);
    buf_printf(&p->sql,
               "SELECT string_agg(c.relname, ',') FROM pg_inherits i JOIN pg_class c ON c.oid = "
               "i.inhrelid WHERE i.inhparent = '%s.message'::regclass",
               p->opts.schema);
    enum sink_outcome rc = run(p, &answer, err);
    if (rc != SINK_DONE || !answer.found)
        return rc;
    postgres_forget_days(p);
    struct slice rest = buf_slice(&p->cell);
    while (rest.len) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        struct slice name = slice_of(rest.ptr, comma ? (size_t)(comma - rest.ptr) : rest.len);
        int64_t day;
        rest = slice_from(rest, comma ? name.len + 1 : name.len);
        if (!parse_day(name, &day))
            continue;
        if (day >= oldest)
            know(p, day);
        else if (rc == SINK_DONE)
            rc = drop_day(p, day, err);
    }
    return rc;
}

/* A hypertable's days before `oldest` go. */
static enum sink_outcome drop_chunks(struct postgres *p, int64_t oldest, struct error *err)
{
    if (!p->opts.keep_days)
        return SINK_DONE;
    buf_clear(&p->sql);
    buf_printf(&p->sql, "SELECT count(*) FROM %s.drop_chunks('%s.message', timestamptz '",
               p->timescale, p->opts.schema);
    put_day(&p->sql, "-", oldest);
    buf_put_str(&p->sql, " 00:00:00+00') AS dropped");
    enum sink_outcome rc = ask(p, err);
    if (rc == SINK_DONE && strcmp(p->cell.ptr, "0") != 0)
        log_line(LOG_INFO, "postgres.chunks_dropped", "schema=%s count=%s", p->opts.schema,
                 p->cell.ptr);
    return rc;
}

static enum sink_outcome set_lock_timeout(struct postgres *p, uint64_t ms, struct error *err)
{
    buf_clear(&p->sql);
    buf_printf(&p->sql, "SET lock_timeout = %llu", (unsigned long long)ms);
    return run(p, NULL, err);
}

/* Making and dropping a partition wants the table for itself. Who only reads it, for hours perhaps,
 * must not keep messages from it: then that is done later, and is said. */
static enum sink_outcome excuse(struct postgres *p, enum sink_outcome rc, uint64_t now_ns,
                                const struct error *err)
{
    char text[128];
    if (rc == SINK_DONE || !p->pq.locked)
        return rc;
    if (p->maintain_ns <= now_ns)
        log_line(LOG_WARN, "postgres.partitions_wait", "schema=%s error=\"%s\"", p->opts.schema,
                 log_text(text, slice_str(err->text)));
    p->maintain_ns = now_ns + AGAIN_NS;
    return SINK_DONE;
}

enum sink_outcome postgres_maintain(struct postgres *p, uint64_t now_ns, struct error *err)
{
    if (now_ns < p->maintain_ns)
        return SINK_DONE;
    int64_t today = civil_floor_div(clock_wall_us(), DAY_US);
    int64_t oldest = p->opts.keep_days ? today - (int64_t)p->opts.keep_days : INT64_MIN;
    uint64_t ms = p->opts.timeout_ns / NS_PER_MS;
    enum sink_outcome rc = set_lock_timeout(p, ms / 2 < LOCK_MS ? ms / 2 : LOCK_MS, err);
    if (rc == SINK_DONE)
        rc = p->hypertable ? drop_chunks(p, oldest, err) : look_at_days(p, oldest, err);
    rc = excuse(p, rc, now_ns, err);
    p->pq.locked = false;
    for (int64_t day = today; day <= today + DAYS_AHEAD && rc == SINK_DONE && !p->pq.locked; day++)
        rc = make_day(p, day, err);
    rc = excuse(p, rc, now_ns, err);
    if (rc == SINK_DONE)
        rc = set_lock_timeout(p, ms, err);
    if (rc == SINK_DONE && p->maintain_ns <= now_ns)
        p->maintain_ns = now_ns + MAINTAIN_NS;
    return rc;
}
