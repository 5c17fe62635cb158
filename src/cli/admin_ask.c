/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/admin_ask.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/admin_client.h"
#include "cli/offline.h"
#include "codec/text.h"

/* A server that starts or stops has the lock, and no socket yet or any more. */
#define TRIES        50
#define TRY_AGAIN_NS (100 * NS_PER_MS)

/* ?name=value&...: where a file is the body. */
static void put_query(struct buf *out, json_t *args)
{
    const char *name;
    json_t *value;
    json_object_foreach(args, name, value)
    {
        buf_put_u8(out, out->len ? '&' : '?');
        buf_put_str(out, name);
        buf_put_u8(out, '=');
        if (json_is_string(value))
            percent_encode(slice_of(json_string_value(value), json_string_length(value)), out);
        else
            buf_put_str(out, json_is_true(value) ? "true" : "false");
    }
}

/* Sinks may run in a process of their own, which takes the orders about them. */
static bool is_of_sinks(const char *noun)
{
    return !strcmp(noun, "sink") || !strcmp(noun, "dlq");
}

static int call(const struct admin_question *q, const struct admin_client_request *r,
                struct admin_reply *ret, struct error *err)
{
    char dir[PATH_MAX];
    int rc = -ENOENT;
    if (is_of_sinks(r->noun) &&
        snprintf(dir, sizeof dir, "%s/sinks", q->config->server.data) < (int)sizeof dir)
        rc = admin_client_call(dir, r, &ret->status, &ret->body, err);
    if (rc == -ENOENT || rc == -ECONNREFUSED)
        rc = admin_client_call(q->config->server.data, r, &ret->status, &ret->body, err);
    return rc;
}

static int ask_server(const struct admin_question *q, struct admin_reply *ret, struct error *err)
{
    struct buf query;
    buf_init(&query, 1u << 20);
    char *json = NULL;
    struct admin_client_request request = {.noun = q->command->noun, .verb = q->command->verb};
    if (q->file.ptr) {
        put_query(&query, q->args);
        request.query = buf_slice(&query);
        request.type = "text/csv";
        request.body = q->file;
    } else {
        json = json_dumps(q->args, JSON_COMPACT);
        request.type = "application/json";
        request.body = slice_str(json ? json : "");
    }
    int rc = query.failed || (!q->file.ptr && !json) ? error_set(err, -ENOMEM, "no memory")
                                                     : call(q, &request, ret, err);
    if (json)
        explicit_bzero(json, strlen(json)); /* it may hold a secret */
    free(json);
    buf_fini(&query);
    return rc;
}

int admin_ask(const struct admin_question *q, struct admin_reply *ret, struct error *err)
{
    int rc = 0;
    ret->offline = false;
    for (unsigned i = 0; i < TRIES; i++) {
        if (i)
            clock_sleep_ns(TRY_AGAIN_NS);
        rc = ask_server(q, ret, err);
        if (rc == -ENOENT || rc == -ECONNREFUSED) {
            ret->offline = true;
            rc = offline_call(q->config, q->command, q->args, q->file, &ret->status, &ret->body,
                              err);
        }
        if (rc != -EWOULDBLOCK)
            return rc;
    }
    return error_set(err, rc,
                     "%s: a process has the data directory but does not answer on admin.sock",
                     q->config->server.data);
}
