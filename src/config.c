/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration file, read as a stream of libyaml events (docs/decisions/0003-libyaml.md). The
 * form is two levels deep and fixed: sections, each a mapping of single values. So each level is
 * one function, and every refusal knows the line of the event it looks at. Nothing deeper than a
 * value is ever looked into, nothing is expanded: a hostile file costs no more than its length.
 */
#include "config_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <yaml.h>

#include "base/check.h"

#define FILE_BYTES_MAX (1u << 20)

struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the current one */
    const char *name;   /* the file, in messages */
    struct slice yaml;
    struct config *config;
    struct error *err;
    bool section_seen[SECTIONS_COUNT];
    bool setting_seen[SETTINGS_COUNT];
};

static size_t line_of(const struct reader *r)
{
    return r->event.start_mark.line + 1;
}

/* A text that is not YAML. libyaml gives the line, but only the byte where it is not even UTF-8. */
static int refuse_syntax(struct reader *r)
{
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR)
        return error_set(r->err, -ENOMEM, "%s: no memory", r->name);
    size_t line = p->problem_mark.line + 1;
    if (p->error == YAML_READER_ERROR) {
        line = 1;
        for (size_t i = 0; i < p->problem_offset && i < r->yaml.len; i++)
            line += r->yaml.ptr[i] == '\n';
    }
    return error_set(r->err, -EINVAL, "%s:%zu: this is not YAML: %s%s%s", r->name, line,
                     p->context ? p->context : "", p->context ? ", " : "",
                     p->problem ? p->problem : "unknown error");
}

/* Goes to the next event. 0, or the syntax is wrong. */
static int next(struct reader *r)
{
    yaml_event_delete(&r->event);
    return yaml_parser_parse(&r->parser, &r->event) ? 0 : refuse_syntax(r);
}

static const char *kind_name(yaml_event_type_t type)
{
    return type == YAML_SEQUENCE_START_EVENT  ? "a list"
           : type == YAML_MAPPING_START_EVENT ? "a mapping"
           : type == YAML_ALIAS_EVENT         ? "an alias"
                                              : "a single value";
}

static struct slice scalar(const struct reader *r)
{
    return slice_of(r->event.data.scalar.value, r->event.data.scalar.length);
}

/* Nothing, or what YAML reads as null. */
static bool is_null(const struct reader *r)
{
    if (r->event.type != YAML_SCALAR_EVENT ||
        r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE || r->event.data.scalar.tag)
        return false;
    struct slice s = scalar(r);
    return s.len == 0 || slice_eq(s, SLICE("~")) || slice_eq_nocase(s, SLICE("null"));
}

/* The current event is the value of setting `row`. */
static int read_value(struct reader *r, int row)
{
    const struct setting *s = &config_settings[row];
    const char *wrong = NULL;
    if (r->event.type != YAML_SCALAR_EVENT)
        return error_set(r->err, -EINVAL, "%s:%zu: %s.%s: must be a single value, not %s", r->name,
                         line_of(r), s->section, s->name, kind_name(r->event.type));
    if (r->event.data.scalar.tag)
        wrong = "must be the value alone, without a YAML tag";
    else if (is_null(r))
        wrong = "has no value; leave the line out for the default, write \"\" for nothing";
    else if (r->setting_seen[row])
        wrong = "is there twice";
    if (wrong)
        return error_set(r->err, -EINVAL, "%s:%zu: %s.%s: %s", r->name, line_of(r), s->section,
                         s->name, wrong);
    r->setting_seen[row] = true;
    struct error why = {""};
    int rc = setting_set(r->config, s, scalar(r), &why);
    return rc ? error_set(r->err, rc, "%s:%zu: %s.%s: %s", r->name, line_of(r), s->section, s->name,
                          why.text)
              : 0;
}

/* The current event is the mapping of a section; ends on its end. */
static int read_settings(struct reader *r, const struct config_section *section)
{
    char quoted[SETTING_QUOTE_BYTES];
    for (;;) {
        int rc = next(r);
        if (rc || r->event.type == YAML_MAPPING_END_EVENT)
            return rc;
        if (r->event.type != YAML_SCALAR_EVENT)
            return error_set(r->err, -EINVAL,
                             "%s:%zu: %s: the name of a setting must stand here, "
                             "not %s",
                             r->name, line_of(r), section->name, kind_name(r->event.type));
        int row = config_setting_find(slice_str(section->name), scalar(r));
        if (row < 0)
            return error_set(r->err, -EINVAL, "%s:%zu: %s.%s: there is no such setting", r->name,
                             line_of(r), section->name, setting_quote(quoted, scalar(r)));
        if (!(rc = next(r)))
            rc = read_value(r, row);
        if (rc)
            return rc;
    }
}

/* The current event is what stands behind the name of section `row`. */
static int read_section(struct reader *r, int row)
{
    const struct config_section *section = &config_sections[row];
    if (r->section_seen[row])
        return error_set(r->err, -EINVAL, "%s:%zu: %s: this section is there twice", r->name,
                         line_of(r), section->name);
    r->section_seen[row] = true;
    if (is_null(r)) /* all of its lines are comments */
        return 0;
    if (r->event.type != YAML_MAPPING_START_EVENT)
        return error_set(r->err, -EINVAL, "%s:%zu: %s: this section must hold settings, not %s",
                         r->name, line_of(r), section->name, kind_name(r->event.type));
    return read_settings(r, section);
}

/* The current event is the whole file's mapping; ends on its end. */
static int read_sections(struct reader *r)
{
    char quoted[SETTING_QUOTE_BYTES];
    for (;;) {
        int rc = next(r);
        if (rc || r->event.type == YAML_MAPPING_END_EVENT)
            return rc;
        if (r->event.type != YAML_SCALAR_EVENT)
            return error_set(r->err, -EINVAL,
                             "%s:%zu: the name of a section must stand here, not %s", r->name,
                             line_of(r), kind_name(r->event.type));
        int row = config_section_find(scalar(r));
        if (row < 0)
            return error_set(r->err, -EINVAL, "%s:%zu: %s: there is no such section", r->name,
                             line_of(r), setting_quote(quoted, scalar(r)));
        if (!(rc = next(r)))
            rc = read_section(r, row);
        if (rc)
            return rc;
    }
}

static int read_stream(struct reader *r)
{
    int rc = next(r); /* the stream begins */
    if (!rc)
        rc = next(r);
    if (rc || r->event.type == YAML_STREAM_END_EVENT)
        return rc;      /* nothing but comments */
    if ((rc = next(r))) /* the document has begun */
        return rc;
    if (r->event.type == YAML_MAPPING_START_EVENT)
        rc = read_sections(r);
    else if (!is_null(r))
        rc = error_set(r->err, -EINVAL,
                       "%s:%zu: the file must hold sections such as \"server:\", "
                       "not %s",
                       r->name, line_of(r), kind_name(r->event.type));
    if (!rc)
        rc = next(r); /* the document ends */
    if (!rc)
        rc = next(r);
    if (!rc && r->event.type != YAML_STREAM_END_EVENT)
        rc = error_set(r->err, -EINVAL, "%s:%zu: only one YAML document is read", r->name,
                       line_of(r));
    return rc;
}

static int config_new(struct config **ret, struct error *err)
{
    struct config *c = calloc(1, sizeof *c);
    int rc = c ? 0 : -ENOMEM;
    for (int i = 0; !rc && i < SETTINGS_COUNT; i++)
        rc = setting_set_default(c, &config_settings[i]);
    if (rc) {
        config_free(c);
        return error_set(err, rc, "no memory for the settings");
    }
    *ret = c;
    return 0;
}

int config_parse(const char *name, struct slice yaml, struct config **ret, struct error *err)
{
    struct reader r = {.name = name, .yaml = yaml, .err = err};
    if (yaml.len > FILE_BYTES_MAX)
        return error_set(err, -EINVAL, "%s: the file is over %u bytes long", name, FILE_BYTES_MAX);
    int rc = config_new(&r.config, err);
    if (rc)
        return rc;
    if (yaml_parser_initialize(&r.parser)) {
        yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&r.parser, (const unsigned char *)(yaml.len ? yaml.ptr : ""),
                                     yaml.len);
        rc = read_stream(&r);
        yaml_event_delete(&r.event);
        yaml_parser_delete(&r.parser);
    } else {
        rc = error_set(err, -ENOMEM, "%s: no memory", name);
    }
    if (rc)
        config_free(r.config);
    else
        *ret = r.config;
    return rc;
}

/* Not through journal/disk.h: this is before there is a disk to choose, and nothing is kept. */
static int read_file(const char *path, struct buf *out, struct error *err)
{
    int rc = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        rc = -errno;
    for (ssize_t n = 1; !rc && n && out->len <= FILE_BYTES_MAX;) {
        char *to = buf_reserve(out, 65536);
        n = to ? read(fd, to, 65536) : (errno = ENOMEM, -1);
        if (n > 0)
            out->len += (size_t)n;
        else if (n < 0 && errno != EINTR)
            rc = -errno;
    }
    if (fd >= 0)
        close(fd);
    return rc ? error_set(err, rc, "%s: cannot be read: %s", path, strerror(-rc)) : 0;
}

int config_load(const char *path, struct config **ret, struct error *err)
{
    if (!path)
        return config_new(ret, err);
    struct buf text;
    buf_init(&text, FILE_BYTES_MAX + 2 * 65536);
    int rc = read_file(path, &text, err);
    if (!rc)
        rc = config_parse(path, buf_slice(&text), ret, err);
    buf_fini(&text);
    return rc;
}

int config_set(struct config *c, const char *name, struct slice assignment, struct error *err)
{
    char quoted[SETTING_QUOTE_BYTES];
    const char *equals = assignment.len ? memchr(assignment.ptr, '=', assignment.len) : NULL;
    size_t key_len = equals ? (size_t)(equals - assignment.ptr) : 0;
    const char *dot = key_len ? memchr(assignment.ptr, '.', key_len) : NULL;
    if (!dot)
        return error_set(err, -EINVAL, "%s \"%s\": write section.name=value", name,
                         setting_quote(quoted, assignment));
    struct slice key = slice_of(assignment.ptr, key_len);
    size_t section_len = (size_t)(dot - key.ptr);
    if (config_setting_find(slice_of(key.ptr, section_len), slice_from(key, section_len + 1)) < 0)
        return error_set(err, -EINVAL, "%s %s: there is no such setting", name,
                         setting_quote(quoted, key));
    char place[SETTING_QUOTE_BYTES * 2];
    snprintf(place, sizeof place, "%s %s", name, setting_quote(quoted, key));
    return config_override(c, place, slice_of(key.ptr, section_len),
                           slice_from(key, section_len + 1), slice_from(assignment, key_len + 1),
                           err);
}

int config_override(struct config *c, const char *name, struct slice section, struct slice setting,
                    struct slice value, struct error *err)
{
    int row = config_setting_find(section, setting);
    CHECK(row >= 0);
    struct error why = {""};
    int rc = setting_set(c, &config_settings[row], value, &why);
    return rc ? error_set(err, rc, "%s: %s", name, why.text) : 0;
}
