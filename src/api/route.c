/* SPDX-License-Identifier: Apache-2.0 */
#include "api/route.h"

#include "codec/text.h"

/*
 * A row: method, path, surface, everywhere, class, operation, permission, and DOC: what GET
 * /openapi.json says of it (struct route_doc), whose schemas stand in api/openapi.json. A new row
 * needs all of it and a call in test/test_openapi.py; tests fail until it has them.
 */
#define DOC(...)                                                                                   \
    &(const struct route_doc)                                                                      \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define DATA       "/api/v2/{u}/feeds/{k}/data"
#define GROUP      "/api/v2/{u}/groups/{g}"
#define GROUP_DATA GROUP "/feeds/{k}/data"
#define FORMS      " application/x-www-form-urlencoded multipart/form-data"
#define PUBLIC     SURFACE_PUBLIC, false
#define OPERATOR   SURFACE_OPERATOR, false
#define PPROF      "/debug/pprof"
#define CONSUME    ROUTE_CONSUME_AT "{c}"
#define CONSUMES   ROUTE_CONSUME_MAY

static const struct route routes[] = {
    /* The first is what devices do all day. */
    {METHOD_POST, "/v1/telemetry", SURFACE_PUBLIC, false, ROUTE_WRITE, OP_TELEMETRY_POST,
     PERM_data_write,
     DOC(.id = "telemetry_send", .tag = "telemetry", .summary = "Send values of one or more feeds",
         .query = "ack receipt", .body = "Telemetry application/x-ndjson",
         .answer = "202 Receipt")},
    {METHOD_GET, "/v1/telemetry", SURFACE_PUBLIC, false, ROUTE_READ, OP_TELEMETRY_GET,
     PERM_data_read,
     DOC(.id = "telemetry_latest", .tag = "telemetry",
         .summary = "The newest datum of every feed the credential may see",
         .answer = "200 LatestData")},
    {METHOD_GET, "/v1/receipts/{o}", PUBLIC, ROUTE_READ, OP_RECEIPT, PERM_data_read,
     DOC(.id = "receipt_get", .tag = "telemetry",
         .summary = "Which views and sinks have passed a message; Location of a 202 leads here",
         .answer = "200 Passed")},
    {METHOD_GET, "/v1/consume", PUBLIC, ROUTE_CONSUME, OP_CONSUME_LIST, CONSUMES,
     DOC(.id = "consume_list", .tag = "consume",
         .summary = "The consumer groups of the account that the credential may use",
         .answer = "200 [ConsumerGroup]")},
    {METHOD_GET, CONSUME, PUBLIC, ROUTE_CONSUME, OP_CONSUME_FETCH, CONSUMES,
     DOC(.id = "consume_fetch", .tag = "consume",
         .summary = "Take messages that nobody of the group has; the first fetch makes the group",
         .query = "consume_max consume_wait consume_lease consume_feeds consume_from "
                  "consume_credit",
         .answer = "200 ConsumedMessages")},
    {METHOD_DELETE, CONSUME, PUBLIC, ROUTE_CONSUME, OP_CONSUME_REMOVE, CONSUMES,
     DOC(.id = "consume_remove", .tag = "consume", .summary = "Remove a group", .answer = "204")},
    {METHOD_POST, CONSUME "/ack", PUBLIC, ROUTE_CONSUME, OP_CONSUME_ACK, CONSUMES,
     DOC(.id = "consume_ack", .tag = "consume",
         .summary = "Say that messages are done: they are not handed out again",
         .body = "ConsumeAck", .answer = "200 ConsumeTold")},
    {METHOD_POST, CONSUME "/nack", PUBLIC, ROUTE_CONSUME, OP_CONSUME_NACK, CONSUMES,
     DOC(.id = "consume_nack", .tag = "consume",
         .summary = "Give messages back: they are handed out again, at once or after a delay",
         .body = "ConsumeNack", .answer = "200 ConsumeTold")},
    {METHOD_POST, CONSUME "/extend", PUBLIC, ROUTE_CONSUME, OP_CONSUME_EXTEND, CONSUMES,
     DOC(.id = "consume_extend", .tag = "consume",
         .summary = "Keep messages for longer: a new lease from now on", .body = "ConsumeExtend",
         .answer = "200 ConsumeTold")},
    {METHOD_POST, DATA, SURFACE_PUBLIC, false, ROUTE_WRITE, OP_DATA_CREATE, PERM_data_write,
     DOC(.id = "data_create", .tag = "data", .summary = "Send a datum", .query = "ack receipt",
         .body = "NewDatum text/csv" FORMS, .answer = "200 Datum 202 Datum")},
    {METHOD_GET, DATA "/last", SURFACE_PUBLIC, false, ROUTE_READ, OP_DATA_LAST, PERM_data_read,
     DOC(.id = "data_last", .tag = "data", .summary = "The newest datum", .query = "include",
         .answer = "200 PartOfDatum text/csv")},
    {METHOD_POST, DATA "/batch", SURFACE_PUBLIC, false, ROUTE_WRITE, OP_DATA_BATCH, PERM_data_write,
     DOC(.id = "data_create_many", .tag = "data", .summary = "Send up to 1000 data, all or none",
         .query = "ack receipt", .body = "NewData text/csv", .answer = "200 [Datum] 202 [Datum]")},
    {METHOD_GET, DATA, SURFACE_PUBLIC, false, ROUTE_READ, OP_DATA_LIST, PERM_data_read,
     DOC(.id = "data_list", .tag = "data", .summary = "Data of a time, newest first",
         .query = "limit start_time end_time before include",
         .answer = "200 [PartOfDatum] text/csv")},
    {METHOD_GET, DATA "/chart", SURFACE_PUBLIC, false, ROUTE_READ, OP_DATA_CHART, PERM_data_read,
     DOC(.id = "data_chart", .tag = "data", .summary = "Slices of time, each as one number",
         .query = "start_time end_time hours resolution field raw", .answer = "200 Chart")},
    {METHOD_GET, DATA "/first", PUBLIC, ROUTE_READ, OP_DATA_FIRST, PERM_data_read,
     DOC(.id = "data_first", .tag = "data",
         .summary = "The oldest datum; data/next goes on behind it", .query = "include",
         .answer = "200 PartOfDatum text/csv")},
    {METHOD_GET, DATA "/next", PUBLIC, ROUTE_READ, OP_DATA_NEXT, PERM_data_read,
     DOC(.id = "data_next", .tag = "data",
         .summary = "The datum behind the one that was given last: each once, to one reader",
         .query = "include", .answer = "200 PartOfDatum text/csv")},
    {METHOD_GET, DATA "/previous", PUBLIC, ROUTE_READ, OP_DATA_PREVIOUS, PERM_data_read,
     DOC(.id = "data_previous", .tag = "data", .summary = "The datum that data/next gave last",
         .query = "include", .answer = "200 PartOfDatum text/csv")},
    {METHOD_GET, DATA "/prev", PUBLIC, ROUTE_READ, OP_DATA_PREVIOUS, PERM_data_read,
     DOC(.id = "data_prev", .tag = "data", .summary = "The same as data/previous",
         .query = "include", .answer = "200 PartOfDatum text/csv")},
    {METHOD_GET, DATA "/retain", PUBLIC, ROUTE_READ, OP_DATA_RETAIN, PERM_data_read,
     DOC(.id = "data_retain", .tag = "data",
         .summary = "The newest datum as value,lat,lon,ele; empty without one",
         .answer = "200 text/csv")},
    {METHOD_GET, DATA "/{id}", PUBLIC, ROUTE_READ, OP_DATA_GET, PERM_data_read,
     DOC(.id = "data_get", .tag = "data", .summary = "One datum", .query = "include",
         .answer = "200 PartOfDatum text/csv")},
    {METHOD_PUT, DATA "/{id}", PUBLIC, ROUTE_READ, OP_DATA_UPDATE, PERM_data_delete,
     DOC(.id = "data_replace", .tag = "data", .summary = "Change a datum's value or place",
         .body = "ChangedDatum text/csv" FORMS, .answer = "200 Datum 202 Datum")},
    {METHOD_PATCH, DATA "/{id}", PUBLIC, ROUTE_READ, OP_DATA_UPDATE, PERM_data_delete,
     DOC(.id = "data_change", .tag = "data", .summary = "The same as PUT",
         .body = "ChangedDatum text/csv" FORMS, .answer = "200 Datum 202 Datum")},
    {METHOD_DELETE, DATA "/{id}", SURFACE_PUBLIC, false, ROUTE_READ, OP_DATA_DELETE,
     PERM_data_delete,
     DOC(.id = "data_delete", .tag = "data", .summary = "Delete a datum; answers with what it was",
         .answer = "200 Datum 202 Datum")},
    {METHOD_GET, "/api/v2/{u}/feeds", SURFACE_PUBLIC, false, ROUTE_READ, OP_FEED_LIST,
     PERM_feed_read,
     DOC(.id = "feed_list", .tag = "feeds", .summary = "The feeds the credential may see",
         .answer = "200 [Feed]")},
    {METHOD_POST, "/api/v2/{u}/feeds", SURFACE_PUBLIC, false, ROUTE_CHANGE, OP_FEED_CREATE,
     PERM_feed_write,
     DOC(.id = "feed_create", .tag = "feeds", .summary = "Make a feed", .query = "group_key",
         .body = "NewFeed" FORMS, .answer = "201 Feed")},
    {METHOD_GET, "/api/v2/{u}/feeds/{k}", SURFACE_PUBLIC, false, ROUTE_READ, OP_FEED_GET,
     PERM_feed_read,
     DOC(.id = "feed_get", .tag = "feeds", .summary = "One feed", .answer = "200 Feed")},
    {METHOD_DELETE, "/api/v2/{u}/feeds/{k}", SURFACE_PUBLIC, false, ROUTE_CHANGE, OP_FEED_DELETE,
     PERM_feed_delete,
     DOC(.id = "feed_delete", .tag = "feeds", .summary = "Delete a feed with all its data",
         .answer = "200 Feed")},
    {METHOD_GET, "/api/v2/{u}/feeds/{k}/details", PUBLIC, ROUTE_READ, OP_FEED_DETAILS,
     PERM_feed_read | PERM_data_read,
     DOC(.id = "feed_details", .tag = "feeds",
         .summary = "A feed, its oldest and newest datum and how many there are",
         .answer = "200 FeedDetails")},
    {METHOD_PUT, "/api/v2/{u}/feeds/{k}", PUBLIC, ROUTE_CHANGE, OP_FEED_UPDATE, PERM_feed_write,
     DOC(.id = "feed_replace", .tag = "feeds",
         .summary = "Change what is sent of a feed; a new key changes nothing else",
         .body = "NewFeed" FORMS, .answer = "200 Feed")},
    {METHOD_PATCH, "/api/v2/{u}/feeds/{k}", PUBLIC, ROUTE_CHANGE, OP_FEED_UPDATE, PERM_feed_write,
     DOC(.id = "feed_change", .tag = "feeds", .summary = "The same as PUT", .body = "NewFeed" FORMS,
         .answer = "200 Feed")},
    {METHOD_GET, "/api/v2/{u}/groups", PUBLIC, ROUTE_READ, OP_GROUP_LIST, PERM_feed_read,
     DOC(.id = "group_list", .tag = "groups", .summary = "The groups with their feeds",
         .answer = "200 [Group]")},
    {METHOD_POST, "/api/v2/{u}/groups", PUBLIC, ROUTE_CHANGE, OP_GROUP_CREATE, PERM_feed_write,
     DOC(.id = "group_create", .tag = "groups", .summary = "Make a group", .body = "NewGroup" FORMS,
         .answer = "201 Group")},
    {METHOD_GET, GROUP, PUBLIC, ROUTE_READ, OP_GROUP_GET, PERM_feed_read,
     DOC(.id = "group_get", .tag = "groups", .summary = "One group with its feeds",
         .answer = "200 Group")},
    {METHOD_PUT, GROUP, PUBLIC, ROUTE_CHANGE, OP_GROUP_UPDATE, PERM_feed_write,
     DOC(.id = "group_replace", .tag = "groups",
         .summary = "Change what is sent of a group; a new key changes those of its feeds",
         .body = "NewGroup" FORMS, .answer = "200 Group")},
    {METHOD_PATCH, GROUP, PUBLIC, ROUTE_CHANGE, OP_GROUP_UPDATE, PERM_feed_write,
     DOC(.id = "group_change", .tag = "groups", .summary = "The same as PUT",
         .body = "NewGroup" FORMS, .answer = "200 Group")},
    {METHOD_DELETE, GROUP, PUBLIC, ROUTE_CHANGE, OP_GROUP_DELETE, PERM_feed_delete,
     DOC(.id = "group_delete", .tag = "groups", .summary = "Delete a group with its own feeds",
         .answer = "200 Group")},
    {METHOD_POST, GROUP "/add", PUBLIC, ROUTE_CHANGE, OP_GROUP_ADD, PERM_feed_write,
     DOC(.id = "group_add_feed", .tag = "groups",
         .summary = "Add a feed, which keeps its key, to a group", .query = "feed_key_query",
         .body = "FeedKey" FORMS, .answer = "200 Group")},
    {METHOD_POST, GROUP "/remove", PUBLIC, ROUTE_CHANGE, OP_GROUP_REMOVE, PERM_feed_write,
     DOC(.id = "group_remove_feed", .tag = "groups",
         .summary = "Take a feed out of a group; out of its own it moves to default",
         .query = "feed_key_query", .body = "FeedKey" FORMS, .answer = "200 Group")},
    {METHOD_POST, GROUP "/data", PUBLIC, ROUTE_WRITE, OP_GROUP_DATA, PERM_data_write,
     DOC(.id = "group_send", .tag = "groups",
         .summary = "Send data of several feeds of a group, all or none; missing feeds are made",
         .query = "ack receipt", .body = "NewGroupData text/csv" FORMS,
         .answer = "200 [Datum] 202 [Datum]")},
    {METHOD_GET, GROUP "/feeds", PUBLIC, ROUTE_READ, OP_FEED_LIST, PERM_feed_read,
     DOC(.id = "group_feed_list", .tag = "groups", .summary = "The feeds of a group",
         .answer = "200 [Feed]")},
    {METHOD_POST, GROUP "/feeds", PUBLIC, ROUTE_CHANGE, OP_FEED_CREATE, PERM_feed_write,
     DOC(.id = "group_feed_create", .tag = "groups", .summary = "Make a feed in a group",
         .body = "NewFeed" FORMS, .answer = "201 Feed")},
    {METHOD_POST, GROUP "/feeds/{k}/data", PUBLIC, ROUTE_WRITE, OP_DATA_CREATE, PERM_data_write,
     DOC(.id = "group_feed_send", .tag = "groups", .summary = "Send a datum",
         .query = "ack receipt", .body = "NewDatum text/csv" FORMS,
         .answer = "200 Datum 202 Datum")},
    {METHOD_POST, GROUP "/feeds/{k}/data/batch", PUBLIC, ROUTE_WRITE, OP_DATA_BATCH,
     PERM_data_write,
     DOC(.id = "group_feed_send_many", .tag = "groups",
         .summary = "Send up to 1000 data, all or none", .query = "ack receipt",
         .body = "NewData text/csv", .answer = "200 [Datum] 202 [Datum]")},
    {METHOD_GET, GROUP "/feeds/{k}/data", PUBLIC, ROUTE_READ, OP_DATA_LIST, PERM_data_read,
     DOC(.id = "group_feed_data", .tag = "groups", .summary = "Data of a time, newest first",
         .query = "limit start_time end_time before include",
         .answer = "200 [PartOfDatum] text/csv")},
    {METHOD_GET, GROUP_DATA "/last", PUBLIC, ROUTE_READ, OP_DATA_LAST, PERM_data_read,
     DOC(.id = "group_feed_last", .tag = "groups", .summary = "The newest datum",
         .query = "include", .answer = "200 PartOfDatum text/csv")},
    {METHOD_GET, GROUP_DATA "/chart", PUBLIC, ROUTE_READ, OP_DATA_CHART, PERM_data_read,
     DOC(.id = "group_feed_chart", .tag = "groups", .summary = "Slices of time, each as one number",
         .query = "start_time end_time hours resolution field raw", .answer = "200 Chart")},
    {METHOD_GET, GROUP_DATA "/first", PUBLIC, ROUTE_READ, OP_DATA_FIRST, PERM_data_read,
     DOC(.id = "group_feed_first", .tag = "groups",
         .summary = "The oldest datum; data/next goes on behind it", .query = "include",
         .answer = "200 PartOfDatum text/csv")},
    {METHOD_GET, GROUP_DATA "/next", PUBLIC, ROUTE_READ, OP_DATA_NEXT, PERM_data_read,
     DOC(.id = "group_feed_next", .tag = "groups",
         .summary = "The datum behind the one that was given last: each once, to one reader",
         .query = "include", .answer = "200 PartOfDatum text/csv")},
    {METHOD_GET, GROUP_DATA "/previous", PUBLIC, ROUTE_READ, OP_DATA_PREVIOUS, PERM_data_read,
     DOC(.id = "group_feed_previous", .tag = "groups",
         .summary = "The datum that data/next gave last", .query = "include",
         .answer = "200 PartOfDatum text/csv")},
    {METHOD_GET, GROUP_DATA "/retain", PUBLIC, ROUTE_READ, OP_DATA_RETAIN, PERM_data_read,
     DOC(.id = "group_feed_retain", .tag = "groups",
         .summary = "The newest datum as value,lat,lon,ele; empty without one",
         .answer = "200 text/csv")},
    {METHOD_GET, GROUP_DATA "/{id}", PUBLIC, ROUTE_READ, OP_DATA_GET, PERM_data_read,
     DOC(.id = "group_feed_get", .tag = "groups", .summary = "One datum", .query = "include",
         .answer = "200 PartOfDatum text/csv")},
    {METHOD_PUT, GROUP_DATA "/{id}", PUBLIC, ROUTE_READ, OP_DATA_UPDATE, PERM_data_delete,
     DOC(.id = "group_feed_replace", .tag = "groups", .summary = "Change a datum's value or place",
         .body = "ChangedDatum text/csv" FORMS, .answer = "200 Datum 202 Datum")},
    {METHOD_PATCH, GROUP_DATA "/{id}", PUBLIC, ROUTE_READ, OP_DATA_UPDATE, PERM_data_delete,
     DOC(.id = "group_feed_change", .tag = "groups", .summary = "The same as PUT",
         .body = "ChangedDatum text/csv" FORMS, .answer = "200 Datum 202 Datum")},
    {METHOD_DELETE, GROUP_DATA "/{id}", PUBLIC, ROUTE_READ, OP_DATA_DELETE, PERM_data_delete,
     DOC(.id = "group_feed_delete", .tag = "groups",
         .summary = "Delete a datum; answers with what it was", .answer = "200 Datum 202 Datum")},
    {METHOD_GET, "/api/v2/user", SURFACE_PUBLIC, false, ROUTE_SELF, OP_USER, PERM_account_read,
     DOC(.id = "user_get", .tag = "account", .summary = "Whose credential this is",
         .answer = "200 User")},
    {METHOD_GET, "/api/v2/{u}/throttle", SURFACE_PUBLIC, false, ROUTE_SELF, OP_THROTTLE,
     PERM_account_read,
     DOC(.id = "throttle_get", .tag = "account", .summary = "The account's limit and its use of it",
         .answer = "200 Throttle")},
    {METHOD_POST, "/api/v2/{u}/key/regenerate", PUBLIC, ROUTE_CHANGE, OP_KEY_REGENERATE,
     PERM_data_write | PERM_data_read | PERM_data_delete | PERM_feed_read | PERM_feed_write |
         PERM_feed_delete | PERM_account_read,
     DOC(.id = "key_regenerate", .tag = "account",
         .summary = "Put a new key in the place of the one this is asked with, which is refused "
                    "from then on",
         .body = "?WantedKey" FORMS, .answer = "200 NewKey")},
    {METHOD_GET, "/api/v2/time/seconds", PUBLIC, ROUTE_PLAIN, OP_TIME_SECONDS, 0,
     DOC(.id = "time_seconds", .tag = "time", .summary = "Seconds since 1970",
         .answer = "200 text/plain")},
    {METHOD_GET, "/api/v2/time/millis", PUBLIC, ROUTE_PLAIN, OP_TIME_MILLIS, 0,
     DOC(.id = "time_millis", .tag = "time", .summary = "Milliseconds since 1970",
         .answer = "200 text/plain")},
    {METHOD_GET, "/api/v2/time/ISO-8601", PUBLIC, ROUTE_PLAIN, OP_TIME_ISO, 0,
     DOC(.id = "time_iso", .tag = "time", .summary = "As 2019-07-03T14:47:16.038Z",
         .answer = "200 text/plain")},
    {METHOD_GET, "/api/v2/time/hours", PUBLIC, ROUTE_PLAIN, OP_TIME_HOURS, 0,
     DOC(.id = "time_hours", .tag = "time", .summary = "The hour of the day, 0 to 23, in UTC",
         .answer = "200 text/plain")},
    {METHOD_GET, "/api/v2/{u}/integrations/time/seconds", PUBLIC, ROUTE_READ, OP_TIME_SECONDS, 0,
     DOC(.id = "local_time_seconds", .tag = "time", .summary = "Seconds since 1970",
         .answer = "200 text/plain")},
    {METHOD_GET, "/api/v2/{u}/integrations/time/millis", PUBLIC, ROUTE_READ, OP_TIME_MILLIS, 0,
     DOC(.id = "local_time_millis", .tag = "time", .summary = "Milliseconds since 1970",
         .answer = "200 text/plain")},
    {METHOD_GET, "/api/v2/{u}/integrations/time/ISO-8601", PUBLIC, ROUTE_READ, OP_TIME_ISO, 0,
     DOC(.id = "local_time_iso", .tag = "time", .summary = "As 2019-07-03T16:47:16.038+02:00",
         .query = "tz", .answer = "200 text/plain")},
    {METHOD_GET, "/api/v2/{u}/integrations/time/hours", PUBLIC, ROUTE_READ, OP_TIME_HOURS, 0,
     DOC(.id = "local_time_hours", .tag = "time", .summary = "The hour of the day, 0 to 23",
         .query = "tz", .answer = "200 text/plain")},
    {METHOD_GET, "/api/v2/{u}/integrations/time/struct", PUBLIC, ROUTE_READ, OP_TIME_STRUCT, 0,
     DOC(.id = "local_time_struct", .tag = "time", .summary = "The parts of date and clock",
         .query = "tz", .answer = "200 LocalTime")},
    {METHOD_GET, "/api/v2/{u}/integrations/time/strftime", PUBLIC, ROUTE_READ, OP_TIME_STRFTIME, 0,
     DOC(.id = "local_time_strftime", .tag = "time", .summary = "The time in words of your own",
         .query = "tz fmt", .answer = "200 text/plain")},
    {METHOD_GET, "/openapi.json", SURFACE_PUBLIC, true, ROUTE_PLAIN, OP_OPENAPI, 0,
     DOC(.id = "openapi_get", .tag = "server", .summary = "This document",
         .answer = "200 OpenApi")},
    {METHOD_GET, "/healthz", SURFACE_PUBLIC, true, ROUTE_PLAIN, OP_HEALTHZ, 0,
     DOC(.id = "health_get", .tag = "server", .summary = "Whether the process answers",
         .answer = "200 Health")},
    {METHOD_GET, "/readyz", SURFACE_PUBLIC, true, ROUTE_PLAIN, OP_READYZ, 0,
     DOC(.id = "ready_get", .tag = "server",
         .summary = "Whether it takes messages and has read all", .answer = "200 Health")},
    {METHOD_GET, "/metrics", SURFACE_OPERATOR, false, ROUTE_PLAIN, OP_METRICS, 0,
     DOC(.id = "metrics_get", .tag = "server", .summary = "Metrics in Prometheus' text format",
         .answer = "200 text/plain")},
    {METHOD_GET, "/v1/status", SURFACE_OPERATOR, false, ROUTE_PLAIN, OP_STATUS, 0,
     DOC(.id = "status_get", .tag = "server", .summary = "How all stages are, for people",
         .answer = "200 Status")},
    {METHOD_GET, PPROF, OPERATOR, ROUTE_PROF, OP_PPROF_INDEX, PERM_admin_read,
     DOC(.id = "pprof_index", .tag = "server", .summary = "What profiles there are, for a browser",
         .answer = "200 text/html")},
    {METHOD_GET, PPROF "/profile", OPERATOR, ROUTE_PROF, OP_PPROF_PROFILE, PERM_admin_read,
     DOC(.id = "pprof_profile", .tag = "server",
         .summary = "Where the CPU time of the next seconds goes, as pprof reads it",
         .query = "profile_seconds", .answer = "200 application/octet-stream")},
    {METHOD_GET, PPROF "/flame", OPERATOR, ROUTE_PROF, OP_PPROF_FLAME, PERM_admin_read,
     DOC(.id = "pprof_flame", .tag = "server", .summary = "The same as a flame graph for a browser",
         .query = "profile_seconds", .answer = "200 image/svg+xml")},
    {METHOD_GET, PPROF "/heap", OPERATOR, ROUTE_PROF, OP_PPROF_HEAP, PERM_admin_read,
     DOC(.id = "pprof_heap", .tag = "server",
         .summary = "Who holds memory, as jeprof reads it, if the allocator keeps book",
         .query = "heap_debug", .answer = "200 application/octet-stream text/plain")},
    {METHOD_GET, PPROF "/symbol", OPERATOR, ROUTE_PROF, OP_PPROF_SYMBOLS, PERM_admin_read,
     DOC(.id = "pprof_symbols", .tag = "server", .summary = "Whether there are names for addresses",
         .answer = "200 text/plain")},
    {METHOD_POST, PPROF "/symbol", OPERATOR, ROUTE_PROF, OP_PPROF_SYMBOL, PERM_admin_read,
     DOC(.id = "pprof_symbol", .tag = "server",
         .summary = "Names for addresses of the running program: 0x1f00+0x2a00",
         .body = "text/plain application/x-www-form-urlencoded", .answer = "200 text/plain")},
    {METHOD_GET, PPROF "/cmdline", OPERATOR, ROUTE_PROF, OP_PPROF_CMDLINE, PERM_admin_read,
     DOC(.id = "pprof_cmdline", .tag = "server", .summary = "The program, without its arguments",
         .answer = "200 text/plain")},
    {METHOD_GET, "/v1/admin/*", SURFACE_PUBLIC, true, ROUTE_COMMAND, OP_ADMIN, PERM_admin_read,
     NULL},
    {METHOD_POST, "/v1/admin/*", SURFACE_PUBLIC, true, ROUTE_COMMAND, OP_ADMIN, PERM_admin_write,
     NULL},
    {METHOD_GET, "/v1/webhook/*", PUBLIC, ROUTE_COMMAND, OP_OWN_WEBHOOK, ROUTE_OWN_MAY, NULL},
    {METHOD_POST, "/v1/webhook/*", PUBLIC, ROUTE_COMMAND, OP_OWN_WEBHOOK, ROUTE_OWN_MAY, NULL},
    {METHOD_GET, "/v1/rule/*", PUBLIC, ROUTE_COMMAND, OP_OWN_RULE, ROUTE_OWN_MAY, NULL},
    {METHOD_POST, "/v1/rule/*", PUBLIC, ROUTE_COMMAND, OP_OWN_RULE, ROUTE_OWN_MAY, NULL},
    {METHOD_POST, "/v1/admin/*", SURFACE_ADMIN, false, ROUTE_ADMIN, OP_ADMIN, 0, NULL},
};

#define ROUTES (sizeof routes / sizeof *routes)

const struct route *route_at(unsigned index)
{
    return index < ROUTES ? &routes[index] : NULL;
}

/* Up to the next '/'; *rest goes on behind it. */
static struct slice segment(struct slice *rest)
{
    const char *slash = rest->len ? memchr(rest->ptr, '/', rest->len) : NULL;
    size_t len = slash ? (size_t)(slash - rest->ptr) : rest->len;
    struct slice s = slice_of(rest->ptr, len);
    *rest = slice_from(*rest, slash ? len + 1 : len);
    return s;
}

static bool path_matches(const char *pattern, struct slice path, struct route_match *m)
{
    struct slice want = slice_str(pattern);
    while (want.len) {
        struct slice w = segment(&want);
        if (slice_eq(w, SLICE("*"))) {
            m->rest = path;
            return true;
        }
        bool had = path.len > 0;
        struct slice p = segment(&path);
        if (slice_eq(w, SLICE("{u}")))
            m->username = p;
        else if (slice_eq(w, SLICE("{g}")))
            m->group = p;
        else if (slice_eq(w, SLICE("{k}")))
            m->feed = p;
        else if (slice_eq(w, SLICE("{id}")) || slice_eq(w, SLICE("{o}")) ||
                 slice_eq(w, SLICE("{c}")))
            m->id = p;
        else if (!slice_eq(w, p))
            return false;
        if (!had && w.len)
            return false;
        if (w.len && !p.len)
            return false;
    }
    return path.len == 0;
}

static bool surface_matches(const struct route *r, enum surface s)
{
    return r->surface == s || (r->everywhere && s != SURFACE_ADMIN);
}

static const char *method_name(enum method m)
{
    static const char *const names[] = {"GET",   "HEAD",   "POST",    "PUT",
                                        "PATCH", "DELETE", "OPTIONS", ""};
    return names[m];
}

/* Beside JSON: data/retain is never anything else. */
static bool serves_csv(const struct route *r)
{
    return r->method == METHOD_GET && r->doc && strstr(r->doc->answer, " text/csv") &&
           r->op != OP_DATA_RETAIN;
}

enum route_found route_find(const struct request *q, struct route_match *ret,
                            struct buf *ret_methods)
{
    if (q->method > METHOD_OTHER)
        return topic_find(q, ret);
    struct slice path = q->path;
    enum method method = q->method == METHOD_HEAD ? METHOD_GET : q->method;
    bool api = slice_starts(path, SLICE("/api/"));
    bool suffix = api && slice_eq(slice_from(path, path.len - 4), SLICE(".csv"));
    if (api && slice_eq(slice_from(path, path.len - 5), SLICE(".json")))
        path.len -= 5;
    bool path_known = false;
    for (unsigned i = 0; i < ROUTES; i++) {
        const struct route *r = &routes[i];
        struct route_match m = {.route = r};
        struct slice bare = path;
        bool csv = (suffix || q->accept.len) && serves_csv(r);
        if (csv && suffix)
            bare.len -= 4;
        if (!surface_matches(r, q->surface) || !path_matches(r->path, bare, &m))
            continue;
        if (r->method == method) {
            m.csv = csv && (suffix || accept_csv(q->accept));
            buf_clear(ret_methods);
            *ret = m;
            return ROUTE_FOUND;
        }
        buf_put_str(ret_methods, path_known ? ", " : "Allow: ");
        buf_put_str(ret_methods, method_name(r->method));
        path_known = true;
    }
    if (path_known)
        buf_put_str(ret_methods, "\r\n");
    return path_known ? ROUTE_NO_METHOD : ROUTE_NO_PATH;
}
