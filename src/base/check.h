/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/check.h - assertions. They catch our bugs, never the peer's, and stay on in release:
 * a gateway that is wrong is worse than one that restarts. Any thread.
 */
#pragma once

#define CHECK(e) (__builtin_expect(!!(e), 1) ? (void)0 : check_fail(#e, __FILE__, __LINE__, __func__))

/* A place that no input can reach. */
#define CHECK_UNREACHABLE(what) check_fail("unreachable: " what, __FILE__, __LINE__, __func__)

/* First field of every object that travels through a void pointer is `uint32_t magic`. */
#define OBJ_CHECK(o, MAGIC) (CHECK((o) != 0), CHECK((o)->magic == (MAGIC)))

/* Prints the failed expression with its place on stderr and aborts. */
_Noreturn void check_fail(const char *expr, const char *file, int line, const char *func);
