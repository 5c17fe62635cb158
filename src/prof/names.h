/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prof/names.h - which function of this process is at an address: from the symbol tables of the
 * program and of its libraries, static functions too (libdw). Reads their files; asks no network
 * (DEBUGINFOD_URLS is not looked at). One thread at a time.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct names;

/* What is mapped now. NULL: it could not be found out, and a sentence. */
struct names *names_open(struct error *err);
/* Accepts NULL. */
void names_close(struct names *n);
/* As the linker knows it; where it knows none, the library in brackets. NULL: nothing is mapped
 * there. Good until names_close. */
const char *names_symbol(struct names *n, uint64_t address);
/* For people: C++ in words, without what the linker or the compiler hangs behind the name of a
 * version, a part or a copy of a function; where there is no name, the library in brackets. Quick
 * where addresses come in ascending order. Good until names_close. */
const char *names_function(struct names *n, uint64_t address);
