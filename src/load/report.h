/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/report.h - a run as a page for a browser, in one file that needs no network: what was asked,
 * the figures, and how throughput, refusals and latency went. One thread.
 */
#pragma once

#include "load/result.h"

/* 0 or negative errno with a sentence. */
int report_write(const struct result *r, const struct load_opts *opts, const char *path,
                 struct error *err);
