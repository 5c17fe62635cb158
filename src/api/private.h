/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/private.h - what the files that answer reads share; nobody else includes it.
 */
#pragma once

#include "api/api.h"

#define QUERY_VALUE_MAX 128

/* A decoded query parameter, NUL-terminated in out[QUERY_VALUE_MAX + 1]; empty when absent. What
 * cannot be decoded reads as "?", which none of them takes. */
struct slice api_parameter(struct slice query, const char *name, char *out);
/* The body is written: 200. */
enum api_read api_done(struct exchange *x);
/* `text`: a better sentence than the reason's, or NULL. */
enum api_read api_refuse(struct exchange *x, enum reason reason, const char *text);

/* ---- chart.c ---- */
/* OP_DATA_CHART; as api_read. */
enum api_read api_chart(const struct api *a, struct exchange *x, const struct feed *f,
                        bool may_block);
