/* SPDX-License-Identifier: Apache-2.0 */
#include "api/rule_when.h"

#include <errno.h>

#include "codec/number.h"
#include "codec/text.h"
#include "flow/limit.h"
#include "flow/limits.h"

#define WORDS_MAX 4u

/* Returns how many there are; one more than WORDS_MAX: too many. */
static unsigned split(struct slice text, struct slice words[WORDS_MAX])
{
    unsigned count = 0;
    for (size_t at = 0; at < text.len;) {
        size_t from = at;
        while (at < text.len && text.ptr[at] != ' ')
            at++;
        if (at > from && count == WORDS_MAX)
            return WORDS_MAX + 1;
        if (at > from)
            words[count++] = slice_of(text.ptr + from, at - from);
        at += at < text.len;
    }
    return count;
}

static bool read_number(struct slice text, double *ret)
{
    if (!number_form(text) || !number_finite(text))
        return false;
    *ret = number_value(text);
    return true;
}

static int wrong(struct error *err, const char *why)
{
    return error_set(err, -EINVAL, "%s: use " RULE_WHEN_FORMS, why);
}

static int read_threshold(const struct slice *words, unsigned count, struct rule *r,
                          struct error *err)
{
    if ((count != 2 && count != 4) || !read_number(words[1], &r->limit))
        return wrong(err, "a number is wanted");
    r->clear = r->limit;
    if (count == 4 && (!slice_eq(words[2], SLICE("clear")) || !read_number(words[3], &r->clear)))
        return wrong(err, "\"clear\" and a number may follow the first one");
    if (r->when == RULE_ABOVE ? r->clear > r->limit : r->clear < r->limit)
        return wrong(err, "it must be clear on the other side of the number");
    return 0;
}

static int read_change(const struct slice *words, unsigned count, struct rule *r, struct error *err)
{
    if (count > 2 || (count == 2 && (!read_number(words[1], &r->limit) || r->limit <= 0)))
        return wrong(err, "by how much is a number above 0");
    return 0;
}

static int read_silence(const struct slice *words, unsigned count, struct rule *r,
                        struct error *err)
{
    uint64_t ms;
    if (count != 2 || !duration_parse(words[1], &ms) || ms < 1000 || ms > RULE_MS_MAX)
        return wrong(err, "how long is a length from 1s to 366d");
    r->silence_ms = ms;
    return 0;
}

int rule_when_parse(struct slice text, struct rule *ret, struct error *err)
{
    struct slice words[WORDS_MAX] = {{0}};
    struct rule r = *ret;
    int rc = -EINVAL;
    unsigned count = split(text, words);
    r.limit = r.clear = 0;
    r.silence_ms = 0;
    r.when = slice_eq(words[0], SLICE("above"))     ? RULE_ABOVE
             : slice_eq(words[0], SLICE("below"))   ? RULE_BELOW
             : slice_eq(words[0], SLICE("change"))  ? RULE_CHANGE
             : slice_eq(words[0], SLICE("silence")) ? RULE_SILENCE
                                                    : 0;
    if (!r.when || count > WORDS_MAX)
        rc = wrong(err, "what it waits for is not understood");
    else if (r.when == RULE_CHANGE)
        rc = read_change(words, count, &r, err);
    else if (r.when == RULE_SILENCE)
        rc = read_silence(words, count, &r, err);
    else
        rc = read_threshold(words, count, &r, err);
    if (rc == 0)
        *ret = r;
    return rc;
}

static void put_length(struct buf *out, uint64_t ms)
{
    static const struct {
        uint64_t ms;
        const char *unit;
    } units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
    unsigned i = 0;
    while (ms % units[i].ms)
        i++;
    buf_printf(out, "%llu%s", (unsigned long long)(ms / units[i].ms), units[i].unit);
}

void rule_when_format(struct buf *out, const struct rule *r)
{
    buf_put_str(out, rule_when_name(r->when));
    if (r->when == RULE_SILENCE) {
        buf_put_u8(out, ' ');
        put_length(out, r->silence_ms);
        return;
    }
    if (r->when != RULE_CHANGE || r->limit > 0) {
        buf_put_u8(out, ' ');
        double_format(out, r->limit);
    }
    if (r->when != RULE_CHANGE && r->clear != r->limit) {
        buf_put_str(out, " clear ");
        double_format(out, r->clear);
    }
}
