/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz/fuzz.h - what a fuzz target exports, to libFuzzer or to replay.c.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Tries one input; returns 0. Aborts when a promise does not hold. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
