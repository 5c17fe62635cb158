/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/error.h - a sentence for a person: what went wrong and where. Caller's storage, one thread.
 *
 * Three kinds of failure, three forms (ARCHITECTURE.md): our bug -> CHECK; the world failed ->
 * negative errno, with a `struct error` where a person will read it; an outcome -> a positive enum
 * of that function.
 */
#pragma once

struct error {
    char text[512];
};

/* Writes the sentence (cut at the end of the field) and returns `code`, a negative errno, so that
 * a caller can say `return error_set(err, -EINVAL, "...")`. `err` may be NULL. */
int error_set(struct error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
