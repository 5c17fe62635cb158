/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/form.h - the fields of an HTML form, urlencoded or multipart/form-data (RFC 7578). Pure.
 */
#pragma once

#include "base/buf.h"
#include "codec/points.h"

/* A field; the slices borrow from the body or the storage. 0, or a negative errno that ends the
 * walk. */
typedef int form_field(void *arg, struct slice name, struct slice value);

/* Calls on_field for each. What needs decoding is put into `storage`, which is not moved: it must
 * have room for the body. 0; what on_field returned (*ret_why is NULL); or -EINVAL, -E2BIG with a
 * constant sentence in *ret_why. Values may be any bytes. */
int form_urlencoded(struct slice body, struct buf *storage, form_field *on_field, void *arg,
                    const char **ret_why);
int form_multipart(struct slice body, struct slice boundary, form_field *on_field, void *arg,
                   const char **ret_why);
