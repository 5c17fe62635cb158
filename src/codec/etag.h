/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/etag.h - entity tags (RFC 9110 sections 8.8.3 and 13.1.2). Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

/* The strong tag of a version: 18 characters, quotes and all. */
#define ETAG_LEN 18
void etag_format(char out[ETAG_LEN + 1], uint64_t version);
/* Whether an If-None-Match names the version, or "*". What is no list of tags names nothing. */
bool etag_named(struct slice if_none_match, uint64_t version);

/* The version of an answer that has none but its bytes; `typed`: it is of another type than JSON.
 */
uint64_t etag_version(struct slice body, bool typed);
