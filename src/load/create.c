/* SPDX-License-Identifier: Apache-2.0 */
#include "load/create.h"

#include <errno.h>
#include <stdio.h>

#include "load/ask.h"

#define ID_BYTES   256
#define TEXT_BYTES 4096

static int create_one(struct ask *a, const struct load_opts *opts, unsigned number, FILE *out,
                      struct error *err)
{
    char id[ID_BYTES];
    struct buf body, text;
    struct response r;
    snprintf(id, sizeof id, "%s-load-%06u", opts->account, number);
    buf_init(&body, TEXT_BYTES);
    buf_init(&text, TEXT_BYTES);
    buf_put_str(&body, "{\"account\":");
    buf_put_json(&body, slice_str(opts->account));
    buf_put_str(&body, ",\"device\":");
    buf_put_json(&body, slice_str(id));
    buf_put_str(&body, "}");
    int rc = ask(a, SLICE("/v1/admin/device/add"), buf_slice(&body), &r, err);
    bool made = rc == 0 && r.status == 200 && ask_text(&r, SLICE("secret"), &text);
    if (made && fprintf(out, "%s,%.*s\n", id, SLICE_ARG(buf_slice(&text))) < 0)
        rc = error_set(err, -EIO, "%s: cannot be written", opts->devices);
    if (rc == 0 && !made && ask_text(&r, SLICE("error"), &text))
        rc = error_set(err, -EREMOTEIO, "--create: %s: %.*s (%u)", id, SLICE_ARG(buf_slice(&text)),
                       r.status);
    else if (rc == 0 && !made)
        rc = error_set(err, -EREMOTEIO, "--create: %s: answered %u", id, r.status);
    buf_fini(&text);
    buf_fini(&body);
    return rc;
}

int create_devices(const struct load_opts *opts, struct error *err)
{
    struct ask a;
    FILE *out = fopen(opts->devices, "wxe"); /* secrets that are overwritten are lost */
    if (!out)
        return error_set(err, -errno, "%s: %s", opts->devices, strerror(errno));
    int rc = ask_init(&a, opts, &opts->verify_url, opts->admin_key, err);
    for (unsigned i = 0; i < opts->create && rc == 0; i++)
        rc = create_one(&a, opts, i, out, err);
    ask_fini(&a);
    if (fclose(out) != 0 && rc == 0)
        rc = error_set(err, -EIO, "%s: cannot be written", opts->devices);
    return rc;
}
