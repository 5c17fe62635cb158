/* SPDX-License-Identifier: Apache-2.0 */
/* The admin socket: POST /v1/admin/NOUN/VERB with a JSON object of arguments. */
#include <jansson.h>
#include <stdlib.h>

#include "base/check.h"
#include "pipeline_private.h"

static void free_call(struct admin_call *call)
{
    json_decref(call->args);
    json_decref(call->ret_result);
    free((char *)call->noun);
    free((char *)call->verb);
    free(call);
}

static void on_admin_done(struct job *j)
{
    struct exchange *x = job_exchange(j);
    struct admin_call *call = j->call;
    j->call = NULL;
    enum reason reason = call->reason;
    char text[sizeof call->text];
    memcpy(text, call->text, sizeof text);
    char *json = reason == REASON_ok ? json_dumps(call->ret_result, JSON_COMPACT) : NULL;
    free_call(call);
    if (reason != REASON_ok) {
        job_refuse(j, reason, text);
        return;
    }
    buf_put_str(&x->reply.body, json ? json : "{}");
    if (json)
        memset(json, 0, strlen(json)); /* it may hold a new secret */
    free(json);
    x->reply.status = 200;
    job_send(j);
}

static void on_call_done(struct admin_call *call)
{
    job_post(call->owner, on_admin_done);
}

/* A copy with a NUL. Not strndup: behind the slice there need not be one. */
static char *text_of(struct slice s)
{
    char *text = malloc(s.len + 1);
    CHECK(text);
    if (s.len)
        memcpy(text, s.ptr, s.len);
    text[s.len] = 0;
    return text;
}

void admin_begin(struct job *j)
{
    struct exchange *x = job_exchange(j);
    struct slice rest = j->match.rest;
    const char *slash = rest.len ? memchr(rest.ptr, '/', rest.len) : NULL;
    json_error_t where;
    json_t *args = x->request.body.len
                       ? json_loadb(x->request.body.ptr, x->request.body.len, 0, &where)
                       : json_object();
    if (!slash || !json_is_object(args)) {
        json_decref(args);
        job_refuse(j, REASON_bad_request, "POST /v1/admin/NOUN/VERB takes a JSON object");
        return;
    }
    struct admin_call *call = calloc(1, sizeof *call);
    CHECK(call);
    size_t noun_len = (size_t)(slash - rest.ptr);
    call->noun = text_of(slice_of(rest.ptr, noun_len));
    call->verb = text_of(slice_from(rest, noun_len + 1));
    call->args = args;
    call->done = on_call_done;
    call->owner = j;
    j->call = call;
    job_keep(j);
    admin_run(j->lane->p->opts.admin, call);
}
