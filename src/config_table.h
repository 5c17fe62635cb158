/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_table.h - options.def as a table, for the files config*.c only: what settings there are,
 * and how the text of one becomes its value and back. Constant and pure; any thread.
 */
#pragma once

#include "config.h"

enum setting_kind {
    SETTING_STRING,
    SETTING_NUMBER,
    SETTING_SIZE,
    SETTING_DURATION,
    SETTING_FLAG,
    SETTING_CHOICE,
    SETTING_LIMITS,
    SETTING_LIST,
};

struct setting {
    const char *section;
    const char *name;
    enum setting_kind kind;
    size_t offset;        /* of its value in struct config */
    const char *fallback; /* STRING, CHOICE, LIMITS: the default */
    uint64_t number;      /* the other kinds: the default */
    uint64_t min, max;
    const char *choices; /* CHOICE: "a|b|c"; LIST: "addresses" or "networks" */
    const char *text;
    bool live; /* a reload changes it */
};

struct config_section {
    const char *name;
    const char *text;
};

/* Numbers of the rows below. */
enum {
#define SECTION(section, text)
#define STRING(section, name, ...)   ROW_##section##_##name,
#define NUMBER(section, name, ...)   ROW_##section##_##name,
#define SIZE(section, name, ...)     ROW_##section##_##name,
#define DURATION(section, name, ...) ROW_##section##_##name,
#define FLAG(section, name, ...)     ROW_##section##_##name,
#define CHOICE(section, name, ...)   ROW_##section##_##name,
#define LIMITS(section, name, ...)   ROW_##section##_##name,
#define LIST(section, name, ...)     ROW_##section##_##name,
#include "options.def"
    SETTINGS_COUNT
};

enum {
#define SECTION(section, text) ROW_##section,
#include "options.def"
    SECTIONS_COUNT
};

extern const struct setting config_settings[SETTINGS_COUNT];
extern const struct config_section config_sections[SECTIONS_COUNT];

/* The row's number, or -1. */
int config_section_find(struct slice name);
int config_setting_find(struct slice section, struct slice name);

/* Checks `text` and stores the value. A text is copied and owned by the config. 0, or -EINVAL with
 * what is wrong, without place and name: those are the caller's; or -ENOMEM. */
int setting_set(struct config *c, const struct setting *s, struct slice text, struct error *err);
/* Stores the default. 0 or -ENOMEM. */
int setting_set_default(struct config *c, const struct setting *s);
/* Appends the value as setting_set reads it. */
void setting_format(struct buf *out, const struct setting *s, const struct config *c);
/* Appends the default, and what values may be, in the same form. */
void setting_format_default(struct buf *out, const struct setting *s);
void setting_format_bounds(struct buf *out, const struct setting *s);

/* Foreign text fit for a message: no control bytes, at most 60 bytes, then "...". */
#define SETTING_QUOTE_BYTES 64
const char *setting_quote(char out[SETTING_QUOTE_BYTES], struct slice text);
