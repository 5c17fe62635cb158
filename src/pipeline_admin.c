/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands over HTTP: POST /v1/admin/NOUN/VERB with a JSON object of arguments for those that
 * change something, GET with the arguments in the query for those that only look. They run on the
 * admin thread. On the admin socket its owner is the credential, and POST does for all.
 *
 * Those of webhooks and rules an account's own key may give too, at /v1/webhook/VERB and
 * /v1/rule/VERB: about its account's and nobody else's.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "codec/address.h"
#include "codec/text.h"
#include "codec/topic.h"
#include "pipeline_private.h"

static void free_call(struct admin_call *call)
{
    json_decref(call->args);
    json_decref(call->ret_result);
    free((char *)call->actor);
    free(call);
}

static void on_admin_done(struct job *j)
{
    struct exchange *x = job_exchange(j);
    struct admin_call *call = j->call;
    j->call = NULL;
    if (call->own_account)
        claims_drop(&j->lane->p->claims, call->own_account);
    x->reply.reason = call->reason;
    x->reply.status = (uint16_t)admin_answer(call, &x->reply.body);
    if (x->reply.body.failed) { /* a list longer than an answer may be */
        struct admin_call less = {.reason = REASON_bad_request};
        snprintf(less.text, sizeof less.text,
                 "the answer is larger than %zu MiB: ask for less, with skip and limit",
                 x->reply.body.max >> 20);
        buf_clear(&x->reply.body);
        x->reply.reason = less.reason;
        admin_answer(&less, &x->reply.body);
    }
    if (call->reason == REASON_busy)
        x->reply.retry_ns = NS_PER_S;
    x->reply.no_store = true; /* it tells of this moment, or holds a new secret */
    free_call(call);
    job_send(j);
}

static void on_call_done(struct admin_call *call)
{
    job_post(call->owner, on_admin_done);
}

/* Refuses before there is a call, with a body as admin_answer writes it. */
static void refuse(struct job *j, enum reason reason, const char *text)
{
    struct exchange *x = job_exchange(j);
    struct admin_call call = {.reason = reason};
    snprintf(call.text, sizeof call.text, "%s", text);
    for (char *at = call.text; *at; at++) /* a sentence may quote what is no UTF-8 */
        *at = (unsigned char)*at < 0x80 ? *at : '?';
    x->reply.reason = reason;
    admin_answer(&call, &x->reply.body);
    job_send(j);
}

/* "key:acme/dashboard", "device:truck-17": for the audit record. The caller's to free. */
static char *actor_of(const struct credential *c)
{
    char *text = NULL;
    int n = c->kind == CREDENTIAL_DEVICE
                ? asprintf(&text, "device:%.*s", SLICE_ARG(c->name))
                : asprintf(&text, "key:%.*s/%.*s", SLICE_ARG(c->account->name), SLICE_ARG(c->name));
    CHECK(n > 0);
    return text;
}

static void put_source(struct admin_call *call, uint64_t source)
{
    struct buf text;
    buf_init(&text, sizeof call->from);
    address_source_format(&text, source);
    snprintf(call->from, sizeof call->from, "%.*s", SLICE_ARG(buf_slice(&text)));
    buf_fini(&text);
}

static bool is_own(const struct job *j)
{
    return j->match.route->op == OP_OWN_WEBHOOK || j->match.route->op == OP_OWN_RULE;
}

static const struct admin_command *command_of(const struct job *j)
{
    struct slice rest = j->match.rest;
    if (is_own(j))
        return admin_find(j->match.route->op == OP_OWN_RULE ? SLICE("rule") : SLICE("webhook"),
                          rest);
    return admin_find_path(rest);
}

/* The command that the path names. NULL: refused and answered. */
static const struct admin_command *find_command(struct job *j)
{
    struct exchange *x = job_exchange(j);
    const struct admin_command *command = command_of(j);
    if (!command) {
        refuse(j, REASON_not_found, "not found - there is no such command; see /openapi.json");
        return NULL;
    }
    enum method wanted = command->changes ? METHOD_POST : METHOD_GET;
    enum method method = x->request.method == METHOD_HEAD ? METHOD_GET : x->request.method;
    if (method != wanted && x->request.surface != SURFACE_ADMIN) {
        buf_put_str(&x->reply.fields, command->changes ? "Allow: POST\r\n" : "Allow: GET\r\n");
        refuse(j, REASON_method, reason_info(REASON_method)->text);
        return NULL;
    }
    return command;
}

static bool is_csv(struct slice type)
{
    const char *end = type.len ? memchr(type.ptr, ';', type.len) : NULL;
    type.len = end ? (size_t)(end - type.ptr) : type.len;
    return slice_eq_nocase(slice_trim(type), SLICE("text/csv"));
}

/* A webhook is given all messages of the account, and a rule sees any of its feeds: who is bound to
 * some may not make them. */
static bool sees_all(const struct credential *c)
{
    return c->patterns_count == 0 &&
           (!c->topics || topic_rules_cover(c->topics->subscribe, c->name, SLICE("#")));
}

/* Says whose: the credential's own account. False: another one is named. */
static bool own_args(const struct job *j, const struct admin_command *c, json_t *args)
{
    struct slice name = j->account->name;
    for (unsigned i = 0; i < ADMIN_ARGS_MAX && c->args[i].name; i++) {
        if (strcmp(c->args[i].name, "account") != 0)
            continue;
        const char *given = json_string_value(json_object_get(args, "account"));
        if (json_object_get(args, "account") && !(given && slice_eq(slice_str(given), name)))
            return false;
        json_object_set_new(args, "account", json_stringn(name.ptr, name.len));
    }
    return true;
}

void admin_begin(struct job *j)
{
    struct exchange *x = job_exchange(j);
    struct error why = {""};
    const struct admin_command *command = find_command(j);
    if (!command)
        return;
    if (is_own(j) && !sees_all(j->credential)) {
        refuse(j, REASON_forbidden,
               "a credential that is bound to feeds or topics may not do this");
        return;
    }
    bool file = admin_takes_file(command);
    if (file && !is_csv(x->request.content_type)) {
        refuse(j, REASON_media_type, "this command takes a file: send it as text/csv");
        return;
    }
    json_t *args = x->request.method == METHOD_POST && !file
                       ? admin_args_of_body(x->request.body, &why)
                       : admin_args_of_query(x->request.query, &why);
    if (!args) {
        refuse(j, REASON_bad_request, why.text);
        return;
    }
    if (is_own(j) && !own_args(j, command, args)) {
        json_decref(args);
        refuse(j, REASON_forbidden, "account: this credential is of another one");
        return;
    }
    if (is_own(j) && !claims_take(&j->lane->p->claims, j->account->number)) {
        json_decref(args);
        x->reply.retry_ns = NS_PER_S;
        refuse(j, REASON_busy, "another command of this account, or of others, is under way");
        return;
    }
    struct admin_call *call = calloc(1, sizeof *call);
    CHECK(call);
    call->own_account = is_own(j) ? j->account->number : 0;
    call->noun = command->noun;
    call->verb = command->verb;
    call->args = args;
    call->actor = j->credential ? actor_of(j->credential) : NULL;
    call->actor_credential = j->credential ? j->credential->number : 0;
    put_source(call, x->request.source);
    call->done = on_call_done;
    call->owner = j;
    j->call = call;
    job_keep(j);
    if (file) /* it has moved */
        call->file = x->request.body.len ? x->request.body : SLICE("");
    admin_run(j->lane->p->opts.admin, call);
}
