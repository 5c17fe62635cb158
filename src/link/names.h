/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link/names.h - what numbers are called, as it was asked for: a table of at most LINK_NAMES_MAX,
 * which begins anew when it is full. For link/ only; the caller's lock.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_NAMES_MAX (1u << 20)

struct link_names;

/* NULL: no memory. */
struct link_names *link_names_new(void);
/* Accepts NULL. */
void link_names_free(struct link_names *n);
/* False: it is not there. */
bool link_names_find(const struct link_names *n, unsigned of, uint64_t number, char *ret,
                     size_t max);
/* What there is no memory for is not kept. */
void link_names_put(struct link_names *n, unsigned of, uint64_t number, const char *name);
void link_names_forget(struct link_names *n);
/* Changes with each link_names_forget. */
uint64_t link_names_age(const struct link_names *n);
