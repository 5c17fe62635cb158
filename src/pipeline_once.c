/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that name themselves by Idempotency-Key or X-Device-Seq, so that a retry is stored once;
 * rules do so too, by what set them off.
 * The journal's writer decides (journal/once.h); here the name is read, and what the writer decided
 * becomes an answer. A name is the credential's own: devices that count alike do not meet.
 *
 * A duplicate gets the answer of the original: same position and ids, and "accepted" not before the
 * original is durable, which it is once the append that carried the duplicate is done.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/metric.h"
#include "pipeline_private.h"

/* A String of RFC 9651 section 3.3.3, or the same without quotes, as most clients send it.
 * Returns what is wrong, or NULL. */
static const char *parse_key(struct slice s, char out[IDEMPOTENCY_KEY_MAX], struct slice *ret)
{
    bool quoted = s.len && s.ptr[0] == '"';
    size_t len = 0, at = quoted, end = s.len - quoted;
    if (quoted && (s.len < 2 || s.ptr[s.len - 1] != '"'))
        return "Idempotency-Key: the quoted string does not end";
    for (; at < end; at++) {
        char c = s.ptr[at];
        if (quoted && c == '\\' && ++at < end && (s.ptr[at] == '"' || s.ptr[at] == '\\'))
            c = s.ptr[at];
        else if (c < (quoted ? ' ' : '!') || c > '~' || c == '"' || (quoted && c == '\\') ||
                 (!quoted && c == ','))
            return "Idempotency-Key: use visible ASCII, with quotes around it or without";
        if (len == IDEMPOTENCY_KEY_MAX)
            return "Idempotency-Key: longer than 255 bytes";
        out[len++] = c;
    }
    *ret = slice_of(out, len);
    return len ? NULL : "Idempotency-Key: empty";
}

static const char *parse_sequence(struct slice s, uint64_t *ret)
{
    uint64_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        uint64_t digit = (unsigned char)s.ptr[i] - (uint64_t)'0';
        if (digit > 9 || n > (UINT64_MAX - digit) / 10)
            return "X-Device-Seq: a decimal number from 1 to 2^64 - 1";
        n = n * 10 + digit;
    }
    *ret = n;
    return n ? NULL : "X-Device-Seq: a decimal number from 1 to 2^64 - 1";
}

/* Where records are sealed, neither the sender's name for the message nor a digest of its body that
 * a guess could be checked against is stored: only MACs under the account's key. */
static void seal_names(struct job *j, const struct request *q, struct producer *p)
{
    struct lane *l = j->lane;
    uint8_t print[SEAL_NAME_BYTES];
    const struct slice whole[] = {SLICE("print"), q->path, q->body};
    const struct slice name[] = {SLICE("key"), p->key};
    seal_name(l->sealer, j->account->number, whole, 3, print);
    memcpy(&p->fingerprint, print, sizeof p->fingerprint);
    if (!p->key.len)
        return;
    seal_name(l->sealer, j->account->number, name, 2, l->key_name);
    p->key = slice_of((const char *)l->key_name, sizeof l->key_name);
}

bool once_begin(struct job *j)
{
    struct lane *l = j->lane;
    const struct request *q = &job_exchange(j)->request;
    struct producer *p = &l->producer;
    const char *wrong = NULL;
    uint64_t path = XXH3_64bits(q->path.ptr, q->path.len);
    if (q->rule.ptr) { /* made here of numbers: nothing to check, and nothing to hide */
        *p = (struct producer){.key = q->rule};
        return true;
    }
    *p = (struct producer){.fingerprint = XXH3_64bits_withSeed(q->body.ptr, q->body.len, path)};
    if (q->idempotency_key.ptr && q->device_seq.ptr)
        wrong = "send Idempotency-Key or X-Device-Seq, not both";
    else if (q->idempotency_key.ptr)
        wrong = parse_key(q->idempotency_key, l->key_text, &p->key);
    else
        wrong = parse_sequence(q->device_seq, &p->sequence);
    if (wrong)
        job_refuse(j, REASON_bad_request, wrong);
    else if (l->sealer)
        seal_names(j, q, p);
    return !wrong;
}

/* The reply says what the original's said. */
static void replay(struct job *j, const struct once_found *original)
{
    struct exchange *x = job_exchange(j);
    struct lane *l = j->lane;
    buf_put_str(&x->reply.fields, "Idempotency-Replayed: true\r\n");
    metric_add(METRIC_messages_replayed, j->count);
    if (j->match.route->op != OP_TELEMETRY_POST && !route_is_publish(j->match.route)) {
        struct error err;
        j->now_us = original->receive_us; /* a part of the ids */
        buf_clear(&x->reply.body);
        if (api_points(&j->match, &x->request, &l->points, &err) != REASON_ok) {
            job_not_durable(j, REASON_outcome_unknown); /* it was understood before: no memory */
            return;
        }
        if (!write_reply_again(j)) {
            job_refuse(j, REASON_not_found, "stored before; a feed of it was deleted meanwhile");
            return;
        }
    }
    job_durable(j, original->offset);
}

uint32_t once_dropped(const struct journal_append *a, struct unit_place *place, uint32_t index)
{
    const struct journal_unit *u;
    while ((u = journal_next_unit(a, place->unit)) && u->index < index) {
        place->unit = u;
        place->dropped += u->verdict == ONCE_NEW ? 0 : u->count;
    }
    return place->dropped;
}

void once_answer(struct job *j, const struct journal_append *a, struct unit_place *place)
{
    uint32_t dropped = once_dropped(a, place, j->first_index);
    const struct journal_unit *u = journal_next_unit(a, place->unit);
    if (!u || u->index > j->first_index || u->verdict == ONCE_NEW)
        job_durable(j, a->first_offset + j->first_index - dropped);
    else if (u->verdict == ONCE_DUPLICATE)
        replay(j, &u->found);
    else
        job_refuse(j, u->verdict == ONCE_CONFLICT ? REASON_key_reused : REASON_sequence_too_old,
                   NULL);
}
