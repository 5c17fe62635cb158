/* SPDX-License-Identifier: Apache-2.0 */
/* A file goes to the server in parts below its body limit, cut at the ends of lines. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/admin_ask.h"
#include "codec/csv.h"

#define PART_BYTES ((size_t)512 << 10)
#define LISTED_MAX 100 /* of each list in the answer */

int admin_read_file(const char *path, struct buf *out, struct error *err)
{
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (!f)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    size_t n = 1;
    while (n && !out->failed) {
        char *to = buf_reserve(out, 1u << 20);
        n = to ? fread(to, 1, 1u << 20, f) : 0;
        out->len += n;
    }
    int rc = ferror(f)     ? error_set(err, -EIO, "%s: cannot be read", path)
             : out->failed ? error_set(err, -EFBIG, "%s: it is too large", path)
                           : 0;
    if (f != stdin)
        fclose(f);
    return rc;
}

static unsigned count_lines(struct slice s)
{
    unsigned n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += s.ptr[i] == '\n';
    return n;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Without blanks and line ends around it. */
static struct slice bare(struct slice s)
{
    while (s.len && is_blank(s.ptr[0]))
        s = slice_from(s, 1);
    while (s.len && is_blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

/* The lines up to the first that says something: it names the columns. */
static struct slice take_head(struct slice *rest)
{
    struct slice head = slice_of(rest->ptr, 0);
    while (rest->len) {
        struct slice line = slice_of(rest->ptr, csv_line_bytes(*rest));
        *rest = slice_from(*rest, line.len);
        head.len += line.len;
        if (bare(line).len)
            break;
    }
    return head;
}

/* As many whole lines as fit, at least one. */
static struct slice take_lines(struct slice *rest, size_t max)
{
    struct slice part = slice_of(rest->ptr, 0);
    while (rest->len) {
        size_t n = csv_line_bytes(*rest);
        if (part.len && part.len + n > max)
            break;
        part.len += n;
        *rest = slice_from(*rest, n);
    }
    return part;
}

/* Adds the numbers up and the lists together. */
static void add_up(json_t *sum, json_t *part)
{
    const char *name;
    json_t *value;
    json_object_foreach(part, name, value)
    {
        json_t *had = json_object_get(sum, name);
        if (!had)
            json_object_set(sum, name, value);
        else if (json_is_integer(value))
            json_object_set_new(sum, name,
                                json_integer(json_integer_value(had) + json_integer_value(value)));
        else if (json_is_array(value) && json_array_size(had) < LISTED_MAX)
            json_array_extend(had, value);
    }
}

/* One part: its answer is added to `sum`. */
static int ask_part(const struct admin_question *q, struct slice head, struct slice lines,
                    unsigned first_line, json_t *sum, struct admin_reply *ret, struct error *err)
{
    struct buf file;
    struct admin_question part = *q;
    buf_init(&file, head.len + lines.len + 2);
    /* Blank lines in front are left out: they are counted in first_line. */
    buf_put_slice(&file, bare(head));
    buf_put_u8(&file, '\n');
    buf_put_slice(&file, lines);
    part.file = buf_slice(&file);
    part.args = json_copy(q->args);
    if (first_line) /* 0: as it was said */
        json_object_set_new(part.args, "first_line", json_sprintf("%u", first_line));
    buf_clear(&ret->body);
    int rc = file.failed ? error_set(err, -ENOMEM, "no memory") : admin_ask(&part, ret, err);
    json_t *answer = rc ? NULL : json_loadb(ret->body.ptr, ret->body.len, 0, NULL);
    if (answer && ret->status == 200)
        add_up(sum, answer);
    json_decref(answer);
    json_decref(part.args);
    buf_fini(&file);
    return rc;
}

int admin_ask_in_parts(const struct admin_question *q, struct admin_reply *ret,
                       unsigned *ret_first_line, struct error *err)
{
    struct slice rest = q->file, head = take_head(&rest);
    size_t max =
        q->config->http.body_max / 2 < PART_BYTES ? q->config->http.body_max / 2 : PART_BYTES;
    const char *said = json_string_value(json_object_get(q->args, "first_line"));
    unsigned line = said ? (unsigned)strtoul(said, NULL, 10) : count_lines(head) + 1;
    json_t *sum = json_object();
    bool first = true;
    int rc = 0;
    *ret_first_line = 0;
    if (!said && line < 2)
        line = 2;
    do {
        struct slice lines = take_lines(&rest, max);
        rc = ask_part(q, head, lines, said && first ? 0 : line, sum, ret, err);
        if (rc || ret->status != 200) {
            *ret_first_line = first ? 0 : line;
            break;
        }
        first = false;
        line += count_lines(lines);
        if (ret->offline) /* nothing limits the rest, and each part would open the catalog anew */
            max = SIZE_MAX;
    } while (rest.len);
    if (!rc && ret->status == 200) {
        char *text = json_dumps(sum, JSON_COMPACT);
        buf_clear(&ret->body);
        buf_put_str(&ret->body, text ? text : "");
        free(text);
    }
    json_decref(sum);
    return rc;
}
