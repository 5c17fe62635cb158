/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settings as YAML, written by libyaml's emitter so that quoting is its business, and the page
 * docs/options.md.
 */
#include "config_table.h"

#include <yaml.h>

#define VALUE_BYTES_MAX 8192

static int on_bytes(void *arg, unsigned char *ptr, size_t n)
{
    struct buf *out = arg;
    buf_put(out, ptr, n);
    return !out->failed;
}

/* Hands the event over: the emitter frees it whatever happens. */
static bool emit(yaml_emitter_t *e, yaml_event_t *event, int made)
{
    return made && yaml_emitter_emit(e, event);
}

static bool emit_scalar(yaml_emitter_t *e, struct slice text, yaml_scalar_style_t style)
{
    yaml_event_t event;
    return emit(e, &event,
                yaml_scalar_event_initialize(&event, NULL, NULL,
                                             (const yaml_char_t *)(text.len ? text.ptr : ""),
                                             (int)text.len, 1, 1, style));
}

static bool emit_mapping_start(yaml_emitter_t *e)
{
    yaml_event_t event;
    return emit(
        e, &event,
        yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE));
}

static bool emit_mapping_end(yaml_emitter_t *e)
{
    yaml_event_t event;
    return emit(e, &event, yaml_mapping_end_event_initialize(&event));
}

static bool emit_setting(yaml_emitter_t *e, const struct setting *s, const struct config *c)
{
    /* Text is quoted always: "null", "1" or "a: b" would be something else without. */
    yaml_scalar_style_t style =
        s->kind == SETTING_STRING || s->kind == SETTING_LIMITS || s->kind == SETTING_LIST
            ? YAML_DOUBLE_QUOTED_SCALAR_STYLE
            : YAML_PLAIN_SCALAR_STYLE;
    struct buf value;
    buf_init(&value, VALUE_BYTES_MAX);
    setting_format(&value, s, c);
    bool ok = !value.failed && emit_scalar(e, slice_str(s->name), YAML_PLAIN_SCALAR_STYLE) &&
              emit_scalar(e, buf_slice(&value), style);
    buf_fini(&value);
    return ok;
}

static bool emit_all(yaml_emitter_t *e, const struct config *c)
{
    yaml_event_t event;
    bool ok = emit(e, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING)) &&
              emit(e, &event, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1)) &&
              emit_mapping_start(e);
    const char *section = NULL;
    for (int i = 0; ok && i < SETTINGS_COUNT; i++) {
        const struct setting *s = &config_settings[i];
        if (!section || strcmp(section, s->section) != 0) {
            ok = (!section || emit_mapping_end(e)) &&
                 emit_scalar(e, slice_str(s->section), YAML_PLAIN_SCALAR_STYLE) &&
                 emit_mapping_start(e);
            section = s->section;
        }
        ok = ok && emit_setting(e, s, c);
    }
    return ok && emit_mapping_end(e) && emit_mapping_end(e) &&
           emit(e, &event, yaml_document_end_event_initialize(&event, 1)) &&
           emit(e, &event, yaml_stream_end_event_initialize(&event));
}

void config_format(const struct config *c, struct buf *out)
{
    yaml_emitter_t e;
    if (!yaml_emitter_initialize(&e)) {
        out->failed = true;
        return;
    }
    yaml_emitter_set_output(&e, on_bytes, out);
    yaml_emitter_set_unicode(&e, 1);
    yaml_emitter_set_indent(&e, 2);
    yaml_emitter_set_width(&e, -1);
    if (!emit_all(&e, c))
        out->failed = true;
    yaml_emitter_delete(&e);
}

static const char docs_head[] =
    "# Settings\n"
    "\n"
    "<!-- Written by `sluice config docs` from src/options.def; do not edit. -->\n"
    "\n"
    "One YAML file, given with `--config FILE`; every setting is optional. A section is a mapping, "
    "a\n"
    "setting in it a single value:\n"
    "\n"
    "```yaml\n"
    "listen:\n"
    "  http: 0.0.0.0:8080\n"
    "throttle:\n"
    "  address: \"600/60s, 50/1s\"\n"
    "```\n"
    "\n"
    "One setting can be given on the command line too and then wins: `--set "
    "listen.http=0.0.0.0:80`.\n"
    "`sluice config check` says what is wrong with a file, with its line; `sluice config show` "
    "prints\n"
    "what is in force. A setting that is unknown, twice there or out of its bounds keeps the "
    "server from\n"
    "starting.\n"
    "\n"
    "`sluice reload`, or SIGHUP, reads the file again while the server runs. With a mistake in it "
    "everything\n"
    "stays as it is, and the answer and one line in the log say where it is. Else what is marked "
    "`at "
    "a\n"
    "reload` is in force in all threads before the command returns, and what is marked `at a "
    "start` "
    "is named\n"
    "and waits for the next start. The `--set` flags of the server still win.\n"
    "\n"
    "- **Sizes**: `64MiB`, `1GiB`, `10MB`, or plain bytes (units KiB MiB GiB TiB, KB MB GB TB).\n"
    "- **Lengths of time**: `30s`, `500ms`, `5m` (units ms s m h d), or `0`.\n"
    "- **Limits**: `AMOUNT/LENGTH`, at most four, that all must allow: `60/60s, 1MB/10s`. An\n"
    "  amount with a unit (B KB MB GB KiB MiB GiB, up to 4GB) counts the bytes of values as they\n"
    "  are stored, one without counts messages. `token_bucket 60/60s` lets 60 through at once and\n"
    "  then one a second; `leaky_bucket 60/60s` lets them through a second apart (a batch waits\n"
    "  for its turn and is paid for after it); both let up to twice the amount through in some\n"
    "  window, `rolling` (the default) never more than the amount. `shadow 10/1s` only counts "
    "what\n"
    "  the limit would have refused. With `accepted` only what was let through counts, else every\n"
    "  attempt (in buckets refused ones never do). `distance=200ms` is the least time between\n"
    "  two. Empty is no limit.\n";

/* One cell of a table: '|' would end it. */
static void put_cell(struct buf *out, struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        buf_put_str(out, text.ptr[i] == '|' ? "\\|" : (const char[]){text.ptr[i], 0});
}

static void put_row(struct buf *out, const struct setting *s)
{
    struct buf cell;
    buf_init(&cell, VALUE_BYTES_MAX);
    buf_printf(out, "| `%s.%s` | `", s->section, s->name);
    setting_format_default(&cell, s);
    if (cell.len == 0)
        buf_put_str(&cell, "\"\"");
    put_cell(out, buf_slice(&cell));
    buf_put_str(out, "` | ");
    buf_clear(&cell);
    setting_format_bounds(&cell, s);
    put_cell(out, buf_slice(&cell));
    buf_put_str(out, " | ");
    put_cell(out, slice_str(s->text));
    buf_put_str(out, s->live ? " | at a reload" : " | at a start");
    buf_put_str(out, " |\n");
    out->failed = out->failed || cell.failed;
    buf_fini(&cell);
}

void config_format_docs(struct buf *out)
{
    buf_put_str(out, docs_head);
    for (int i = 0; i < SECTIONS_COUNT; i++) {
        buf_printf(out, "\n## %s\n\n%s.\n\n", config_sections[i].name, config_sections[i].text);
        buf_put_str(
            out,
            "| setting | default | values | meaning | takes effect |\n|---|---|---|---|---|\n");
        for (int j = 0; j < SETTINGS_COUNT; j++)
            if (strcmp(config_settings[j].section, config_sections[i].name) == 0)
                put_row(out, &config_settings[j]);
    }
}
