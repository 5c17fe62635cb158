/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/principal.h"

#include <stdlib.h>

#include "base/check.h"

#define DEFINE_RECORD(type, release)                                                               \
    struct type *type##_ref(struct type *r)                                                        \
    {                                                                                              \
        uint32_t was = atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);               \
        CHECK(was > 0);                                                                            \
        return r;                                                                                  \
    }                                                                                              \
    struct type *type##_unref(struct type *r)                                                      \
    {                                                                                              \
        if (!r)                                                                                    \
            return NULL;                                                                           \
        uint32_t was = atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel);               \
        CHECK(was > 0);                                                                            \
        if (was == 1) {                                                                            \
            release(r);                                                                            \
            free(r);                                                                               \
        }                                                                                          \
        return NULL;                                                                               \
    }                                                                                              \
    struct type *type##_new(size_t text_bytes)                                                     \
    {                                                                                              \
        struct type *r = calloc(1, sizeof *r + text_bytes);                                        \
        if (r)                                                                                     \
            r->refs = 1;                                                                           \
        return r;                                                                                  \
    }

static void release_account(struct account *a)
{
    (void)a;
}

static void release_credential(struct credential *c)
{
    account_unref(c->account);
}

static void release_feed(struct feed *f)
{
    (void)f;
}

static void release_group(struct group *g)
{
    (void)g;
}

DEFINE_RECORD(account, release_account)
DEFINE_RECORD(credential, release_credential)
DEFINE_RECORD(feed, release_feed)
DEFINE_RECORD(group, release_group)

struct slice record_text(char **at, struct slice s)
{
    char *to = *at;
    if (s.len)
        memcpy(to, s.ptr, s.len);
    to[s.len] = 0;
    *at = to + s.len + 1;
    return slice_of(to, s.len);
}

bool feed_in_group(const struct feed *f, const struct group *g)
{
    struct slice rest = f->groups;
    while (rest.len) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        size_t len = comma ? (size_t)(comma - rest.ptr) : rest.len;
        if (slice_eq(slice_of(rest.ptr, len), g->key))
            return true;
        rest = slice_from(rest, comma ? len + 1 : len);
    }
    return f->group == g->number;
}

bool credential_covers(const struct credential *c, struct slice feed_key)
{
    for (unsigned i = 0; i < c->patterns_count; i++) {
        struct slice p = c->patterns[i];
        if (p.len && p.ptr[p.len - 1] == '*') {
            if (slice_starts(feed_key, slice_of(p.ptr, p.len - 1)))
                return true;
        } else if (slice_eq(p, feed_key)) {
            return true;
        }
    }
    return c->patterns_count == 0;
}

void principal_clear(struct principal *p)
{
    p->credential = credential_unref(p->credential);
    p->generation = 0;
}
