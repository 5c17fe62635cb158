/* SPDX-License-Identifier: Apache-2.0 */
#include "load/template.h"

#include "base/clock.h"

#define SEQUENCE_BASE 1000000000000000ull

static const struct {
    struct slice name;
    unsigned digits;
} kinds[] = {
    [TEMPLATE_SEQ] = {{"%seq%", 5}, TEMPLATE_SEQ_DIGITS},
    [TEMPLATE_TIME] = {{"%time%", 6}, 13},
    [TEMPLATE_RANDOM] = {{"%random%", 8}, 5},
    [TEMPLATE_FEED] = {{"%feed%", 6}, TEMPLATE_FEED_DIGITS},
    [TEMPLATE_DUE] = {{"%due%", 5}, TEMPLATE_DUE_DIGITS},
};
#define KINDS (sizeof kinds / sizeof kinds[0])

void template_digits(char *out, unsigned digits, uint64_t n)
{
    for (unsigned i = digits; i-- > 0; n /= 10)
        out[i] = (char)('0' + n % 10);
}

void template_sequence(char out[TEMPLATE_SEQ_DIGITS], uint64_t sequence)
{
    template_digits(out, TEMPLATE_SEQ_DIGITS, SEQUENCE_BASE + sequence % SEQUENCE_BASE);
}

/* The mark that `text` begins with, put into `out`. 0: none; else its length in the text. */
static size_t take_mark(struct buf *out, struct slice text, struct template_marks *marks)
{
    for (uint32_t kind = 0; kind < KINDS && marks->count < TEMPLATE_MARKS_MAX; kind++) {
        if (!slice_starts(text, kinds[kind].name))
            continue;
        marks->list[marks->count++] = (struct template_mark){(uint32_t)out->len, kind};
        for (unsigned i = 0; i < kinds[kind].digits; i++)
            buf_put_u8(out, i ? '0' : '1');
        return kinds[kind].name.len;
    }
    return 0;
}

void template_expand(struct buf *out, struct slice text, struct slice device,
                     struct template_marks *marks)
{
    while (text.len) {
        const char *mark = memchr(text.ptr, '%', text.len);
        size_t plain = mark ? (size_t)(mark - text.ptr) : text.len;
        buf_put(out, text.ptr, plain);
        text = slice_from(text, plain);
        size_t taken = text.len && marks ? take_mark(out, text, marks) : 0;
        if (taken == 0 && slice_starts(text, SLICE("%device%"))) {
            buf_put_slice(out, device);
            taken = 8;
        }
        if (taken == 0 && text.len) {
            buf_put_u8(out, '%');
            taken = 1;
        }
        text = slice_from(text, taken);
    }
}

void template_fill(char *bytes, const struct template_marks *marks,
                   const struct template_values *values)
{
    for (uint32_t i = 0; i < marks->count; i++) {
        char *at = bytes + marks->list[i].at;
        switch (marks->list[i].kind) {
        case TEMPLATE_SEQ:
            template_sequence(at, values->sequence);
            break;
        case TEMPLATE_TIME:
            template_digits(at, 13, (uint64_t)(clock_wall_us() / 1000));
            break;
        case TEMPLATE_RANDOM:
            template_digits(at, 5, 10000 + rand_below(values->rand, 90000));
            break;
        case TEMPLATE_FEED:
            template_digits(at, TEMPLATE_FEED_DIGITS, values->feed);
            break;
        default:
            template_digits(at, TEMPLATE_DUE_DIGITS, values->due_ns);
        }
    }
}
