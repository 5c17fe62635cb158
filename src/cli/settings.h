/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/settings.h - --config, --data and --set, which every command takes alike, and the settings
 * they lead to. Main thread only.
 */
#pragma once

#include "cli/opts.h"
#include "config.h"

struct settings_opts {
    const char *config;
    const char *data;
    struct opt_list set;
};

/* The rows for a table of options. */
#define SETTINGS_OPTS(s)                                                                           \
    {                                                                                              \
        "config",                                                                                  \
        "FILE",                                                                                    \
        "Settings in YAML; default: the built-in ones (see sluice config docs)",                   \
        &(s)->config,                                                                              \
        NULL,                                                                                      \
        NULL},                                                                                     \
        {"data",     "DIR", "Directory of everything Sluice keeps; default: data",                 \
         &(s)->data, NULL,  NULL},                                                                 \
    {                                                                                              \
        "set", "NAME=VALUE", "Override one setting, such as listen.http=127.0.0.1:80", NULL, NULL, \
            &(s)->set                                                                              \
    }

/* Reads the file and applies the flags, which win. 0 or a negative errno with a sentence. */
int settings_read(const struct settings_opts *opts, struct config **ret, struct error *err);
/* Reads the file and applies the flags, which win. False: what is wrong is on stderr. */
bool settings_load(const struct settings_opts *opts, struct config **ret);
