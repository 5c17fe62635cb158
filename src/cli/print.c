/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/print.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define CELL_BYTES_MAX (1u << 20)
#define COLUMNS_MAX    16

/* The value as text: yes and no, lists with commas, objects as JSON, "-" for nothing. */
static void format_cell(struct buf *out, const json_t *value)
{
    size_t start = out->len, i;
    const json_t *item;
    if (json_is_string(value))
        buf_put(out, json_string_value(value), json_string_length(value));
    else if (json_is_integer(value))
        buf_printf(out, "%lld", (long long)json_integer_value(value));
    else if (json_is_boolean(value))
        buf_put_str(out, json_is_true(value) ? "yes" : "no");
    else if (json_is_array(value))
        json_array_foreach(value, i, item)
        {
            buf_put_str(out, i ? "," : "");
            format_cell(out, item);
        }
    if (json_is_object(value)) {
        char *text = json_dumps(value, JSON_COMPACT);
        buf_put_str(out, text ? text : "");
        free(text);
    }
    if (out->len == start)
        buf_put_str(out, "-");
    for (size_t k = start; k < out->len; k++)
        if ((unsigned char)out->ptr[k] < 0x20 || out->ptr[k] == 0x7f)
            out->ptr[k] = '?';
}

/* Characters, not bytes: continuation bytes of UTF-8 take no room. */
static int width_of(const struct buf *text)
{
    int n = 0;
    for (size_t i = 0; i < text->len; i++)
        n += ((unsigned char)text->ptr[i] & 0xc0) != 0x80;
    return n;
}

static int cell_width(const json_t *value)
{
    struct buf text;
    buf_init(&text, CELL_BYTES_MAX);
    format_cell(&text, value);
    int n = width_of(&text);
    buf_fini(&text);
    return n;
}

static void put_cell(FILE *out, const json_t *value, int width)
{
    struct buf text;
    buf_init(&text, CELL_BYTES_MAX);
    format_cell(&text, value);
    fprintf(out, "%.*s%*s", SLICE_ARG(buf_slice(&text)),
            width > width_of(&text) ? width - width_of(&text) : 0, "");
    buf_fini(&text);
}

static void put_title(FILE *out, const char *name, int width)
{
    int n = 0;
    for (; name[n]; n++)
        fputc(name[n] == '_' ? ' ' : toupper((unsigned char)name[n]), out);
    fprintf(out, "%*s", width > n ? width - n : 0, "");
}

static void print_table(FILE *out, const json_t *list)
{
    const char *names[COLUMNS_MAX], *name;
    int widths[COLUMNS_MAX], columns = 0;
    size_t i;
    json_t *row, *value;
    json_object_foreach(json_array_get(list, 0), name, value)
    {
        if (columns == COLUMNS_MAX)
            break;
        names[columns] = name;
        widths[columns++] = (int)strlen(name);
    }
    json_array_foreach(list, i, row) for (int c = 0; c < columns; c++)
    {
        int width = cell_width(json_object_get(row, names[c]));
        widths[c] = width > widths[c] ? width : widths[c];
    }
    for (int c = 0; c < columns; c++)
        put_title(out, names[c], c + 1 < columns ? widths[c] + 2 : 0);
    fputc('\n', out);
    json_array_foreach(list, i, row)
    {
        for (int c = 0; c < columns; c++)
            put_cell(out, json_object_get(row, names[c]), c + 1 < columns ? widths[c] + 2 : 0);
        fputc('\n', out);
    }
}

static bool is_table(const json_t *value)
{
    return json_is_object(json_array_get(value, 0));
}

static void print_record(FILE *out, json_t *record)
{
    const char *name;
    json_t *value;
    int width = 0;
    json_object_foreach(record, name, value) if (!is_table(value) && (int)strlen(name) > width)
        width = (int)strlen(name);
    json_object_foreach(record, name, value)
    {
        int n = 0;
        if (is_table(value))
            continue;
        for (; name[n]; n++)
            fputc(name[n] == '_' ? ' ' : name[n], out);
        fprintf(out, "%*s", width - n + 2, "");
        put_cell(out, value, 0);
        fputc('\n', out);
    }
    json_object_foreach(record, name, value) if (is_table(value))
    {
        fprintf(out, "\n%s\n", name);
        print_table(out, value);
    }
}

void print_result(FILE *out, const json_t *result)
{
    void *first = json_object_iter((json_t *)result);
    json_t *list = json_object_iter_value(first);
    if (!json_is_array(list)) {
        print_record(out, (json_t *)result);
        return;
    }
    if (json_array_size(list))
        print_table(out, list);
    else
        fprintf(out, "no %s\n", json_object_iter_key(first));
    json_int_t total = json_integer_value(json_object_get(result, "total"));
    if (total > (json_int_t)json_array_size(list))
        fprintf(out, "%zu of %lld; --skip and --limit show others\n", json_array_size(list),
                (long long)total);
    const json_t *next = json_object_get(result, "next");
    if (json_is_integer(next))
        fprintf(out, "there may be more: --before %lld shows them\n",
                (long long)json_integer_value(next));
    const char *note = json_string_value(json_object_get(result, "note"));
    if (note)
        fprintf(out, "%s\n", note);
}
