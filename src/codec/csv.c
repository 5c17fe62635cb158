/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/csv.h"

#include <string.h>

#define BYTE_ORDER_MARK "\xef\xbb\xbf"

void csv_init(struct csv *c, struct slice text, unsigned line)
{
    if (slice_starts(text, SLICE(BYTE_ORDER_MARK)))
        text = slice_from(text, 3);
    *c = (struct csv){.rest = text, .line = line};
    buf_init(&c->plain, text.len + 1);
}

void csv_fini(struct csv *c)
{
    buf_fini(&c->plain);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static void skip_blanks(struct slice *s)
{
    while (s->len && is_blank(s->ptr[0]))
        *s = slice_from(*s, 1);
}

/* Drops what is left of the line, its end included. */
static void skip_line(struct csv *c)
{
    const char *end = c->rest.len ? memchr(c->rest.ptr, '\n', c->rest.len) : NULL;
    c->rest = slice_from(c->rest, end ? (size_t)(end - c->rest.ptr) + 1 : c->rest.len);
    c->line++;
}

/* The text between quotes; `rest` goes on behind the closing one. NULL, or what is wrong. */
static const char *quoted(struct csv *c, struct slice *ret)
{
    struct slice from = slice_from(c->rest, 1), at = from;
    bool doubled = false;
    for (;;) {
        const char *quote = at.len ? memchr(at.ptr, '"', at.len) : NULL;
        if (!quote) {
            c->rest = slice_from(c->rest, c->rest.len);
            return "a quote is opened and never closed";
        }
        at = slice_from(at, (size_t)(quote - at.ptr) + 1);
        if (!at.len || at.ptr[0] != '"')
            break;
        at = slice_from(at, 1);
        doubled = true;
    }
    *ret = slice_of(from.ptr, (size_t)(at.ptr - from.ptr) - 1);
    for (size_t i = 0; i < ret->len; i++)
        c->line += ret->ptr[i] == '\n';
    c->rest = at;
    if (!doubled)
        return NULL;
    /* All that may ever be put there: so it does not move. */
    if (!c->plain.cap && !buf_reserve(&c->plain, c->plain.max))
        return "no memory";
    const char *start = c->plain.ptr + c->plain.len;
    for (size_t i = 0; i < ret->len; i++) {
        buf_put_u8(&c->plain, (uint8_t)ret->ptr[i]);
        i += ret->ptr[i] == '"';
    }
    *ret = slice_of(start, (size_t)(c->plain.ptr + c->plain.len - start));
    return NULL;
}

static const char *bare(struct csv *c, struct slice *ret)
{
    size_t n = 0;
    while (n < c->rest.len && c->rest.ptr[n] != ',' && c->rest.ptr[n] != '\n')
        n++;
    *ret = slice_of(c->rest.ptr, n);
    c->rest = slice_from(c->rest, n);
    while (ret->len && is_blank(ret->ptr[ret->len - 1]))
        ret->len--;
    return ret->len && memchr(ret->ptr, '"', ret->len) ? "a quote inside a field without quotes"
                                                       : NULL;
}

static const char *field(struct csv *c, struct slice *ret)
{
    skip_blanks(&c->rest);
    const char *wrong = c->rest.len && c->rest.ptr[0] == '"' ? quoted(c, ret) : bare(c, ret);
    skip_blanks(&c->rest);
    if (!wrong && c->rest.len && c->rest.ptr[0] != ',' && c->rest.ptr[0] != '\n')
        wrong = "text behind a closing quote";
    if (!wrong && ret->len && memchr(ret->ptr, 0, ret->len))
        wrong = "a NUL byte";
    return wrong;
}

static enum csv_outcome record(struct csv *c, struct csv_record *ret, struct error *err)
{
    ret->line = c->line;
    ret->count = 0;
    for (;;) {
        const char *wrong = "there are too many fields";
        if (ret->count < CSV_FIELDS_MAX)
            wrong = field(c, &ret->fields[ret->count]);
        if (wrong) {
            skip_line(c);
            error_set(err, 0, "%s", wrong);
            return CSV_BAD;
        }
        ret->count++;
        if (!c->rest.len || c->rest.ptr[0] == '\n')
            break;
        c->rest = slice_from(c->rest, 1); /* the comma */
    }
    skip_line(c);
    return CSV_RECORD;
}

enum csv_outcome csv_next(struct csv *c, struct csv_record *ret, struct error *err)
{
    while (c->rest.len) {
        enum csv_outcome outcome = record(c, ret, err);
        if (outcome == CSV_BAD || ret->count > 1 || ret->fields[0].len)
            return outcome;
    }
    return CSV_END;
}

size_t csv_line_bytes(struct slice text)
{
    bool inside = false;
    for (size_t i = 0; i < text.len; i++) {
        inside ^= text.ptr[i] == '"';
        if (text.ptr[i] == '\n' && !inside)
            return i + 1;
    }
    return text.len;
}

void csv_put(struct buf *out, struct slice field)
{
    bool plain = true;
    for (size_t i = 0; i < field.len && plain; i++)
        plain = field.ptr[i] != ',' && field.ptr[i] != '"' && field.ptr[i] != '\r' &&
                field.ptr[i] != '\n';
    if (plain) {
        buf_put_slice(out, field);
        return;
    }
    buf_put_u8(out, '"');
    for (size_t i = 0; i < field.len; i++) {
        if (field.ptr[i] == '"')
            buf_put_u8(out, '"');
        buf_put_u8(out, (uint8_t)field.ptr[i]);
    }
    buf_put_u8(out, '"');
}
