/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/admin_ask.h - has a command of api/admin.h done: by the running server, asked over its
 * socket, or, while none runs, here and now under the data directory's lock. Main thread only.
 */
#pragma once

#include "api/admin.h"
#include "base/error.h"
#include "config.h"

/* What is asked. */
struct admin_question {
    const struct config *config;
    const struct admin_command *command;
    json_t *args;      /* an object */
    struct slice file; /* of the command's ADMIN_FILE, else nothing */
};

/* What came back. */
struct admin_reply {
    unsigned status; /* as HTTP has it */
    struct buf body; /* JSON */
    bool offline;    /* it was done here */
};

/* 0: there is a reply. Else a negative errno with a sentence. */
int admin_ask(const struct admin_question *q, struct admin_reply *ret, struct error *err);

/* The same for a command with a file of any size: a server gets it in parts, each with the first
 * line, and the answers are added up. When a part is refused, that is the reply, and
 * *ret_first_line the line that it began with (0: it was the first). */
int admin_ask_in_parts(const struct admin_question *q, struct admin_reply *ret,
                       unsigned *ret_first_line, struct error *err);
/* Reads the file, "-" being standard input. */
int admin_read_file(const char *path, struct buf *out, struct error *err);
