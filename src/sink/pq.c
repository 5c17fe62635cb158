/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything goes through libpq's non-blocking calls and a poll of our own, with both directions
 * watched: a server that sends an error in the middle of a COPY must be read, or both would wait
 * for each other (PostgreSQL 15 documentation, 34.4 and 34.10).
 */
#include "sink/pq.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "sink/ready.h"

#define PARAMS_MAX 8

/* ---- errors ---------------------------------------------------------------------------------- */

/* libpq's messages have several lines. */
static void set_text(struct error *err, const char *what, const char *text)
{
    char line[400];
    size_t n = 0;
    for (; text && *text && n + 1 < sizeof line; text++)
        line[n++] = *text == '\n' || *text == '\t' ? ' ' : *text;
    while (n && line[n - 1] == ' ')
        n--;
    line[n] = 0;
    error_set(err, -EIO, "%s: %s", what, n ? line : "no reason was given");
}

static enum sink_outcome lost(struct pq *p, const char *what, struct error *err)
{
    set_text(err, what, PQerrorMessage(p->conn));
    return SINK_AWAY;
}

static enum sink_outcome late(struct pq *p, const char *what, struct error *err)
{
    if (atomic_load(&p->cancelled))
        error_set(err, -ECANCELED, "%s: the sink stops", what);
    else
        error_set(err, -ETIMEDOUT, "%s: no answer within %llu ms", what,
                  (unsigned long long)(p->limit_ns / NS_PER_MS));
    return SINK_AWAY;
}

/* Until when the call at hand may take. */
static uint64_t end_of(struct pq *p, uint64_t limit_ns)
{
    p->limit_ns = limit_ns;
    p->locked = false;
    return clock_mono_ns() + limit_ns;
}

/* What an error of the server says about the data (PostgreSQL 15 documentation, appendix A). */
static enum sink_outcome judge(struct pq *p, const PGresult *r, struct error *err)
{
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    const char *constraint = PQresultErrorField(r, PG_DIAG_CONSTRAINT_NAME);
    if (!state)
        return lost(p, "connection", err);
    set_text(err, state, PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY));
    p->no_partition = strcmp(state, "23514") == 0 && !constraint;
    p->locked = strcmp(state, "55P03") == 0;
    if (p->no_partition)
        return SINK_AWAY;
    return strncmp(state, "22", 2) == 0 || strncmp(state, "23", 2) == 0 ||
                   strncmp(state, "5400", 4) == 0
               ? SINK_POISON
               : SINK_AWAY;
}

/* ---- waiting --------------------------------------------------------------------------------- */

static bool wait_ready(struct pq *p, short events, uint64_t end_ns)
{
    return ready_wait(PQsocket(p->conn), events, end_ns, &p->cancelled);
}

/* Sends what libpq holds, reading what comes meanwhile. */
static enum sink_outcome flush(struct pq *p, uint64_t end_ns, struct error *err)
{
    int left;
    while ((left = PQflush(p->conn)) == 1) {
        if (!wait_ready(p, POLLIN | POLLOUT, end_ns))
            return late(p, "sending", err);
        if (!PQconsumeInput(p->conn))
            return lost(p, "sending", err);
    }
    return left < 0 ? lost(p, "sending", err) : SINK_DONE;
}

/* The next result; *ret NULL: there is none left. */
static enum sink_outcome next_result(struct pq *p, uint64_t end_ns, PGresult **ret,
                                     struct error *err)
{
    while (PQisBusy(p->conn)) {
        if (!wait_ready(p, POLLIN, end_ns))
            return late(p, "answer", err);
        if (!PQconsumeInput(p->conn))
            return lost(p, "answer", err);
    }
    *ret = PQgetResult(p->conn);
    return SINK_DONE;
}

static void note(const PGresult *r, struct pq_answer *ret)
{
    const char *affected = PQcmdTuples((PGresult *)(uintptr_t)r);
    ret->affected = strtoull(affected, NULL, 10);
    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        return;
    int rows = PQntuples(r);
    ret->found = rows > 0 && PQnfields(r) > 0 && !PQgetisnull(r, rows - 1, 0);
    if (ret->found && ret->cell) {
        buf_clear(ret->cell);
        buf_put(ret->cell, PQgetvalue(r, rows - 1, 0), (size_t)PQgetlength(r, rows - 1, 0));
    }
}

/* All results up to the end; the first error counts. */
static enum sink_outcome results(struct pq *p, uint64_t end_ns, struct pq_answer *ret,
                                 struct error *err)
{
    enum sink_outcome found = SINK_DONE;
    for (;;) {
        PGresult *r = NULL;
        enum sink_outcome rc = next_result(p, end_ns, &r, err);
        if (rc != SINK_DONE)
            return rc;
        if (!r)
            return PQstatus(p->conn) == CONNECTION_OK ? found : SINK_AWAY;
        ExecStatusType status = PQresultStatus(r);
        if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
            note(r, ret);
        else if (found == SINK_DONE)
            found = judge(p, r, err);
        PQclear(r);
    }
}

/* ---- commands -------------------------------------------------------------------------------- */

static enum sink_outcome not_connected(struct error *err)
{
    error_set(err, -ENOTCONN, "there is no connection");
    return SINK_AWAY;
}

enum sink_outcome pq_run(struct pq *p, const char *sql, struct pq_answer *ret, struct error *err)
{
    struct pq_answer ignored = {0};
    uint64_t end_ns = end_of(p, p->timeout_ns);
    if (!p->conn)
        return not_connected(err);
    if (!PQsendQuery(p->conn, sql))
        return lost(p, "sending", err);
    enum sink_outcome rc = flush(p, end_ns, err);
    return rc == SINK_DONE ? results(p, end_ns, ret ? ret : &ignored, err) : rc;
}

enum sink_outcome pq_run_params(struct pq *p, const char *sql, const struct pq_param *params,
                                unsigned count, uint64_t timeout_ns, struct error *err)
{
    Oid types[PARAMS_MAX];
    const char *values[PARAMS_MAX];
    int lengths[PARAMS_MAX], formats[PARAMS_MAX];
    struct pq_answer ignored = {0};
    uint64_t end_ns = end_of(p, timeout_ns ? timeout_ns : p->timeout_ns);
    CHECK(count <= PARAMS_MAX);
    for (unsigned i = 0; i < count; i++) {
        types[i] = params[i].type;
        values[i] = params[i].ptr;
        lengths[i] = (int)params[i].len;
        formats[i] = 1;
    }
    if (!p->conn)
        return not_connected(err);
    if (!PQsendQueryParams(p->conn, sql, (int)count, types, values, lengths, formats, 0))
        return lost(p, "sending", err);
    enum sink_outcome rc = flush(p, end_ns, err);
    return rc == SINK_DONE ? results(p, end_ns, &ignored, err) : rc;
}

enum sink_outcome pq_copy_begin(struct pq *p, const char *sql, struct error *err)
{
    uint64_t end_ns = end_of(p, p->timeout_ns);
    struct pq_answer ignored = {0};
    PGresult *r = NULL;
    if (!p->conn)
        return not_connected(err);
    if (!PQsendQuery(p->conn, sql))
        return lost(p, "sending", err);
    enum sink_outcome rc = flush(p, end_ns, err);
    if (rc == SINK_DONE)
        rc = next_result(p, end_ns, &r, err);
    if (rc != SINK_DONE)
        return rc;
    if (r && PQresultStatus(r) == PGRES_COPY_IN) {
        PQclear(r);
        return SINK_DONE;
    }
    rc = r ? judge(p, r, err) : lost(p, "copy", err);
    PQclear(r);
    enum sink_outcome rest = results(p, end_ns, &ignored, NULL);
    return rest == SINK_AWAY ? rest : rc;
}

enum sink_outcome pq_copy(struct pq *p, struct slice bytes, struct error *err)
{
    if (PQputCopyData(p->conn, bytes.ptr, (int)bytes.len) != 1)
        return lost(p, "copy", err);
    return flush(p, end_of(p, p->timeout_ns), err);
}

enum sink_outcome pq_copy_end(struct pq *p, struct error *err)
{
    uint64_t end_ns = end_of(p, p->timeout_ns);
    struct pq_answer ignored = {0};
    if (PQputCopyEnd(p->conn, NULL) != 1)
        return lost(p, "copy", err);
    enum sink_outcome rc = flush(p, end_ns, err);
    return rc == SINK_DONE ? results(p, end_ns, &ignored, err) : rc;
}

/* ---- life ------------------------------------------------------------------------------------ */

int pq_check_url(const char *url, struct error *err)
{
    char *why = NULL;
    PQconninfoOption *found = PQconninfoParse(url, &why);
    if (!found) {
        struct error told = {""};
        set_text(&told, "it is no connection string", why);
        PQfreemem(why);
        return error_set(err, -EINVAL, "%s", told.text);
    }
    bool has_password = false;
    for (const PQconninfoOption *o = found; o->keyword; o++)
        has_password = has_password || (strcmp(o->keyword, "password") == 0 && o->val && *o->val);
    PQconninfoFree(found);
    return has_password ? error_set(err, -EINVAL,
                                    "it has a password; that belongs into a file of its own, "
                                    "postgres.password_file")
                        : 0;
}

static void ignore_notice(void *arg, const char *text)
{
}

enum sink_outcome pq_connect(struct pq *p, const char *url, const char *password, struct error *err)
{
    const char *const names[] = {"dbname", "application_name", "client_encoding",
                                 *password ? "password" : NULL, NULL};
    const char *const values[] = {url, "sluice", "UTF8", password, NULL};
    uint64_t end_ns = end_of(p, p->timeout_ns);
    pq_close(p);
    p->conn = PQconnectStartParams(names, values, 1);
    CHECK(p->conn);
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;
    if (PQstatus(p->conn) == CONNECTION_BAD)
        return lost(p, "connecting", err);
    while (state != PGRES_POLLING_OK) {
        if (state == PGRES_POLLING_FAILED)
            return lost(p, "connecting", err);
        if (!wait_ready(p, state == PGRES_POLLING_READING ? POLLIN : POLLOUT, end_ns))
            return late(p, "connecting", err);
        state = PQconnectPoll(p->conn);
    }
    PQsetNoticeProcessor(p->conn, ignore_notice, NULL);
    return PQsetnonblocking(p->conn, 1) == 0 ? SINK_DONE : lost(p, "connecting", err);
}

void pq_close(struct pq *p)
{
    PQfinish(p->conn); /* accepts NULL */
    p->conn = NULL;
}

void pq_cancel(struct pq *p)
{
    atomic_store(&p->cancelled, true);
}
