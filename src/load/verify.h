/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/verify.h - reads back what a run sent, through the server's API for applications, and enters
 * it in the run's ledger. One thread, waiting.
 */
#pragma once

#include "load/ask.h"
#include "load/feeds.h"
#include "load/ledger.h"
#include "load/load_opts.h"

struct verify {
    struct ask ask;
    struct buf user;  /* whose key it is */
    struct buf since; /* the server's clock before the run */
};

/* Before the run: who the key belongs to, and the time. 0, or negative errno with a sentence. */
int verify_begin(struct verify *v, const struct load_opts *opts, struct error *err);
/* After it: every datum since, of every feed, into the ledger. 0, or negative errno with a
 * sentence: then nothing is proven. */
int verify_read(struct verify *v, const struct feeds *feeds, struct ledger *ledger,
                struct error *err);
/* Accepts a zeroed one. */
void verify_fini(struct verify *v);

/* The sequence in a value: the first 16 digits with none beside them that begin with 1. False:
 * there is none. */
bool verify_sequence(struct slice value, uint64_t *ret);
