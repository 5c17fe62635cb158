/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/route.h - the table of what is served: method, path, right, operation. Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/points.h"
#include "flow/exchange.h"
#include "flow/principal.h"

/* What the pipeline has to do for an operation. */
enum route_class {
    ROUTE_PLAIN,    /* answered at once, no credential */
    ROUTE_ADMIN,    /* admin socket: the socket's owner is the credential */
    ROUTE_COMMAND,  /* the same commands with a credential */
    ROUTE_PROF,     /* profiles: whether a credential is needed the setting debug.pprof says */
    ROUTE_SELF,     /* needs a credential, answered at once */
    ROUTE_READ,     /* reads views */
    ROUTE_WRITE,    /* data points to the journal */
    ROUTE_TOPIC,    /* a message to a topic that is no feed, to the journal */
    ROUTE_CHANGE,   /* changes the catalog */
    ROUTE_CONSUME,  /* consumer groups */
    ROUTE_CONNECT,  /* needs a credential, which is the connection's from then on */
    ROUTE_SESSION,  /* an MQTT session, to the journal */
    ROUTE_MISSED,   /* what it missed, from there */
    ROUTE_RETAINED, /* waits for the view of retained messages */
};

/* What consumer groups are at, and who may use them. */
#define ROUTE_CONSUME_AT  "/v1/consume/"
#define ROUTE_CONSUME_MAY (PERM_consume | PERM_data_read)

#define ROUTE_OWN_MAY (PERM_automate | PERM_data_read | PERM_data_write)

enum route_op {
    OP_HEALTHZ,
    OP_READYZ,
    OP_METRICS,
    OP_STATUS,
    OP_OPENAPI,
    OP_ADMIN,
    OP_OWN_WEBHOOK, /* the commands of webhooks and of rules, in the account of who asks */
    OP_OWN_RULE,
    OP_PPROF_INDEX,
    OP_PPROF_PROFILE,
    OP_PPROF_FLAME,
    OP_PPROF_HEAP,
    OP_PPROF_SYMBOLS,
    OP_PPROF_SYMBOL,
    OP_PPROF_CMDLINE,
    OP_TELEMETRY_POST,
    OP_TELEMETRY_GET,
    OP_RECEIPT,
    OP_CONSUME_LIST,
    OP_CONSUME_FETCH,
    OP_CONSUME_ACK,
    OP_CONSUME_NACK,
    OP_CONSUME_EXTEND,
    OP_CONSUME_REMOVE,
    OP_CONSUME_CREDIT,
    OP_USER,
    OP_THROTTLE,
    OP_KEY_REGENERATE,
    OP_FEED_LIST,
    OP_FEED_CREATE,
    OP_FEED_GET,
    OP_FEED_DETAILS,
    OP_FEED_UPDATE,
    OP_FEED_DELETE,
    OP_GROUP_LIST,
    OP_GROUP_CREATE,
    OP_GROUP_GET,
    OP_GROUP_UPDATE,
    OP_GROUP_DELETE,
    OP_GROUP_ADD,
    OP_GROUP_REMOVE,
    OP_GROUP_DATA,
    OP_DATA_CREATE,
    OP_DATA_BATCH,
    OP_DATA_LIST,
    OP_DATA_LAST,
    OP_DATA_CHART,
    OP_DATA_FIRST,
    OP_DATA_NEXT,
    OP_DATA_PREVIOUS,
    OP_DATA_RETAIN,
    OP_DATA_GET,
    OP_DATA_UPDATE,
    OP_DATA_DELETE,
    OP_CONNECT,
    OP_SESSION,
    OP_MISSED,
    OP_PUBLISH_FEED,
    OP_PUBLISH_GROUP,
    OP_PUBLISH_TOPIC,
    OP_RETAINED,
    OP_GET_FEED,
    OP_GET_GROUP,
    OP_TIME_SECONDS,
    OP_TIME_MILLIS,
    OP_TIME_ISO,
    OP_TIME_HOURS,
    OP_TIME_STRUCT,
    OP_TIME_STRFTIME,
};

/* What GET /openapi.json says of a route. Names are those of api/openapi.json; a test fails when
 * one is missing there, or here. */
struct route_doc {
    const char *id;      /* stable name of the operation, as client generators use it */
    const char *tag;     /* one of `tags` */
    const char *summary; /* one line */
    const char *query;   /* of components/parameters, a blank between; NULL: takes none */
    /* The schema of a JSON body, then further media types it may come in: "NewDatum text/csv".
     * '?' in front: it may be left out. */
    const char *body;
    /* Status and what the answer holds, a schema, [schema] for a list of it or a media type:
     * "200 [Datum] text/csv", "200 Feed 201 Feed", "204". Errors need not be said. */
    const char *answer;
};

struct route {
    enum method method;
    const char *path; /* "{u}" username, "{g}" group key, "{k}" feed key (inside the group where
                         there is one), "{id}" datum id, "{o}" offset, "{c}" consumer group,
                         "*" the rest */
    enum surface surface;
    bool everywhere; /* served on the public surface and on the operator's */
    enum route_class class;
    enum route_op op;
    uint64_t permission;
    const struct route_doc *doc; /* NULL: "*", which the table of commands describes */
};

/* The rows one by one; NULL: there is none of that number. */
const struct route *route_at(unsigned index);

/* What a path said; slices borrow from the request's path. */
struct route_match {
    const struct route *route;
    struct slice username, group, feed, id, rest;
    enum body_form form; /* of what is published, or asked for: its topic says it; TEXT: none */
    bool csv;            /* the answer is wanted as text/csv: by ".csv" at the end, or by Accept */
};

enum route_found { ROUTE_FOUND, ROUTE_NO_PATH, ROUTE_NO_METHOD };

/* Whether it stores what was published to a topic (topic.c). */
static inline bool route_is_publish(const struct route *r)
{
    return r->op == OP_PUBLISH_FEED || r->op == OP_PUBLISH_GROUP || r->op == OP_PUBLISH_TOPIC;
}

/* HEAD is looked up as GET. A ".json" at the end of an /api/ path is ignored, and so is a ".csv"
 * where the answer can be text/csv. *ret_methods: a list for the Allow field when the path is
 * served by other methods. */
enum route_found route_find(const struct request *q, struct route_match *ret,
                            struct buf *ret_methods);
/* What METHOD_CONNECT and METHOD_PUBLISH are about (topic.c); route_find asks it for them. */
enum route_found topic_find(const struct request *q, struct route_match *ret);
/* What the topic means in that account, `m` being what topic_find said: the same, or that it is an
 * ordinary topic. REASON_ok, or why nothing may be published there. */
enum reason topic_settle(const struct account *a, struct slice topic, struct route_match *m);
