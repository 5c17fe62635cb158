/* SPDX-License-Identifier: Apache-2.0 */
#include "load/fleet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/evp.h>

#include "codec/mqtt.h"
#include "load/fleet_private.h"

#define BYTES_MAX      (4ull << 30)
#define NAME_MAX_BYTES 255

static void put_body(struct buf *body, const struct load_opts *opts, struct slice id,
                     struct template_marks *marks)
{
    if (opts->payload || !opts->feed) {
        template_expand(body, slice_str(opts->payload), id, marks);
        return;
    }
    buf_put_str(body, "{\"");
    template_expand(body, slice_str(opts->feed), id, NULL);
    buf_put_str(body, "\":");
    template_expand(body, opts->sequenced ? SLICE("\"%seq%\"") : SLICE("21.5"), id, marks);
    buf_put_str(body, "}");
}

static void put_basic(struct buf *out, struct slice user, struct slice password)
{
    char plain[2 * NAME_MAX_BYTES + 1];
    unsigned char coded[4 * ((sizeof plain + 2) / 3) + 1];
    int n = snprintf(plain, sizeof plain, "%.*s:%.*s", SLICE_ARG(user), SLICE_ARG(password));
    EVP_EncodeBlock(coded, (const unsigned char *)plain, n);
    buf_printf(out, "Authorization: Basic %s\r\n", coded);
}

/* `marks` NULL: both are as they are, whatever they hold. */
static void put_guess(struct buf *out, struct slice text, struct template_marks *marks)
{
    if (marks)
        template_expand(out, text, (struct slice){0}, marks);
    else
        buf_put_slice(out, text);
}

static void put_device(struct buf *out, struct slice id, struct slice secret,
                       struct template_marks *marks)
{
    buf_put_str(out, "X-Device-Id: ");
    put_guess(out, id, marks);
    buf_put_str(out, "\r\nX-Device-Token: ");
    put_guess(out, secret, marks);
    buf_put_str(out, "\r\n");
}

void fleet_put_credentials(struct buf *out, const struct load_opts *opts,
                           const struct fleet_row *row, struct template_marks *marks)
{
    if (opts->key)
        buf_printf(out, "X-AIO-Key: %s\r\n", opts->key);
    else if (row->id.len && opts->basic)
        put_basic(out, row->id, row->secret);
    else if (row->id.len)
        put_device(out, row->id, row->secret, opts->device ? marks : NULL);
}

static void put_head(struct buf *out, const struct load_opts *opts, const struct fleet_row *row,
                     size_t body_len, struct template_marks *marks)
{
    buf_printf(out, "%s ", opts->method);
    template_expand(out, opts->url.target, row->id, marks);
    buf_printf(out, " HTTP/1.1\r\nHost: %.*s\r\n", SLICE_ARG(opts->url.authority));
    fleet_put_credentials(out, opts, row, marks);
    for (unsigned i = 0; i < opts->headers_count; i++) {
        template_expand(out, slice_str(opts->headers[i]), row->id, marks);
        buf_put_str(out, "\r\n");
    }
    for (unsigned i = 0; i < row->fields_count; i++)
        if (row->fields[i].len)
            buf_printf(out, "%.*s: %.*s\r\n", SLICE_ARG(row->names[i]), SLICE_ARG(row->fields[i]));
    if (body_len)
        buf_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body_len);
    buf_put_str(out, "\r\n");
}

/* Without a client id: a server of MQTT makes one up. */
static void put_login(struct buf *out, const struct load_opts *opts, struct slice id,
                      struct slice secret)
{
    struct mqtt_packet p = {.type = MQTT_CONNECT, .connect = {.clean = true}};
    if (id.len) {
        p.connect.username = id;
        p.connect.password = secret;
    }
    mqtt_put(out, opts->mqtt, &p);
}

/* The marks in the body first, for most requests have no others. */
static void join_marks(struct template_marks *ret, const struct template_marks *body, size_t head,
                       const struct template_marks *in_head, uint64_t at)
{
    *ret = *body;
    for (uint32_t i = 0; i < ret->count; i++)
        ret->list[i].at += (uint32_t)head;
    for (uint32_t i = 0; i < in_head->count && ret->count < TEMPLATE_MARKS_MAX; i++) {
        ret->list[ret->count] = in_head->list[i];
        ret->list[ret->count++].at -= (uint32_t)at;
    }
}

/* Room for one more; doubles at each power of two. */
static int grow(struct fleet *f, struct error *err)
{
    if (f->count == LOAD_DEVICES_MAX)
        return error_set(err, -E2BIG, "more than %u devices", LOAD_DEVICES_MAX);
    if ((f->count & (f->count - 1)) != 0)
        return 0;
    size_t cap = f->count ? 2 * (size_t)f->count : 1;
    void *grown = realloc(f->devices, cap * sizeof *f->devices);
    if (!grown)
        return error_set(err, -ENOMEM, "no memory for the devices");
    f->devices = grown;
    return 0;
}

int fleet_add(struct fleet *f, uint64_t at, const struct template_marks *in_head,
              const struct buf *body, const struct template_marks *in_body, struct slice id,
              struct error *err)
{
    struct fleet_device d = {.at = at, .id_at = f->ids.len, .id_len = (uint16_t)id.len};
    for (uint32_t i = 0; i < in_body->count; i++)
        d.stores = d.stores || in_body->list[i].kind == TEMPLATE_SEQ;
    join_marks(&d.marks, in_body, f->bytes.len - at, in_head, at);
    buf_put_slice(&f->bytes, buf_slice(body));
    buf_put_slice(&f->ids, id);
    if (body->failed || f->bytes.failed || f->ids.failed)
        return error_set(err, -ENOMEM, "the requests do not fit in memory");
    if (f->bytes.len - at > FLEET_REQUEST_MAX)
        return error_set(err, -E2BIG, "a request is larger than %u bytes", FLEET_REQUEST_MAX);
    d.len = (uint32_t)(f->bytes.len - at);
    if (d.len > f->request_max)
        f->request_max = d.len;
    int rc = grow(f, err);
    if (rc == 0)
        f->devices[f->count++] = d;
    return rc;
}

/* --replay: only who it is. */
static int keep_row(struct fleet *f, const struct fleet_row *row, struct error *err)
{
    struct fleet_name *grown = realloc(f->rows, (f->rows_count + (size_t)1) * sizeof *grown);
    if (!grown || f->rows_count == LOAD_DEVICES_MAX)
        return error_set(err, -ENOMEM, "no room for more than %u devices", f->rows_count);
    f->rows = grown;
    f->rows[f->rows_count++] =
        (struct fleet_name){f->names.len, (uint16_t)row->id.len, (uint16_t)row->secret.len};
    buf_put_slice(&f->names, row->id);
    buf_put_slice(&f->names, row->secret);
    return f->names.failed ? error_set(err, -ENOMEM, "no memory for the devices") : 0;
}

static int add_device(struct fleet *f, const struct load_opts *opts, const struct fleet_row *row,
                      struct error *err)
{
    uint64_t at = f->bytes.len;
    struct buf body;
    struct template_marks in_head = {0}, in_body = {0};
    if (opts->replay)
        return keep_row(f, row, err);
    buf_init(&body, FLEET_REQUEST_MAX);
    if (opts->mqtt) {
        put_login(&f->bytes, opts, row->id, row->secret);
    } else {
        put_body(&body, opts, row->id, &in_body);
        put_head(&f->bytes, opts, row, body.len, &in_head);
    }
    int rc = fleet_add(f, at, &in_head, &body, &in_body, row->id, err);
    buf_fini(&body);
    return rc;
}

/* One line is device_id,secret: everything behind the first comma is the secret. */
static bool split_plain(struct slice line, struct fleet_row *ret)
{
    const char *comma = memchr(line.ptr, ',', line.len);
    ret->id = slice_of(line.ptr, comma ? (size_t)(comma - line.ptr) : 0);
    ret->secret = comma ? slice_from(line, ret->id.len + 1) : (struct slice){0};
    return comma != NULL;
}

/* A line of CSV with as many fields as the head names. */
static bool split_named(struct csv *c, const struct csv_record *head, struct fleet_row *ret)
{
    struct csv_record r;
    if (csv_next(c, &r, NULL) != CSV_RECORD || r.count != head->count)
        return false;
    ret->id = r.fields[0];
    ret->secret = r.fields[1];
    ret->fields_count = r.count - 2;
    for (unsigned i = 2; i < r.count; i++) {
        ret->names[i - 2] = head->fields[i];
        ret->fields[i - 2] = r.fields[i];
        if (memchr(r.fields[i].ptr, '\n', r.fields[i].len))
            return false;
    }
    return true;
}

static bool name_good(struct slice s)
{
    return s.len > 0 && s.len <= NAME_MAX_BYTES;
}

/* A first line of more columns than device_id,secret names the header fields that the others hold;
 * what it is borrows from `text`. */
static bool take_head(struct slice text, struct csv *c, struct csv_record *ret)
{
    csv_init(c, text, 1);
    return slice_starts(text, SLICE("device_id,secret,")) && csv_next(c, ret, NULL) == CSV_RECORD;
}

static int read_devices(struct fleet *f, const struct load_opts *opts, FILE *in, struct error *err)
{
    char *line = NULL, *first = NULL;
    size_t cap = 0;
    struct csv head_text = {0}, text = {0};
    struct csv_record head = {0};
    int rc = 0;
    for (unsigned number = 1; rc == 0 && getline(&line, &cap, in) > 0; number++) {
        struct slice l = slice_str(line);
        while (l.len && (l.ptr[l.len - 1] == '\n' || l.ptr[l.len - 1] == '\r'))
            l.len--;
        if (number == 1) {
            first = strdup(line);
            if (first && take_head(slice_str(first), &head_text, &head))
                continue;
        }
        if (l.len == 0 || (number == 1 && slice_starts(l, SLICE("device_id,"))))
            continue;
        struct fleet_row row = {0};
        csv_init(&text, l, number);
        bool good = head.count ? split_named(&text, &head, &row) : split_plain(l, &row);
        if (good && name_good(row.id) && name_good(row.secret))
            rc = add_device(f, opts, &row, err);
        else
            rc = error_set(err, -EINVAL, "%s:%u: must be device_id,secret%s", opts->devices, number,
                           head.count ? " and a field for each name in the first line" : "");
        csv_fini(&text);
    }
    csv_fini(&head_text);
    free(first);
    free(line);
    if (rc == 0 && ferror(in))
        return error_set(err, -EIO, "%s: cannot be read", opts->devices);
    if (rc == 0 && f->count + f->rows_count == 0)
        return error_set(err, -EINVAL, "%s: holds no device", opts->devices);
    return rc;
}

static int read_who(struct fleet *f, const struct load_opts *opts, struct error *err)
{
    if (!opts->devices) {
        struct fleet_row row = {.id = slice_str(opts->device), .secret = slice_str(opts->token)};
        if (row.id.len > NAME_MAX_BYTES || row.secret.len > NAME_MAX_BYTES)
            return error_set(err, -EINVAL, "--device or --token is too long");
        return add_device(f, opts, &row, err);
    }
    FILE *in = fopen(opts->devices, "re");
    if (!in)
        return error_set(err, -errno, "%s: %s", opts->devices, strerror(errno));
    int rc = read_devices(f, opts, in, err);
    fclose(in);
    return rc;
}

int fleet_init(struct fleet *f, const struct load_opts *opts, struct error *err)
{
    *f = (struct fleet){0};
    buf_init(&f->bytes, BYTES_MAX);
    buf_init(&f->ids, BYTES_MAX);
    buf_init(&f->names, BYTES_MAX);
    if (opts->attack == ATTACK_MALFORMED)
        return fleet_malformed(f, err);
    if (opts->attack == ATTACK_OVERSIZE)
        return fleet_oversize(f, opts, err);
    int rc = read_who(f, opts, err);
    return rc == 0 && opts->replay ? fleet_replay(f, opts, err) : rc;
}

void fleet_fini(struct fleet *f)
{
    free(f->devices);
    buf_fini(&f->bytes);
    buf_fini(&f->ids);
    buf_fini(&f->names);
    free(f->rows);
    *f = (struct fleet){0};
}
