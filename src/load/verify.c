/* SPDX-License-Identifier: Apache-2.0 */
#include "load/verify.h"

#include <errno.h>

#include "codec/json.h"
#include "codec/text.h"

#define TEXT_MAX      1024
#define TARGET_MAX    8192
#define PAGE_ELEMENTS "1000"

int verify_begin(struct verify *v, const struct load_opts *opts, struct error *err)
{
    struct response r;
    buf_init(&v->user, TEXT_MAX);
    buf_init(&v->since, TEXT_MAX);
    int rc = ask_init(&v->ask, opts, &opts->verify_url, opts->verify_key, err);
    if (rc == 0)
        rc = ask(&v->ask, SLICE("/api/v2/user"), (struct slice){0}, &r, err);
    if (rc)
        return rc;
    if (r.status != 200 || !ask_text(&r, SLICE("username"), &v->user))
        return error_set(err, -EACCES, "--verify: the key is none of an account there (%u)",
                         r.status);
    rc = ask(&v->ask, SLICE("/api/v2/time/ISO-8601"), (struct slice){0}, &r, err);
    int64_t us;
    if (rc == 0 && (r.status != 200 || !time_parse(r.body, &us)))
        return error_set(err, -EPROTO, "--verify: the server does not tell the time (%u)",
                         r.status);
    if (rc == 0)
        time_format_s(&v->since, us);
    return rc;
}

void verify_fini(struct verify *v)
{
    ask_fini(&v->ask);
    buf_fini(&v->user);
    buf_fini(&v->since);
}

bool verify_sequence(struct slice value, uint64_t *ret)
{
    size_t digits = 0;
    uint64_t n = 0;
    for (size_t i = 0; i <= value.len; i++) {
        unsigned digit = i < value.len ? (unsigned)(unsigned char)value.ptr[i] - '0' : 10;
        if (digit < 10) {
            n = digits++ ? n * 10 + digit : digit;
            continue;
        }
        if (digits == TEMPLATE_SEQ_DIGITS && n / LEDGER_SEQUENCES == 1) {
            *ret = n - LEDGER_SEQUENCES;
            return true;
        }
        digits = 0;
    }
    return false;
}

/* [{"value":"..."},...] */
static int take_page(struct slice body, uint32_t feed, struct ledger *l, uint32_t *ret_count)
{
    struct json page, one, value;
    size_t at;
    const char *why;
    *ret_count = 0;
    if (!json_parse(body, &page, &at, &why) || page.type != JSON_ARRAY)
        return -EPROTO;
    struct slice rest = json_members(page);
    while (json_next_element(&rest, &one)) {
        uint64_t sequence;
        ++*ret_count;
        if (!ask_member(one, SLICE("value"), &value))
            return -EPROTO;
        if (verify_sequence(value.raw, &sequence))
            ledger_found(l, sequence, feed);
    }
    return 0;
}

/* The target of the next page: <SELF>;rel="next", <NEXT> (Adafruit's shape). False: this was the
 * last. */
static bool next_page(const struct response *r, struct buf *target)
{
    struct slice link = response_field(r, SLICE("link"));
    static const char mark[] = "rel=\"next\", <";
    const char *at = link.ptr ? memmem(link.ptr, link.len, mark, sizeof mark - 1) : NULL;
    buf_clear(target);
    if (!at)
        return false;
    struct slice next = slice_from(link, (size_t)(at - link.ptr) + sizeof mark - 1);
    const char *host = memmem(next.ptr, next.len, "://", 3);
    const char *end = memchr(next.ptr, '>', next.len);
    const char *path =
        host && end && end > host + 3 ? memchr(host + 3, '/', (size_t)(end - host) - 3) : NULL;
    if (path)
        buf_put(target, path, (size_t)(end - path));
    return target->len > 0;
}

static int read_feed(struct verify *v, const struct feeds *feeds, uint32_t feed, struct ledger *l,
                     struct error *err)
{
    struct buf name, target;
    struct response r;
    uint32_t count;
    buf_init(&name, TEXT_MAX);
    buf_init(&target, TARGET_MAX);
    feeds_name(feeds, feed, &name);
    buf_put_str(&target, "/api/v2/");
    percent_encode(buf_slice(&v->user), &target);
    buf_put_str(&target, "/feeds/");
    percent_encode(buf_slice(&name), &target);
    buf_put_str(&target, "/data?include=value&limit=" PAGE_ELEMENTS "&start_time=");
    percent_encode(buf_slice(&v->since), &target);
    int rc = name.failed || target.failed ? -E2BIG : 0;
    do {
        if (rc == 0)
            rc = ask(&v->ask, buf_slice(&target), (struct slice){0}, &r, err);
        if (rc || r.status == 404) /* 404: a feed that nothing was accepted for */
            break;
        rc = r.status == 200 ? take_page(r.body, feed, l, &count) : -EPROTO;
        if (rc)
            error_set(err, rc, "--verify: feed %.*s cannot be read (%u)",
                      SLICE_ARG(buf_slice(&name)), r.status);
    } while (rc == 0 && count > 0 && next_page(&r, &target));
    buf_fini(&name);
    buf_fini(&target);
    return rc;
}

int verify_read(struct verify *v, const struct feeds *feeds, struct ledger *ledger,
                struct error *err)
{
    int rc = 0;
    for (uint32_t i = 0; i < feeds->count && rc == 0; i++)
        rc = read_feed(v, feeds, i, ledger, err);
    return rc;
}
