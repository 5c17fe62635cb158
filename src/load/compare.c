/* SPDX-License-Identifier: Apache-2.0 */
#include "load/compare.h"

#include <errno.h>
#include <stdlib.h>

#include "load/histogram.h"
#include "load/recording.h"

#define PATH_BYTES   512
#define SCENARIO_MAX 10000u /* requests of the scenario that are looked at */

/* A name and how many requests have it. */
struct named {
    char *name;
    uint64_t count;
};

struct names {
    struct named *list;
    size_t count, cap;
};

struct side {
    struct names fields, paths; /* a path with its method before it */
    uint64_t requests;
    struct histogram bodies;
};

/* Names of header fields are equal in any case, paths are not; so few that a search is enough. */
static int count_name(struct names *all, struct slice name, bool any_case)
{
    for (size_t i = 0; i < all->count; i++) {
        struct slice known = slice_str(all->list[i].name);
        if (any_case ? slice_eq_nocase(known, name) : slice_eq(known, name)) {
            all->list[i].count++;
            return 0;
        }
    }
    if (all->count == COMPARE_NAMES_MAX)
        return 0;
    if (all->count == all->cap) {
        size_t cap = all->cap ? 2 * all->cap : 64;
        struct named *grown = realloc(all->list, cap * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        all->list = grown;
        all->cap = cap;
    }
    char *copy = strndup(name.ptr, name.len);
    if (!copy)
        return -ENOMEM;
    all->list[all->count++] = (struct named){copy, 1};
    return 0;
}

static void names_fini(struct names *all)
{
    for (size_t i = 0; i < all->count; i++)
        free(all->list[i].name);
    free(all->list);
}

static int count_path(struct side *s, struct slice method, struct slice target)
{
    char text[PATH_BYTES];
    int n =
        snprintf(text, sizeof text, "%.*s ", (int)(method.len < 32 ? method.len : 32), method.ptr);
    size_t len = (size_t)n + recorded_path(target, text + n, sizeof text - (size_t)n);
    return count_name(&s->paths, slice_of(text, len), false);
}

static int on_recorded(void *arg, const struct recorded *r)
{
    struct side *s = arg;
    int rc = count_path(s, r->method, r->target);
    for (unsigned i = 0; i < r->fields_count && rc == 0; i++)
        rc = count_name(&s->fields, r->names[i], true);
    s->requests++;
    histogram_add(&s->bodies, r->body);
    return rc;
}

/* A request as the fleet sends it. */
static int on_scenario(struct side *s, struct slice request)
{
    const char *end = memmem(request.ptr, request.len, "\r\n\r\n", 4);
    struct slice head = slice_of(request.ptr, end ? (size_t)(end - request.ptr) + 2 : request.len);
    int rc = 0;
    for (bool first = true; head.len && rc == 0; first = false) {
        const char *stop = memchr(head.ptr, '\r', head.len);
        struct slice line = slice_of(head.ptr, stop ? (size_t)(stop - head.ptr) : head.len);
        const char *mark = memchr(line.ptr, first ? ' ' : ':', line.len);
        struct slice name = slice_of(line.ptr, mark ? (size_t)(mark - line.ptr) : line.len);
        head = slice_from(head, line.len + 2);
        if (!first) {
            rc = count_name(&s->fields, name, true);
            continue;
        }
        struct slice target = slice_from(line, name.len + 1);
        const char *blank = memchr(target.ptr, ' ', target.len);
        target.len = blank ? (size_t)(blank - target.ptr) : target.len;
        rc = count_path(s, name, target);
    }
    s->requests++;
    histogram_add(&s->bodies, end ? request.len - (size_t)(end - request.ptr) - 4 : 0);
    return rc;
}

static int by_count(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count ? 1 : -1) : strcmp(x->name, y->name);
}

/* How many of `have` are not among `all`. */
static unsigned print_lacking(const char *what, struct names *have, const struct names *all,
                              bool any_case, uint64_t requests, FILE *out)
{
    unsigned lacking = 0;
    qsort(have->list, have->count, sizeof *have->list, by_count);
    for (size_t i = 0; i < have->count; i++) {
        struct slice name = slice_str(have->list[i].name);
        bool there = false;
        for (size_t k = 0; k < all->count && !there; k++) {
            struct slice other = slice_str(all->list[k].name);
            there = any_case ? slice_eq_nocase(name, other) : slice_eq(name, other);
        }
        if (there)
            continue;
        if (lacking++ == 0)
            fprintf(out, "%s that the recording has and this scenario lacks:\n", what);
        fprintf(out, "  %6.2f %%  %s\n", 100 * (double)have->list[i].count / (double)requests,
                have->list[i].name);
    }
    return lacking;
}

static void print_bodies(const char *what, const struct side *s, FILE *out)
{
    fprintf(out, "%s: %lu requests, bodies of %lu bytes (median), %lu (p99), %lu (max)\n", what,
            s->requests, histogram_quantile(&s->bodies, 0.5), histogram_quantile(&s->bodies, 0.99),
            s->bodies.max);
}

int compare_run(const struct fleet *fleet, const char *recording, FILE *out, struct error *err)
{
    struct side *sides = calloc(2, sizeof *sides);
    if (!sides)
        return error_set(err, -ENOMEM, "no memory");
    struct side *real = &sides[0], *scenario = &sides[1];
    int rc = recording_read(recording, on_recorded, real, err);
    for (uint32_t i = 0; i < fleet->count && i < SCENARIO_MAX && rc == 0; i++)
        rc = on_scenario(scenario, fleet_request(fleet, &fleet->devices[i]));
    if (rc == -ENOMEM)
        error_set(err, rc, "no memory");
    if (rc == 0) {
        print_bodies("recording", real, out);
        print_bodies("scenario", scenario, out);
        unsigned lacking = print_lacking("header fields", &real->fields, &scenario->fields, true,
                                         real->requests, out);
        lacking +=
            print_lacking("paths", &real->paths, &scenario->paths, false, real->requests, out);
        if (!lacking)
            fputs("the scenario has every header field and every path of the recording\n", out);
        rc = lacking > 0;
    }
    for (unsigned i = 0; i < 2; i++) {
        names_fini(&sides[i].fields);
        names_fini(&sides[i].paths);
    }
    free(sides);
    return rc;
}
