/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/api.h - what the HTTP operations mean: requests to points or questions, views to answers.
 * Called by the pipeline, on the worker of the request unless said otherwise; nothing here waits.
 */
#pragma once

#include "api/route.h"
#include "api/zones.h"
#include "base/buf.h"
#include "catalog/catalog.h"
#include "codec/points.h"
#include "gate/shield.h"
#include "gate/refusals.h"
#include "gate/shares.h"
#include "gate/throttle.h"
#include "journal/journal.h"
#include "view/history.h"
#include "prof/prof.h"
#include "sink/consume.h"
#include "view/latest.h"

/* What the operations look at; lives as long as the server. */
struct api {
    struct catalog *catalog;
    struct journal *journal;
    struct latest *latest;
    struct history *history;
    const struct view *history_view; /* how far it is */
    struct throttle *throttle;
    struct shares *shares;
    struct refusals *refusals;
    struct shield *shield;
    struct zones *zones;
    uint16_t node;
    char log_id[33];
    uint64_t expiration_ms; /* what a datum's `expiration` says; 0 = null */
    uint64_t start_ns;
    unsigned workers;
    struct slice openapi;                        /* what GET /openapi.json answers */
    bool (*ready)(void *arg, const char **why);  /* for /readyz */
    void (*status)(void *arg, struct buf *out);  /* further members of /v1/status */
    void (*metrics)(void *arg, struct buf *out); /* further families of /metrics */
    /* Further members of a receipt: which views and sinks have passed the offset. Any thread. */
    void (*watermarks)(void *arg, uint64_t offset, struct buf *out);
    void *arg;
};

/* ---- points.c: bodies to points ---- */
/* Whether the first byte that is no white space opens an object or an array. */
bool api_looks_like_json(struct slice body);
/* Parses the request's body as its operation wants it. REASON_ok, or the reason with a sentence. */
enum reason api_points(const struct route_match *m, const struct request *q, struct points *out,
                       struct error *err);
/* The body of OP_DATA_UPDATE: a datum of which anything may be missing (value.ptr NULL). */
enum reason api_point_change(const struct request *q, struct points *out, struct error *err);
/* Times must not lie in the future, values must fit the feed (NULL: one that is yet to be made). */
enum reason api_point_check(const struct point *p, unsigned index, const struct feed *f,
                            int64_t now_us, struct error *err);

/* ---- datum.c, format.c: records to JSON ---- */
/* A data record. `id_at`: where in `out` the id's 26 characters stand, to be written later. */
void api_format_datum(struct buf *out, const struct api *a, const struct feed *f,
                      const struct datum *d, int64_t event_us, uint64_t offset, size_t *id_at);
/* The datum's place as a GeoJSON feature. */
void api_format_place(struct buf *out, const struct datum *d);
void api_format_feed(struct buf *out, const struct api *a, const struct account *owner,
                     const struct feed *f, const struct slice *last_value);
/* Without its feeds. */
void api_format_group(struct buf *out, const struct account *owner, const struct group *g);
void api_format_user(struct buf *out, const struct api *a, const struct account *account);

/* ---- message.c: data to what MQTT subscribers get ---- */
/* A datum as its feed's topics have it: BODY_TEXT its value, BODY_JSON its record, BODY_CSV
 * value,lat,lon,ele. */
void api_put_message(struct buf *out, const struct api *a, enum body_form form,
                     const struct feed *f, const struct datum *d, int64_t event_us,
                     uint64_t offset);
/* The same as its group's topics have it: BODY_CSV lines of key,value; else JSON, which
 * api_end_group completes. `out` holds nothing but that. */
void api_put_in_group(struct buf *out, enum body_form form, const struct feed *f,
                      const struct datum *d);
void api_end_group(struct buf *out, enum body_form form);

/* ---- time.c ---- */
/* OP_TIME_SECONDS, _MILLIS, _ISO, _HOURS: that time in UTC, as text. */
void api_put_time(struct buf *out, enum route_op op, int64_t us);

/* ---- read.c: questions to the views ---- */
enum api_read { API_READ_DONE, API_READ_IO };

/* Who asks, and of what: references of the pipeline's. */
struct api_caller {
    const struct account *account;
    const struct credential *credential;
    struct feed *feed;   /* NULL where the path names none */
    struct group *group; /* the same */
};

/* What is left to be done when a read is answered. */
struct api_found {
    struct buf change; /* OP_DATA_UPDATE: payload of RECORD_CHANGED */
    bool moves;        /* the feed's mark, to: */
    int64_t mark_us;
    uint64_t mark_offset;
};

/*
 * Answers a ROUTE_READ, or what a change is about, into x->reply. API_READ_IO: the answer needs the
 * disk; call again with `may_block` on a thread that may wait. Any thread.
 */
enum api_read api_read(const struct api *a, const struct route_match *m, struct exchange *x,
                       const struct api_caller *c, bool may_block, struct api_found *found);

/* ---- change.c: changes of the catalog ---- */
/* Fills the ask of a ROUTE_CHANGE from the request's body; texts live in `storage`, which is the
 * caller's and empty. REASON_ok, or the reason with a sentence. The reply of OP_KEY_REGENERATE is
 * written then, and is to leave when the change is made. */
enum reason api_change(const struct api *a, const struct route_match *m, struct exchange *x,
                       const struct api_caller *c, struct catalog_ask *ask, struct buf *storage,
                       struct error *err);
/* Whether the answer is what was there before; whether it is 201; whether it shows a group. */
bool api_deletes(enum route_op op);
bool api_creates(enum route_op op);
bool api_is_of_group(enum route_op op);

/* ---- consume.c ---- */
/* Fills the ask of a ROUTE_CONSUME; what it points to lives in `storage`, which is the caller's and
 * empty, or borrows from the request. REASON_ok, or the reason with a sentence. */
enum reason api_consume(const struct route_match *m, const struct request *q,
                        struct consume_ask *ask, struct buf *storage, struct error *err);

/* ---- pprof.c ---- */
/* Writes the reply of a ROUTE_PROF that needs no profiler; false: it needs one. */
bool api_pprof_page(const struct route_match *m, struct exchange *x);
/* Fills in what it is asked for; borrows from the request. REASON_ok, or the reason with a
 * sentence.
 */
enum reason api_pprof(const struct route_match *m, const struct request *q, struct prof_ask *ask,
                      struct error *err);
/* Its answer is the reply's body: says what that is. */
void api_pprof_answered(const struct prof_ask *ask, struct reply *r);

/* ---- openapi.c ---- */
/* The OpenAPI 3.1 document: api/openapi.json with a path for every row of the tables of routes and
 * commands. Once at start, into a buffer that can hold it. */
void api_openapi(struct buf *out);

/* ---- status.c ---- */
/* ROUTE_PLAIN. */
void api_plain(const struct api *a, const struct route_match *m, struct exchange *x);
/* ROUTE_SELF. */
void api_self(const struct api *a, const struct route_match *m, struct exchange *x,
              const struct account *account, const struct credential *credential, uint64_t now_ns);
/* RateLimit, RateLimit-Policy (IETF draft-ietf-httpapi-ratelimit-headers-10) and, when refused, the
 * error body with Adafruit's sentence. `brief`: only the latter. */
void api_throttle_fields(struct exchange *x, const struct account *account,
                         const struct throttle_ask *asks, unsigned count,
                         const struct throttle_verdict *v, bool brief);
/* The same for a credential beyond its fair share, or in quarantine. */
void api_share_fields(struct exchange *x, const struct account *account,
                      const struct share_verdict *v);
