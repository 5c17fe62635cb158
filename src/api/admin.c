/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The admin thread and its queue. Under `lock`: head, tail, queued, stopping. A call is in the
 * queue, or running, or done; the thread touches it no more once `done` was called.
 */
#include "api/admin_ops.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/thread.h"

#define ARG_BYTES_MAX 4096

struct admin {
    struct admin_opts opts;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    struct admin_call *head, *tail;
    unsigned queued;
    bool stopping;
};

const struct admin_opts *admin_opts(const struct admin *a)
{
    return &a->opts;
}

enum reason admin_refuse(struct admin_call *call, enum reason reason, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(call->text, sizeof call->text, format, args);
    va_end(args);
    /* Cut in the middle of a character it would be no JSON string any more. */
    json_t *whole = json_string(call->text);
    for (char *at = call->text; !whole && *at; at++)
        *at = (unsigned char)*at < 0x80 ? *at : '?';
    json_decref(whole);
    return reason;
}

struct slice admin_arg(const struct admin_call *call, const char *name)
{
    json_t *value = json_object_get(call->args, name);
    return json_is_string(value) ? slice_of(json_string_value(value), json_string_length(value))
                                 : (struct slice){0};
}

bool admin_switch(const struct admin_call *call, const char *name)
{
    return json_is_true(json_object_get(call->args, name)) ||
           slice_eq(admin_arg(call, name), SLICE("true"));
}

static const struct admin_arg *find_arg(const struct admin_command *command, const char *name)
{
    for (unsigned i = 0; i < ADMIN_ARGS_MAX && command->args[i].name; i++)
        if (strcmp(command->args[i].name, name) == 0)
            return &command->args[i];
    return NULL;
}

/* ["a", "b"] to "a,b", in place. False: an item is no name. */
static bool join(struct admin_call *call, const char *name, const json_t *list)
{
    struct buf text;
    size_t i;
    json_t *item;
    bool good = true;
    buf_init(&text, ARG_BYTES_MAX + 1);
    json_array_foreach((json_t *)list, i, item)
    {
        struct slice s = slice_of(json_string_value(item), json_string_length(item));
        good = good && s.len && !memchr(s.ptr, ',', s.len) && !memchr(s.ptr, 0, s.len);
        buf_put_str(&text, i ? "," : "");
        buf_put_slice(&text, s);
    }
    good = good && !text.failed &&
           json_object_set_new(call->args, name,
                               json_stringn(text.ptr ? text.ptr : "", text.len)) == 0;
    buf_fini(&text);
    return good;
}

/* The value against its kind and type; what is not a text becomes one. */
static enum reason check_value(struct admin_call *call, const struct admin_arg *arg, json_t *value)
{
    if (arg->kind == ADMIN_SWITCH) {
        if (json_is_boolean(value) || slice_eq(admin_arg(call, arg->name), SLICE("true")) ||
            slice_eq(admin_arg(call, arg->name), SLICE("false")))
            return REASON_ok;
        return admin_refuse(call, REASON_bad_request, "%s must be true or false", arg->name);
    }
    if (json_is_string(value))
        return REASON_ok;
    if (arg->type == ADMIN_COUNT && json_is_integer(value) && json_integer_value(value) >= 0) {
        json_object_set_new(call->args, arg->name,
                            json_sprintf("%lld", (long long)json_integer_value(value)));
        return REASON_ok;
    }
    if (arg->type == ADMIN_LIST && json_is_array(value) && join(call, arg->name, value))
        return REASON_ok;
    static const char *const wanted[] = {"a text", "a number", "a list of names"};
    return admin_refuse(call, REASON_bad_request, "%s must be %s", arg->name, wanted[arg->type]);
}

/* The arguments against the table: all known, texts, of a sane length, the needed ones there. A
 * peer wrote them. */
static enum reason check_args(const struct admin_command *command, struct admin_call *call)
{
    const char *name;
    json_t *value;
    if (call->args && !json_is_object(call->args))
        return admin_refuse(call, REASON_bad_request, "the arguments must be an object");
    json_object_foreach(call->args, name, value)
    {
        const struct admin_arg *arg = find_arg(command, name);
        if (!arg || arg->kind == ADMIN_FILE)
            return admin_refuse(call, REASON_bad_request, "%s %s: there is no argument \"%.60s\"",
                                command->noun, command->verb, name);
        enum reason reason = check_value(call, arg, value);
        if (reason != REASON_ok)
            return reason;
        struct slice text = admin_arg(call, name);
        if (text.len > ARG_BYTES_MAX || (text.len && memchr(text.ptr, 0, text.len)))
            return admin_refuse(call, REASON_bad_request,
                                "%s must be at most %d bytes and hold no NUL", name, ARG_BYTES_MAX);
    }
    if (admin_takes_file(command) != (call->file.ptr != NULL))
        return admin_refuse(call, REASON_bad_request, "%s %s takes %s file", command->noun,
                            command->verb, call->file.ptr ? "no" : "a");
    for (unsigned i = 0; i < ADMIN_ARGS_MAX && command->args[i].name; i++)
        if (command->args[i].kind == ADMIN_NEEDED && !admin_arg(call, command->args[i].name).len)
            return admin_refuse(call, REASON_bad_request, "%s %s: %s is missing", command->noun,
                                command->verb, command->args[i].name);
    return REASON_ok;
}

/* Whether it is run here. */
static enum reason check_noun(struct admin *a, const struct admin_command *command,
                              struct admin_call *call)
{
    const struct admin_elsewhere *e = a->opts.elsewhere;
    bool here = !e;
    for (unsigned i = 0; e && e->nouns[i]; i++)
        here = here || strcmp(e->nouns[i], command->noun) == 0;
    return here ? REASON_ok : admin_refuse(call, REASON_bad_request, "%s", e->sentence);
}

static enum reason run(struct admin *a, struct admin_call *call)
{
    const struct admin_command *command = admin_find(slice_str(call->noun), slice_str(call->verb));
    if (!command)
        return admin_refuse(call, REASON_not_found, "there is no command \"%.60s %.60s\"",
                            call->noun ? call->noun : "", call->verb ? call->verb : "");
    enum reason reason = check_noun(a, command, call);
    if (reason == REASON_ok)
        reason = check_args(command, call);
    if (reason == REASON_ok)
        reason = command->run(a, call);
    if (reason == REASON_ok && !call->ret_result)
        reason = admin_refuse(call, REASON_internal, "no memory for the answer");
    CHECK(reason == REASON_ok || !call->ret_result);
    return reason;
}

static void finish(struct admin_call *call, enum reason reason)
{
    if (reason != REASON_ok && !call->text[0])
        admin_refuse(call, reason, "%s", reason_info(reason)->text);
    call->reason = reason;
    call->done(call);
}

/* The next call, waiting for it; NULL at the end. */
static struct admin_call *take(struct admin *a, bool *ret_stopping)
{
    pthread_mutex_lock(&a->lock);
    while (!a->head && !a->stopping)
        pthread_cond_wait(&a->moved, &a->lock);
    struct admin_call *call = a->head;
    if (call) {
        a->head = call->next;
        a->queued--;
        call->next = NULL;
    }
    *ret_stopping = a->stopping;
    pthread_mutex_unlock(&a->lock);
    return call;
}

static void on_thread(void *arg)
{
    struct admin *a = arg;
    struct admin_call *call;
    bool stopping;
    while ((call = take(a, &stopping)))
        finish(call, stopping ? REASON_stopping : run(a, call));
}

struct admin *admin_new(const struct admin_opts *opts)
{
    struct admin *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->opts = *opts;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->moved, NULL);
    a->thread = thread_start("admin", on_thread, a);
    return a;
}

void admin_free(struct admin *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->stopping = true;
    pthread_cond_signal(&a->moved);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    pthread_cond_destroy(&a->moved);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

void admin_set_bcrypt_cost(struct admin *a, unsigned cost)
{
    a->opts.bcrypt_cost = cost;
}

void admin_run(struct admin *a, struct admin_call *call)
{
    call->reason = REASON_ok;
    call->ret_result = NULL;
    call->text[0] = 0;
    call->next = NULL;
    pthread_mutex_lock(&a->lock);
    bool full = a->queued >= a->opts.queue_max;
    if (!full) {
        if (a->head)
            a->tail->next = call;
        else
            a->head = call;
        a->tail = call;
        a->queued++;
        pthread_cond_signal(&a->moved);
    }
    pthread_mutex_unlock(&a->lock);
    if (full)
        finish(call, REASON_busy);
}

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool done;
};

static void on_done(struct admin_call *call)
{
    struct waiter *w = call->owner;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->moved);
    pthread_mutex_unlock(&w->lock);
}

enum reason admin_run_wait(struct admin *a, struct admin_call *call)
{
    struct waiter w = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    call->done = on_done;
    call->owner = &w;
    admin_run(a, call);
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.moved, &w.lock);
    pthread_mutex_unlock(&w.lock);
    return call->reason;
}

static int on_json(const char *ptr, size_t len, void *arg)
{
    struct buf *out = arg;
    buf_put(out, ptr, len);
    return out->failed ? -1 : 0;
}

unsigned admin_answer(const struct admin_call *call, struct buf *out)
{
    const struct reason_info *info = reason_info(call->reason);
    if (call->reason == REASON_ok) {
        if (json_dump_callback(call->ret_result, on_json, out, JSON_COMPACT))
            out->failed = true;
        return info->http;
    }
    buf_put_str(out, "{\"error\":");
    buf_put_json(out, slice_str(call->text));
    buf_put_str(out, ",\"reason\":");
    buf_put_json(out, slice_str(info->name));
    buf_put_str(out, "}");
    return info->http;
}
