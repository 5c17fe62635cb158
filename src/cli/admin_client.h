/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/admin_client.h - asks a running server over its Unix socket DIR/admin.sock: one HTTP/1.1
 * request, one answer, blocking. Main thread only.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"

struct admin_client_request {
    const char *noun, *verb;
    struct slice query; /* with its '?', or empty */
    const char *type;   /* of the body */
    struct slice body;
};

/*
 * POST /v1/admin/NOUN/VERB. 0: *ret_status and the body of the answer appended to
 * `ret_body`. -ENOENT, -ECONNREFUSED: no server listens there, and nothing was asked. Any other
 * negative errno comes with a sentence.
 */
int admin_client_call(const char *dir, const struct admin_client_request *r, unsigned *ret_status,
                      struct buf *ret_body, struct error *err);
/* Takes a whole answer apart; its body borrows. False: it is none, or it was cut short. */
bool admin_client_parse(struct slice answer, unsigned *ret_status, struct slice *ret_body);
