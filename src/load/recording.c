/* SPDX-License-Identifier: Apache-2.0 */
#include "load/recording.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

static bool take_text(const json_t *v, struct slice *ret)
{
    if (!json_is_string(v))
        return false;
    *ret = slice_of(json_string_value(v), json_string_length(v));
    return true;
}

static bool is_clean(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] < 0x20)
            return false;
    return true;
}

static bool take_fields(const json_t *list, struct recorded *ret)
{
    size_t i;
    const json_t *one;
    if (!json_is_array(list) || json_array_size(list) > RECORDING_FIELDS_MAX)
        return false;
    json_array_foreach(list, i, one)
    {
        struct slice *name = &ret->names[i], *value = &ret->values[i];
        if (!take_text(json_array_get(one, 0), name) || !take_text(json_array_get(one, 1), value) ||
            !name->len || memchr(name->ptr, ':', name->len) || !is_clean(*name) ||
            !is_clean(*value))
            return false;
    }
    ret->fields_count = (unsigned)json_array_size(list);
    return true;
}

/* The slices borrow from `line`. */
static bool take_line(const json_t *line, struct recorded *ret)
{
    const json_t *us = json_object_get(line, "us"), *body = json_object_get(line, "body");
    if (!json_is_integer(us) || json_integer_value(us) < 0 || !json_is_integer(body) ||
        json_integer_value(body) < 0)
        return false;
    ret->us = (uint64_t)json_integer_value(us);
    ret->body = (uint64_t)json_integer_value(body);
    return take_text(json_object_get(line, "method"), &ret->method) && ret->method.len &&
           is_clean(ret->method) && !memchr(ret->method.ptr, ' ', ret->method.len) &&
           take_text(json_object_get(line, "target"), &ret->target) && ret->target.len &&
           ret->target.ptr[0] == '/' && is_clean(ret->target) &&
           !memchr(ret->target.ptr, ' ', ret->target.len) &&
           take_fields(json_object_get(line, "fields"), ret);
}

int recording_read(const char *path, int (*each)(void *arg, const struct recorded *r), void *arg,
                   struct error *err)
{
    FILE *in = fopen(path, "re");
    if (!in)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    struct recorded *r = malloc(sizeof *r);
    char *line = NULL;
    size_t cap = 0;
    int rc = r ? 0 : -ENOMEM;
    unsigned number = 0;
    ssize_t n;
    while (rc == 0 && (n = getline(&line, &cap, in)) > 0) {
        json_t *v = json_loadb(line, (size_t)n, 0, NULL);
        number++;
        rc = take_line(v, r)
                 ? each(arg, r)
                 : error_set(err, -EINVAL, "%s:%u: no request as sluice capture writes it", path,
                             number);
        json_decref(v);
    }
    if (rc == 0 && (ferror(in) || number == 0))
        rc = error_set(err, -EINVAL, "%s: holds no request", path);
    free(line);
    free(r);
    fclose(in);
    return rc;
}

bool recorded_hidden(struct slice value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] != '*')
            return false;
    return value.len > 0;
}

size_t recorded_path(struct slice target, char *out, size_t size)
{
    static const struct slice owners[] = {{"v2", 2}, {"feeds", 5}, {"groups", 6}, {"data", 4}};
    /* what stands behind data/ and is no datum */
    static const struct slice words[] = {{"last", 4},     {"first", 5}, {"next", 4},  {"prev", 4},
                                         {"previous", 8}, {"chart", 5}, {"batch", 5}, {"retain", 6},
                                         {"user", 4},     {"time", 4}};
    struct slice before = {0};
    size_t len = 0;
    const char *query = target.len ? memchr(target.ptr, '?', target.len) : NULL;
    target.len = query ? (size_t)(query - target.ptr) : target.len;
    while (target.len && len < size) {
        target = slice_from(target, 1); /* the slash */
        const char *end = target.len ? memchr(target.ptr, '/', target.len) : NULL;
        struct slice one = slice_of(target.ptr, end ? (size_t)(end - target.ptr) : target.len);
        bool name = false;
        for (size_t i = 0; i < sizeof owners / sizeof owners[0]; i++)
            name = name || slice_eq(before, owners[i]);
        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
            name = name && !slice_eq(one, words[i]);
        target = slice_from(target, one.len);
        before = one;
        if (name && one.len)
            one = SLICE("*");
        if (name)
            before = (struct slice){0};
        out[len++] = '/';
        size_t n = one.len < size - len ? one.len : size - len;
        memcpy(out + len, one.ptr, n);
        len += n;
    }
    return len;
}
