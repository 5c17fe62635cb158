/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of one setting to its value and back. What setting_format writes, setting_set reads to
 * the same value.
 */
#include "config_table.h"

#include <errno.h>
#include <stdlib.h>
#include <yaml.h>

#include "base/check.h"
#include "codec/address.h"
#include "flow/limit.h"

#define STRING_BYTES_MAX 4096
#define CONFIG_VALUE_MAX (2 * STRING_BYTES_MAX)

/* A text the config owns; `config.owned` is the first of the list. */
struct owned_text {
    struct owned_text *next;
    char text[];
};

struct unit {
    const char *name;
    uint64_t factor;
};

/* Binary units first and falling, for the formatter; people may write the decimal ones too. */
static const struct unit size_units[] = {
    {"TiB", 1ull << 40},
    {"GiB", 1ull << 30},
    {"MiB", 1ull << 20},
    {"KiB", 1ull << 10},
    {"", 1},
    {"TB", 1000000000000ull},
    {"GB", 1000000000},
    {"MB", 1000000},
    {"KB", 1000},
    {"kB", 1000},
    {"B", 1},
};
static const struct unit duration_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1},
};

const char *setting_quote(char out[SETTING_QUOTE_BYTES], struct slice text)
{
    size_t n = text.len > 60 ? 60 : text.len;
    for (size_t i = 0; i < n; i++)
        out[i] = (unsigned char)text.ptr[i] < 0x20 || text.ptr[i] == 0x7f ? '?' : text.ptr[i];
    memcpy(out + n, "...", 4);
    if (n == text.len)
        out[n] = 0;
    return out;
}

static bool has_control(struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < 0x20 || text.ptr[i] == 0x7f)
            return true;
    return false;
}

static void *value_at(struct config *c, const struct setting *s)
{
    return (char *)c + s->offset;
}

static const void *value_of(const struct config *c, const struct setting *s)
{
    return (const char *)c + s->offset;
}

/* Decimal digits at the start of *s. False: none, or over 64 bits. */
static bool take_number(struct slice *s, uint64_t *ret)
{
    uint64_t v = 0;
    size_t i = 0;
    for (; i < s->len && s->ptr[i] >= '0' && s->ptr[i] <= '9'; i++)
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s->ptr[i] - '0'), &v))
            return false;
    if (i == 0)
        return false;
    *s = slice_from(*s, i);
    *ret = v;
    return true;
}

static bool parse_size(struct slice text, uint64_t *ret)
{
    uint64_t v;
    if (!take_number(&text, &v))
        return false;
    text = slice_trim(text);
    for (unsigned i = 0; i < sizeof size_units / sizeof *size_units; i++)
        if (slice_eq(text, slice_str(size_units[i].name)))
            return !__builtin_mul_overflow(v, size_units[i].factor, ret);
    return false;
}

static bool parse_duration(struct slice text, uint64_t *ret)
{
    *ret = 0;
    return slice_eq(text, SLICE("0")) || duration_parse(text, ret);
}

static void format_units(struct buf *out, uint64_t v, const struct unit *units)
{
    unsigned i = 0;
    while (v && v % units[i].factor)
        i++;
    buf_put_dec(out, v / units[i].factor);
    buf_put_str(out, v ? units[i].name : "");
}

static void format_number(struct buf *out, const struct setting *s, uint64_t v)
{
    if (s->kind == SETTING_SIZE)
        format_units(out, v, size_units);
    else if (s->kind == SETTING_DURATION)
        format_units(out, v, duration_units);
    else
        buf_put_dec(out, v);
}

static const char *how_to_write(enum setting_kind kind)
{
    return kind == SETTING_SIZE
               ? "a size such as 64MiB, 10MB or 500 (units KiB MiB GiB TiB KB MB GB TB)"
           : kind == SETTING_DURATION ? "a length such as 30s or 500ms (units ms s m h d), or 0"
                                      : "a whole number";
}

static int set_number(uint64_t *at, const struct setting *s, struct slice text, struct error *err)
{
    uint64_t v;
    struct slice rest = text;
    char quoted[SETTING_QUOTE_BYTES];
    bool ok = s->kind == SETTING_SIZE       ? parse_size(text, &v)
              : s->kind == SETTING_DURATION ? parse_duration(text, &v)
                                            : take_number(&rest, &v) && rest.len == 0;
    if (!ok)
        return error_set(err, -EINVAL, "must be %s, not \"%s\"", how_to_write(s->kind),
                         setting_quote(quoted, text));
    if (v < s->min || v > s->max) {
        struct buf bounds;
        buf_init(&bounds, 200);
        setting_format_bounds(&bounds, s);
        error_set(err, 0, "must be %.*s, not %s", SLICE_ARG(buf_slice(&bounds)),
                  setting_quote(quoted, text));
        buf_fini(&bounds);
        return -EINVAL;
    }
    *at = v;
    return 0;
}

/* The characters of the file are UTF-8 by libyaml's word; those of a flag are not. Its own check is
 * inside the making of an event. */
static bool is_utf8(struct slice s)
{
    yaml_event_t event;
    if (!yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)s.ptr, (int)s.len, 1,
                                      1, YAML_ANY_SCALAR_STYLE))
        return false;
    yaml_event_delete(&event);
    return true;
}

static int set_string(struct config *c, const struct setting *s, struct slice text,
                      struct error *err)
{
    if (text.len > STRING_BYTES_MAX)
        return error_set(err, -EINVAL, "must be at most %d bytes long", STRING_BYTES_MAX);
    if (has_control(text))
        return error_set(err, -EINVAL, "must not hold control characters");
    if (text.len && !is_utf8(text))
        return error_set(err, -EINVAL, "must be UTF-8");
    struct owned_text *copy = malloc(sizeof *copy + text.len + 1);
    if (!copy)
        return error_set(err, -ENOMEM, "no memory");
    if (text.len)
        memcpy(copy->text, text.ptr, text.len);
    copy->text[text.len] = 0;
    copy->next = c->owned;
    c->owned = copy;
    *(const char **)value_at(c, s) = copy->text;
    return 0;
}

bool config_list_next(struct slice *rest, struct slice *item)
{
    while (rest->len) {
        const char *comma = memchr(rest->ptr, ',', rest->len);
        size_t len = comma ? (size_t)(comma - rest->ptr) : rest->len;
        *item = slice_trim(slice_of(rest->ptr, len));
        *rest = slice_from(*rest, comma ? len + 1 : len);
        if (item->len)
            return true;
    }
    return false;
}

/* A path is that of a Unix socket. */
static bool is_listenable(struct slice item)
{
    struct address a;
    return memchr(item.ptr, '/', item.len) || address_parse(item, &a);
}

static int set_list(struct config *c, const struct setting *s, struct slice text, struct error *err)
{
    bool networks = !strcmp(s->choices, "networks"), files = !strcmp(s->choices, "files");
    char quoted[SETTING_QUOTE_BYTES];
    struct slice rest = text, item;
    struct cidr net;
    for (unsigned n = 0; config_list_next(&rest, &item); n++) {
        if (files)
            continue; /* whoever reads them says what is wrong */
        if (networks ? !cidr_parse(item, &net) : !is_listenable(item))
            return error_set(err, -EINVAL, "\"%s\" is no %s", setting_quote(quoted, item),
                             networks ? "network such as 10.0.0.0/8"
                                      : "address: write it as address:port");
        if (networks && n == CONFIG_NETWORKS_MAX)
            return error_set(err, -EINVAL, "there are over %d", CONFIG_NETWORKS_MAX);
    }
    return set_string(c, s, text, err);
}

static int set_flag(bool *at, struct slice text, struct error *err)
{
    char quoted[SETTING_QUOTE_BYTES];
    if (!slice_eq(text, SLICE("true")) && !slice_eq(text, SLICE("false")))
        return error_set(err, -EINVAL, "must be true or false, not \"%s\"",
                         setting_quote(quoted, text));
    *at = text.len == 4;
    return 0;
}

static int set_choice(struct config *c, const struct setting *s, struct slice text,
                      struct error *err)
{
    const char *at = s->choices;
    while (at) {
        size_t len = strcspn(at, "|");
        if (slice_eq(text, slice_of(at, len)))
            return set_string(c, s, text, err);
        at = at[len] ? at + len + 1 : NULL;
    }
    char quoted[SETTING_QUOTE_BYTES];
    struct buf bounds;
    buf_init(&bounds, 300);
    setting_format_bounds(&bounds, s);
    error_set(err, 0, "must be one of %.*s, not \"%s\"", SLICE_ARG(buf_slice(&bounds)),
              setting_quote(quoted, text));
    buf_fini(&bounds);
    return -EINVAL;
}

/* `failures`: of failed attempts, which have no bytes. */
static int set_limits(struct limit_set *at, struct slice text, bool failures, struct error *err)
{
    struct limit_set l;
    struct error why = {""};
    if (has_control(text))
        return error_set(err, -EINVAL, "must not hold control characters");
    if (limit_set_parse(text, &l, &why))
        return error_set(err, -EINVAL, "%s", why.text);
    for (unsigned i = 0; failures && i < l.windows_count; i++) {
        if (l.windows[i].kind & (LIMIT_BYTES | LIMIT_SHADOW))
            return error_set(err, -EINVAL,
                             "failures are counted, and refused: bytes and shadow do "
                             "not go here");
    }
    /* Without a window nothing is counted; one form of that, so that it reads back the same. */
    l.count_accepted = l.count_accepted && l.windows_count;
    *at = l;
    return 0;
}

int setting_set(struct config *c, const struct setting *s, struct slice text, struct error *err)
{
    switch (s->kind) {
    case SETTING_STRING:
        return set_string(c, s, text, err);
    case SETTING_NUMBER:
    case SETTING_SIZE:
    case SETTING_DURATION:
        return set_number(value_at(c, s), s, text, err);
    case SETTING_FLAG:
        return set_flag(value_at(c, s), text, err);
    case SETTING_CHOICE:
        return set_choice(c, s, text, err);
    case SETTING_LIMITS:
        return set_limits(value_at(c, s), text, strcmp(s->section, "auth") == 0, err);
    case SETTING_LIST:
        return set_list(c, s, text, err);
    }
    CHECK(false); /* a kind of setting without a parser */
    return -EINVAL;
}

int setting_set_default(struct config *c, const struct setting *s)
{
    struct buf text;
    buf_init(&text, STRING_BYTES_MAX);
    setting_format_default(&text, s);
    struct error err = {""};
    int rc = text.failed ? -ENOMEM : setting_set(c, s, buf_slice(&text), &err);
    CHECK(rc == 0 || rc == -ENOMEM); /* a default outside its own bounds is our bug */
    buf_fini(&text);
    return rc;
}

void config_free(struct config *c)
{
    if (!c)
        return;
    for (struct owned_text *t = c->owned, *rest; t; t = rest) {
        rest = t->next;
        free(t);
    }
    free(c);
}

void setting_format(struct buf *out, const struct setting *s, const struct config *c)
{
    const void *at = value_of(c, s);
    switch (s->kind) {
    case SETTING_STRING:
    case SETTING_CHOICE:
    case SETTING_LIST:
        buf_put_str(out, *(const char *const *)at);
        return;
    case SETTING_NUMBER:
    case SETTING_SIZE:
    case SETTING_DURATION:
        format_number(out, s, *(const uint64_t *)at);
        return;
    case SETTING_FLAG:
        buf_put_str(out, *(const bool *)at ? "true" : "false");
        return;
    case SETTING_LIMITS:
        limit_set_format(out, at);
        return;
    }
}

void setting_format_default(struct buf *out, const struct setting *s)
{
    if (s->fallback)
        buf_put_str(out, s->fallback);
    else if (s->kind == SETTING_FLAG)
        buf_put_str(out, s->number ? "true" : "false");
    else
        format_number(out, s, s->number);
}

void setting_format_bounds(struct buf *out, const struct setting *s)
{
    switch (s->kind) {
    case SETTING_STRING:
        buf_put_str(out, "text");
        return;
    case SETTING_NUMBER:
    case SETTING_SIZE:
    case SETTING_DURATION:
        format_number(out, s, s->min);
        buf_put_str(out, " to ");
        format_number(out, s, s->max);
        return;
    case SETTING_FLAG:
        buf_put_str(out, "true, false");
        return;
    case SETTING_CHOICE:
        for (const char *at = s->choices; *at; at++)
            buf_put_str(out, *at == '|' ? ", " : (const char[]){*at, 0});
        return;
    case SETTING_LIMITS:
        buf_put_str(out, "limits");
        return;
    case SETTING_LIST:
        buf_put_str(out, s->choices);
        return;
    }
}

int config_succeed(const struct config *now, struct config *next,
                   void (*each)(void *arg, const struct config_change *change), void *arg)
{
    struct buf before, after;
    struct error err = {""};
    int rc = 0;
    buf_init(&before, CONFIG_VALUE_MAX);
    buf_init(&after, CONFIG_VALUE_MAX);
    for (int i = 0; !rc && i < SETTINGS_COUNT; i++) {
        const struct setting *s = &config_settings[i];
        buf_clear(&before);
        buf_clear(&after);
        setting_format(&before, s, now);
        setting_format(&after, s, next);
        if (before.failed || after.failed)
            rc = -ENOMEM;
        else if (!slice_eq(buf_slice(&before), buf_slice(&after))) {
            each(arg, &(struct config_change){s->section, s->name, s->live, buf_slice(&before),
                                              buf_slice(&after)});
            rc = s->live ? 0 : setting_set(next, s, buf_slice(&before), &err);
        }
    }
    buf_fini(&before);
    buf_fini(&after);
    return rc;
}
