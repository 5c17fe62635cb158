/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link/note.h - what both ends of the link, and who owns them, speak of: what a number is of, and a
 * line for the audit log.
 */
#pragma once

#include "base/slice.h"

enum link_of { LINK_OF_ACCOUNT, LINK_OF_FEED, LINK_OF_DEVICE };

/* As CATALOG_NOTE has it; its slices are the caller's. */
struct link_note_text {
    uint64_t account, credential;
    struct slice what, subject, more, actor, from;
};
