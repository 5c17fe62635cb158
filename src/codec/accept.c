/* SPDX-License-Identifier: Apache-2.0 */
/* Accept (RFC 9110 section 12.5.1), as far as the choice between JSON and CSV needs it. */
#include "codec/text.h"

/* Of "q=0.5" in thousandths; 1000 where there is none. */
static unsigned quality(struct slice parameters)
{
    while (parameters.len) {
        const char *semi = memchr(parameters.ptr, ';', parameters.len);
        size_t len = semi ? (size_t)(semi - parameters.ptr) : parameters.len;
        struct slice one = slice_trim(slice_of(parameters.ptr, len));
        parameters = slice_from(parameters, semi ? len + 1 : len);
        if (one.len < 3 || (one.ptr[0] != 'q' && one.ptr[0] != 'Q') || one.ptr[1] != '=')
            continue;
        unsigned q = one.ptr[2] == '1' ? 1000 : 0, digit = 100;
        for (size_t i = 4; i < one.len && digit && q < 1000; i++, digit /= 10)
            q += one.ptr[i] >= '0' && one.ptr[i] <= '9' ? (unsigned)(one.ptr[i] - '0') * digit : 0;
        return q;
    }
    return 1000;
}

bool accept_csv(struct slice accept)
{
    unsigned csv = 0, json = 0, json_rank = 0;
    while (accept.len) {
        const char *comma = memchr(accept.ptr, ',', accept.len);
        size_t len = comma ? (size_t)(comma - accept.ptr) : accept.len;
        struct slice one = slice_of(accept.ptr, len);
        accept = slice_from(accept, comma ? len + 1 : len);
        const char *semi = one.len ? memchr(one.ptr, ';', one.len) : NULL;
        size_t type_len = semi ? (size_t)(semi - one.ptr) : one.len;
        struct slice type = slice_trim(slice_of(one.ptr, type_len));
        unsigned q = quality(slice_from(one, semi ? type_len + 1 : type_len));
        unsigned rank = slice_eq_nocase(type, SLICE("application/json")) ? 3
                        : slice_eq_nocase(type, SLICE("application/*"))  ? 2
                        : slice_eq(type, SLICE("*/*"))                   ? 1
                                                                         : 0;
        if (slice_eq_nocase(type, SLICE("text/csv")))
            csv = q;
        if (rank > json_rank) { /* the most specific range counts */
            json_rank = rank;
            json = q;
        }
    }
    return csv > 0 && (csv > json || (csv == json && json_rank < 3));
}
