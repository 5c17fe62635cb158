/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog/seed.h - the roles and plans that a new catalog begins with. Afterwards the database is
 * the truth: editing a line here changes nothing in a catalog that exists.
 *
 * CATALOG_ROLES(ROLE): ROLE(name, permissions); "*" is every permission within an account, also
 * later ones, and none of PERM_ADMIN. The role "admin" came with a later migration.
 * CATALOG_PLANS(PLAN): PLAN(name, account's limits, each credential's limits, feeds)
 */
#pragma once

#define CATALOG_ROLE_OF_KEYS    "owner"
#define CATALOG_ROLE_OF_DEVICES "device"
#define CATALOG_PLAN_DEFAULT    "fleet"

#define CATALOG_ROLES(ROLE)                                                                        \
    ROLE("owner", "*")                                                                             \
    ROLE("device", "data_write|data_read|feed_read|feed_write|account_read")                       \
    ROLE("writer", "data_write")                                                                   \
    ROLE("reader", "data_read|feed_read|account_read")

#define CATALOG_PLANS(PLAN)                                                                        \
    PLAN("free", "30/60s", "", 10)                                                                 \
    PLAN("plus", "60/60s", "", 1000000)                                                            \
    PLAN("fleet", "600000/60s", "600/60s", 1000000)                                                \
    PLAN("demo", "600000/60s", "600/60s", 1000000)
