/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "view/row.h"

void points_init(struct point_list *l, struct buf *text)
{
    *l = (struct point_list){.text = text};
}

void points_fini(struct point_list *l)
{
    free(l->at);
    free(l->columns);
    *l = (struct point_list){0};
}

bool points_reserve(struct point_list *l, size_t n)
{
    if (n <= l->cap - l->count)
        return true;
    size_t cap = l->cap ? l->cap * 2 : 64;
    if (cap < l->count + n)
        cap = l->count + n;
    struct history_point *at = realloc(l->at, cap * sizeof *at);
    if (!at)
        return false;
    l->at = at;
    l->cap = cap;
    return true;
}

bool points_add(struct point_list *l, struct history_point p)
{
    if (!points_reserve(l, 1))
        return false;
    size_t place = l->text->len;
    buf_put_slice(l->text, p.datum.value);
    if (l->text->failed)
        return false;
    p.datum.value.ptr = (const char *)(uintptr_t)place;
    l->at[l->count++] = p;
    return true;
}

void points_bind(struct point_list *l)
{
    for (size_t i = 0; i < l->count; i++) {
        struct slice *v = &l->at[i].datum.value;
        v->ptr = v->len ? l->text->ptr + (uintptr_t)v->ptr : "";
    }
}

struct history_point *points_move(struct point_list *l)
{
    size_t points = l->count * sizeof *l->at, text = l->text->len, cap = l->cap * sizeof *l->at;
    if (l->text->failed || points + text > l->text->max)
        return NULL;
    if (points + text > cap) {
        struct history_point *at = realloc(l->at, cap = points + text);
        if (!at)
            return NULL;
        l->at = at;
    }
    struct history_point *ret = l->at;
    if (text)
        memcpy((char *)ret + points, l->text->ptr, text);
    for (size_t i = 0; i < l->count; i++) {
        struct slice *v = &ret[i].datum.value;
        v->ptr = v->len ? (char *)ret + points + (uintptr_t)v->ptr : "";
    }
    buf_adopt(l->text, ret, points + text, cap);
    l->at = NULL;
    l->count = l->cap = 0;
    return ret;
}

/* Below, at (0) or above `b` in the order wanted. */
static inline int compare(const struct history_point *a, const struct history_point *b,
                          bool newest_first)
{
    return newest_first ? row_key_compare(row_key_of(b), row_key_of(a))
                        : row_key_compare(row_key_of(a), row_key_of(b));
}

/* Merges the sorted runs [0, half) and [half, n) of `from` into `to`; the left one wins ties. */
static void merge_runs(struct history_point *to, const struct history_point *from, size_t half,
                       size_t n, bool newest_first)
{
    size_t left = 0, right = half;
    while (left < half && right < n)
        *to++ =
            compare(&from[left], &from[right], newest_first) <= 0 ? from[left++] : from[right++];
    memcpy(to, from + left, (half - left) * sizeof *to);
    memcpy(to + (half - left), from + right, (n - right) * sizeof *to);
}

/* Stable, as "the first added stays" asks for. qsort would not be, and allocates as well. */
static void merge_sort(struct history_point *at, struct history_point *spare, size_t n,
                       bool newest_first)
{
    if (n < 2)
        return;
    size_t half = n / 2;
    merge_sort(at, spare, half, newest_first);
    merge_sort(at + half, spare, n - half, newest_first);
    if (compare(&at[half - 1], &at[half], newest_first) <= 0)
        return;
    memcpy(spare, at, n * sizeof *at);
    merge_runs(at, spare, half, n, newest_first);
}

void points_sort(struct point_list *l, bool newest_first)
{
    size_t n = l->count, at = 1;
    while (at < n && compare(&l->at[at - 1], &l->at[at], newest_first) < 0)
        at++;
    if (at >= n)
        return;
    struct history_point *spare = malloc(n * sizeof *spare);
    if (spare) {
        merge_sort(l->at, spare, n, newest_first);
        free(spare);
    } else { /* slow, but right: insertion */
        for (size_t i = 1; i < n; i++) {
            struct history_point p = l->at[i];
            size_t to = i;
            for (; to > 0 && compare(&l->at[to - 1], &p, newest_first) > 0; to--)
                l->at[to] = l->at[to - 1];
            l->at[to] = p;
        }
    }
    size_t kept = 1;
    for (size_t i = 1; i < n; i++)
        if (compare(&l->at[kept - 1], &l->at[i], newest_first) != 0)
            l->at[kept++] = l->at[i];
    l->count = kept;
}
