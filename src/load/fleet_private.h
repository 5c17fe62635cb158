/* SPDX-License-Identifier: Apache-2.0 */
/* load/fleet_private.h - how the requests of a fleet are made, for load/fleet*.c. */
#pragma once

#include "codec/csv.h"
#include "load/fleet.h"

#define FLEET_REQUEST_MAX (1u << 20)

/* A device as it was given. */
struct fleet_row {
    struct slice id, secret;
    struct slice names[CSV_FIELDS_MAX], fields[CSV_FIELDS_MAX]; /* header fields of its own */
    unsigned fields_count;
};

/* Who sends, as the options have it. */
void fleet_put_credentials(struct buf *out, const struct load_opts *opts,
                           const struct fleet_row *row, struct template_marks *marks);
/* What was put into f->bytes from `at` on is a head; with `body` behind it, it is the next request.
 * Places of `in_head` count from the beginning of f->bytes. */
int fleet_add(struct fleet *f, uint64_t at, const struct template_marks *in_head,
              const struct buf *body, const struct template_marks *in_body, struct slice id,
              struct error *err);

/* --attack malformed and oversize. */
int fleet_malformed(struct fleet *f, struct error *err);
int fleet_oversize(struct fleet *f, const struct load_opts *opts, struct error *err);

/* --replay: with a row for each device that sends, a request for each of the recording. */
int fleet_replay(struct fleet *f, const struct load_opts *opts, struct error *err);
