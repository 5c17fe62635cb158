/* SPDX-License-Identifier: Apache-2.0 */
/* Requests about consumer groups, to asks of sink/consume.h. */
#include "api/private.h"
#include "base/check.h"
#include "base/clock.h"
#include "codec/json.h"
#include "codec/text.h"

#define LEASE_S_DEFAULT 30
#define MAX_DEFAULT     1
#define CREDIT_DEFAULT  1
#define PUSH_WAIT_S     600 /* of a connection, which asks again and again */

/* ---- texts ----------------------------------------------------------------------------------- */

static bool is_name(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && !(i && memchr("-_.", c, 3)))
            return false;
    }
    return s.len > 0 && s.len <= CONSUME_GROUP_MAX;
}

static bool is_pattern(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '-' && c != '.' && !(c == '*' && i + 1 == s.len))
            return false;
    }
    return s.len > 0 && s.len <= FEED_KEY_MAX;
}

/* ?feeds=, without blanks, into the storage; ptr NULL: absent. */
static enum reason feeds(const struct request *q, struct buf *storage, struct slice *ret,
                         struct error *err)
{
    struct slice rest = q->query, name, value;
    struct buf text;
    bool found = false;
    while (!found && query_next(&rest, &name, &value))
        found = slice_eq(name, SLICE("feeds"));
    if (!found)
        return REASON_ok;
    buf_init(&text, CONSUME_FEEDS_MAX);
    bool good = percent_decode(value, true, &text) && !text.failed && text.len;
    for (size_t at = 0, end; good && at <= text.len; at = end + 1) {
        const char *comma = at < text.len ? memchr(text.ptr + at, ',', text.len - at) : NULL;
        end = comma ? (size_t)(comma - text.ptr) : text.len;
        struct slice item = slice_trim(slice_of(text.ptr + at, end - at));
        good = is_pattern(item);
        buf_put_str(storage, storage->len ? "," : "");
        buf_put_slice(storage, item);
    }
    buf_fini(&text);
    *ret = buf_slice(storage);
    if (good && !storage->failed)
        return REASON_ok;
    error_set(err, 0,
              "bad request - feeds is a list of feed keys with commas between, a '*' at "
              "the end of one matches; at most %u bytes",
              CONSUME_FEEDS_MAX);
    return REASON_bad_request;
}

static enum reason place(const struct request *q, bool *ret_oldest, struct error *err)
{
    char text[QUERY_VALUE_MAX + 1];
    struct slice s = api_parameter(q->query, "from", text);
    *ret_oldest = slice_eq(s, SLICE("oldest"));
    if (!s.ptr || *ret_oldest || slice_eq(s, SLICE("now")))
        return REASON_ok;
    error_set(err, 0, "bad request - from is now or oldest");
    return REASON_bad_request;
}

/* ---- bodies ---------------------------------------------------------------------------------- */

/* A list of strings into the storage. */
static const char *tokens(struct json list, struct buf *storage, struct consume_ask *ask)
{
    struct json item;
    struct slice rest = list.type == JSON_ARRAY ? json_members(list) : (struct slice){0};
    unsigned n = 0;
    while (rest.len && json_next_element(&rest, &item)) {
        struct consume_token t;
        if (item.type != JSON_STRING || !consume_token_parse(item.raw, &t))
            return "tokens must be what messages have as their token";
        if (n++ == CONSUME_MESSAGES_MAX)
            return "there are over 1000 tokens";
        buf_put(storage, &t, sizeof t);
    }
    CHECK(!storage->failed);
    ask->tokens = (const void *)storage->ptr;
    ask->tokens_count = n;
    return n ? NULL : "tokens must be a list of at least one";
}

static bool seconds(struct json v, uint64_t most, uint64_t *ret_ns)
{
    double s = v.type == JSON_NUMBER ? json_double(v) : -1;
    if (!(s >= 0 && s <= (double)most))
        return false;
    *ret_ns = (uint64_t)(s * (double)NS_PER_S);
    return true;
}

/* {"tokens": [...], "delay": seconds} or "lease" in its place. */
static enum reason told(const struct request *q, struct consume_ask *ask, struct buf *storage,
                        struct error *err)
{
    struct json whole, key, value;
    size_t at;
    const char *why = NULL, *text;
    bool any = false;
    if (!json_parse(q->body, &whole, &at, &text) || whole.type != JSON_OBJECT) {
        error_set(err, 0, "the body must be a JSON object with tokens");
        return REASON_bad_body;
    }
    ask->ns = ask->op == CONSUME_EXTEND ? LEASE_S_DEFAULT * NS_PER_S : 0;
    struct slice rest = json_members(whole);
    while (!why && rest.len && json_next_member(&rest, &key, &value)) {
        if (slice_eq(key.raw, SLICE("tokens"))) {
            why = any ? "tokens are there twice" : tokens(value, storage, ask);
            any = true;
        } else if (slice_eq(key.raw, SLICE("delay")) && ask->op == CONSUME_NACK) {
            why = seconds(value, CONSUME_DELAY_S_MAX, &ask->ns)
                      ? NULL
                      : "delay must be seconds, from 0 to 3600";
        } else if (slice_eq(key.raw, SLICE("lease")) && ask->op == CONSUME_EXTEND) {
            why = seconds(value, CONSUME_LEASE_S_MAX, &ask->ns)
                      ? NULL
                      : "lease must be seconds, from 0 to 3600";
        } else {
            why = "the body has a member that this operation does not take";
        }
    }
    if (!why && !any)
        why = "tokens are missing";
    if (why)
        error_set(err, 0, "%s", why);
    return why ? REASON_bad_body : REASON_ok;
}

/* ---- the operations -------------------------------------------------------------------------- */

static enum reason fetch(const struct request *q, struct consume_ask *ask, struct buf *storage,
                         struct error *err)
{
    uint64_t max = 0, wait_s = 0, lease_s = 0, credit = 0;
    bool lasts = q->upgrade || q->consumer;
    enum reason r = api_number(q, "max", 1, CONSUME_MESSAGES_MAX,
                               lasts ? CONSUME_MESSAGES_MAX : MAX_DEFAULT, &max, err);
    if (r == REASON_ok)
        r = api_number(q, "credit", 1, CONSUME_MESSAGES_MAX, CREDIT_DEFAULT, &credit, err);
    if (r == REASON_ok)
        r = api_number(q, "wait", 0, CONSUME_WAIT_S_MAX, 0, &wait_s, err);
    if (r == REASON_ok)
        r = api_number(q, "lease", 1, CONSUME_LEASE_S_MAX, LEASE_S_DEFAULT, &lease_s, err);
    if (r == REASON_ok)
        r = place(q, &ask->oldest, err);
    if (r == REASON_ok)
        r = feeds(q, storage, &ask->feeds, err);
    ask->max = (unsigned)max;
    ask->credit = (uint32_t)credit;
    ask->wait_ns = (q->consumer ? PUSH_WAIT_S : wait_s) * NS_PER_S;
    ask->lease_ns = lease_s * NS_PER_S;
    return r;
}

enum reason api_consume(const struct route_match *m, const struct request *q,
                        struct consume_ask *ask, struct buf *storage, struct error *err)
{
    static const struct {
        enum route_op op;
        enum consume_op asks;
    } ops[] = {{OP_CONSUME_LIST, CONSUME_LIST},     {OP_CONSUME_FETCH, CONSUME_FETCH},
               {OP_CONSUME_ACK, CONSUME_ACK},       {OP_CONSUME_NACK, CONSUME_NACK},
               {OP_CONSUME_EXTEND, CONSUME_EXTEND}, {OP_CONSUME_REMOVE, CONSUME_REMOVE},
               {OP_CONSUME_CREDIT, CONSUME_CREDIT}};
    unsigned i = 0;
    while (ops[i].op != m->route->op)
        i++;
    ask->op = ops[i].asks;
    if (ask->op == CONSUME_FETCH && q->upgrade)
        ask->op = CONSUME_OPEN;
    ask->group = m->id;
    ask->consumer = q->consumer;
    ask->credit = q->credit;
    if (ask->op == CONSUME_LIST)
        return REASON_ok;
    if (!is_name(m->id)) {
        error_set(err, 0,
                  "bad request - a group's name is 1 to %u letters, digits, '-', '_' and "
                  "'.', the first a letter or digit",
                  CONSUME_GROUP_MAX);
        return REASON_bad_request;
    }
    if (ask->op == CONSUME_REMOVE || ask->op == CONSUME_CREDIT)
        return REASON_ok;
    return ask->op == CONSUME_FETCH || ask->op == CONSUME_OPEN ? fetch(q, ask, storage, err)
                                                               : told(q, ask, storage, err);
}
