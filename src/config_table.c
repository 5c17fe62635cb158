/* SPDX-License-Identifier: Apache-2.0 */
#include "config_table.h"

enum { NEXT_START, LIVE }; /* `when` in options.def */

#define AT(section, name) offsetof(struct config, section.name)

const struct setting config_settings[SETTINGS_COUNT] = {
#define SECTION(section, text)
#define STRING(s, n, when, fallback, text)                                                         \
    {#s, #n, SETTING_STRING, AT(s, n), fallback, 0, 0, 0, NULL, text, when},
#define NUMBER(s, n, when, fallback, min, max, text)                                               \
    {#s, #n, SETTING_NUMBER, AT(s, n), NULL, fallback, min, max, NULL, text, when},
#define SIZE(s, n, when, fallback, min, max, text)                                                 \
    {#s, #n, SETTING_SIZE, AT(s, n), NULL, fallback, min, max, NULL, text, when},
#define DURATION(s, n, when, fallback, min, max, text)                                             \
    {#s, #n, SETTING_DURATION, AT(s, n), NULL, fallback, min, max, NULL, text, when},
#define FLAG(s, n, when, fallback, text)                                                           \
    {#s, #n, SETTING_FLAG, AT(s, n), NULL, fallback, 0, 1, NULL, text, when},
#define CHOICE(s, n, when, fallback, choices, text)                                                \
    {#s, #n, SETTING_CHOICE, AT(s, n), fallback, 0, 0, 0, choices, text, when},
#define LIST(s, n, when, what, fallback, text)                                                     \
    {#s, #n, SETTING_LIST, AT(s, n), fallback, 0, 0, 0, what, text, when},
#define LIMITS(s, n, when, fallback, text)                                                         \
    {#s, #n, SETTING_LIMITS, AT(s, n), fallback, 0, 0, 0, NULL, text, when},
#include "options.def"
};

const struct config_section config_sections[SECTIONS_COUNT] = {
#define SECTION(section, text) {#section, text},
#include "options.def"
};

int config_section_find(struct slice name)
{
    for (int i = 0; i < SECTIONS_COUNT; i++)
        if (slice_eq(name, slice_str(config_sections[i].name)))
            return i;
    return -1;
}

int config_setting_find(struct slice section, struct slice name)
{
    for (int i = 0; i < SETTINGS_COUNT; i++)
        if (slice_eq(section, slice_str(config_settings[i].section)) &&
            slice_eq(name, slice_str(config_settings[i].name)))
            return i;
    return -1;
}
