/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a configuration file: refused with a message that begins with the file's name, or
 * read; and what was read is written so that it reads back to the same.
 */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *first, *second;
    struct error err = {""};
    if (config_parse("fuzz", slice_of(data, size), &first, &err)) {
        CHECK(strncmp(err.text, "fuzz:", 5) == 0);
        return 0;
    }
    struct buf a, b;
    buf_init(&a, 4 << 20);
    buf_init(&b, 4 << 20);
    config_format(first, &a);
    CHECK(!a.failed);
    CHECK(config_parse("again", buf_slice(&a), &second, &err) == 0);
    config_format(second, &b);
    CHECK(slice_eq(buf_slice(&a), buf_slice(&b)));
    config_free(first);
    config_free(second);
    buf_fini(&a);
    buf_fini(&b);
    return 0;
}
