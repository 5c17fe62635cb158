/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/topic.h - MQTT topic names and filters (MQTT 5.0 section 4.7, 4.8; 3.1.1 section 4.7). What
 * is UTF-8 has been checked before (mqtt.h). Pure functions; any thread.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"

/* Whether it may be published to: at least one character, no wildcard (MQTT-4.7.3-1, 4.7.1-1). */
bool topic_name_valid(struct slice name);
/* Whether it may be subscribed to: at least one character, '#' only as the whole last level
 * (MQTT-4.7.1-2), '+' only as a whole level (MQTT-4.7.1-3). */
bool topic_filter_valid(struct slice filter);
/* Whether a valid filter, one that is not shared, matches a valid name. "a/#" matches "a" too; a
 * wildcard in front does not match names that begin with '$' (MQTT-4.7.2-1). */
bool topic_matches(struct slice filter, struct slice name);
/* The part up to the next '/'; *rest goes on behind it, ptr NULL behind the last one. */
struct slice topic_level(struct slice *rest);

/* Whether one of the rules, filters with a comma between, matches all that the filter can match; a
 * name is a filter too. "{name}" as a level of a rule means the level `self`, and none if that has
 * a character that means something in a filter. No rules: yes. */
bool topic_rules_cover(struct slice rules, struct slice self, struct slice filter);
/* Whether these are rules: each a valid filter of at least one character, none shared. */
bool topic_rules_valid(struct slice rules);

enum topic_share {
    TOPIC_PLAIN,  /* not shared: *ret_filter is the whole filter */
    TOPIC_SHARED, /* "$share/{group}/{filter}" */
    TOPIC_SHARE_BAD,
};

/* Splits a shared subscription (MQTT-4.8.2-1, 4.8.2-2): a group is at least one character without
 * '/', '+' and '#'; what follows it is a valid filter. The slices borrow from `filter`; they are
 * set only where they are meant. */
enum topic_share topic_share_split(struct slice filter, struct slice *ret_group,
                                   struct slice *ret_filter);
