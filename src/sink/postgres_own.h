/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/postgres_own.h - what the files of the PostgreSQL sink share. For sink/postgres*.c only; the
 * sink's thread.
 */
#pragma once

#include "sink/postgres.h"
#include "sink/pq.h"

#define POSTGRES_DAYS_MAX   4096 /* partitions that are known to be there */
#define POSTGRES_SCHEMA_MAX 40   /* bytes of a schema's name */
#define POSTGRES_NAME_MAX   130  /* bytes of any name in the database, in quotes */

struct postgres {
    struct postgres_opts opts;
    char log_id[33];
    struct pq pq;
    struct buf sql, cell, rows;
    int64_t days[POSTGRES_DAYS_MAX]; /* with a partition, in no order; since 1970 */
    unsigned days_count;
    uint64_t maintain_ns;                  /* when partitions are looked after next */
    char timescale[POSTGRES_NAME_MAX + 1]; /* schema of TimescaleDB's functions, or "" */
    bool hypertable;                       /* the table is one, which keeps its days itself */
};

/* postgres_schema.c. Makes or migrates the schema. DONE or AWAY. */
enum sink_outcome postgres_migrate(struct postgres *p, struct error *err);
/* Once an hour: partitions of the days to come are made, those too old dropped. DONE also where
 * that has to wait, as somebody reads the table. */
enum sink_outcome postgres_maintain(struct postgres *p, uint64_t now_ns, struct error *err);
/* Makes the partition for that receive time if it is missing. */
enum sink_outcome postgres_partition(struct postgres *p, int64_t receive_us, struct error *err);
/* The last error was that a row fits no partition: somebody dropped one. */
void postgres_forget_days(struct postgres *p);

/* postgres_rows.c. Sends the messages of a batch within the transaction that is open. */
enum sink_outcome postgres_rows(struct postgres *p, const struct sink_batch *b, struct error *err);
