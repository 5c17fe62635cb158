/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - the settings, from one YAML file (libyaml) with defaults from options.def. Read at
 * start and at each reload, which makes a new one; constant afterwards. Only the files of src/
 * itself and cli/ see it: a module gets its own small struct.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "flow/principal.h"

struct config {
#define SECTION(section, text) struct {
#define END(section)                                                                               \
    }                                                                                              \
    section;
#define STRING(section, name, when, fallback, text)             const char *name;
#define NUMBER(section, name, when, fallback, min, max, text)   uint64_t name;
#define SIZE(section, name, when, fallback, min, max, text)     uint64_t name;
#define DURATION(section, name, when, fallback, min, max, text) uint64_t name; /* milliseconds */
#define FLAG(section, name, when, fallback, text)               bool name;
#define CHOICE(section, name, when, fallback, choices, text)    const char *name;
#define LIST(section, name, when, what, fallback, text)         const char *name;
#define LIMITS(section, name, when, fallback, text)             struct limit_set name;
#include "options.def"
    void *owned; /* what strings point into; config_free's */
};

/*
 * Reads and checks `path`; NULL: all defaults. An unknown key, a wrong type or a bad value gives a
 * sentence "file:line: section.name: what is wrong" and -EINVAL; an unreadable file its errno.
 */
int config_load(const char *path, struct config **ret, struct error *err);
/* The same from text (`name` stands for the file in messages). */
int config_parse(const char *name, struct slice yaml, struct config **ret, struct error *err);
/*
 * Overrides one setting: `assignment` is "section.name=value", checked as the file's values are.
 * Messages begin with `name` ("--set") in the place of the file. 0 or -EINVAL.
 */
int config_set(struct config *c, const char *name, struct slice assignment, struct error *err);
/* The same in parts, for a flag of its own such as --data; messages begin with `name`. */
int config_override(struct config *c, const char *name, struct slice section, struct slice setting,
                    struct slice value, struct error *err);
void config_free(struct config *c);

/* A setting whose values in two configs differ. */
struct config_change {
    const char *section, *name;
    bool live; /* else it takes effect at the next start */
    struct slice before, after;
};
/*
 * Makes `next` what may be in force after `now`: settings that take effect at a start only keep the
 * value they have in `now`. Calls `each` for every setting that differs, in the order of
 * options.def. 0, or -ENOMEM: `next` is to be freed.
 */
int config_succeed(const struct config *now, struct config *next,
                   void (*each)(void *arg, const struct config_change *change), void *arg);
/* The next item of a LIST. False: there is none left. Pure. */
bool config_list_next(struct slice *rest, struct slice *item);
#define CONFIG_NETWORKS_MAX 64 /* items of a LIST of networks */
/* The effective settings as YAML that config_parse reads back to the same. */
void config_format(const struct config *c, struct buf *out);
/* docs/options.md. */
void config_format_docs(struct buf *out);
