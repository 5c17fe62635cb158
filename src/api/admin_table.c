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
       "Messages of each device and key; default: the plan's"}},
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
     "remove",
     "Remove an account with its keys, devices and feeds",
     "sluice account remove acme",
     true,
     {ACCOUNT},
     account_remove,
     "Removed"},

    {"key",
     "add",
     "Make an account key, for applications (X-AIO-Key)",
     "sluice key add acme dashboard --role reader",
     true,
     {ACCOUNT,
      KEY,
      {"role", "ROLE", ADMIN_OPTION, false,
       "What it may do: owner (default), writer, reader, device"},
      {"key", "KEY", ADMIN_OPTION, true,
       "A key that exists already, in Adafruit's form, instead of a new one; - reads it from "
       "standard "
       "input"}},
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
      {"feeds", "FEEDS", ADMIN_OPTION, false,
       "Feed keys it is bound to, comma-separated, * at the end matches; default: all", ADMIN_LIST},
      SECRET,
      HASH,
      BCRYPT},
     device_add,
     "Device"},
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
     "secret",
     "Give a device a new secret; the old one stops working before this returns",
     "sluice device secret truck-17",
     true,
     {DEVICE, SECRET, HASH, BCRYPT},
     device_secret,
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
    {0},
};

const struct admin_command *admin_find(struct slice noun, struct slice verb)
{
    for (const struct admin_command *c = admin_commands; c->noun; c++)
        if (slice_eq(noun, slice_str(c->noun)) && slice_eq(verb, slice_str(c->verb)))
            return c;
    return NULL;
}
