/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/private.h - what the files that answer reads share; nobody else includes it.
 */
#pragma once

#include "api/api.h"
#include "base/digits.h"
#include "codec/text.h"

#define QUERY_VALUE_MAX 128

/* A decoded query parameter, NUL-terminated in out[QUERY_VALUE_MAX + 1]; empty when absent. What
 * cannot be decoded reads as "?", which none of them takes. */
struct slice api_parameter(struct slice query, const char *name, char *out);
/* A whole number of the query; absent is `fallback`. REASON_ok, or REASON_bad_request with a
 * sentence.
 */
enum reason api_number(const struct request *q, const char *name, uint64_t least, uint64_t most,
                       uint64_t fallback, uint64_t *ret, struct error *err);
/* The body is written: 200. */
enum api_read api_done(struct exchange *x);
/* `text`: a better sentence than the reason's, or NULL. */
enum api_read api_refuse(struct exchange *x, enum reason reason, const char *text);

/* Of an answer made of what `version` stands for (0: nothing does): says so in the reply, whose tag
 * that becomes. True: the caller has it already, and the reply (304) is complete; or else nothing
 * is to be made for him (request.only_unchanged). */
bool api_unchanged(struct exchange *x, uint64_t version);
/* Of what is shown of a feed and its data. 0: none can be told now. */
uint64_t api_feed_version(const struct api *a, const struct feed *f, bool csv);

/* ---- data.c ---- */
/* One datum of a view, or none; its value lives in the storage. */
struct api_datum {
    struct buf storage;
    struct history_point point;
    bool has;
};
/* The newest and the oldest, of those behind the feed's mark if wanted. Negative *ret_rc: the view
 * failed. */
enum api_read api_newest(const struct api *a, const struct feed *f, bool may_block,
                         struct api_datum *ret, int *ret_rc);
enum api_read api_oldest(const struct api *a, const struct feed *f, bool after_mark, bool may_block,
                         struct api_datum *ret, int *ret_rc);
/* What is about one datum: last, first, next, previous, retain, and those of an id. */
enum api_read api_data(const struct api *a, const struct route_match *m, struct exchange *x,
                       const struct feed *f, bool may_block, struct api_found *found);

/* ---- datum.c ---- */
/* A record in a list of which another one can be made: they differ in the value and in digits. */
struct data_model {
    bool is;                       /* there is one */
    uint64_t event_ms, offset;     /* of its id */
    uint64_t day_s, expiry_s;      /* when the days of "created_at" and "expiration" begin */
    uint64_t epoch_s;              /* "created_epoch" without its last digits */
    size_t at, rest_at, rest_len;  /* where in `out` it begins, and goes on behind the value */
    size_t created, epoch, expiry; /* in the rest: where what changes of the three begins */
};

/* Writes data of one feed, many into one buffer, to which nothing but puts happen meanwhile. The
 * rest is zeroed at first. */
struct data_writer {
    struct buf *out;
    const struct api *api;
    const struct feed *feed;
    size_t same_at, same_len;         /* where in `out` what is the same in every record stands */
    struct time_day created, expires; /* of the last one */
    struct data_model model;
};
/* "created_epoch" at `to`, where there is room for EPOCH_MAX: whole seconds, signed, and the same
 * second as in "created_at". Returns the end. */
enum { EPOCH_MAX = 1 + DIGITS_MAX };
char *api_epoch_put(char *to, int64_t event_us);
/* Appends a record, as api_format_datum. */
void api_put_datum(struct data_writer *w, const struct datum *d, int64_t event_us, uint64_t offset);
/* Appends as many of these as can be made of the last one that was, each with a comma before it.
 * Returns how many: the next one, if there is one, is for api_put_datum. */
uint32_t api_put_like(struct data_writer *w, const struct history_point *p, uint32_t count);

/* ---- fields.c ---- */
#define API_CSV "text/csv; charset=utf-8"
/* The members named by include=, as a set; empty: all. Returns what is wrong with it, or NULL. */
const char *api_fields(struct slice query, unsigned *ret);
/* Writes data to the reply: a list or one, or CSV with a heading. */
void api_put_data(struct exchange *x, const struct api *a, const struct feed *f,
                  const struct history_point *points, uint32_t count, unsigned fields, bool csv,
                  bool list);

/* ---- list.c ---- */
enum api_read api_list(const struct api *a, const struct route_match *m, struct exchange *x,
                       const struct feed *f, bool may_block);

/* ---- message.c ---- */
/* OP_GET_FEED, OP_GET_GROUP: the newest as a message; no body: there is none. As api_read. */
enum api_read api_message(const struct api *a, const struct route_match *m, struct exchange *x,
                          const struct api_caller *c, bool may_block);

/* ---- time.c ---- */
/* OP_TIME_..: the time in the zone asked for; as api_read. */
enum api_read api_time(const struct api *a, enum route_op op, struct exchange *x, bool may_block);
/* The same in UTC; the reply is complete. */
void api_time_of_day(enum route_op op, struct exchange *x);

/* ---- receipt.c ---- */
/* OP_RECEIPT; as api_read. */
enum api_read api_receipt(const struct api *a, const struct route_match *m, struct exchange *x,
                          const struct api_caller *c, bool may_block);

/* ---- chart.c ---- */
/* OP_DATA_CHART; as api_read. */
enum api_read api_chart(const struct api *a, struct exchange *x, const struct feed *f,
                        bool may_block);
