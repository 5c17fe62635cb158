/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request as `sluice capture` records it: a line of JSON with when it came, method, target,
 * fields and the bytes of its body, never the body. What may be a secret or tell who somebody is
 * stands there as so many '*' as it has bytes: sizes count when a recording is played again.
 */
#include "flow/capture.h"
#include "flow/limits.h"
#include "front/http_private.h"

static bool contains_nocase(struct slice text, struct slice word)
{
    for (size_t i = 0; i + word.len <= text.len; i++)
        if (slice_eq_nocase(slice_of(text.ptr + i, word.len), word))
            return true;
    return false;
}

/* By its name: whatever could be a secret in any client's eyes, and addresses. */
static bool is_private(struct slice name)
{
    static const struct slice words[] = {
        {"auth", 4},      {"key", 3},  {"token", 5},  {"secret", 6},  {"cookie", 6},
        {"pass", 4},      {"cred", 4}, {"sess", 4},   {"sign", 4},    {"device-id", 9},
        {"forwarded", 9}, {"-ip", 3},  {"client", 6}, {"user-id", 7}, {"hash", 4},
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (contains_nocase(name, words[i]))
            return true;
    return false;
}

/* Text of a request may hold bytes that are no UTF-8. */
static void put_text(struct buf *out, struct slice s, bool hide)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (hide)
            c = '*';
        else if ((unsigned char)c < 0x20 || (unsigned char)c >= 0x7f)
            c = '?';
        if (c == '"' || c == '\\')
            buf_put_u8(out, '\\');
        buf_put_u8(out, (uint8_t)c);
    }
}

static void put_query(struct buf *out, struct slice query)
{
    char mark = '?';
    while (query.len) {
        const char *end = memchr(query.ptr, '&', query.len);
        struct slice one = slice_of(query.ptr, end ? (size_t)(end - query.ptr) : query.len);
        const char *equals = memchr(one.ptr, '=', one.len);
        struct slice name = slice_of(one.ptr, equals ? (size_t)(equals - one.ptr) : one.len);
        query = slice_from(query, one.len + 1);
        buf_put_u8(out, (uint8_t)mark);
        put_text(out, name, false);
        if (equals) {
            buf_put_u8(out, '=');
            put_text(out, slice_from(one, name.len + 1), is_private(name));
        }
        mark = '&';
    }
}

void http_capture(const struct http1_request *r, size_t body_len, uint64_t now_ns)
{
    struct buf line;
    buf_init(&line, CAPTURE_LINE_MAX);
    buf_printf(&line, "{\"us\":%llu,\"method\":\"", (unsigned long long)(now_ns / 1000));
    put_text(&line, r->method_text, false);
    buf_put_str(&line, "\",\"target\":\"");
    put_text(&line, r->path, false);
    put_query(&line, r->query);
    buf_put_str(&line, "\",\"fields\":[");
    for (unsigned i = 0; i < r->fields_count; i++) {
        buf_put_str(&line, i ? ",[\"" : "[\"");
        put_text(&line, r->fields[i].name, false);
        buf_put_str(&line, "\",\"");
        put_text(&line, r->fields[i].value, is_private(r->fields[i].name));
        buf_put_str(&line, "\"]");
    }
    buf_printf(&line, "],\"body\":%zu}", body_len);
    if (!line.failed)
        capture_put(buf_slice(&line));
    buf_fini(&line);
}
