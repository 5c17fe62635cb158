/* SPDX-License-Identifier: Apache-2.0 */
#include "load/fleet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/evp.h>

#include "codec/mqtt.h"

#define BYTES_MAX      (4ull << 30)
#define REQUEST_MAX    (1u << 20)
#define NAME_MAX_BYTES 255

void fleet_sequence_format(char out[FLEET_SEQ_DIGITS], uint64_t sequence)
{
    uint64_t n = 1000000000000000ull + sequence % 1000000000000000ull;
    for (int i = FLEET_SEQ_DIGITS - 1; i >= 0; i--) {
        out[i] = (char)('0' + n % 10);
        n /= 10;
    }
}

/* Where in a buffer the digits of sequences went. */
struct seqs {
    size_t at[FLEET_SEQS_MAX];
    uint32_t count;
};

/* Copies `text` with %device% and, where `seqs` is given, %seq% replaced. `id` NULL: no %device%.
 */
static void expand(struct buf *out, struct slice text, const struct slice *id, struct seqs *seqs)
{
    while (text.len) {
        const char *mark = memchr(text.ptr, '%', text.len);
        size_t plain = mark ? (size_t)(mark - text.ptr) : text.len;
        buf_put(out, text.ptr, plain);
        text = slice_from(text, plain);
        if (id && slice_starts(text, SLICE("%device%"))) {
            expand(out, *id, NULL, seqs);
            text = slice_from(text, 8);
        } else if (seqs && seqs->count < FLEET_SEQS_MAX && slice_starts(text, SLICE("%seq%"))) {
            seqs->at[seqs->count++] = out->len;
            buf_put(out, "1000000000000000", FLEET_SEQ_DIGITS);
            text = slice_from(text, 5);
        } else if (text.len) {
            buf_put_u8(out, '%');
            text = slice_from(text, 1);
        }
    }
}

static void put_body(struct buf *body, const struct load_opts *opts, struct slice id,
                     struct seqs *seqs)
{
    if (!opts->feed) {
        expand(body, slice_str(opts->payload), &id, seqs);
        return;
    }
    buf_put_str(body, "{\"");
    expand(body, slice_str(opts->feed), &id, NULL);
    buf_put_str(body, "\":");
    expand(body, opts->sequenced ? SLICE("\"%seq%\"") : SLICE("21.5"), NULL, seqs);
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

/* `seqs` NULL: both are as they are, whatever they hold. */
static void put_device(struct buf *out, struct slice id, struct slice secret, struct seqs *seqs)
{
    buf_put_str(out, "X-Device-Id: ");
    expand(out, id, NULL, seqs);
    buf_put_str(out, "\r\nX-Device-Token: ");
    expand(out, secret, NULL, seqs);
    buf_put_str(out, "\r\n");
}

static void put_head(struct buf *out, const struct load_opts *opts, struct slice id,
                     struct slice secret, size_t body_len, struct seqs *seqs)
{
    buf_printf(out, "%s ", opts->method);
    expand(out, opts->url.target, &id, seqs);
    buf_printf(out, " HTTP/1.1\r\nHost: %.*s\r\n", SLICE_ARG(opts->url.authority));
    if (opts->key)
        buf_printf(out, "X-AIO-Key: %s\r\n", opts->key);
    else if (id.len && opts->basic)
        put_basic(out, id, secret);
    else if (id.len)
        put_device(out, id, secret, opts->device ? seqs : NULL);
    for (unsigned i = 0; i < opts->headers_count; i++)
        buf_printf(out, "%s\r\n", opts->headers[i]);
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

static int add_device(struct fleet *f, const struct load_opts *opts, struct slice id,
                      struct slice secret, struct error *err)
{
    struct fleet_device d = {.at = f->bytes.len, .id_at = f->ids.len, .id_len = (uint16_t)id.len};
    struct buf body;
    struct seqs seqs = {0};
    buf_init(&body, REQUEST_MAX);
    if (!opts->mqtt)
        put_body(&body, opts, id, &seqs);
    uint32_t in_body = seqs.count;
    if (opts->mqtt)
        put_login(&f->bytes, opts, id, secret);
    else
        put_head(&f->bytes, opts, id, secret, body.len, &seqs);
    size_t head = f->bytes.len - d.at;
    buf_put_slice(&f->bytes, buf_slice(&body));
    buf_put_slice(&f->ids, id);
    bool failed = body.failed || f->bytes.failed || f->ids.failed;
    buf_fini(&body);
    if (failed)
        return error_set(err, -ENOMEM, "the requests of the devices do not fit in memory");
    if (f->bytes.len - d.at > REQUEST_MAX)
        return error_set(err, -E2BIG, "a request is larger than %u bytes", REQUEST_MAX);
    d.len = (uint32_t)(f->bytes.len - d.at);
    for (; d.seqs < seqs.count; d.seqs++)
        d.seq_at[d.seqs] =
            (uint32_t)(d.seqs < in_body ? head + seqs.at[d.seqs] : seqs.at[d.seqs] - d.at);
    if (d.len > f->request_max)
        f->request_max = d.len;
    if (f->count == LOAD_DEVICES_MAX)
        return error_set(err, -E2BIG, "more than %u devices", LOAD_DEVICES_MAX);
    if ((f->count & (f->count - 1)) == 0) { /* full at each power of two */
        size_t cap = f->count ? 2 * (size_t)f->count : 1;
        void *grown = realloc(f->devices, cap * sizeof d);
        if (!grown)
            return error_set(err, -ENOMEM, "no memory for the devices");
        f->devices = grown;
    }
    f->devices[f->count++] = d;
    return 0;
}

static int read_devices(struct fleet *f, const struct load_opts *opts, FILE *in, struct error *err)
{
    char line[2 * NAME_MAX_BYTES + 4];
    for (unsigned number = 1; fgets(line, sizeof line, in); number++) {
        struct slice text = slice_str(line);
        bool whole = text.len && text.ptr[text.len - 1] == '\n';
        while (text.len && (text.ptr[text.len - 1] == '\n' || text.ptr[text.len - 1] == '\r'))
            text.len--;
        if (text.len == 0 || (number == 1 && slice_starts(text, SLICE("device_id,"))))
            continue;
        const char *comma = memchr(text.ptr, ',', text.len);
        struct slice id = slice_of(text.ptr, comma ? (size_t)(comma - text.ptr) : 0);
        struct slice secret = comma ? slice_from(text, id.len + 1) : (struct slice){0};
        if (id.len == 0 || id.len > NAME_MAX_BYTES || secret.len == 0 ||
            secret.len > NAME_MAX_BYTES || (!whole && !feof(in)))
            return error_set(err, -EINVAL, "%s:%u: must be device_id,secret", opts->devices,
                             number);
        int rc = add_device(f, opts, id, secret, err);
        if (rc)
            return rc;
    }
    if (ferror(in))
        return error_set(err, -EIO, "%s: cannot be read", opts->devices);
    if (f->count == 0)
        return error_set(err, -EINVAL, "%s: holds no device", opts->devices);
    return 0;
}

int fleet_init(struct fleet *f, const struct load_opts *opts, struct error *err)
{
    *f = (struct fleet){0};
    buf_init(&f->bytes, BYTES_MAX);
    buf_init(&f->ids, BYTES_MAX);
    if (!opts->devices) {
        struct slice id = slice_str(opts->device), secret = slice_str(opts->token);
        if (id.len > NAME_MAX_BYTES || secret.len > NAME_MAX_BYTES)
            return error_set(err, -EINVAL, "--device or --token is too long");
        return add_device(f, opts, id, secret, err);
    }
    FILE *in = fopen(opts->devices, "re");
    if (!in)
        return error_set(err, -errno, "%s: %s", opts->devices, strerror(errno));
    int rc = read_devices(f, opts, in, err);
    fclose(in);
    return rc;
}

void fleet_fini(struct fleet *f)
{
    free(f->devices);
    buf_fini(&f->bytes);
    buf_fini(&f->ids);
    *f = (struct fleet){0};
}
