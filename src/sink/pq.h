/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/pq.h - a connection to PostgreSQL (libpq 15) on which every call ends within a time of its
 * own, whatever the server does, and says what its failure means for a delivery. For sink/ only;
 * one thread, but for pq_cancel.
 */
#pragma once

#include <stdint.h>

#include <libpq-fe.h>

#include "base/buf.h"
#include "base/error.h"
#include "sink/sink.h"

struct pq {
    PGconn *conn; /* NULL: none */
    uint64_t timeout_ns;
    _Atomic bool cancelled;
    bool no_partition; /* the last error: a row fits no partition */
    bool locked;       /* the last call's: somebody else has what it wanted for himself */
    uint64_t limit_ns; /* how long the call at hand may take */
};

/* What a connection is made from: a URI or keywords, without a password. 0, or -EINVAL with what is
 * wrong with it. Pure. */
int pq_check_url(const char *url, struct error *err);

/* Connects. `password` may be empty. DONE or AWAY; pq_close in either case, some time. */
enum sink_outcome pq_connect(struct pq *p, const char *url, const char *password,
                             struct error *err);
void pq_close(struct pq *p);
/* All waits end now, and those to come at once. Any thread. */
void pq_cancel(struct pq *p);

struct pq_answer {
    struct buf *cell;  /* NULL, or what gets the first field of the last row */
    bool found;        /* there was one, and it was not null */
    uint64_t affected; /* rows, of the last command */
};

/* Runs one or more commands without parameters. DONE; POISON: the data are refused (classes 22 and
 * 23, and rows too large: 54000, 54001); AWAY: all else, also what an operator has to put right. */
enum sink_outcome pq_run(struct pq *p, const char *sql, struct pq_answer *ret, struct error *err);
/* One command, all of whose parameters are binary. `timeout_ns` 0: the connection's. */
struct pq_param {
    Oid type;
    const void *ptr; /* NULL: null */
    size_t len;
};
enum sink_outcome pq_run_params(struct pq *p, const char *sql, const struct pq_param *params,
                                unsigned count, uint64_t timeout_ns, struct error *err);
/* COPY ... FROM STDIN: begin, then any number of pieces, then end, which says what came of all. */
enum sink_outcome pq_copy_begin(struct pq *p, const char *sql, struct error *err);
enum sink_outcome pq_copy(struct pq *p, struct slice bytes, struct error *err);
enum sink_outcome pq_copy_end(struct pq *p, struct error *err);
