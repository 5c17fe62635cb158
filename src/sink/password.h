/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/password.h - a target's password, from the file that a setting names. Read at each
 * connection, so that it can be changed while the server runs. For sink/ only; any thread.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"

/* The first line of the file, which CR LF may end too, with a zero byte behind it; nothing but that
 * if `path` is empty. 0 or a negative errno with a sentence that begins with the setting's name.
 * The caller's to give to password_forget in either case. */
int password_read(const char *setting, const char *path, struct buf *ret, struct error *err);
/* Overwrites and frees it. */
void password_forget(struct buf *password);
