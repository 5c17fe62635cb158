/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of commands. What stands here is what --help says, what is accepted, and what GET
 * /openapi.json describes. A row: noun, verb, one line of help, an example, whether it changes
 * anything, its arguments, its function, and the name of its answer's schema in api/openapi.json.
 */
#include "api/admin_ops.h"

#define ACCOUNT                                                                                    \
    {                                                                                              \
        "account", "ACCOUNT", ADMIN_NEEDED, false, "Name of the account"                           \
    }
#define DEVICE                                                                                     \
    {                                                                                              \
        "device", "DEVICE", ADMIN_NEEDED, false, "Device id, unique on this server"                \
    }
#define KEY                                                                                        \
    {                                                                                              \
        "name", "NAME", ADMIN_NEEDED, false, "What the key is called"                              \
    }
#define SECRET                                                                                     \
    {                                                                                              \
        "secret", "SECRET", ADMIN_OPTION, true,                                                    \
            "A secret the device already has, instead of a new one; - reads it from standard "     \
            "input"                                                                                \
    }
#define HASH                                                                                       \
    {                                                                                              \
        "hash", "HASH", ADMIN_OPTION, false,                                                       \
            "A hash that exists already, as crypt(3) writes it: $2b$... or $y$..."                 \
    }
#define KEY_GIVEN                                                                                  \
    {                                                                                              \
        "key", "KEY", ADMIN_OPTION, true,                                                          \
            "A key that exists already, in Adafruit's form, instead of a new one; - reads it "     \
            "from standard input"                                                                  \
    }
#define FEEDS                                                                                      \
    {                                                                                              \
        "feeds", "FEEDS", ADMIN_OPTION, false,                                                     \
            "Feed keys it is bound to, comma-separated, * at the end matches; default: all",       \
            ADMIN_LIST                                                                             \
    }
#define BCRYPT                                                                                     \
    {                                                                                              \
        "bcrypt", NULL, ADMIN_SWITCH, false, "Keep a bcrypt hash even of a secret that needs none" \
    }
#define LIST_SKIP                                                                                  \
    {                                                                                              \
        "skip", "N", ADMIN_OPTION, false, "Leave out the first N", ADMIN_COUNT                     \
    }
#define LIST_LIMIT                                                                                 \
    {                                                                                              \
        "limit", "N", ADMIN_OPTION, false, "At most N (default 1000)", ADMIN_COUNT                 \
    }

#define ROLE                                                                                       \
    {                                                                                              \
        "role", "ROLE", ADMIN_NEEDED, false, "Name of the role"                                    \
    }
#define PERMISSIONS                                                                                \
    {                                                                                              \
        "permissions", "PERMISSIONS", ADMIN_NEEDED, false,                                         \
            "What it may do, comma-separated; * is all within an account (see: permission list)",  \
            ADMIN_LIST                                                                             \
    }
#define PLAN                                                                                       \
    {                                                                                              \
        "plan", "PLAN", ADMIN_NEEDED, false, "Name of the plan"                                    \
    }
#define ROLE_TOPICS(default)                                                                       \
    {"publish",                                                                                    \
     "FILTERS",                                                                                    \
     ADMIN_OPTION,                                                                                 \
     false,                                                                                        \
     "MQTT topics other than feeds that it may publish to: filters, comma-separated, {name} as a " \
     "level is the device's id or the key's name; default: " default,                              \
     ADMIN_LIST},                                                                                  \
    {                                                                                              \
        "subscribe", "FILTERS", ADMIN_OPTION, false,                                               \
            "The same of subscriptions; default: " default, ADMIN_LIST                             \
    }
#define TOPICS(default)                                                                            \
    {                                                                                              \
        "topics", "TOPICS", ADMIN_OPTION, false,                                                   \
            "MQTT topics there are: adafruit, feeds and groups only, or any, seen by nobody but "  \
            "the account; default: " default                                                       \
    }
#define ACK(default)                                                                               \
    {                                                                                              \
        "ack", "ACK", ADMIN_OPTION, false,                                                         \
            "When accepted is said, where a request does not say: received, durable, applied or "  \
            "delivered:SINK; default: " default                                                    \
    }
#define PLAN_LIMITS                                                                                \
    {"limits", "LIMITS", ADMIN_OPTION, false,                                                      \
     "Messages of a whole account, such as \"600/60s, 50/1s\"; empty: no limit"},                  \
        {"device_limits", "LIMITS", ADMIN_OPTION, false,                                           \
         "Messages of each device and key; empty: no limit"},                                      \
    {                                                                                              \
        "feeds_max", "N", ADMIN_OPTION, false, "Feeds of an account (default 1000000)",            \
            ADMIN_COUNT                                                                            \
    }
#define ROLE_TO_BE                                                                                 \
    {                                                                                              \
        "role", "ROLE", ADMIN_OPTION, false, "What it may do from now on; default: as it is"       \
    }
#define FEEDS_TO_BE                                                                                \
    {                                                                                              \
        "feeds", "FEEDS", ADMIN_OPTION, false,                                                     \
            "Feed keys it is bound to from now on, comma-separated, * at the end matches; empty: " \
            "all; default: as they are",                                                           \
            ADMIN_LIST                                                                             \
    }

#define SINK                                                                                       \
    {                                                                                              \
        "sink", "SINK", ADMIN_NEEDED, false, "Name of the sink, as sink list tells it"             \
    }
#define PLACES                                                                                     \
    "an offset, a time such as 2026-11-28T16:00:00Z, a day, or a length such as 24h ago; times "   \
    "are as exact as the journal's segments are"

#define WEBHOOK                                                                                    \
    {                                                                                              \
        "webhook", "WEBHOOK", ADMIN_NEEDED, false, "Its number, as webhook list tells it",         \
            ADMIN_COUNT                                                                            \
    }
#define RULE                                                                                       \
    {                                                                                              \
        "rule", "RULE", ADMIN_NEEDED, false, "Its number, as rule list tells it", ADMIN_COUNT      \
    }
#define WEBHOOK_TO_BE                                                                              \
    {"feeds",                                                                                      \
     "FEEDS",                                                                                      \
     ADMIN_OPTION,                                                                                 \
     false,                                                                                        \
     "Feed keys, and topics, that it gets, comma-separated, * at the end matches; empty: all",     \
     ADMIN_LIST},                                                                                  \
        {"order", "ORDER", ADMIN_OPTION, false,                                                    \
         "none, or feed: the messages of a feed one after the other"},                             \
    {                                                                                              \
        "events_max", "N", ADMIN_OPTION, false, "Messages of one request (1 to 1000)", ADMIN_COUNT \
    }

const struct admin_command admin_commands[] = {
    {"account",
     "add",
     "Make an account",
     "sluice account add acme --limits \"6000/60s, 500/1s\"",
     true,
     {ACCOUNT,
      {"plan", "PLAN", ADMIN_OPTION, false, "Where limits come from: fleet (default), free, plus"},
      {"limits", "LIMITS", ADMIN_OPTION, false,
       "Messages of the whole account, such as \"600/60s, 50/1s\"; default: the plan's"},
      {"device_limits", "LIMITS", ADMIN_OPTION, false,
       "Messages of each device and key; default: the plan's"},
      TOPICS("adafruit"),
      ACK("the plan's")},
     account_add,
     "Account"},
    {"account",
     "list",
     "List accounts",
     "sluice account list",
     false,
     {LIST_SKIP, LIST_LIMIT},
     account_list,
     "AccountList"},
    {"account",
     "show",
     "Show an account and how much it holds",
     "sluice account show acme",
     false,
     {ACCOUNT},
     account_show,
     "Account"},
    {"account",
     "change",
     "Change an account's plan, limits, topics and ack level; in force before this returns",
     "sluice account change acme --plan plus",
     true,
     {ACCOUNT,
      {"plan", "PLAN", ADMIN_OPTION, false, "Where limits come from; default: as it is"},
      {"limits", "LIMITS", ADMIN_OPTION, false,
       "Messages of the whole account; empty: the plan's; default: as they are"},
      {"device_limits", "LIMITS", ADMIN_OPTION, false,
       "Messages of each device and key; empty: the plan's; default: as they are"},
      TOPICS("as they are"),
      ACK("as it is; empty: the plan's")},
     account_change,
     "Account"},
    {"account",
     "disable",
     "Lock all keys and devices of an account out, before this returns",
     "sluice account disable acme",
     true,
     {ACCOUNT},
     account_disable,
     "Account"},
    {"account",
     "enable",
     "Let a disabled account in again",
     "sluice account enable acme",
     true,
     {ACCOUNT},
     account_enable,
     "Account"},
    {"account",
     "remove",
     "Remove an account with its keys, devices and feeds",
     "sluice account remove acme",
     true,
     {ACCOUNT},
     account_remove,
     "Removed"},
    {"account",
     "export",
     "Print all of an account, one JSON object a line: its records, then its data",
     "sluice account export acme",
     false,
     {ACCOUNT,
      {"from", "PLACE", ADMIN_OPTION, false, "Where to go on: what the answer before called next"}},
     account_export,
     "Export"},
    {"account",
     "erase",
     "Erase an account: remove it, destroy its keys, write catalog and history anew without it",
     "sluice account erase acme",
     true,
     {ACCOUNT},
     account_erase,
     "Erased"},

    {"key",
     "add",
     "Make an account key, for applications (X-AIO-Key)",
     "sluice key add acme dashboard --role reader",
     true,
     {ACCOUNT,
      KEY,
      {"role", "ROLE", ADMIN_OPTION, false,
       "What it may do: owner (default), writer, reader, device"},
      FEEDS,
      KEY_GIVEN},
     key_add,
     "Key"},
    {"key",
     "list",
     "List the keys of an account",
     "sluice key list acme",
     false,
     {ACCOUNT, LIST_SKIP, LIST_LIMIT},
     key_list,
     "KeyList"},
    {"key",
     "show",
     "Show what a key may do; the key itself is not stored",
     "sluice key show acme dashboard",
     false,
     {ACCOUNT, KEY},
     key_show,
     "Key"},
    {"key",
     "change",
     "Change what a key may do; in force before this returns",
     "sluice key change acme dashboard --role reader",
     true,
     {ACCOUNT, KEY, ROLE_TO_BE, FEEDS_TO_BE},
     key_change,
     "Key"},
    {"key",
     "regenerate",
     "Put a new key in a key's place; the old one stops working before this returns",
     "sluice key regenerate acme dashboard",
     true,
     {ACCOUNT, KEY, KEY_GIVEN},
     key_regenerate,
     "Key"},
    {"key",
     "remove",
     "Remove a key; it stops working before this returns",
     "sluice key remove acme dashboard",
     true,
     {ACCOUNT, KEY},
     key_remove,
     "Removed"},

    {"device",
     "add",
     "Make a device with its secret",
     "sluice device add acme truck-17 --feeds \"trucks.*\"",
     true,
     {ACCOUNT,
      DEVICE,
      {"role", "ROLE", ADMIN_OPTION, false,
       "What it may do: device (default), writer, reader, owner"},
      FEEDS,
      SECRET,
      HASH,
      BCRYPT},
     device_add,
     "Device"},
    {"device",
     "import",
     "Make devices from a CSV file of ids and hashes, line by line; lines that are wrong are left "
     "out and told, so a file that was put right can be sent again",
     "sluice device import acme fleet.csv --role device",
     true,
     {ACCOUNT,
      {"file", "FILE", ADMIN_FILE, false,
       "CSV whose first line names the columns: device,hash and, if wished, role,feeds; - reads "
       "standard input"},
      {"role", "ROLE", ADMIN_OPTION, false, "Of lines that name none: device (default)"},
      {"feeds", "FEEDS", ADMIN_OPTION, false, "Of lines that name none; default: all", ADMIN_LIST},
      {"first_line", "N", ADMIN_OPTION, false,
       "Number of the second line, when a file is sent in parts, each with the first line",
       ADMIN_COUNT}},
     device_import,
     "Imported"},
    {"device",
     "list",
     "List the devices of an account",
     "sluice device list acme",
     false,
     {ACCOUNT, LIST_SKIP, LIST_LIMIT},
     device_list,
     "DeviceList"},
    {"device",
     "show",
     "Show what a device may do",
     "sluice device show truck-17",
     false,
     {DEVICE},
     device_show,
     "Device"},
    {"device",
     "change",
     "Change what a device may do; in force before this returns",
     "sluice device change truck-17 --feeds \"trucks.*\"",
     true,
     {DEVICE, ROLE_TO_BE, FEEDS_TO_BE},
     device_change,
     "Device"},
    {"device",
     "secret",
     "Give a device a new secret; the old one stops working before this returns",
     "sluice device secret truck-17",
     true,
     {DEVICE, SECRET, HASH, BCRYPT},
     device_secret,
     "Device"},
    {"device",
     "psk",
     "Show a device's pre-shared key for TLS, in hex; its identity is the device id. A new secret "
     "makes a new key",
     "sluice device psk truck-17",
     true,
     {DEVICE},
     device_psk,
     "Device"},
    {"device",
     "disable",
     "Lock a device out, before this returns",
     "sluice device disable truck-17",
     true,
     {DEVICE},
     device_disable,
     "Device"},
    {"device",
     "enable",
     "Let a disabled device in again",
     "sluice device enable truck-17",
     true,
     {DEVICE},
     device_enable,
     "Device"},
    {"device",
     "remove",
     "Remove a device; it is locked out before this returns",
     "sluice device remove truck-17",
     true,
     {DEVICE},
     device_remove,
     "Removed"},
    {"device",
     "erase",
     "Erase a device: remove it and write the catalog anew without it",
     "sluice device erase truck-17 --feeds",
     true,
     {DEVICE,
      {"feeds", NULL, ADMIN_SWITCH, false,
       "Erase with all their data the feeds it is bound to by their whole keys, too"}},
     device_erase,
     "DeviceErased"},
    {"quarantine",
     "list",
     "List devices and keys in quarantine: far beyond their share of a busy account, or by hand",
     "sluice quarantine list",
     false,
     {{0}},
     quarantine_list,
     "QuarantineList"},
    {"quarantine",
     "add",
     "Refuse all a device sends until it is released, or the server restarts",
     "sluice quarantine add truck-17 --for 2h",
     true,
     {DEVICE, {"for", "TIME", ADMIN_OPTION, false, "Only so long, such as 30m or 2h"}},
     quarantine_add,
     "Quarantined"},
    {"quarantine",
     "remove",
     "Release a device, with a clean slate",
     "sluice quarantine remove truck-17",
     true,
     {DEVICE},
     quarantine_remove,
     "Removed"},
    {"throttle",
     "explain",
     "Show which limits apply, how much of them is used and when they free, whom they refused, and "
     "who uses a busy account most",
     "sluice throttle explain acme",
     false,
     {{"who", "ACCOUNT|DEVICE", ADMIN_NEEDED, false, "Name of an account, or id of a device"}},
     throttle_explain,
     "Explanation"},
    {"rollup",
     "show",
     "Show whether all rollups are there; charts without them are right too, but slower",
     "sluice rollup show",
     false,
     {{0}},
     rollup_show,
     "Rollups"},
    {"rollup",
     "rebuild",
     "Make all rollups anew from the data, while the server runs",
     "sluice rollup rebuild",
     true,
     {{0}},
     rollup_rebuild,
     "Rollups"},

    {"sink",
     "list",
     "Show how far each sink is, and what keeps it from its target",
     "sluice sink list",
     false,
     {{0}},
     sink_list,
     "SinkList"},
    {"sink",
     "pause",
     "Deliver nothing to a sink's target until it is resumed, over restarts too",
     "sluice sink pause postgres",
     true,
     {SINK},
     sink_pause_it,
     "Sink"},
    {"sink",
     "resume",
     "Let a paused sink go on where it was",
     "sluice sink resume postgres",
     true,
     {SINK},
     sink_resume_it,
     "Sink"},
    {"sink",
     "replay",
     "Deliver once more what the journal still has of a stretch, after live messages; PostgreSQL "
     "has each message once all the same. A restart forgets it",
     "sluice sink replay postgres --from 24h",
     true,
     {SINK,
      {"from", "PLACE", ADMIN_OPTION, false, "Where to begin: " PLACES "; default: the oldest"},
      {"to", "PLACE", ADMIN_OPTION, false, "Where to end, likewise; default: where the sink is"}},
     sink_replay_it,
     "Sink"},
    {"sink",
     "test",
     "Send a sink's target something that is no message, and show what it says",
     "sluice sink test webhook",
     true,
     {SINK},
     sink_test_it,
     "Attempt"},
    {"sink",
     "log",
     "Show what a sink's target said to the last attempts, the newest first; a restart forgets "
     "them",
     "sluice sink log webhook",
     false,
     {SINK,
      {"limit", "N", ADMIN_OPTION, false, "At most N (default 20, at most 256)", ADMIN_COUNT}},
     sink_log,
     "Attempts"},
    {"dlq",
     "list",
     "Show a sink's dead letters: messages that its target refuses for what they are",
     "sluice dlq list postgres",
     false,
     {SINK,
      {"from", "N", ADMIN_OPTION, false, "Only from this offset on"},
      {"limit", "N", ADMIN_OPTION, false, "At most N (default 100, at most 1000)", ADMIN_COUNT}},
     dead_list,
     "DeadLetters"},
    {"dlq",
     "retry",
     "Try dead letters once more; those that are taken are dead no longer",
     "sluice dlq retry postgres",
     true,
     {SINK, {"offset", "N", ADMIN_OPTION, false, "Only the one of this offset"}},
     dead_retry,
     "DeadRetried"},

    {"webhook",
     "add",
     "Post what comes of an account to a URL, from now on; the answer has the secret that requests "
     "are signed with",
     "sluice webhook add acme https://hooks.example.org/x",
     true,
     {ACCOUNT,
      {"url", "URL", ADMIN_NEEDED, false, "https:// or http://, no password in it"},
      WEBHOOK_TO_BE},
     webhook_add,
     "Webhook"},
    {"webhook",
     "list",
     "Show webhooks: how far each is, and what keeps it",
     "sluice webhook list --account acme",
     false,
     {{"account", "ACCOUNT", ADMIN_OPTION, false, "Only this account's"}},
     webhook_list,
     "WebhookList"},
    {"webhook",
     "show",
     "Show one",
     "sluice webhook show 7",
     false,
     {WEBHOOK},
     webhook_show,
     "Webhook"},
    {"webhook",
     "change",
     "Change where it posts to, and what",
     "sluice webhook change 7 --feeds \"trucks.*\"",
     true,
     {WEBHOOK,
      {"url", "URL", ADMIN_OPTION, false, "Where from now on; default: as it is"},
      WEBHOOK_TO_BE},
     webhook_change,
     "Webhook"},
    {"webhook",
     "remove",
     "Post nothing there any more, and forget it",
     "sluice webhook remove 7",
     true,
     {WEBHOOK},
     webhook_remove,
     "Webhook"},
    {"webhook",
     "pause",
     "Post nothing until it is resumed",
     "sluice webhook pause 7",
     true,
     {WEBHOOK},
     webhook_pause,
     "Webhook"},
    {"webhook",
     "resume",
     "Let it go on where it was, at once, also if it was disabled",
     "sluice webhook resume 7",
     true,
     {WEBHOOK},
     webhook_resume,
     "Webhook"},
    {"webhook",
     "rotate",
     "Make a new secret, which signs beside the last one until the next rotation",
     "sluice webhook rotate 7",
     true,
     {WEBHOOK},
     webhook_rotate,
     "Webhook"},
    {"webhook",
     "replay",
     "Post everything from a place on once more, as far as the journal reaches",
     "sluice webhook replay 7 --from 24h",
     true,
     {WEBHOOK,
      {"from", "PLACE", ADMIN_OPTION, false, "Where to begin: " PLACES "; default: the oldest"}},
     webhook_replay,
     "Webhook"},
    {"webhook",
     "retry",
     "Try messages that it refused at once",
     "sluice webhook retry 7",
     true,
     {WEBHOOK},
     webhook_retry,
     "Webhook"},
    {"webhook",
     "test",
     "Send it an event of the type webhook.test, and show what it says",
     "sluice webhook test 7",
     true,
     {WEBHOOK},
     webhook_try,
     "Attempt"},
    {"webhook",
     "log",
     "Show what it said to the last attempts, the newest first; a restart forgets them",
     "sluice webhook log 7",
     false,
     {WEBHOOK},
     webhook_log,
     "Attempts"},

    {"rule",
     "add",
     "Publish a message whenever a feed does what is said, from now on: to another feed, to a "
     "webhook, or to the MQTT topic ACCOUNT/rules/NUMBER",
     "sluice rule add acme temperature \"above 30 clear 28\" --to alarm",
     true,
     {ACCOUNT,
      {"feed", "FEED", ADMIN_NEEDED, false, "Key of the feed that is looked at"},
      {"when", "WHEN", ADMIN_NEEDED, false,
       "above N or below N, with \"clear N\" behind it, where it is over; change, or change N: by "
       "more than that; silence T: nothing has come for so long"},
      {"to", "FEED", ADMIN_OPTION, false,
       "Key of the feed of the account that its message goes to"},
      {"webhook", "WEBHOOK", ADMIN_OPTION, false,
       "Number of the account's webhook that gets it, whatever feeds that has", ADMIN_COUNT},
      {"value", "VALUE", ADMIN_OPTION, false,
       "The message; default: the value that came, of silence its seconds"},
      {"every", "TIME", ADMIN_OPTION, false,
       "What happens so soon behind the last message causes none; default: 0s"}},
     rule_add,
     "Rule"},
    {"rule",
     "list",
     "Show rules: when each has fired, how often, and what went wrong",
     "sluice rule list --account acme",
     false,
     {{"account", "ACCOUNT", ADMIN_OPTION, false, "Only this account's"}},
     rule_list,
     "RuleList"},
    {"rule", "remove", "Forget one", "sluice rule remove 3", true, {RULE}, rule_remove, "Rule"},
    {"rule",
     "test",
     "Have it publish its message now, and wait until that is stored",
     "sluice rule test 3 --value 31",
     true,
     {RULE, {"value", "VALUE", ADMIN_OPTION, false, "In place of what comes; default: 1"}},
     rule_test,
     "Rule"},

    {"audit",
     "list",
     "Show who changed what, the newest first",
     "sluice audit list --account acme --since 24h",
     false,
     {{"account", "ACCOUNT", ADMIN_OPTION, false, "Only changes of this account"},
      {"since", "TIME", ADMIN_OPTION, false,
       "Only changes from then on: 2026-11-28T16:00:00Z, a day, or a length such as 24h ago"},
      {"until", "TIME", ADMIN_OPTION, false, "Only changes before then, written likewise"},
      {"actor", "ACTOR", ADMIN_OPTION, false,
       "Only changes by: cli, admin, key:ACCOUNT/NAME, device:ID; * at the end matches"},
      {"before", "N", ADMIN_OPTION, false, "Only entries below number N", ADMIN_COUNT},
      {"limit", "N", ADMIN_OPTION, false, "At most N (default 100, at most 1000)", ADMIN_COUNT}},
     audit_list,
     "AuditList"},
    {"audit",
     "verify",
     "Check the whole audit log: no entry was changed, taken out or put in; the hash of the last "
     "one stands for all",
     "sluice audit verify",
     false,
     {{0}},
     audit_check,
     "AuditVerified"},
    {"backup",
     "stage",
     "Keep the server's state of now still in the folder backup.tmp, for sluice backup, which "
     "copies it. Whoever else copies it holds a lock on the file backup.lock (flock); without that "
     "lock it is removed within a minute",
     "sluice backup stage",
     true,
     {{"to", "DIR", ADMIN_OPTION, false, "Where it is copied to, for the audit log"}},
     backup_begin,
     "Staged"},
    {"backup",
     "release",
     "Remove what was kept still for a backup",
     "sluice backup release 00112233445566778899aabbccddeeff",
     true,
     {{"token", "TOKEN", ADMIN_NEEDED, false, "What backup stage answered"}},
     backup_release,
     "Removed"},

    {"capture",
     "take",
     "Record a sample of the requests that arrive, without bodies and with '*' for secrets; "
     "answers "
     "those since the last call, and ends ten seconds after the last one",
     "sluice capture take --every 100",
     true,
     {{"every", "N", ADMIN_OPTION, false, "Record one request of N; without it no more",
       ADMIN_COUNT}},
     capture_lines,
     "Captured"},
    {"config",
     "reload",
     "Read the settings again; what takes effect at once is in force before this returns",
     "sluice config reload",
     true,
     {{0}},
     config_reload,
     "Reloaded"},

    {"role", "list", "List roles", "sluice role list", false, {{0}}, role_list, "RoleList"},
    {"role",
     "show",
     "Show what a role may do",
     "sluice role show reader",
     false,
     {ROLE},
     role_show,
     "Role"},
    {"role",
     "add",
     "Make a role of permissions",
     "sluice role add viewer data_read,feed_read",
     true,
     {ROLE, PERMISSIONS, ROLE_TOPICS("all")},
     role_add,
     "Role"},
    {"role",
     "change",
     "Change what all who have a role may do; in force before this returns",
     "sluice role change viewer data_read",
     true,
     {ROLE, PERMISSIONS, ROLE_TOPICS("as they are")},
     role_change,
     "Role"},
    {"role",
     "remove",
     "Remove a role that nobody has",
     "sluice role remove viewer",
     true,
     {ROLE},
     role_remove,
     "Removed"},

    {"plan", "list", "List plans", "sluice plan list", false, {{0}}, plan_list, "PlanList"},
    {"plan",
     "show",
     "Show the limits of a plan",
     "sluice plan show fleet",
     false,
     {PLAN},
     plan_show,
     "Plan"},
    {"plan",
     "add",
     "Make a plan: limits that accounts can have",
     "sluice plan add class --limits 300/60s --feeds-max 100",
     true,
     {PLAN, PLAN_LIMITS, ACK("the server's")},
     plan_add,
     "Plan"},
    {"plan",
     "change",
     "Change the limits of all accounts with a plan; in force before this returns",
     "sluice plan change class --limits 600/60s",
     true,
     {PLAN, PLAN_LIMITS, ACK("as it is; empty: the server's")},
     plan_change,
     "Plan"},
    {"plan",
     "remove",
     "Remove a plan that no account has",
     "sluice plan remove class",
     true,
     {PLAN},
     plan_remove,
     "Removed"},

    {"permission",
     "list",
     "List what roles can be made of",
     "sluice permission list",
     false,
     {{0}},
     permission_list,
     "PermissionList"},
    {0},
};

bool admin_is_own(const struct admin_command *c)
{
    return !strcmp(c->noun, "webhook") || !strcmp(c->noun, "rule");
}

const struct admin_command *admin_find(struct slice noun, struct slice verb)
{
    for (const struct admin_command *c = admin_commands; c->noun; c++)
        if (slice_eq(noun, slice_str(c->noun)) && slice_eq(verb, slice_str(c->verb)))
            return c;
    return NULL;
}

bool admin_takes_file(const struct admin_command *c)
{
    for (unsigned i = 0; i < ADMIN_ARGS_MAX && c->args[i].name; i++)
        if (c->args[i].kind == ADMIN_FILE)
            return true;
    return false;
}
