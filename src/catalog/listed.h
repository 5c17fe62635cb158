/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog/listed.h - roles and plans as CATALOG_ROLE_* and CATALOG_PLAN_* answer with them: values
 * in the asker's buffer. There are few, and only administrators look at them, so they are read from
 * the database; what a message needs of them lies in the records of accounts and credentials.
 */
#pragma once

#include <stdint.h>

#include "flow/ack.h"
#include "flow/limits.h"

#define LIMITS_TEXT_MAX 128  /* bytes of limits as they are written */
#define ROLES_MAX       1000 /* of a server */
#define PLANS_MAX       1000

struct catalog_role {
    char name[USERNAME_MAX + 1];
    char publish[TOPIC_RULES_MAX + 1], subscribe[TOPIC_RULES_MAX + 1]; /* empty: all */
    uint64_t permissions;
    uint64_t credentials; /* how many have it */
};

struct catalog_plan {
    char name[USERNAME_MAX + 1];
    char limits[LIMITS_TEXT_MAX + 1]; /* of the account */
    char device_limits[LIMITS_TEXT_MAX + 1];
    char ack[ACK_TEXT_MAX + 1]; /* empty: the server's */
    uint64_t feeds_max;
    uint64_t accounts; /* how many have it */
};
